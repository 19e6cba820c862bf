"""Data from a function that are no table: arrays, and torch datasets of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lossbench.core import ConfigError
from lossbench.core.failures import one_line
from lossbench.datasets.tables import targets
from lossbench.datasets.tables.memory import in_memory

GIVEN = {"group": "group_on", "weight": "weight", "split": "split"}
"""What a function may return beside X and y, a value a row, with the setting of a table that it stands for."""

RETURNS = "(X, y), a DataFrame, {'X': …, 'y': …, 'group': …}, torch datasets or lossbench.core.Splits work"
TARGET = "target"  # the name of y
PARTS = {2: ("train", "test"), 3: ("train", "validation", "test")}


@dataclass(frozen=True)
class Arrays:
    """Inputs [n, …] and truths [n, …] of one shape; groups, weights and splits [n] where they are given.

    `load` is the path of the function that returned them.
    """

    load: str
    inputs: Tensor
    truths: NDArray[Any]
    groups: NDArray[Any] | None = None
    weights: NDArray[np.float64] | None = None
    split: tuple[str, ...] | None = None

    @staticmethod
    def of(found: Any, load: str) -> Arrays:
        """What the function at `load` returned.

        Raises: ConfigError for anything else, and for parts that do not fit.
        """
        parts = parts_of(found)
        if parts is None:
            return _of_datasets(found, load)
        arrays = Arrays(
            load,
            _tensor(parts["X"], load),
            array_of(parts["y"], "y", load),
            None if parts.get("group") is None else array_of(parts["group"], "group", load),
            None if parts.get("weight") is None else _weights(parts["weight"], load),
            None if parts.get("split") is None else tuple(map(str, parts["split"])),
        )
        counts = {"X": arrays.inputs, "group": arrays.groups, "weight": arrays.weights, "split": arrays.split}
        for name, values in counts.items():
            if values is not None and len(values) != len(arrays.truths):
                raise ConfigError(
                    f"dataset._target_={load}: {len(values):,} rows of {name} and {len(arrays.truths):,} of y"
                )
        return arrays

    def target(self, task_type: str | None, positive: str | None) -> targets.Target:
        """The target that the truths make. Raises: ConfigError for truths that make none."""
        if self.truths.ndim > 2:
            shape = list(self.truths.shape[1:])
            raise ConfigError(f"dataset._target_={self.load}: a target of shape {shape}; return Splits for that")
        table = in_memory(frame_of(self.truths, self.load))
        return targets.understood(table, table.column_names, task_type, positive, self.load)


def parts_of(found: Any) -> dict[str, Any] | None:
    """X and y, and what is beside them, by name; None for anything else."""
    if isinstance(found, Mapping) and {"X", "y"} <= set(found):
        return dict(found)
    pair = isinstance(found, tuple | list) and len(found) == 2 and not isinstance(found[0], Dataset)
    return {"X": found[0], "y": found[1]} if pair else None


def frame_of(y: Any, load: str) -> Any:
    """Targets [n] or [n, targets] as a data frame."""
    import pandas as pd

    if isinstance(y, pd.Series):
        return y.rename(str(y.name) if y.name is not None else TARGET).to_frame()
    y = array_of(y, "y", load)
    if y.ndim == 1 or y.shape[1] == 1:
        return pd.DataFrame({TARGET: y.reshape(-1)})
    return pd.DataFrame(y, columns=[f"{TARGET} {n + 1}" for n in range(y.shape[1])])


def _of_datasets(found: Any, load: str) -> Arrays:
    sets = [found] if isinstance(found, Dataset) else list(found) if isinstance(found, tuple | list) else []
    if not sets or not all(isinstance(one, Dataset) for one in sets) or len(sets) > 3:
        raise ConfigError(f"dataset._target_={load}: returned a {type(found).__name__}; {RETURNS}")
    pairs = [_of_dataset(one, load) for one in sets]
    names = PARTS.get(len(sets), ())
    split = tuple(name for name, (x, _) in zip(names, pairs, strict=False) for _ in range(len(x)))
    return Arrays(
        load, torch.cat([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]), split=split if split else None
    )


def _of_dataset(dataset: Any, load: str) -> tuple[Tensor, NDArray[Any]]:
    """All examples of a torch dataset of pairs, in order."""
    try:
        pairs = [dataset[place][:2] for place in range(len(dataset))]
        inputs = torch.stack([_example(x) for x, _ in pairs])
        return inputs, np.stack([np.asarray(y) for _, y in pairs])
    except Exception as error:  # a dataset of the user's may raise anything
        raise ConfigError(
            f"dataset._target_={load}: {type(dataset).__name__} gives no pairs of one shape: {one_line(error)}"
        ) from error


def _example(x: Any) -> Tensor:
    """An example as a tensor; a picture of Pillow as [channels, height, width]."""
    array = np.asarray(x)
    if hasattr(x, "mode") and hasattr(x, "getbands"):
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return torch.as_tensor(np.ascontiguousarray(array))


def array_of(values: Any, what: str, load: str) -> NDArray[Any]:
    """Values as an array. Raises: ConfigError for rows of different lengths."""
    try:
        return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError as error:
        raise ConfigError(f"dataset._target_={load}: {what} is no array: {one_line(error)}") from error


def _tensor(x: Any, load: str) -> Tensor:
    try:
        return torch.as_tensor(array_of(x, "X", load))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"dataset._target_={load}: X is no array of numbers: {one_line(error)}") from error


def _weights(weight: Any, load: str) -> NDArray[np.float64]:
    try:
        weights = np.asarray(weight, dtype=float)
    except ValueError as error:
        raise ConfigError(f"dataset._target_={load}: weight holds texts; numbers from 0 work") from error
    if not (weights >= 0).all():
        raise ConfigError(f"dataset._target_={load}: a weight is below 0 or missing; numbers from 0 work")
    return weights
