"""Losses over several datasets: their places on each, average ranks, which pairs differ, and pooled effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lossbench.analysis import confidence, level, stats
from lossbench.analysis.pooling import Effects, effects
from lossbench.analysis.verdict import STREAM, Verdict

FRIEDMAN = 3  # the fewest datasets, and losses, that Friedman's test needs
PAIRWISE = level.PAIRS  # the fewest datasets for which a sign-flip test can fall below 5 %


class Table(NamedTuple):
    """The test values of one dataset, which of them are missing because the loss failed, and the metric's direction."""

    values: pd.DataFrame
    failed: pd.DataFrame
    higher_is_better: bool


@dataclass(frozen=True)
class Ranking:
    """Losses ranked over datasets.

    `places`: the place of each loss (column) on each dataset (row), 1 is best. `ranks`: by loss, the best first, its
    average `rank` and the 95 % interval `low`, `high` of it. `friedman`: p of Friedman's test that all are equal;
    missing where it has too few datasets or losses. `pairwise`: corrected p of each pair, loss by loss; empty where
    there are too few datasets. `left_out`: losses that some dataset has no run of.
    """

    places: pd.DataFrame
    ranks: pd.DataFrame
    friedman: float
    pairwise: pd.DataFrame
    left_out: list[str]

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets that are ranked over."""
        return [str(name) for name in self.places.index]

    @property
    def cliques(self) -> list[list[str]]:
        """The longest sequences of two or more losses, neighbours by rank, in which no pair differs significantly."""
        if self.pairwise.empty:
            return []
        order = list(self.ranks.index)
        found: list[list[str]] = []
        for start in range(len(order)):
            end = start + 1
            while end < len(order) and (self.pairwise.loc[order[end], order[start:end]] > level.ALPHA).all():
                end += 1
            if end - start > 1 and not (found and set(order[start:end]) <= set(found[-1])):
                found.append(order[start:end])
        return found


@dataclass(frozen=True)
class Across:
    """What several datasets show together: the losses ranked, and by how much each is better than the baseline.

    `effects` is None where some dataset has no run of the baseline.
    """

    ranking: Ranking
    effects: Effects | None


def across(verdicts: Sequence[Verdict]) -> Across | None:
    """The losses that all datasets have, by rank and against the first verdict's baseline; None below two datasets."""
    if len(verdicts) < 2:
        return None
    tables = {v.dataset: Table(v.values, v.failed, v.higher_is_better) for v in verdicts}
    found = ranking(tables, np.random.default_rng(STREAM))
    if found is None or len(found.datasets) < 2:
        return None
    ranked, losses = [v for v in verdicts if v.dataset in found.datasets], list(found.ranks.index)
    baseline = ranked[0].baseline
    return Across(found, effects(ranked, baseline, losses) if baseline in losses else None)


def ranking(tables: Mapping[str, Table], rng: np.random.Generator) -> Ranking | None:
    """Losses ranked over datasets, each dataset counting once; None without two losses that all datasets have.

    The intervals resample datasets, and within each its seeds; they cover the mean over all such datasets with
    probability .82 to .85 from three datasets, .90 from five, .93 to .96 from ten. Pairs are compared by the sign-flip
    test of their places on each dataset, with the step-down max-T correction; this needs six datasets, and seven to
    distinguish one of three losses from the others.

    Conover's test after Friedman's, which is usual here, calls equal losses different too often where others differ,
    since the ranks of two losses depend on what else is compared; a sign-flip test of a pair keeps its level.
    Source: Demšar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7; Benavoli, Corani &
    Mangili 2016, Should we really use post-hoc tests based on mean-ranks?, JMLR 17.
    """
    by_seed = {
        name: stats.ranks(values, failed, higher_is_better=higher) for name, (values, failed, higher) in tables.items()
    }
    known = {name: ranks.dropna(axis=1, how="all") for name, ranks in by_seed.items() if ranks.notna().any(axis=None)}
    asked = list(dict.fromkeys(loss for ranks in by_seed.values() for loss in ranks))
    losses = [loss for loss in asked if all(loss in ranks for ranks in known.values())]
    if not known or len(losses) < 2:
        return None
    scores = [ranks[losses].to_numpy(float) for ranks in known.values()]
    found = np.concatenate([places(score, np.ones((1, len(score)))) for score in scores])
    table = pd.DataFrame(found, index=pd.Index(list(known), name="dataset"), columns=pd.Index(losses, name="loss"))
    low, high = _interval(scores, rng)
    ranks = pd.DataFrame({"rank": table.mean(), "low": low, "high": high}).sort_values("rank", kind="stable")
    left_out = [loss for loss in asked if loss not in losses]
    return Ranking(table[list(ranks.index)], ranks, _friedman(found), pairwise(table, rng), left_out)


