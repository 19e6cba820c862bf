"""A table of the user's: a file or a data frame, and the column that is to be predicted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lossbench.core import ConfigError, Splits, cache_folder, is_given, machine, stamp, stem
from lossbench.datasets.pools import Stage
from lossbench.datasets.remarks import say
from lossbench.datasets.tables import preparing, reading, splitting, suspicions, targets
from lossbench.datasets.tables.assembling import assembled
from lossbench.datasets.tables.encoding import ROWS, Encoding, Scaling
from lossbench.datasets.tables.form import Options
from lossbench.datasets.tables.preparing import Prepared
from lossbench.datasets.tables.roles import Names, Roles, names_of
from lossbench.datasets.tables.splitting import Plan
from lossbench.datasets.tables.values import raw

LARGE = 0.25  # of the free memory: larger inputs lie in files that are mapped
LISTED = 12  # columns that a message names
SCALINGS = ("standard", "quantile")


def table(
    *,
    seed: int,
    path: str,
    target: str | int | Sequence[str],
    task_type: str | None = None,
    name: str | None = None,
    positive: str | int | None = None,
    group_on: str | None = None,
    time_on: str | None = None,
    stratify_on: str | None = None,
    split: str | None = None,
    test_path: str | None = None,
    weight: str | None = None,
    drop: Names = None,
    numbers: Names = None,
    categories: Names = None,
    missing: Names = None,
    scaling: Scaling = "standard",
    validation: float = 0.16,
    test: float = 0.2,
    folds: int | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    stage: Stage | None = None,
) -> Splits:
    """The rows of a table, encoded as numbers and codes that are fitted on the training split.

    The target decides the task type: two values make a binary problem, texts or at most ten whole numbers classes,
    other numbers regression, whose targets are standardised by median and MAD. Rows are split at random, all classes
    being trained on; those with the same value of `stratify_on` in equal shares.
    Rows of one value of `group_on` stay together; with `time_on` the latest rows are tested on; `split` is a column
    that names each row's split; `test_path` is a table to test on. `weight` is a column: how much a row counts.

    Raises: ConfigError for what cannot be read, columns that do not exist or do not fit, splits without rows.
    """
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
    options = Options(separator, encoding, header, names_of(missing))
    stamps = tuple(stamp(one) for one in (path, test_path) if one is not None)
    known = _prepared(path, test_path, stamps, options, roles)
    called = name or stem(path)
    if test_path is not None and (time_on or split):
        raise ConfigError(
            f"dataset.test_path={test_path}: has the test rows, so that neither time_on nor split applies"
        )
    for remark in known.remarks:
        say(f"{called}: {remark}")
    plan = Plan(validation, test, folds=folds)
    return splits_of(known, plan, scaling, seed=seed, stage=stage, name=called, source=path)


def task_type_of(
    *,
    path: str | None,
    target: str | int | Sequence[str] | None,
    positive: str | int | None = None,
    **settings: Any,
) -> str:
    """The task type that the target makes. Raises: ConfigError as `table` does, and for settings that are missing."""
    if path is None:
        raise ConfigError("dataset.path: missing; dataset.path=FILE is a CSV, Parquet, Feather or JSON lines file")
    separator, encoding, header = (settings.get(key) for key in ("separator", "encoding", "header"))
    read, _ = reading.read(path, Options(separator, encoding, header, names_of(settings.get("missing"))))
    if target is None:
        listed = ", ".join(read.column_names[:LISTED]) + " …" * (len(read.column_names) > LISTED)
        raise ConfigError(f"dataset.target: missing; which column is to be predicted? {path} has {listed}")
    roles = Roles.of(target, positive=positive)
    shown = "the data" if is_given(path) else path
    return targets.understood(read, _counted(roles.target, read), None, roles.positive, shown).task_type


def splits_of(
    known: Prepared, plan: Plan, scaling: Scaling, *, seed: int, stage: Stage | None, name: str, source: str
) -> Splits:
    """The splits of a prepared table under a seed, in the sizes of a plan."""
    if scaling not in SCALINGS:
        raise ConfigError(f"dataset.scaling={scaling}: unknown; choose {' or '.join(SCALINGS)}")
    rows, sampling = splitting.split(known.plan(plan), len(known.table), seed, stage, known.pool)
    undated = [known.roles.time_on] if known.roles.time_on else []
    fitted = Encoding.fit(_taken(known.table, rows["train"]), known.used, scaling, undated)
    fitted = replace(fitted, target=raw(known.table.column(known.target.names[0])))
    if not fitted.columns:
        raise ConfigError(f"dataset={name}: no column is left to learn from")
    splits = assembled(
        name,
        known.target,
        rows,
        lambda places: torch.from_numpy(encoded(fitted, known.table, places)),
        weights=known.weights,
        groups=known.groups,
        source=source,
        columns=fitted.columns,
        sampling=sampling,
        encoding=fitted,
    )
    for remark in (
        *suspicions.leaks(splits.train.inputs, fitted.sources_of_columns, known.target, rows["train"]),
        *suspicions.repeated(splits.train, splits.test),
    ):
        say(f"{name}: {remark}")
    return splits


def encoded(fitted: Encoding, rows: pa.Table, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Encoded rows [n, columns] at ascending places, block by block; in a mapped file where they are large."""
    shape = (len(places), len(fitted.columns))
    out = _mapped(shape) if 4 * shape[0] * shape[1] > LARGE * machine.memory() else np.empty(shape, dtype=np.float32)
    for start in range(0, len(places), ROWS):
        block = places[start : start + ROWS]
        fitted.encode(_taken(rows, block), out[start : start + len(block)])
    return out


def _taken(rows: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    """Rows at ascending places, of the part of the table between the first and the last of them."""
    first = int(places[0])
    part = rows.slice(first, int(places[-1]) - first + 1)
    return part if len(part) == len(places) else part.take(pa.array(places - first))


def _mapped(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Zeros in a file of the cache that is mapped, and vanishes with the process."""
    with tempfile.NamedTemporaryFile(dir=cache_folder(), suffix=".inputs") as file:
        return np.memmap(file.name, dtype=np.float32, mode="w+", shape=shape)


@lru_cache(maxsize=2)
def _prepared(path: str, test_path: str | None, stamps: tuple[str, ...], options: Options, roles: Roles) -> Prepared:
    """The same for every seed; `stamps` tell a file that was changed from what it was."""
    read, remarks = reading.read(path, options)
    roles = replace(roles, target=_counted(roles.target, read))
    tested = None if test_path is None else reading.read(test_path, options)[0]
    found = preparing.prepared(read, roles, "the data" if is_given(path) else path, tested)
    return replace(found, remarks=(*remarks, *found.remarks))


def _counted(target: tuple[str, ...], read: pa.Table) -> tuple[str, ...]:
    """Names of targets; a negative number counts columns from the end, in a table that has none of this name."""
    if len(target) != 1 or target[0] in read.column_names or not re.fullmatch(r"-\d+", target[0]):
        return target
    last = int(target[0])
    return (read.column_names[last],) if -len(read.column_names) <= last < 0 else target
