"""Values of a raw column as a trained model takes them: numbers, texts, moments; or refused, as not what it was."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from lossbench.core import ConfigError
from lossbench.datasets.tables import columns

Raw = Literal["integer", "number", "text", "date", "boolean"]
DAY_US = 86_400_000_000


def raw(values: pa.ChunkedArray) -> Raw:
    """The kind of raw values; with missing ones, integers are numbers."""
    dtype = values.type.value_type if types.is_dictionary(values.type) else values.type
    if types.is_integer(dtype) and not values.null_count:
        return "integer"
    if types.is_boolean(dtype):
        return "boolean"
    if types.is_temporal(dtype):
        return "date"
    return "number" if types.is_floating(dtype) or types.is_integer(dtype) or types.is_decimal(dtype) else "text"


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ConfigError(f"column {name}: is not there, and the model was trained with it")
    return table.column(name)


def numbers(table: pa.Table, source: str, part: str, form: str) -> NDArray[np.float64]:
    """Numbers [n] of a column, or of a `part` of its dates, NaN where they are missing. Raises: ConfigError."""
    values = _column(table, source)
    try:
        if part:
            days = _moments(values, source, form).cast(pa.int64()).cast(pa.float64())
            found = pc.divide(days, float(DAY_US))
        else:
            found = columns.numbers(values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        what = "dates" if part else "numbers"
        raise ConfigError(f"column {source}: {_holds(values)}, and the model was trained with {what}") from error
    return found.to_numpy().astype(float)


def texts(table: pa.Table, source: str, part: str, form: str) -> pa.ChunkedArray:
    """Texts [n] of a column, or of a `part` of its dates. Raises: ConfigError."""
    values = _column(table, source)
    try:
        if not part:
            return columns.texts(values)
        return columns.PARTS[part](_moments(values, source, form)).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"column {source}: {_holds(values)}, and the model was trained with dates") from error


def _moments(values: pa.ChunkedArray, source: str, form: str) -> pa.ChunkedArray:
    """Dates of a column. Raises: ConfigError for values that are none, or not in the form of the training rows."""
    dtype = values.type.value_type if types.is_dictionary(values.type) else values.type
    if not (types.is_temporal(dtype) or types.is_null(dtype) or columns.holds_texts(dtype)):
        raise ConfigError(f"column {source}: {_holds(values)}, and the model was trained with dates")
    found = columns.moments(values, form)
    if columns.holds_texts(dtype):
        known = columns.texts(values)
        bad = pc.and_(pc.is_null(found), pc.is_valid(known))
        if pc.any(bad).as_py():
            row = pc.index(bad, True).as_py()
            raise ConfigError(
                f"column {source}: row {row + 1} holds {known[row].as_py()!r}, and the model was trained with "
                f"dates {'as 2024-01-31' if form in ('', 'ISO') else form}"
            )
    return found


def _holds(values: pa.ChunkedArray) -> str:
    """What a column holds, with its first value."""
    return f"holds {values.type}, such as {next((v for v in values[:100].to_pylist() if v is not None), None)!r}"
