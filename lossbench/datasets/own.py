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

from lossbench.core import ConfigError, Splits, given, is_given, stem
from lossbench.core.failures import one_line
from lossbench.datasets.pools import Stage
from lossbench.datasets.remarks import say
from lossbench.datasets.splits import fingerprint
from lossbench.datasets.table import splits_of
from lossbench.datasets.tables import preparing, splitting, targets
from lossbench.datasets.tables.arrays import GIVEN, RETURNS, Arrays, array_of, frame_of, parts_of
from lossbench.datasets.tables.assembling import assembled
from lossbench.datasets.tables.encoding import Scaling
from lossbench.datasets.tables.memory import in_memory
from lossbench.datasets.tables.roles import Names, Roles
from lossbench.datasets.tables.splitting import Plan
from lossbench.datasets.tables.targets import Target


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
    roles = Roles.of(
        target,
        task_type=task_type,
        positive=positive,
        group_on=group_on,
        time_on=time_on,
        stratify_on=stratify_on,
        split=split,
        weight=weight,
        drop=drop,
        numbers=numbers,
        categories=categories,
    )
    plan = Plan(validation, test, folds=folds)
    read = _as_table(found, roles, load)
    if read is not None:
        table, roles = read
        known = preparing.prepared(table, roles, load)
        for remark in known.remarks:
            say(f"{called}: {remark}")
        return splits_of(known, plan, scaling, seed=seed, stage=stage, name=called, source=load)
    _check_roles(roles, load)
    arrays = Arrays.of(found, load)
    understood = arrays.target(roles.task_type, roles.positive)
    say(f"{called}: {understood.remark}")
    return _split(arrays, understood, plan, seed=seed, stage=stage, name=called)


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
    roles = Roles.of(target, positive=positive)
    read = _as_table(found, roles, load)
    if read is not None:
        return targets.understood(read[0], read[1].target, None, roles.positive, load).task_type
    return Arrays.of(found, load).target(None, roles.positive).task_type


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
    parts = parts_of(found)
    if parts is None:
        return None
    x = parts["X"]
    if not isinstance(x, pd.DataFrame):
        x = array_of(x, "X", load)
        if x.ndim != 2:
            return None
        x = pd.DataFrame(x, columns=parts.get("names") or [str(n + 1) for n in range(x.shape[1])])
    y = parts["y"]
    y = y if isinstance(y, pd.DataFrame) else frame_of(y, load)
    frame = x.reset_index(drop=True)
    if len(frame) != len(y):
        raise ConfigError(f"dataset._target_={load}: {len(frame):,} rows of X and {len(y):,} of y")
    if twice := [name for name in y.columns if name in frame.columns]:
        raise ConfigError(f"dataset._target_={load}: X has a column {twice[0]}, too, as y has; rename one")
    own_roles: dict[str, Any] = {"target": tuple(map(str, y.columns))}
    frame = frame.join(y.reset_index(drop=True))
    for role, setting in GIVEN.items():
        if role in parts:
            frame[f"({role})"] = np.asarray(parts[role])
            own_roles[setting] = f"({role})"
    return in_memory(frame), replace(roles, **own_roles)


def _check_roles(roles: Roles, load: str) -> None:
    """Raises: ConfigError for settings that only a table has."""
    columns = ("group_on", "time_on", "stratify_on", "split", "weight", "drop", "numbers", "categories")
    if asked := [name for name in columns if getattr(roles, name)]:
        raise ConfigError(
            f"dataset.{asked[0]}: names a column, and {load} returns arrays; "
            "{'X': …, 'y': …, 'group': …, 'weight': …} works"
        )


def _split(arrays: Arrays, target: Target, plan: Plan, *, seed: int, stage: Stage | None, name: str) -> Splits:
    """Splits of arrays that are no table, of the rows that have a target."""
    places = torch.from_numpy(target.rows)
    inputs = arrays.inputs[places]
    inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()
    groups = None if arrays.groups is None else np.unique(arrays.groups[target.rows], return_inverse=True)[1]
    given = None if arrays.split is None else [arrays.split[row] for row in target.rows]
    pool = fingerprint(inputs, torch.from_numpy(target.values))
    plan = replace(plan, groups=groups, classes=target.codes, given=given)
    rows, sampling = splitting.split(plan, len(inputs), seed, stage, pool)
    return assembled(
        name,
        target,
        rows,
        lambda places: inputs[torch.from_numpy(places)],
        weights=None if arrays.weights is None else arrays.weights[target.rows],
        groups=groups,
        source=arrays.load,
        sampling=sampling,
    )


def forget() -> None:
    """Call functions anew: what they read may have changed."""
    _called.cache_clear()
