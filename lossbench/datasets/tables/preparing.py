"""What is the same of a table for every seed: its target, the kinds of its columns, its groups and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from lossbench.core import ConfigError
from lossbench.core.failures import one_line
from lossbench.datasets.tables import columns, splitting, targets
from lossbench.datasets.tables.columns import Used
from lossbench.datasets.tables.reading import digest
from lossbench.datasets.tables.roles import Roles
from lossbench.datasets.tables.splitting import Plan
from lossbench.datasets.tables.targets import Target

LEAST = 3  # rows of a class: one for each split


@dataclass(frozen=True)
class Prepared:
    """The rows that have a target, and what is known of them before any split; arrays are [rows]."""

    table: pa.Table
    roles: Roles
    target: Target
    used: Used
    pool: str
    remarks: tuple[str, ...]
    groups: NDArray[np.int64] | None = None
    strata: NDArray[np.int64] | None = None
    times: NDArray[np.int64] | None = None
    given: tuple[str | None, ...] | None = None
    weights: NDArray[np.float64] | None = None
    held: NDArray[np.bool_] | None = None

    def plan(self, plan: Plan) -> Plan:
        """A plan of sizes, with what decides which rows go where. Raises: ConfigError for folds of given test rows."""
        if plan.folds is not None and (self.given or self.times is not None or self.held is not None):
            raise ConfigError(f"dataset.folds={plan.folds}: the test rows are given, so that there are no folds")
        return replace(
            plan,
            groups=self.groups,
            strata=self.strata,
            times=self.times,
            given=self.given,
            held=self.held,
            classes=self.target.codes,
        )


def prepared(table: pa.Table, roles: Roles, path: str, test: pa.Table | None = None) -> Prepared:
    """What is known of a table, followed by the rows of a test table where there is one.

    Raises: ConfigError for settings and columns that do not fit.
    """
    _known(table, roles, path)
    held = None
    if test is not None:
        held = np.arange(len(table) + len(test)) >= len(table)
        table = _joined(table, test, roles)
    target = targets.understood(table, roles.target, roles.task_type, roles.positive, path)
    remarks = [target.remark]
    if without := len(table) - len(target.rows):
        remarks.append(f"rows without a target are left out: {without:,}")
    if target.classes:
        target, remark = _enough(target)
        remarks += [remark] if remark else []
    if len(target.rows) < len(table):
        table = table.take(pa.array(target.rows))
        held = None if held is None else held[target.rows]
    leave = {*roles.target, *roles.drop, *filter(None, (roles.group_on, roles.split, roles.weight))}
    if roles.time_on and not columns.is_date(table.column(roles.time_on)):  # of a date, the season stays
        leave.add(roles.time_on)
    used = columns.understood(table, leave, roles.numbers, roles.categories, path)
    if not used.kinds:
        raise ConfigError(f"dataset.path={path}: no column is left to learn from{_why(used)}")
    if roles.group_on is not None and (alone := table.column(roles.group_on).null_count):
        remarks.append(f"rows without {roles.group_on} stay together, as one group: {alone:,}")
    if roles.stratify_on is not None:
        remarks.append(
            f"splits have equal shares of {roles.stratify_on}, and vary less than new rows would: where losses are "
            "equal, a verdict may claim a difference in up to one case of five, rather than of twenty"
        )
    return Prepared(
        table,
        roles,
        target,
        used,
        digest(table),
        (*remarks, *used.remarks),
        _codes(table, roles.group_on),
        _codes(table, roles.stratify_on),
        _times(table, roles.time_on),
        _named(table, roles.split, target.rows),
        _weights(table, roles.weight, target.rows),
        held,
    )


def _why(used: Used) -> str:
    return f" ({'; '.join(used.remarks)})" if used.remarks else ""


def _known(table: pa.Table, roles: Roles, path: str) -> None:
    """Raises: ConfigError for a setting that names no column, and for settings that exclude each other."""
    single = {name: getattr(roles, name) for name in ("group_on", "time_on", "stratify_on", "split", "weight")}
    asked = [(name, column) for name, column in single.items() if column is not None]
    asked += [(name, one) for name in ("drop", "numbers", "categories") for one in getattr(roles, name)]
    for setting, column in asked:
        if column not in table.column_names:
            near = get_close_matches(column, table.column_names, n=1, cutoff=0)
            raise ConfigError(f"dataset.{setting}={column}: no such column in {path}; nearest: {near[0]}")
    if roles.time_on and roles.group_on:
        raise ConfigError("dataset.time_on, dataset.group_on: a split in time may cut groups; set one of them")
    if roles.time_on and roles.stratify_on:
        raise ConfigError("dataset.time_on: the latest rows are tested on, so that stratify_on does not apply")
    if roles.split and (roles.time_on or roles.stratify_on):
        raise ConfigError("dataset.split: names the splits, so that neither time_on nor stratify_on applies")


def _joined(table: pa.Table, test: pa.Table, roles: Roles) -> pa.Table:
    absent = [name for name in table.column_names if name not in test.column_names and name not in roles.drop]
    absent = [name for name in absent if name not in (roles.split, roles.weight, roles.group_on)]
    if absent:
        raise ConfigError(f"dataset.test_path: has no column {absent[0]}, which dataset.path has")
    shared = [name for name in table.column_names if name in test.column_names]
    for name in shared:
        here, there = table.column(name).type, test.column(name).type
        if (
            columns.holds_texts(here) != columns.holds_texts(there)
            and not types.is_null(there)
            and not types.is_null(here)
        ):
            raise ConfigError(f"dataset.test_path: column {name} holds {there}, and {here} in dataset.path")
    try:
        return pa.concat_tables([table, test.select(shared)], promote_options="permissive")
    except pa.ArrowException as error:
        raise ConfigError(
            f"dataset.test_path: its columns differ from those of dataset.path: {one_line(error)}"
        ) from error


def _enough(target: Target) -> tuple[Target, str]:
    """The target without classes of fewer rows than splits, and a remark on these."""
    counts = np.bincount(target.values.astype(np.int64), minlength=len(target.classes))
    rare = counts < LEAST
    if not rare.any():
        return target, ""
    if (~rare).sum() < 2:
        raise ConfigError(
            f"dataset.target={target.names[0]}: fewer than two of its values have {LEAST} rows, one for each split"
        )
    kept = ~rare[target.values.astype(np.int64)]
    codes = np.cumsum(~rare) - 1
    names = [f"{target.classes[place]} ({counts[place]})" for place in rare.nonzero()[0]]
    classes = tuple(name for name, out in zip(target.classes, rare, strict=True) if not out)
    values = codes[target.values[kept].astype(np.int64)]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return (
        replace(target, values=values, rows=target.rows[kept], classes=classes),
        f"classes with fewer than {LEAST} rows are left out: {', '.join(names[:6])}{more}",
    )


def _codes(table: pa.Table, name: str | None) -> NDArray[np.int64] | None:
    """Codes of a column's values [n]; a missing one is a value of its own."""
    if name is None:
        return None
    found = columns.texts(table.column(name)).combine_chunks().dictionary_encode()
    return found.indices.fill_null(len(found.dictionary)).to_numpy().astype(np.int64)


