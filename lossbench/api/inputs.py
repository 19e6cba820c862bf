"""Data from Python as settings: a path, a table in memory, or inputs and targets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.api import digest
from lossbench.config.words import setting
from lossbench.core import ConfigError, column_name, give

if TYPE_CHECKING:
    import pandas as pd

TABLE = "table"  # the dataset of the catalogue that reads tables
FORMS = (
    'compare("my.csv", target="y"), compare(frame, target="y"), compare(X, y) or compare(dataset="regression") works'
)

OTHERS = {
    "seed": "compare takes seeds=[3], train takes seed=3",
    "seeds": "train takes one seed, seed=3",
    "loss": "compare takes losses=",
    "losses": "train takes one loss, loss=",
    "model": 'settings={"model": "mlp"} chooses it',
    "trials": "tune takes trials=",
}
"""What is no setting of data, and where it belongs."""


def words(data: Any, y: Any, dataset: str | None, settings: Mapping[str, Any]) -> list[str]:
    """The words that choose these data; `settings` are those of the dataset, by name.

    Raises: ConfigError where data and a dataset are given, or neither, or what is no data.
    """
    for name, value in settings.items():
        if name in OTHERS:
            raise ConfigError(f"{name}={value!r}: no setting of data; {OTHERS[name]}")
    if data is None:
        if y is not None or not dataset:
            raise ConfigError(f"there are no data: {FORMS}")
        return [setting("dataset", dataset), *_settings(settings)]
    if dataset is not None:
        raise ConfigError(f"dataset={dataset}: data are given too; {FORMS}")
    if isinstance(y, str):
        settings, y = {"target": y, **settings}, None
    if isinstance(data, str | os.PathLike):
        if y is not None:
            raise ConfigError(f"{os.fspath(data)}: inputs are a file, and targets an array; name the column, target=…")
        chosen: dict[str, Any] = {"path": data}
    else:
        table, target = _table(data, y)
        chosen = {"path": _given(table), "name": "data", **({"target": target} if target is not None else {})}
        if target is not None and "target" in settings:
            raise ConfigError(f"target={settings['target']}: targets are given too; {FORMS}")
    return [setting("dataset", TABLE), *_settings(chosen | dict(settings))]


def name(data: Any, dataset: str | None) -> str:
    """What data are called in messages."""
    return Path(data).stem if isinstance(data, str | os.PathLike) else dataset or "data"


def _settings(settings: Mapping[str, Any]) -> list[str]:
    return [setting(f"dataset.{name}", value) for name, value in settings.items()]


def _given(table: pd.DataFrame) -> str:
    """The path of a copy, which later changes of the caller's table do not reach."""
    return give(table.copy(), "data", digest.of_table(table))


def _table(data: Any, y: Any) -> tuple[pd.DataFrame, Any]:
    """One table of inputs and targets, and the names of the targets; None for a table that has them already."""
    import pandas as pd

    inputs = _frame(data, "x", "the data")
    inputs.columns = pd.Index([column_name(one) for one in inputs.columns])
    if not inputs.columns.is_unique:
        twice = inputs.columns[inputs.columns.duplicated()][0]
        raise ConfigError(f"{twice}: the name of two columns; give each its own")
    if y is None:
        return inputs, None
    targets = _frame(y, "target", "the targets")
    if len(targets) != len(inputs):
        raise ConfigError(f"y: {len(targets)} rows, and the inputs have {len(inputs)}; as many work")
    if all(hasattr(one, "iloc") for one in (data, y)) and not data.index.equals(y.index):
        raise ConfigError("y: its index is not that of the inputs; y.loc[X.index] puts its rows in their order")
    names = [column_name(one) for one in targets.columns]
    if both := [one for one in names if one in inputs.columns]:
        raise ConfigError(f"y: its column {both[0]} has the name of an input; rename one of them")
    targets.columns, targets.index = pd.Index(names), inputs.index
    return pd.concat([inputs, targets], axis=1), names[0] if len(names) == 1 else names


def rows(data: Any) -> Any:
    """New rows as they were given to `compare`: arrays with the names that their columns had there."""
    if isinstance(data, str | os.PathLike) or hasattr(data, "columns"):
        return data
    return _frame(data, "x", "the rows")


def _frame(values: Any, stem: str, what: str) -> pd.DataFrame:
    """Rows as a new table: a table, a column, or numbers [rows] or [rows, columns]."""
    import numpy as np
    import pandas as pd

    if isinstance(values, pd.DataFrame):
        return values.copy()
    if isinstance(values, Mapping):
        return pd.DataFrame({str(name): column for name, column in values.items()})
    if hasattr(values, "to_pandas"):  # of Arrow and polars
        return values.to_pandas()
    if isinstance(values, pd.Series):
        return values.to_frame(stem if values.name is None else str(values.name))
    if all(hasattr(values, one) for one in ("detach", "cpu")):
        values = values.detach().cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        raise ConfigError(
            f"{what}: rows of different lengths; a path, a DataFrame or numbers [rows, columns] work"
        ) from None
    if array.ndim not in (1, 2) or (array.dtype == object and not isinstance(values, (list, np.ndarray))):
        shape = f"of shape {list(array.shape)}" if array.ndim else f"a {type(values).__name__}"
        raise ConfigError(f"{what}: {shape}; a path, a DataFrame or numbers [rows, columns] work")
    if array.ndim == 1:
        return pd.DataFrame({stem: array})
    return pd.DataFrame(array, columns=[f"{stem}{number}" for number in range(array.shape[1])])
