"""Which rows of a table are trained on, selected on and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lossbench.core import ConfigError, Sampling
from lossbench.datasets import pools
from lossbench.datasets.pools import Stage

Rows = NDArray[np.int64]
ATTEMPTS = 50  # at splits in which every class is trained on, and can be measured
NAMES = {
    **dict.fromkeys(("train", "training", "fit", "tr"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev", "eval", "va"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "te"), "test"),
}


@dataclass(frozen=True)
class Plan:
    """How rows are split.

    `validation` and `test` are shares below 1, or numbers of units from 1. `groups` [n] stay together; `strata` [n] are
    in every split in equal shares; `times` [n] order the rows, of which the last are tested on; `given` [n] names the
    split of each row, and `held` [n] says which rows come from a test file. `classes` [n] all have training rows.
    """

    validation: float
    test: float
    groups: Rows | None = None
    strata: Rows | None = None
    times: Rows | None = None
    given: Sequence[str | None] | None = None
    held: NDArray[np.bool_] | None = None
    folds: int | None = None
    classes: Rows | None = None


def named(word: str | None) -> str | None:
    """The split that a word names; None where it names none."""
    return None if word is None else NAMES.get(word.strip().lower())


def split(plan: Plan, rows: int, seed: int, stage: Stage | None, pool: str) -> tuple[dict[str, Rows], Sampling]:
    """The rows of each split in ascending order, and what seeds vary. Raises: ConfigError for splits without rows."""
    if plan.given is not None:
        return _given(plan, rows, seed, pool)
    if plan.held is not None:
        return _beside(plan, plan.held, seed, pool)
    if plan.times is not None:
        return _in_time(plan, plan.times, pool)
    units = _Units.of(plan, rows)
    sizes = _sizes(plan, len(units))
    for attempt in range(ATTEMPTS):
        parts = _drawn(units, sizes, seed, stage, plan.folds, attempt)
        found = {name: units.rows(part) for name, part in parts.items()}
        if plan.folds is not None or _all_there(plan, found):
            break
    sampling = pools.sampling(pool, sizes, stage, plan.folds, len(parts["train"]))
    return _checked(found), sampling


def _all_there(plan: Plan, found: Mapping[str, Rows]) -> bool:
    """Whether every class is trained on, and every split has two of them."""
    if plan.classes is None:
        return True
    here = {name: len(np.unique(plan.classes[rows])) for name, rows in found.items()}
    return here["train"] == len(np.unique(plan.classes)) and min(here.values()) > 1


@dataclass(frozen=True)
class _Units:
    """Rows or groups, which are drawn whole, with the stratum of each."""

    of_rows: Rows | None
    strata: Rows

    def __len__(self) -> int:
        return len(self.strata)

    def rows(self, units: Rows) -> Rows:
        if self.of_rows is None:
            return np.sort(units)
        chosen = np.zeros(len(self), dtype=bool)
        chosen[units] = True
        return chosen[self.of_rows].nonzero()[0]

    @staticmethod
    def of(plan: Plan, rows: int, among: Rows | None = None) -> _Units:
        """The units of all rows, or of some."""
        strata = np.zeros(rows, dtype=np.int64) if plan.strata is None else plan.strata
        if plan.groups is None:
            return _Units(None, strata)
        names, of_rows = np.unique(plan.groups, return_inverse=True)
        return _Units(of_rows, _majority(strata, of_rows, len(names)))


def _majority(strata: Rows, of_rows: Rows, groups: int) -> Rows:
    """The most frequent stratum of each group."""
    counts = np.zeros((groups, int(strata.max()) + 1), dtype=np.int64)
    np.add.at(counts, (of_rows, strata), 1)
    return counts.argmax(1)


def _sizes(plan: Plan, units: int) -> dict[str, int]:
    """How many units each split has."""
    found = {}
    for name in ("validation", "test"):
        asked = getattr(plan, name)
        if not asked > 0 or (asked >= 1 and asked != int(asked)):
            raise ConfigError(f"dataset.{name}={asked}: a share below 1, or a number of rows")
        found[name] = max(1, round(asked * units)) if asked < 1 else int(asked)
    train = units - sum(found.values())
    if train < 1:
        what = "groups" if plan.groups is not None else "rows"
        raise ConfigError(
            f"dataset.validation={plan.validation}, dataset.test={plan.test}: leave none of {units} {what} to train on"
        )
    return {"train": train, **found}


def _drawn(
    units: _Units, sizes: Mapping[str, int], seed: int, stage: Stage | None, folds: int | None, attempt: int = 0
) -> dict[str, Rows]:
    """The units of each split, drawn from every stratum in proportion."""
    if folds is not None:
        return pools.draw([seed], sizes, stage, folds, units.strata)
    parts: dict[str, list[Rows]] = {name: [] for name in sizes}
    for number, (stratum, share) in enumerate(_shares(units.strata, sizes).items()):
        members = (units.strata == stratum).nonzero()[0]
        for name, places in pools.draw([seed, number, attempt], share, stage).items():
            parts[name].append(members[places])
    return {name: np.concatenate(found) for name, found in parts.items()}


def _shares(strata: Rows, sizes: Mapping[str, int]) -> dict[int, dict[str, int]]:
    """The sizes of each split in each stratum: cumulative shares, rounded, so that they add up to the sizes."""
    names, counts = np.unique(strata, return_counts=True)
    total, ends = len(strata), np.cumsum(counts)
    found: dict[int, dict[str, int]] = {}
    before = dict.fromkeys(sizes, 0)
    for name, count, end in zip(names.tolist(), counts.tolist(), ends.tolist(), strict=True):
        upto = {split: round(sizes[split] * end / total) for split in ("validation", "test")}
        own = {split: upto[split] - before[split] for split in upto}
        while sum(own.values()) > count:
            own[max(own, key=lambda split: own[split])] -= 1
        before = {split: before[split] + own[split] for split in own}
        found[name] = {"train": count - sum(own.values()), **own}
    return found


def _given(plan: Plan, rows: int, seed: int, pool: str) -> tuple[dict[str, Rows], Sampling]:
    """The splits that a column names; without one for validation, that is drawn from the training rows."""
    assert plan.given is not None
    names = [named(name) for name in plan.given]
    if None in names:
        raise ConfigError(
            f"dataset.split: {plan.given[names.index(None)]!r} names none; train, validation and test work"
        )
    parts = {name: np.array([one == name for one in names]).nonzero()[0] for name in ("train", "validation", "test")}
    _whole_groups(plan, parts)
    if not len(parts["validation"]) and len(parts["train"]):
        parts |= _validation(plan, parts["train"], seed)
    return _checked(parts), _fixed(parts, pool)


def _whole_groups(plan: Plan, parts: Mapping[str, Rows]) -> None:
    """Raises: ConfigError where a group is in two splits."""
    if plan.groups is None:
        return
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        if len(np.intersect1d(plan.groups[parts[one]], plan.groups[parts[other]])):
            raise ConfigError(f"dataset.group_on: a group has rows in the {one} and in the {other} split")


def _beside(plan: Plan, held: NDArray[np.bool_], seed: int, pool: str) -> tuple[dict[str, Rows], Sampling]:
    """The rows of a test file are tested on, and validation is drawn from the others."""
    parts = {"test": held.nonzero()[0]}
    parts |= _validation(plan, (~held).nonzero()[0], seed)
    _whole_groups(plan, parts)
    return _checked(parts), _fixed(parts, pool)


def _validation(plan: Plan, rows: Rows, seed: int) -> dict[str, Rows]:
    """Validation rows drawn from training rows."""
    groups = None if plan.groups is None else plan.groups[rows]
    strata = None if plan.strata is None else plan.strata[rows]
    units = _Units.of(Plan(plan.validation, 0, groups, strata), len(rows))
    size = max(1, round(plan.validation * len(units))) if plan.validation < 1 else int(plan.validation)
    if size >= len(units):
        raise ConfigError(f"dataset.validation={plan.validation}: leaves none of {len(units)} to train on")
    parts = _drawn(units, {"train": len(units) - size, "validation": size, "test": 0}, seed, None, None)
    return {name: rows[units.rows(parts[name])] for name in ("train", "validation")}


def _in_time(plan: Plan, times: Rows, pool: str) -> tuple[dict[str, Rows], Sampling]:
    """The latest rows are tested on, those before them are selected on; rows of one time stay together."""
    order = np.argsort(times, kind="stable")
    sizes = _sizes(Plan(plan.validation, plan.test), len(order))
    sorted_times = times[order]
    start = _boundary(sorted_times, len(order) - sizes["test"])
    middle = _boundary(sorted_times, max(1, start - sizes["validation"]))
    parts = {"train": order[:middle], "validation": order[middle:start], "test": order[start:]}
    return _checked({name: np.sort(rows) for name, rows in parts.items()}), _fixed(parts, pool)


def _boundary(times: Rows, place: int) -> int:
    """The nearest place at or before this one at which a new time begins; after it, if there is none before."""
    before = int(np.searchsorted(times, times[place], side="left"))
    return before if before > 0 else int(np.searchsorted(times, times[place], side="right"))


def _fixed(parts: Mapping[str, Rows], pool: str) -> Sampling:
    sizes = {name: len(rows) for name, rows in parts.items()}
    return Sampling("fixed", pool, candidates=sizes["test"], **sizes)


def _checked(parts: dict[str, Rows]) -> dict[str, Rows]:
    for name, rows in parts.items():
        if not len(rows):
            raise ConfigError(f"dataset: the {name} split has no rows")
    return parts