def places(by_seed: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The place [draw, loss] of each loss on one dataset, from its places on each seed [seed, loss] (`stats.ranks`).

    rank of  1 + Σ_b share of the seeds that both have on which b is ahead,  ties by half;  b ≠ the loss itself

    `weights` [draw, seed]: how often a draw contains each seed. With no runs missing, losses are ranked by the mean of
    their places on the seeds: a failure takes the last place on its seed, so that one in fifty costs little and one on
    every seed means the last place. A mean of the values themselves would need a value for a failure. A run that is
    missing for another reason does not count; a pair that shares no seed counts as a tie.
    """
    from scipy.stats import rankdata

    known = ~np.isnan(by_seed)
    mean = np.full((len(weights), by_seed.shape[1]), 0.5)  # each loss ties with itself in the sum below
    for loss, own in enumerate(by_seed.T):
        both = known & known[:, [loss]]
        ahead = np.where(by_seed == own[:, None], 0.5, by_seed < own[:, None]) * both
        seeds = weights @ both
        mean[:, loss] += np.divide(weights @ ahead, seeds, out=np.full(seeds.shape, 0.5), where=seeds > 0).sum(1)
    return rankdata(mean.round(9), axis=1)  # rounding errors must not break ties


def pairwise(places: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """p for each pair of losses by their places on datasets, corrected over all pairs; empty below six datasets."""
    losses = places.columns
    if len(places) < PAIRWISE:
        return pd.DataFrame()
    pairs = list(combinations(range(len(losses)), 2))
    by_dataset = np.stack([places.iloc[:, a] - places.iloc[:, b] for a, b in pairs], axis=1)  # [dataset, pair]
    _, p = stats.sign_flip(by_dataset, stats.flips(len(places), rng))
    table = np.ones((len(losses), len(losses)))
    for (a, b), value in zip(pairs, p, strict=True):
        table[a, b] = table[b, a] = value
    return pd.DataFrame(table, index=losses, columns=losses)


def _interval(scores: list[np.ndarray[Any, Any]], rng: np.random.Generator) -> tuple[Any, Any]:
    """The middle 95 % of each loss's average rank, over resampled datasets and, within each, resampled seeds."""
    drawn = []
    for score in scores:
        weights = rng.multinomial(len(score), np.full(len(score), 1 / len(score)), confidence.RESAMPLES)
        drawn.append(places(score, weights))
    chosen = rng.integers(0, len(drawn), (confidence.RESAMPLES, len(drawn)))
    averages = np.stack(drawn)[chosen, np.arange(confidence.RESAMPLES)[:, None]].mean(1)  # [resample, loss]
    return tuple(np.quantile(averages, [level.ALPHA / 2, 1 - level.ALPHA / 2], axis=0))


def _friedman(places: np.ndarray[Any, Any]) -> float:
    from scipy.stats import friedmanchisquare

    if min(places.shape) < FRIEDMAN:
        return np.nan
    if (places == places[:, :1]).all():
        return 1.0
    return float(friedmanchisquare(*places.T).pvalue)
