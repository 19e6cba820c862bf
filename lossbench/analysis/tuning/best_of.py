"""The best of k trials: what a search with a smaller budget would have found, from the scores of a larger one.

Reference: Dodge et al., Show Your Work: Improved Reporting of Experimental Results, 2019, arxiv.org/abs/1909.03004;
Tang et al., Showing Your Work Doesn't Always Work, 2020, arxiv.org/abs/2004.13705 (the unbiased mean); Lourie, Cho &
He, Show Your Work with Confidence, 2024, arxiv.org/abs/2311.09480 (the band).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

LEVEL = 0.95
STREAM = 20240615  # of the simulation that finds the local level
SIMULATED = 4_000_000  # uniform numbers at most, in at most SEARCHES and at least FEWEST searches
SEARCHES = 20_000
FEWEST = 2_000


def curve(scores: Sequence[float], higher_is_better: bool) -> pd.DataFrame:
    """The best of k independent trials for k = 1 … n: expected, median, low, high.

    expected: mean of the best over all subsets of k, unbiased; missing where a failed trial makes it infinite.
    median: median of the best of k, the quantile 0.5^(1/k) of the scores; missing where it is infinite.
    low, high: 95 % band for that median, for all k at once and any distribution: F of the ordered scores is Beta, and
    all limits err at one local level; infinite where n trials give no limit. Ties only make it wider.

    A failed trial is worse than any other: −inf where higher is better, else +inf. Only the median has such a band: the
    mean has none, since a score that was not drawn may be arbitrarily far out.

    Raises: ValueError for a score that is missing.
    """
    x = np.sort(np.asarray(scores, dtype=float) * (1 if higher_is_better else -1))
    if np.isnan(x).any():
        raise ValueError("a score is missing: give a failed trial an infinite one, and leave unfinished trials out")
    k = np.arange(1, len(x) + 1)
    low, middle, high = _places(len(x))
    ended = np.concatenate([[-np.inf], x, [np.inf]])
    found = pd.DataFrame(
        {"expected": _expected(x), "median": ended[middle], "low": ended[low], "high": ended[high]},
        index=pd.Index(k, name="k"),
    )
    found["median"] = found["median"].where(np.isfinite(found["median"]))
    if higher_is_better:
        return found
    return (-found).rename(columns={"low": "high", "high": "low"})[["expected", "median", "low", "high"]]


def _expected(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Σ x(i) C(i−1, k−1) / C(n, k) over the ordered scores: each weighted by how often it is the best of a subset."""
    from scipy.special import gammaln

    n = len(x)
    i, k = np.arange(1, n + 1), np.arange(1, n + 1)[:, None]
    known = i >= k
    up = np.where(known, i - k, 0)
    log = gammaln(i) - gammaln(k) - gammaln(up + 1) - (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))
    weights = np.where(known, np.exp(log), 0)
    infinite = ~np.isfinite(x)
    means = weights @ np.where(infinite, 0, x)
    return np.where((weights[:, infinite] > 0).any(axis=1), np.nan, means)


@cache
def _places(n: int) -> tuple[Any, Any, Any]:
    """The places of the lower end, the median and the upper end among the ordered scores for each k; 0 and n + 1: none.

    F(x) ≤ upper[i + 1] for x below the next score and F(x) ≥ lower[i] from this one on, so that the quantile q lies
    between the first score with upper[i + 1] ≥ q and the first with lower[i] ≥ q.
    """
    from scipy.special import betaincinv

    i, q, level = np.arange(1, n + 1), _quantiles(n), local_level(n)
    lower = betaincinv(i, n - i + 1, level / 2)
    upper = betaincinv(i, n - i + 1, 1 - level / 2)
    middle = np.ceil(n * q * (1 - 1e-12)).astype(int)
    return np.searchsorted(upper, q, side="left"), middle, np.searchsorted(lower, q, side="left") + 1


def _quantiles(n: int) -> np.ndarray[Any, Any]:
    """The quantiles of the scores at which the medians of the best of 1 … n lie."""
    return 0.5 ** (1 / np.arange(1, n + 1))


@cache
def local_level(n: int) -> float:
    """The level at which each limit may err, so that all limits of a curve hold together in 95 % of all searches.

    Over the quantiles of the curve, not over the whole CDF as in the paper, whose bands hold for 99 % of curves.
    A limit errs where too few or too many of n uniform numbers fall below its quantile, which is binomial.
    """
    from scipy.special import bdtr

    q, below = _quantiles(n), np.arange(n + 1)
    least = np.minimum(bdtr(below, n, q[:, None]), 1 - np.where(below, bdtr(below - 1, n, q[:, None]), 0))
    searches = max(FEWEST, min(SEARCHES, SIMULATED // n))
    rng, row = np.random.default_rng(STREAM), np.arange(n)
    worst = []
    for _ in range(searches):
        counts = np.searchsorted(np.sort(rng.random(n)), q)
        worst.append(2 * least[row, counts].min())
    return float(np.quantile(worst, 1 - LEVEL, method="lower") * (1 - 1e-9))
