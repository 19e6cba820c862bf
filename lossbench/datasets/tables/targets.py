"""The target of a table: which task type it makes, its classes, or its centre and scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

from lossbench.core import ConfigError
from lossbench.datasets.tables import columns

FEW = 10  # different whole numbers, at most, that are taken for classes
MANY = 1000  # classes, at most
YES = ("1", "true", "yes", "y", "t", "positive", "pos", "+", "1.0")
NO = ("0", "false", "no", "n", "f", "negative", "neg", "-", "-1", "0.0", "-1.0", "2")
NUMBERS = "regression"
TWO = "binary"
CLASSES = "multiclass"
TYPES = (NUMBERS, TWO, CLASSES)
MAD_TO_SD = 1.4826  # of a Gaussian

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """A target of a table. `values` are the codes of classes [n], or numbers [n, targets]; `rows` have one.

    `remark` says what it was taken for.
    """

    names: tuple[str, ...]
    task_type: str
    values: NDArray[np.int64] | Floats
    rows: NDArray[np.int64]
    classes: tuple[str, ...] = ()
    remark: str = ""

    @property
    def codes(self) -> NDArray[np.int64] | None:
        """The codes of classes [n]; None for numbers."""
        return self.values.astype(np.int64) if self.classes else None


def understood(table: pa.Table, names: Sequence[str], task_type: str | None, positive: str | None, path: str) -> Target:
    """The target in these columns; its task type follows from its values where that is not given.

    Raises: ConfigError for a column that is missing, or that cannot be a target.
    """
    for name in names:
        if name not in table.column_names:
            near = get_close_matches(name, table.column_names, n=1, cutoff=0.4) or table.column_names[-1:]
            raise ConfigError(f"dataset.target={name}: no such column in {path}; nearest: {near[0]}")
    if task_type not in (None, "auto", *TYPES):
        raise ConfigError(f"dataset.type={task_type}: a table's target makes {', '.join(TYPES)} problems")
    if len(names) > 1:
        if task_type not in (None, "auto", NUMBERS):
            raise ConfigError(f"dataset.target=[{','.join(names)}]: several targets work for regression alone")
        return _numbers(table, names, path, NUMBERS)
    values = table.column(names[0])
    if values.null_count == len(values):
        raise ConfigError(f"dataset.target={names[0]}: has no value in {path}")
    kind = task_type if task_type in TYPES else _guessed(values, names[0])
    if kind == NUMBERS:
        return _numbers(table, names, path, _called(values))
    return _classes(values, names[0], str(kind), positive)


def _guessed(values: pa.ChunkedArray, name: str) -> str:
    dtype = values.type.value_type if types.is_dictionary(values.type) else values.type
    different = int(pc.count_distinct(columns.texts(values)).as_py())
    if different < 2:
        raise ConfigError(f"dataset.target={name}: all its values are the same")
    if types.is_temporal(dtype) or types.is_nested(dtype):
        raise ConfigError(f"dataset.target={name}: holds {dtype}; numbers or classes work")
    if different == 2:
        return TWO
    if not (types.is_floating(dtype) or types.is_integer(dtype) or types.is_decimal(dtype)):
        return CLASSES
    return CLASSES if different <= FEW and _whole(values) else NUMBERS


def _whole(values: pa.ChunkedArray) -> bool:
    numbers = columns.numbers(values)
    return bool(pc.all(pc.equal(numbers, pc.round(numbers))).as_py())


def _called(values: pa.ChunkedArray) -> str:
    """How numbers are called: counts, if they are whole and none is negative."""
    try:
        numbers = columns.numbers(values)
    except pa.ArrowInvalid:
        return NUMBERS
    return "regression of counts" if _whole(values) and pc.min(numbers).as_py() >= 0 else NUMBERS


def _numbers(table: pa.Table, names: Sequence[str], path: str, called: str) -> Target:
    found = []
    for name in names:
        try:
            found.append(columns.numbers(table.column(name)).to_numpy().astype(float))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            bad = _no_number(table.column(name))
            raise ConfigError(
                f"dataset.target={name}: row {bad[0]} of {path} holds {bad[1]!r}, which is no number; "
                "dataset.type=multiclass takes texts for classes"
            ) from None
    values = np.stack(found, 1)
    known = ~np.isnan(values).any(1)
    ends = f"{np.nanmin(values):.6g} to {np.nanmax(values):.6g}" if len(names) == 1 else f"{len(names)} targets"
    return Target(
        tuple(names), NUMBERS, values[known], known.nonzero()[0], remark=f"{', '.join(names)}: {called}, {ends}"
    )


def _no_number(values: pa.ChunkedArray) -> tuple[int, object]:
    for row, value in enumerate(values.to_pylist(), 1):
        try:
            float(value if value is not None else 0)
        except (TypeError, ValueError):
            return row, value
    return 0, ""


def _classes(values: pa.ChunkedArray, name: str, kind: str, positive: str | None) -> Target:
    found = columns.texts(values)
    levels = _ordered(pc.unique(found).drop_null().to_pylist())
    counts = {one["values"]: one["counts"] for one in pc.value_counts(found).to_pylist()}
    if kind == TWO:
        if len(levels) != 2:
            raise ConfigError(f"dataset.type=binary: {name} has {len(levels)} values, and two make a binary problem")
        levels = _no_yes(levels, counts, positive, name)
    elif positive is not None:
        raise ConfigError(f"dataset.positive={positive}: {name} has {len(levels)} values, and needs two for that")
    if len(levels) > MANY:
        raise ConfigError(f"dataset.target={name}: has {len(levels):,} different texts, which are no classes")
    places = pc.index_in(found, pa.array(levels, pa.string()))
    known = places.is_valid().to_numpy()
    codes = pc.fill_null(places, 0).to_numpy().astype(np.int64)[known]
    sizes = ", ".join(f"{level} ({counts[level]:,})" for level in levels[:6])
    more = f" and {len(levels) - 6} more" if len(levels) > 6 else ""
    remark = f"{name}: {sizes}{more}: {kind}"
    if kind == TWO:
        remark += f", {levels[1]} is positive; dataset.positive= sets the other" * (positive is None)
    return Target((name,), kind, codes, known.nonzero()[0], tuple(levels), remark)


def _ordered(levels: Sequence[str]) -> list[str]:
    """In the order of their numbers, if all are numbers, else of the alphabet."""
    try:
        return sorted(levels, key=float)
    except ValueError:
        return sorted(levels)


def _no_yes(levels: list[str], counts: dict[str, int], positive: str | None, name: str) -> list[str]:
    """The negative class and the positive one: the one asked for, the one that means yes, or the rarer one."""
    if positive is not None:
        meant = [level for level in levels if _same(str(positive), level)]
        if len(meant) != 1:
            raise ConfigError(f"dataset.positive={positive}: {name} has the values {levels[0]} and {levels[1]}")
        (yes,) = meant
    else:
        lower = [level.lower() for level in levels]
        if lower[0] in YES and lower[1] in NO:
            yes = levels[0]
        elif lower[1] in YES and lower[0] in NO:
            yes = levels[1]
        else:
            yes = min(levels[::-1], key=lambda level: counts[level])
    return [level for level in levels if level != yes] + [yes]


def _same(asked: str, level: str) -> bool:
    """Whether a text means a class: as it is written, as a number, or as true for 1 and false for 0."""
    truths = {"true": "1", "false": "0"}
    one, other = (truths.get(text.lower(), text) for text in (asked, level))
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def scales(values: NDArray[Any]) -> tuple[Floats, Floats]:
    """The centre and scale of each target [targets]: median and MAD, which outliers leave alone.

    Where half of the values are equal, the scale is the standard deviation.
    """
    center = np.median(values, 0)
    mad = MAD_TO_SD * np.median(np.abs(values - center), 0)
    spread = values.std(0)
    scale = np.where(mad > 0, mad, spread)
    return center, np.where(scale > 0, scale, 1.0)
