"""Data of the user's own from a function: arrays, a data frame, torch datasets, or splits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lossbench.core import ConfigError, Split, Splits, given, is_given, stem
from lossbench.core.failures import one_line
from lossbench.datasets.pools import Stage
from lossbench.datasets.remarks import say
from lossbench.datasets.splits import assemble, fingerprint
from lossbench.datasets.table import Names, names_of, splits_of
from lossbench.datasets.tables import preparing, splitting, targets
from lossbench.datasets.tables.encoding import Scaling
from lossbench.datasets.tables.memory import in_memory
from lossbench.datasets.tables.preparing import Roles
from lossbench.datasets.tables.splitting import Plan

GIVEN = ("group", "weight", "split")  # what a function may return beside X and y, a value a row
RETURNS = "(X, y), a DataFrame, {'X': …, 'y': …, 'group': …}, torch datasets or lossbench.core.Splits work"
TARGET = "target"  # the name of y
PARTS = {2: ("train", "test"), 3: ("train", "validation", "test")}


def own(
    *,
    seed: int,
    load: str,
    task_type: str | None = None,
    name: str | None = None,
    target: Names = None,
    positive: str | int | None = None,
    group_on: str | None = None,
    time_on: str | None = None,
    stratify_on: str | None = None,
    split: str | None = None,
    weight: str | None = None,
    drop: Names = None,
    numbers: Names = None,
    categories: Names = None,
    scaling: Scaling = "standard",
    validation: float = 0.16,
    test: float = 0.2,
    folds: int | None = None,
    stage: Stage | None = None,
    **settings: Any,
) -> Splits:
    """What the function at the dotted path `load` returns for these settings, split as a table is.

    It returns (X, y); a DataFrame, of which `target` is a column; X and y by name, with `group`, `weight` or `split` of
    each row beside them; a torch Dataset of pairs, or two or three of them: train, validation if there are three, and
    test; or Splits. Two-dimensional X and data frames are tables; other arrays stay as they are, but bytes become
    shares of 255 and pictures of Pillow [channels, height, width].
    If the function takes `seed` or `stage`, it gets them.

    Raises: ConfigError for what it raises, and for anything else that it returns.
    """
    found = _loaded(load, seed, stage, settings)
    called = name or stem(load)
    if isinstance(found, Splits):
        return found
    roles = Roles(
        names_of(target), task_type, None if positive is None else str(positive), group_on, time_on, stratify_on, split,
        weight, names_of(drop), names_of(numbers), names_of(categories),
    )  # fmt: skip
    read = _as_table(found, roles, load)
    if read is not None:
        table, roles = read
        known = preparing.prepared(table, roles, load)
        for remark in known.remarks:
            say(f"{called}: {remark}")
        return splits_of(known, seed, called, load, scaling, validation, test, folds, stage, roles)
    arrays = _as_arrays(found, load)
    _check_arrays(arrays, roles, load)
    return _split(arrays, Plan(validation, test, folds=folds), roles, seed, stage, called, load)


def task_type_of(
    *, seed: int, load: str | None, target: Names = None, positive: Any = None, stage: Any = None, **settings: Any
) -> str:
    """The task type of what the function at `load` returns. Raises: ConfigError as `own` does."""
    if load is None:
        raise ConfigError(f"dataset._target_: missing; the dotted path of a function that returns data: {RETURNS}")
    known = set(inspect.signature(own).parameters)
    found = _loaded(load, seed, stage, {key: value for key, value in settings.items() if key not in known})
    if isinstance(found, Splits):
        return found.info.task_type
    roles = Roles(names_of(target), positive=None if positive is None else str(positive))
    read = _as_table(found, roles, load)
    if read is not None:
        return targets.understood(read[0], read[1].target, None, roles.positive, load).task_type
    return _target(_as_arrays(found, load)["y"], None, roles.positive, load).task_type


def _loaded(load: str, seed: int, stage: Any, settings: Mapping[str, Any]) -> Any:
    try:
        parameters = inspect.signature(_function(load)).parameters
        brings = {name: value for name, value in (("seed", seed), ("stage", stage)) if name in parameters}
    except Exception as error:  # importing a module of the user's may raise anything
        raise ConfigError(f"dataset._target_={load}: cannot be imported: {one_line(error)}") from error
    return _called(load, json.dumps({**settings, **brings}, sort_keys=True, default=str))


def _function(load: str) -> Any:
    if is_given(load):
        return given(load)
    module, _, name = load.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except RuntimeError:  # of torchvision, whose operators do not match torch
        import_module("lossbench.core.vision")
        return getattr(import_module(module), name)


@lru_cache(maxsize=2)  # for all runs, where the function takes no seed
def _called(load: str, settings: str) -> Any:
    try:
        return _function(load)(**json.loads(settings))
    except ConfigError:
        raise
    except Exception as error:  # a function of the user's may raise anything
        raise ConfigError(f"dataset._target_={load}: {one_line(error)}") from error


def _as_table(found: Any, roles: Roles, load: str) -> tuple[pa.Table, Roles] | None:
    """What a function returned as a table, and the roles of its columns; None for what is no table."""
    import pandas as pd

    if isinstance(found, pd.DataFrame | pa.Table) or hasattr(found, "to_arrow"):
        table = in_memory(found)
        if not roles.target:
            raise ConfigError(f"dataset.target: missing; which column of {', '.join(table.column_names[:12])}?")
        return table, roles
    parts = _parts(found)
    if parts is None:
        return None
    x = parts["X"]
    if not isinstance(x, pd.DataFrame):
        x = np.asarray(x)
        if x.ndim != 2:
            return None
        x = pd.DataFrame(x, columns=parts.get("names") or [str(n + 1) for n in range(x.shape[1])])
    y = parts["y"]
    y = y if isinstance(y, pd.DataFrame) else _frame(y)
    frame = x.reset_index(drop=True)
    if len(frame) != len(y):
        raise ConfigError(f"dataset._target_={load}: {len(frame):,} rows of X and {len(y):,} of y")
    if twice := [name for name in y.columns if name in frame.columns]:
        raise ConfigError(f"dataset._target_={load}: X has a column {twice[0]}, too, as y has; rename one")
    own_roles: dict[str, Any] = {"target": tuple(map(str, y.columns))}
    frame = frame.join(y.reset_index(drop=True))
    for role, setting in (("group", "group_on"), ("weight", "weight"), ("split", "split")):
        if role in parts:
            frame[f"({role})"] = np.asarray(parts[role])
            own_roles[setting] = f"({role})"
    return in_memory(frame), replace(roles, **own_roles)


def _frame(y: Any) -> Any:
    import pandas as pd

    if isinstance(y, pd.Series):
        return y.rename(str(y.name) if y.name is not None else TARGET).to_frame()
    y = np.asarray(y)
    if y.ndim == 1 or y.shape[1] == 1:
        return pd.DataFrame({TARGET: y.reshape(-1)})
    return pd.DataFrame(y, columns=[f"{TARGET} {n + 1}" for n in range(y.shape[1])])


def _parts(found: Any) -> dict[str, Any] | None:
    """X and y, and what is beside them, by name; None for anything else."""
    if isinstance(found, Mapping) and {"X", "y"} <= set(found):
        return dict(found)
    pair = isinstance(found, tuple | list) and len(found) == 2 and not isinstance(found[0], Dataset)
    return {"X": found[0], "y": found[1]} if pair else None


def _as_arrays(found: Any, load: str) -> dict[str, Any]:
    """Inputs `X` [n, …] and targets `y` [n, …], and `split`, the split of each row, where datasets give it."""
    parts = _parts(found)
    if parts is not None:
        return {**parts, "X": _tensor(parts["X"], load), "y": _array(parts["y"])}
    sets = [found] if isinstance(found, Dataset) else list(found) if isinstance(found, tuple | list) else []
    if not sets or not all(isinstance(one, Dataset) for one in sets) or len(sets) > 3:
        raise ConfigError(f"dataset._target_={load}: returned a {type(found).__name__}; {RETURNS}")
    pairs = [_of_dataset(one, load) for one in sets]
    arrays = {"X": torch.cat([x for x, _ in pairs]), "y": np.concatenate([y for _, y in pairs])}
    if len(sets) > 1:
        arrays["split"] = [name for name, (x, _) in zip(PARTS[len(sets)], pairs, strict=True) for _ in range(len(x))]
    return arrays


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


def _tensor(x: Any, load: str) -> Tensor:
    try:
        return x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"dataset._target_={load}: X is no array of numbers: {one_line(error)}") from error


def _array(y: Any) -> NDArray[Any]:
    return y.numpy() if isinstance(y, Tensor) else np.asarray(y)


def _target(y: NDArray[Any], task_type: str | None, positive: str | None, load: str) -> targets.Target:
    if y.ndim > 2:
        raise ConfigError(f"dataset._target_={load}: a target of shape {list(y.shape[1:])}; return Splits for that")
    table = in_memory(_frame(y))
    return targets.understood(table, table.column_names, task_type, positive, load)


def _check_arrays(arrays: Mapping[str, Any], roles: Roles, load: str) -> None:
    """Raises: ConfigError for settings that only a table has, and for what is beside the arrays and does not fit."""
    columns = ("group_on", "time_on", "stratify_on", "split", "weight", "drop", "numbers", "categories")
    if asked := [name for name in columns if getattr(roles, name)]:
        raise ConfigError(
            f"dataset.{asked[0]}: names a column, and {load} returns arrays; "
            "{'X': …, 'y': …, 'group': …, 'weight': …} works"
        )
    for name in GIVEN:
        if arrays.get(name) is not None and len(arrays[name]) != len(arrays["y"]):
            raise ConfigError(
                f"dataset._target_={load}: {len(arrays['y']):,} rows of y and {len(arrays[name]):,} of {name}"
            )
    if arrays.get("weight") is not None:
        try:
            weights = np.asarray(arrays["weight"], dtype=float)
        except ValueError as error:
            raise ConfigError(f"dataset._target_={load}: weight holds texts; numbers from 0 work") from error
        if not (weights >= 0).all():
            raise ConfigError(f"dataset._target_={load}: a weight is below 0 or missing; numbers from 0 work")


def forget() -> None:
    """Call functions anew: what they read may have changed."""
    _called.cache_clear()


def _split(
    arrays: Mapping[str, Any], plan: Plan, roles: Roles, seed: int, stage: Stage | None, name: str, load: str
) -> Splits:
    """Splits of arrays that are no table."""
    inputs, weight = arrays["X"], arrays.get("weight")
    target = _target(arrays["y"], roles.task_type, roles.positive, load)
    if len(inputs) != len(arrays["y"]):
        raise ConfigError(f"dataset._target_={load}: {len(inputs):,} rows of X and {len(arrays['y']):,} of y")
    say(f"{name}: {target.remark}")
    inputs = (inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float())[torch.from_numpy(target.rows)]
    groups = arrays.get("group")
    plan = replace(
        plan,
        groups=None if groups is None else np.unique(np.asarray(groups)[target.rows], return_inverse=True)[1],
        classes=target.values.astype(np.int64) if target.classes else None,
        given=None if arrays.get("split") is None else [str(arrays["split"][row]) for row in target.rows],
    )
    pool = fingerprint(inputs, torch.from_numpy(target.values))
    rows, sampling = splitting.split(plan, len(inputs), seed, stage, pool)
    center, scale = (np.zeros(1), np.ones(1)) if target.classes else targets.scales(target.values[rows["train"]])
    weights = None if weight is None else np.asarray(weight, dtype=float)[target.rows]

    def made(part: str) -> Split:
        places = rows[part]
        y = target.values[places]
        answers = torch.from_numpy(y) if target.classes else torch.from_numpy((y - center) / scale).float()
        metadata = {} if plan.groups is None else {"group": torch.from_numpy(plan.groups[places])}
        counts = None if weights is None else torch.from_numpy(weights[places] / weights[rows["train"]].mean()).float()
        return Split(inputs[torch.from_numpy(places)], answers, metadata, counts)

    several = len(target.names) > 1
    return assemble(
        made("train"),
        made("validation"),
        made("test"),
        name=name,
        task_type=target.task_type,
        source=load,
        licence="yours",
        classes=target.classes,
        center=0.0 if several else float(center[0]),
        scale=1.0 if several else float(scale[0]),
        target_scales=tuple(zip(target.names, center.tolist(), scale.tolist(), strict=True)) if several else (),
        sampling=sampling,
    )
