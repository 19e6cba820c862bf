"""What the primary metric hides: another metric by which losses differ that it cannot distinguish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np

from lossbench.analysis import level, stats
from lossbench.analysis.population import population
from lossbench.analysis.verdict import STREAM, Verdict, by_seed

Floats: TypeAlias = "np.ndarray[Any, Any]"
Looked: TypeAlias = "tuple[tuple[str, str, str], tuple[str, str], tuple[float, float], Floats]"

LARGE = 0.1  # of the larger mean: a smaller difference is not worth a sentence, however significant


@dataclass(frozen=True)
class Hidden:
    """A difference by another metric between two of the best losses: their means, the better one's first.

    `p` is corrected for all `looked` pairs of losses and metrics that were tested.
    """

    metric: tuple[str, str, str]
    losses: tuple[str, str]
    means: tuple[float, float]
    p: float
    looked: int

    @property
    def size(self) -> float:
        """The difference as a share of the larger mean."""
        return abs(self.means[0] - self.means[1]) / max(map(abs, self.means))


def hidden(verdict: Verdict) -> Hidden | None:
    """The largest significant difference, by any other metric, between losses that the verdict cannot distinguish.

    Every pair of the best losses is compared by every other metric, with the verdict's own test. For sign flips, p is
    corrected over all of these by step-down max-T: with six seeds, nothing could be significant after Holm's correction
    over two or more. None for sequential comparisons, whose error is spent on the primary metric.
    """
    looked = [] if verdict.looked else list(_looked(verdict))
    if not looked:
        return None
    found = [
        Hidden(metric, losses, means, float(p), len(looked))
        for (metric, losses, means, _), p in zip(looked, _corrected(verdict, looked), strict=True)
        if p <= level.ALPHA
    ]
    return max((one for one in found if one.size >= LARGE), key=lambda one: one.size, default=None)


def _corrected(verdict: Verdict, looked: Sequence[Looked]) -> Floats:
    """p of each, corrected over all of them."""
    if not verdict.population.limited:
        by_looked = np.stack([d for *_, d in looked], axis=1)  # [seed, looked]
        signs = stats.flips(len(by_looked), np.random.default_rng(STREAM))
        return stats.sign_flip(np.nan_to_num(by_looked), signs)[1]
    names = {metric[0] for metric, *_ in looked}
    values = {name: by_seed(verdict.runs, f"test/{name}", list(verdict.chosen)) for name in names}
    varied = {name: population(verdict.runs, name, values[name]) for name in names}
    p = [
        varied[name].error(values[name], a, b).p()
        if varied[name].limited
        else 1.0  # nothing is known about new examples
        for (name, *_), (a, b), *_ in looked
    ]
    return stats.holm(np.array(p))


def _looked(verdict: Verdict) -> Iterator[Looked]:
    """Metric, losses (the better one first), their means on the seeds that both have, and the differences by seed."""
    for metric in verdict.metrics:
        if metric == verdict.metric:
            continue
        values = by_seed(verdict.runs, f"test/{metric[0]}", verdict.starred)
        for pair in combinations(verdict.starred, 2):
            common = values[list(pair)].dropna()
            if len(common) < level.PAIRS:
                continue
            a, b = sorted(pair, key=lambda loss: common[loss].mean(), reverse=metric[1] == "↑")
            yield metric, (a, b), (common[a].mean(), common[b].mean()), (values[a] - values[b]).to_numpy(float)
