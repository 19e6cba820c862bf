"""Statistics on labelled tables with a row per seed and a column per loss; randomness is an argument.

The index of every table of values is called `seed` and its columns `loss`; anything else is refused, since a transposed
table would give plausible but wrong numbers. A missing value means a run without a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import errors
from lossbench.analysis.level import ALPHA, PAIRS
from lossbench.analysis.power import POWER, detectable
from lossbench.core import Range

PARTS = 16  # in which flips are drawn and used, so that thousands of seeds fit into memory
EXACT = 14  # seeds up to which all 2^n sign flips are used; beyond, 2^14 are drawn


ROUNDING = 1e-9  # relative: differences this small are ties that float sums break
COLUMNS = [
    *("a", "b", "n", "difference", "low", "high", "p", "p_holm", "p_all", "improvement", "detectable", "p_equal"),
]


def check(values: pd.DataFrame) -> pd.DataFrame:
    """The table itself. Raises: ValueError unless its rows are unique seeds and its columns unique losses."""
    return check_values((values.index.name, values.columns.name) == ("seed", "loss"), values)


def check_values(right: bool, values: pd.DataFrame) -> pd.DataFrame:
    """The table itself, whose axes are named right or not. Raises: ValueError as `check`."""
    if not right:
        raise ValueError(
            f"rows are {values.index.name!r} and columns {values.columns.name!r}; a row is a seed, a column a loss"
        )
    if not (values.index.is_unique and values.columns.is_unique):
        raise ValueError("a seed or a loss occurs twice")
    return values


def flips(seeds: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Signs [flip, seed] that leave differences by seed equally likely if two losses are alike; the first flips none.

    All 2^n for up to fourteen seeds, so that p is exact; beyond, 2^14 drawn at random.
    """
    if seeds <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)
    signs = np.empty((2**EXACT, seeds))
    for part in np.array_split(signs, PARTS):
        part[:] = rng.choice([-1.0, 1.0], part.shape)
    signs[0] = 1
    return signs


def differences(
    values: pd.DataFrame,
    rng: np.random.Generator,
    *,
    higher_is_better: bool,
    overlap: float | None = None,
    left_out: Mapping[str, pd.DataFrame] | None = None,
    margin: float | None = None,
    alpha: float = ALPHA,
) -> pd.DataFrame:
    """Every pair of losses a, b, compared seed by seed. The columns are

    n: seeds on which both have a value.
    difference: mean of a − b.  low, high: its interval, all values that the test would not reject at alpha.
    p: of no difference, two-sided; missing below six pairs.
    p_holm: p after Holm's correction over all pairs.  p_all: p after the correction that decides.
    improvement: share of the seeds on which a is better than b, ties by half.
    detectable: smallest difference that n seeds detect with 80 % power at 5 %, after Bonferroni's correction.
    p_equal: of a difference of `margin` or more, after Holm's correction; missing without a margin.

    The test depends on where the data of the seeds come from:

    - Each seed draws its own: the sign-flip test of the mean, the share of flips with |Σ ±d| ≥ |Σ d|, and its
      step-down max-T correction, which flips all pairs of losses together and so accounts for their dependence.
      Holm's does not: with ten seeds, the smallest p is 1/512, too large for significance over the pairs of eight
      losses.
    - Each splits one data set anew: `overlap` is the size of a test split over that of its training split. Differences
      depend on each other; the sign-flip test calls equal losses different five times as often as it claims. Test and
      interval are `errors.resplit`, and the correction Holm's, since a max-T correction whose correlations are
      estimated from ten seeds rejects too often for eight losses (.07 to .09 for .05).
    - All test on the same examples: `left_out` has for each loss its values with a part of the examples left out, a
      row per seed, a column per part. Test and interval are `errors.crossed`, the correction Holm's.

    Raises: ValueError for an invalid overlap, or for both overlap and left_out.
    Source: Westfall & Young 1993, Resampling-Based Multiple Testing; Romano & Wolf 2005 for the step-down.
    """
    check(values)
    if overlap is not None and (left_out is not None or not 0 <= overlap < np.inf):
        raise ValueError(f"overlap={overlap}: the test split's size over the training split's, without left_out")
    pairs = list(combinations(values.columns, 2))
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    array, places = values.to_numpy(float), list(combinations(range(len(values.columns)), 2))
    by_seed = np.stack([array[:, a] - array[:, b] for a, b in places], axis=1)  # [seed, pair]
    n = (~np.isnan(by_seed)).sum(0)
    tests = max(1, int((n >= PAIRS).sum()))
    if overlap is None and left_out is None:
        found = _flipped(by_seed, rng, margin, alpha, tests)
    else:
        parts = [None if left_out is None else _parts(left_out, *pair) for pair in pairs]
        found = _by_error(by_seed, parts, overlap, margin, alpha, tests)
    sign = 1 if higher_is_better else -1
    found |= {
        "a": [a for a, _ in pairs],
        "b": [b for _, b in pairs],
        "n": n,
        "difference": [d[~np.isnan(d)].mean() if known else np.nan for d, known in zip(by_seed.T, n, strict=True)],
        "improvement": [_improvement(sign * d) for d in by_seed.T],
        "p_holm": _corrected(found["p"]),
        "p_equal": _corrected(found["p_equal"]),
    }
    if overlap is not None or left_out is not None:
        found["p_all"] = found["p_holm"]
    return pd.DataFrame(found, columns=COLUMNS)


