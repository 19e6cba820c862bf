"""A table of the user's: a file or a data frame, and the column that is to be predicted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lossbench.core import ConfigError, Split, Splits, cache_folder, is_given, machine, stamp, stem
from lossbench.datasets.pools import Stage
from lossbench.datasets.remarks import say
from lossbench.datasets.splits import assemble
from lossbench.datasets.tables import preparing, reading, splitting, targets
from lossbench.datasets.tables.encoding import ROWS, Encoding, Scaling, raw
from lossbench.datasets.tables.preparing import Prepared, Roles
from lossbench.datasets.tables.splitting import Plan
from lossbench.datasets.tables.text import Options

LARGE = 0.25  # of the free memory: larger inputs lie in files that are mapped
LISTED = 12  # columns that a message names
REPEATED = 200_000  # rows, at most, that are compared
SHARE = 0.01  # of test rows that may equal training rows by chance
PROBED = 2000  # rows in which a leak is looked for
SCALINGS = ("standard", "quantile")

Names = str | Sequence[str] | None


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
    if scaling not in SCALINGS:
        raise ConfigError(f"dataset.scaling={scaling}: unknown; choose {' or '.join(SCALINGS)}")
    roles = Roles(
        names_of(target),
        task_type,
        None if positive is None else str(positive),
        group_on,
        time_on,
        stratify_on,
        split,
        weight,
        names_of(drop),
        names_of(numbers),
        names_of(categories),
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
    return splits_of(known, seed, called, path, scaling, validation, test, folds, stage, roles)


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
    names = names_of(target, read)
    shown = "the data" if is_given(path) else path
    return targets.understood(read, names, None, None if positive is None else str(positive), shown).task_type


def splits_of(
    known: Prepared,
    seed: int,
    name: str,
    source: str,
    scaling: Scaling,
    validation: float,
    test: float,
    folds: int | None,
    stage: Stage | None,
    roles: Roles,
) -> Splits:
    """The splits of a prepared table under a seed."""
    classes = known.target.values.astype(np.int64) if known.target.classes else None
    plan = Plan(validation, test, known.groups, known.strata, known.times, known.given, known.held, folds, classes)
    if folds is not None and (known.given or known.times is not None or known.held is not None):
        raise ConfigError(f"dataset.folds={folds}: the test rows are given, so that there are no folds")
    rows, sampling = splitting.split(plan, len(known.table), seed, stage, known.pool)
    undated = [roles.time_on] if roles.time_on else []
    fitted = Encoding.fit(_taken(known.table, rows["train"]), known.used, scaling, undated)
    fitted = replace(fitted, target=raw(known.table.column(known.target.names[0])))
    if not fitted.columns:
        raise ConfigError(f"dataset={name}: no column is left to learn from")
    center, scale = (0.0, 1.0) if known.target.classes else targets.scales(known.target.values[rows["train"]])

    def standardised(places: NDArray[np.int64]) -> torch.Tensor:
        if known.target.classes:
            return torch.from_numpy(known.target.values[places].astype(np.int64))
        return torch.from_numpy(((known.target.values[places] - center) / scale).astype(np.float32))

    mean_weight = 1.0 if known.weights is None else known.weights[rows["train"]].mean()
    if mean_weight == 0:
        raise ConfigError(f"dataset.weight={roles.weight}: all weights of the training split are 0")

    def made(part: str) -> Split:
        places = rows[part]
        metadata = {"row": torch.from_numpy(known.target.rows[places])}
        if known.groups is not None:
            metadata["group"] = torch.from_numpy(known.groups[places])
        weights = None if known.weights is None else torch.from_numpy(known.weights[places] / mean_weight).float()
        return Split(torch.from_numpy(encoded(fitted, known.table, places)), standardised(places), metadata, weights)

    splits = {part: made(part) for part in ("train", "validation", "test")}
    _check_classes(name, known, rows)
    _leaks(name, fitted, known, splits["train"], rows["train"])
    _repeated(name, splits["train"], splits["test"])
    several = len(known.target.names) > 1
    return assemble(
        splits["train"],
        splits["validation"],
        splits["test"],
        name=name,
        task_type=known.target.task_type,
        source=source,
        licence="yours",
        classes=known.target.classes,
        center=0.0 if known.target.classes or several else float(center[0]),  # type: ignore[index]
        scale=1.0 if known.target.classes or several else float(scale[0]),  # type: ignore[index]
        target_scales=tuple(zip(known.target.names, center.tolist(), scale.tolist(), strict=True)) if several else (),  # type: ignore[union-attr]
        columns=fitted.columns,
        sampling=sampling,
        encoding=fitted,
    )


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


def _check_classes(name: str, known: Prepared, rows: Mapping[str, NDArray[np.int64]]) -> None:
    """Raises: ConfigError for a split in which nothing can be told apart."""
    for part, places in rows.items():
        codes = np.unique(known.target.values[places]) if known.target.classes else np.arange(2)
        if len(codes) < 2:
            only = known.target.classes[int(codes[0])]
            raise ConfigError(
                f"dataset={name}: all rows of the {part} split are of class {only}, so that nothing can be measured; "
                f"larger splits work, or dataset.stratify_on={known.target.names[0]}"
            )


def _repeated(name: str, train: Split, test: Split) -> None:
    """Say how many test rows are in the training split, too."""
    if len(train) + len(test) > REPEATED:
        return
    trained, tested = (
        [row.tobytes() for row in torch.cat([s.inputs, s.targets.reshape(len(s), -1).float()], 1).numpy()]
        for s in (train, test)
    )
    known = set(trained)
    count = sum(row in known for row in tested)
    if count > SHARE * len(test):
        say(
            f"{name}: {count:,} of {len(test):,} test rows equal a training row; if they are the same case, "
            "dataset.group_on= keeps them together"
        )


def _leaks(name: str, fitted: Encoding, known: Prepared, train: Split, rows: NDArray[np.int64]) -> None:
    """Say which columns tell the target alone."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:PROBED]
    part = preparing.leaks(
        train.inputs[torch.from_numpy(chosen)].numpy(),
        fitted.sources_of_columns,
        targets.Target(
            known.target.names, known.target.task_type, known.target.values[rows[chosen]], rows, known.target.classes
        ),
    )
    for column in part:
        say(
            f"{name}: {column} tells {known.target.names[0]} alone; if it is known only afterwards, "
            f"leave it out: dataset.drop=['{column}']"
        )


@lru_cache(maxsize=2)
def _prepared(path: str, test_path: str | None, stamps: tuple[str, ...], options: Options, roles: Roles) -> Prepared:
    """The same for every seed; `stamps` tell a file that was changed from what it was."""
    read, remarks = reading.read(path, options)
    roles = Roles(**{**vars(roles), "target": names_of(roles.target, read)})
    tested = None if test_path is None else reading.read(test_path, options)[0]
    found = preparing.prepared(read, roles, "the data" if is_given(path) else path, tested)
    return Prepared(**{**vars(found), "remarks": (*remarks, *found.remarks)})


def names_of(given: Any, read: pa.Table | None = None) -> tuple[str, ...]:
    """Names as a tuple; a whole number counts columns from the end, or names one of a table without names."""
    if given is None:
        return ()
    names = tuple(map(str, given)) if isinstance(given, Sequence) and not isinstance(given, str) else (str(given),)
    if read is None or len(names) != 1 or names[0] in read.column_names:
        return names
    last = -int(names[0]) if names[0].lstrip("-").isdigit() and names[0].startswith("-") else 0
    return (read.column_names[-last],) if 0 < last <= len(read.column_names) else names
