"""Tables that are in memory already: data frames, arrays, columns by name."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossbench.core import ConfigError, column_name
from lossbench.core.failures import one_line


def in_memory(data: Any) -> pa.Table:
    """A data frame of pandas or polars, an Arrow table, or arrays by name, as an Arrow table.

    Raises: ConfigError for anything else, and for columns of several types.
    """
    import pandas as pd

    if isinstance(data, pa.Table):
        return data
    if hasattr(data, "to_arrow"):  # polars
        return data.to_arrow()
    if isinstance(data, Mapping):
        try:
            data = pd.DataFrame({str(name): values for name, values in data.items()})
        except ValueError as error:
            raise ConfigError(f"dataset: these columns make no table: {error}") from error
    if not isinstance(data, pd.DataFrame):
        raise ConfigError(f"dataset: a {type(data).__name__} is no table; a DataFrame or arrays by name work")
    names = [column_name(name) for name in data.columns]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ConfigError(f"dataset: two columns are called {twice}; rename one")
    found = [_column(name, data.iloc[:, place]) for place, name in enumerate(names)]
    return pa.Table.from_arrays([array for array, _ in found], schema=pa.schema([field for _, field in found]))


MIXED = b"mixed"  # of a field's metadata: the types of values that no column of one type can hold


def _column(name: str, values: Any) -> tuple[pa.Array, pa.Field]:
    """A column; of several types, as texts, which no setting but `drop` may use: see `mixed`."""
    try:
        array = pa.Array.from_pandas(values)
        return array, pa.field(name, array.type)
    except (pa.ArrowException, TypeError, ValueError) as error:
        known = values.dropna()
        kinds = sorted({type(value).__name__ for value in known})
        if not set(kinds) <= {"int", "float", "bool", "str"}:
            kinds = [one_line(error)]
        texts = pa.array(
            [None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)]
        )
        return texts, pa.field(name, texts.type, metadata={MIXED: " and ".join(kinds)})


def mixed(table: pa.Table, name: str) -> str:
    """The types of values that a column mixes; empty for a column of one type."""
    return ((table.schema.field(name).metadata or {}).get(MIXED) or b"").decode()


def without(table: pa.Table, missing: Sequence[str]) -> pa.Table:
    """The table with these texts, or the numbers that they write, as missing values."""
    if not missing:
        return table
    numbers = []
    for text in missing:
        with contextlib.suppress(ValueError):
            numbers.append(float(text))
    for place, name in enumerate(table.column_names):
        values = table.column(name)
        dtype = values.type.value_type if types.is_dictionary(values.type) else values.type
        if types.is_string(dtype) or types.is_large_string(dtype):
            plain = values.cast(pa.string())
            absent = pc.is_in(pc.utf8_trim_whitespace(plain), pa.array(missing, pa.string()))
        elif numbers and (types.is_integer(dtype) or types.is_floating(dtype)):
            absent = pc.is_in(values.cast(pa.float64(), safe=False), pa.array(numbers))
        else:
            continue
        if pc.any(absent).as_py():
            found = pc.if_else(pc.fill_null(absent, False), None, values.cast(dtype))
            table = table.set_column(place, table.schema.field(name).with_type(found.type), found)
    return table