def _improvement(better: np.ndarray[Any, Any]) -> float:
    known = better[~np.isnan(better)]
    return float(np.where(known == 0, 0.5, known > 0).mean()) if len(known) else np.nan


def _parts(left_out: Mapping[str, pd.DataFrame], a: str, b: str) -> np.ndarray[Any, Any] | None:
    """Differences [seed, part] of a pair without each part; None where one of the two has none."""
    return (left_out[a] - left_out[b]).to_numpy(float) if a in left_out and b in left_out else None


def _flipped(
    by_seed: np.ndarray[Any, Any], rng: np.random.Generator, margin: float | None, alpha: float, tests: int
) -> dict[str, Any]:
    """The results of the sign-flip test for each pair."""
    signs = flips(len(by_seed), rng)
    tested = (~np.isnan(by_seed)).sum(0) >= PAIRS
    found = {name: np.full(by_seed.shape[1], np.nan) for name in ("low", "high", "p", "p_all", "p_equal")}
    for pair in np.flatnonzero(tested):
        d = by_seed[:, pair]
        found["low"][pair], found["high"][pair] = _range(d, signs, alpha)
        found["p_equal"][pair] = np.nan if margin is None else _equal(d, signs, margin)
    if tested.any():
        found["p"][tested], found["p_all"][tested] = sign_flip(np.nan_to_num(by_seed[:, tested]), signs)
    return found | {"detectable": [detectable(d[~np.isnan(d)], tests) for d in by_seed.T]}


def within(table: pd.DataFrame, ends: Range) -> pd.DataFrame:
    """`differences` with intervals clipped to the largest difference that a metric of this range allows."""
    most = ends[1] - ends[0]
    return table.assign(low=table["low"].clip(-most, most), high=table["high"].clip(-most, most))


def _by_error(
    by_seed: np.ndarray[Any, Any],
    parts: Sequence[np.ndarray[Any, Any] | None],
    overlap: float | None,
    margin: float | None,
    alpha: float,
    tests: int,
) -> dict[str, Any]:
    """The results by the mean's standard error for each pair, where seeds share their data."""
    found = {name: np.full(by_seed.shape[1], np.nan) for name in ("low", "high", "p", "p_all", "p_equal", "detectable")}
    for pair, (d, part) in enumerate(zip(by_seed.T, parts, strict=True)):
        known = ~np.isnan(d)
        if known.sum() < 2 or (overlap is None and part is None):
            continue
        error = errors.resplit(d[known], overlap or 0.0) if part is None else errors.crossed(d[known], part[known])
        found["detectable"][pair] = error.detectable(ALPHA / tests, POWER)
        if known.sum() >= PAIRS:
            found["p"][pair] = error.p()
            found["low"][pair], found["high"][pair] = error.interval(alpha)
            found["p_equal"][pair] = np.nan if margin is None else error.p_equal(margin)
    return found


