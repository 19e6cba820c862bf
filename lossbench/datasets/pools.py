"""Splits that are drawn from one pool of examples, and what a search may see of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lossbench.core import BadInput

Stage: TypeAlias = Literal["search", "final"]
"""Of a tuned study: its search trains and selects on examples that no final run tests on, whatever the seeds."""


def draw(key: Sequence[int], sizes: Mapping[str, int], stage: Stage | None = None) -> dict[str, NDArray[np.int64]]:
    """Positions of each split in a pool of `sum(sizes)`: a permutation under the key, cut in the order of `sizes`.

    With a stage, a part of the pool is reserved, the same under every key: the test split is drawn from it alone, and
    in a search nothing else is. The reserve is up to twice as large as a test split, so that seeds differ in what
    they test on; it costs a search at most a third of the training split.

    Raises: BadInput for an unknown stage.
    """
    if stage not in (None, "search", "final"):
        raise BadInput(f"dataset.stage={stage}: unknown; choose search, final or null")
    order = np.random.default_rng(key).permutation(sum(sizes.values()))
    if stage is None:
        return _cut(order, sizes)
    reserved = _reserved(sizes)[order]
    test, rest = order[reserved][: sizes["test"]], order[~reserved]
    if stage == "final":
        rest = order[~np.isin(order, test)]
    others = {name: size for name, size in sizes.items() if name != "test"}
    others["train"] = len(rest) - sum(size for name, size in others.items() if name != "train")
    return {**_cut(rest, others), "test": test}


def _reserved(sizes: Mapping[str, int]) -> NDArray[np.bool_]:
    """Which examples of the pool are kept for test splits."""
    size = sizes["test"] + min(sizes["test"], sizes["train"] // 3)
    return np.random.default_rng(0).permutation(sum(sizes.values())) < size


def _cut(order: NDArray[np.int64], sizes: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    return dict(zip(sizes, np.split(order, np.cumsum(list(sizes.values()))[:-1]), strict=True))
