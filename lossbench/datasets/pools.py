"""Splits that are drawn from one pool of examples, and what a search may see of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossbench.core import ConfigError, Sampling

Stage: TypeAlias = Literal["search", "final"]
"""Of a tuned study: its search trains and selects on examples that no final run tests on, whatever the seeds."""

Positions: TypeAlias = dict[str, NDArray[np.int64]]
"""Where the examples of each split are in a pool."""


def draw(
    key: Sequence[int],
    sizes: Mapping[str, int],
    stage: Stage | None = None,
    folds: int | None = None,
    classes: ArrayLike | None = None,
) -> Positions:
    """Positions of each split in a pool of `sum(sizes)`: a permutation under the key, cut in the order of `sizes`.

    With a stage, a part of the pool is reserved, the same under every key: the test split is drawn from it alone, and
    in a search nothing else is. The reserve is up to twice as large as a test split, so that seeds differ in what
    they test on; it costs a search at most a third of the training split.

    With folds, the seed, the first of the key, counts through the parts of a permutation, then those of the next: one
    part is the test split, and so many seeds test on every example once. Parts have the classes in equal shares.

    Raises: ConfigError for an unknown stage, fewer than two folds or more than examples, folds and a stage.
    """
    if stage not in (None, "search", "final"):
        raise ConfigError(f"dataset.stage={stage}: unknown; choose search, final or null")
    if folds is not None:
        return _fold(key, sizes, stage, folds, classes)
    order = np.random.default_rng(key).permutation(sum(sizes.values()))
    if stage is None:
        return _cut(order, sizes)
    reserved = _reserved(sizes)[order]
    test, rest = order[reserved][: sizes["test"]], order[~reserved]
    if stage == "final":
        rest = order[~np.isin(order, test)]
    return {**_rest(rest, sizes), "test": test}


def sampling(pool: str, sizes: Mapping[str, int], stage: Stage | None, folds: int | None, train: int) -> Sampling:
    """What seeds change where splits are drawn as above; `train` of a pool's examples are what is trained on."""
    whole = sum(sizes.values())
    test = whole // folds if folds else sizes["test"]
    candidates = whole if stage is None else int(_reserved(sizes).sum())
    return Sampling("folds" if folds else "resplit", pool, train, whole - test - train, test, candidates)


def _fold(
    key: Sequence[int], sizes: Mapping[str, int], stage: Stage | None, folds: int, classes: ArrayLike | None
) -> Positions:
    whole = sum(sizes.values())
    if stage is not None:
        raise ConfigError(
            f"dataset.folds={folds}: some seed tests on every example, so none is left to tune on; leave it"
        )
    if not 2 <= folds <= whole // 2:
        raise ConfigError(f"dataset.folds={folds}: parts of the {whole:,} examples, at least 2, at most {whole // 2:,}")
    repetition, part = divmod(key[0], folds)
    order = np.random.default_rng([repetition, *key[1:]]).permutation(whole)
    if classes is not None:  # of each class in turn, so that parts have equal shares of it
        order = order[np.argsort(np.asarray(classes)[order], kind="stable")]
    dealt = np.arange(whole) % folds == part
    rest = np.random.default_rng([*key, 1]).permutation(order[~dealt])
    share = len(rest) / max(1, whole - sizes["test"])
    return {**_rest(rest, {name: max(1, round(share * size)) for name, size in sizes.items()}), "test": order[dealt]}


def _rest(rest: NDArray[np.int64], sizes: Mapping[str, int]) -> Positions:
    """All but the test split: what the others leave over is trained on."""
    others = {name: size for name, size in sizes.items() if name != "test"}
    others["train"] = len(rest) - sum(size for name, size in others.items() if name != "train")
    return _cut(rest, others)


def _reserved(sizes: Mapping[str, int]) -> NDArray[np.bool_]:
    """Which examples of the pool are reserved for test splits."""
    size = sizes["test"] + min(sizes["test"], sizes["train"] // 3)
    return np.random.default_rng(0).permutation(sum(sizes.values())) < size


def _cut(order: NDArray[np.int64], sizes: Mapping[str, int]) -> Positions:
    return dict(zip(sizes, np.split(order, np.cumsum(list(sizes.values()))[:-1]), strict=True))
