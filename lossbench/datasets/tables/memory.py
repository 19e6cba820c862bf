"""Tables that are in memory already: data frames, arrays, columns by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lossbench.core import ConfigError
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
    names = [str(name) if not isinstance(name, tuple) else " ".join(map(str, name)) for name in data.columns]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ConfigError(f"dataset: two columns are called {twice}; rename one")
    return pa.table({name: _column(name, data.iloc[:, place]) for place, name in enumerate(names)})


def _column(name: str, values: Any) -> pa.Array:
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        kinds = sorted({type(value).__name__ for value in values.dropna()})
        if set(kinds) <= {"int", "float", "bool", "str"}:
            raise ConfigError(
                f"dataset: column {name} mixes {' and '.join(kinds)}; values of one type work, as astype makes them"
            ) from error
        raise ConfigError(f"dataset: column {name} cannot be read: {one_line(error)}") from error
