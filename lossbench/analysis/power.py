"""What so many paired seeds can find, and how many seeds a difference needs."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.level import ALPHA, PAIRS

POWER = 0.8
MOST_PAIRS = 10**8  # more than the smallest difference needs for which `seeds_needed` counts seeds


def detectable(d: np.ndarray[Any, Any], tests: int = 1) -> float:
    """The smallest mean difference that a paired t test on these seeds detects, with 80 % power at 5 % over `tests`."""
    return np.nan if len(d) < 2 else float(_effect(len(d), tests) * d.std(ddof=1))


@cache
def _effect(n: int, tests: int) -> float:
    """The same in units of the standard deviation of the differences."""
    from scipy.optimize import brentq

    alpha, most = ALPHA / tests, 1.0
    while power(most, n, alpha) < POWER:
        most *= 2
    if np.isnan(power(most, n, alpha)):  # beyond scipy's reach: of two seeds, and thousands of tests
        return np.inf
    return float(brentq(lambda effect: power(effect, n, alpha) - POWER, 0, most, xtol=1e-12))


def power(effect: float, pairs: int, alpha: float) -> float:
    """How often a two-sided paired t test finds a mean difference of so many standard deviations of the difference.

    P(F > t²_{α/2}),  F noncentral of 1 and n − 1 degrees of freedom, with n · effect² for its noncentrality
    """
    from scipy.special import ncfdtr, stdtrit

    return float(1 - ncfdtr(1, pairs - 1, pairs * effect**2, stdtrit(pairs - 1, alpha / 2) ** 2))


def seeds_needed(d: pd.Series[float], tests: int = 1) -> float:
    """How many seeds would detect a difference as large as the mean of these, with 80 % power at 5 % over `tests`.

    Infinite for differences that are all zero; never fewer than `PAIRS`.
    """
    known = d.dropna().to_numpy(float)
    if len(known) < 2 or known.mean() == 0:
        return np.inf
    spread = known.std(ddof=1)
    if spread == 0:
        return PAIRS
    effect = abs(known.mean()) / spread
    if effect > 5:
        return PAIRS
    if effect < 0.005:
        return np.inf
    return float(bisect_left(range(MOST_PAIRS), POWER, lo=PAIRS, key=lambda n: power(effect, n, ALPHA / tests)))
