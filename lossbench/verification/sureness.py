"""Whether the verdict errs no more often than it claims, where all seeds split the same data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from lossbench.analysis import level, stats
from lossbench.core import stream
from lossbench.verification.claims import Finding, Losses, above, below, truth

SETS, SEEDS, ROWS, TEST = 400, 10, 100, 20
INPUTS = 2  # of each of the two learners
NAMES = ("a", "b")


@truth(
    number=12,
    title="Equal losses on one data set",
    source="Nadeau and Bengio 2003; simulation",
)
def same(losses: Losses) -> Iterator[Finding]:
    """Two equally good learners, on one data set that ten seeds split anew, are called different on at most one of
    twenty such sets; a test that treats the seeds as independent does so several times as often."""
    scores = _scores()
    overlap = TEST / (ROWS - TEST)
    error = 1.96 * (level.ALPHA * (1 - level.ALPHA) / SETS) ** 0.5
    yield below("called different by the test for re-splits", level.ALPHA + error, _claims(scores, overlap))
    yield above("by the sign-flip test, for contrast", 2 * level.ALPHA, _claims(scores, None))


def _claims(scores: np.ndarray, overlap: float | None) -> float:
    """The share of data sets on which the two are called different; scores are [set, seed, learner]."""
    rng, claims = np.random.default_rng(0), 0
    for values in scores:
        table = pd.DataFrame(values, pd.Index(map(str, range(SEEDS)), name="seed"), pd.Index(NAMES, name="loss"))
        found = stats.differences(table, rng, higher_is_better=False, overlap=overlap)
        claims += bool((found["p_all"] <= level.ALPHA).any())
    return claims / len(scores)


def _scores() -> np.ndarray:
    """Mean absolute test errors [set, seed, learner] of least squares, each learner with its own inputs."""
    random = stream(0, "resplit")
    inputs = torch.randn(SETS, len(NAMES), ROWS, INPUTS, generator=random, dtype=torch.float64)
    targets = inputs.sum((1, 3)) + torch.randn(SETS, ROWS, generator=random, dtype=torch.float64)
    found = []
    for _ in range(SEEDS):
        order = torch.rand(SETS, ROWS, generator=random).argsort(1)
        x = inputs.gather(2, order[:, None, :, None].expand_as(inputs))
        y = targets.gather(1, order)[:, None, :, None].expand(-1, len(NAMES), -1, 1)
        weights = torch.linalg.lstsq(x[:, :, TEST:], y[:, :, TEST:]).solution
        found.append((x[:, :, :TEST] @ weights - y[:, :, :TEST]).abs().mean((2, 3)))
    return torch.stack(found, dim=1).numpy()