def _corrected(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """p after Holm's correction over those that are not missing."""
    known = ~np.isnan(p)
    corrected = np.array(p, dtype=float)
    if known.any():
        corrected[known] = holm(corrected[known])
    return corrected


def _equal(d: np.ndarray[Any, Any], signs: np.ndarray[Any, Any], margin: float) -> float:
    """The larger of two one-sided sign-flip tests, that the mean is at least the margin and at most minus it."""
    away = np.nan_to_num(np.stack([d - margin, -d - margin], axis=1))
    return float((signs @ away <= away.sum(0) + ROUNDING * np.abs(away).sum(0)).mean(0).max())


def sign_flip(by_seed: np.ndarray[Any, Any], signs: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """p of each pair by itself, and by step-down over all pairs, for differences [seed, pair] under `flips`.

    Its statistic |Σ ±d| / √Σd² has the same spread for every pair.
    """
    size = np.sqrt(np.square(by_seed).sum(0))
    scaled = by_seed / np.where(size > 0, size, 1)
    order = np.argsort(-np.abs(scaled.sum(0)), kind="stable")
    scaled = scaled[:, order]
    seen = np.abs(scaled.sum(0)) - ROUNDING
    single, together = np.zeros(len(order)), np.zeros(len(order))
    for part in np.array_split(signs, max(1, len(signs) * len(order) // 2**22)):
        flipped = np.abs(part @ scaled)
        single += (flipped >= seen).sum(0)
        # the largest among this pair and all weaker ones
        together += (np.maximum.accumulate(flipped[:, ::-1], axis=1)[:, ::-1] >= seen).sum(0)
    back = np.argsort(order)
    return (single / len(signs))[back], np.maximum.accumulate(together / len(signs))[back]


def _range(d: np.ndarray[Any, Any], signs: np.ndarray[Any, Any], alpha: float) -> tuple[float, float]:
    """The inverted sign-flip test: its limits are order statistics of the means of subsets (Hartigan 1969)."""
    known = ~np.isnan(d)
    subsets = ((part[:, known] < 0).astype(float) for part in np.array_split(signs, PARTS))
    sums, sizes = np.concatenate([(chosen @ d[known], chosen.sum(1)) for chosen in subsets], axis=1)
    means = np.sort(sums[sizes > 0] / sizes[sizes > 0])
    none = int((sizes == 0).sum())
    skip = max(0, int(alpha / 2 * len(signs)) - none)
    return float(means[skip]), float(means[-1 - skip])


def holm(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """p after Holm's correction over all of them: with m of them, the k-th smallest times m + 1 − k, never falling.

    Written here because statsmodels, which has it, is a large package for one line; tests compare the two.
    """
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def ranks(values: pd.DataFrame, failed: pd.DataFrame, *, higher_is_better: bool) -> pd.DataFrame:
    """Each loss's place on each seed, 1 for the best; losses that failed on a seed share its last places.

    Values that are missing for another reason (never run, killed by the user, ended by the machine) stay missing.
    """
    check(values)
    check_values(values.index.equals(check(failed).index) and values.columns.equals(failed.columns), failed)
    score = values if higher_is_better else -values
    return score.mask(failed, -np.inf).rank(axis=1, ascending=False, method="average")


def not_distinguishable(values: pd.DataFrame, table: pd.DataFrame, *, higher_is_better: bool) -> list[str]:
    """The loss with the best mean, first, and all that are not significantly worse than it by `differences`.

    Means are taken over the seeds that all of them have, if these are six or more: a loss that failed on the hard seeds
    has too good a mean. Losses with fewer than six values are left out, as are those not tested against the best.
    """
    counts = check(values).notna().sum()
    losses = [loss for loss in values.columns if counts[loss] >= PAIRS]
    common = values[losses].dropna()
    means = (common if len(common) >= PAIRS else values[losses]).mean()
    order = means.sort_values(ascending=not higher_is_better, kind="stable").index
    return [loss for loss in order if loss == order[0] or _holds(table, loss, order[0], higher_is_better) is False]


def worse(table: pd.DataFrame, loss: str, best: str, *, higher_is_better: bool) -> bool:
    """Whether a loss is significantly worse than the best by `differences`."""
    return _holds(table, loss, best, higher_is_better) is True


def _holds(table: pd.DataFrame, loss: str, best: str, higher_is_better: bool) -> bool | None:
    """Whether a loss is significantly worse; None where no test compared the two."""
    row = table[((table["a"] == loss) & (table["b"] == best)) | ((table["a"] == best) & (table["b"] == loss))].iloc[0]
    if np.isnan(row["p_all"]):
        return None
    lead = row["difference"] if row["a"] == best else -row["difference"]
    return bool(row["p_all"] <= ALPHA and (lead > 0) == higher_is_better)