def _times(table: pa.Table, name: str | None) -> NDArray[np.int64] | None:
    """Ranks of the times in a column [n]."""
    if name is None:
        return None
    values = table.column(name)
    if form := columns.date_form(values):
        values = columns.moments(values, form)
    if values.null_count:
        raise ConfigError(f"dataset.time_on={name}: {values.null_count:,} rows have none")
    if not (types.is_temporal(values.type) or types.is_integer(values.type) or types.is_floating(values.type)):
        raise ConfigError(f"dataset.time_on={name}: holds {values.type}; dates as 2024-01-31, times or numbers work")
    return np.unique(values.to_numpy(), return_inverse=True)[1].astype(np.int64)


def _named(table: pa.Table, name: str | None, rows: NDArray[np.int64]) -> tuple[str | None, ...] | None:
    """The split of each row. Raises: ConfigError for a word that names none."""
    if name is None:
        return None
    found = tuple(columns.texts(table.column(name)).to_pylist())
    for row, word in zip(rows, found, strict=True):
        if splitting.named(word) is None:
            raise ConfigError(f"dataset.split: row {row + 1} has {word!r}; train, validation and test work")
    return found


def _weights(table: pa.Table, name: str | None, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    if name is None:
        return None
    try:
        weights = columns.numbers(table.column(name)).to_numpy().astype(float)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"dataset.weight={name}: holds texts; numbers from 0 work") from error
    bad = ~(weights >= 0)
    if bad.any():
        row = int(bad.argmax())
        raise ConfigError(f"dataset.weight={name}: row {rows[row] + 1} has {weights[row]:g}; numbers from 0 work")
    return weights
