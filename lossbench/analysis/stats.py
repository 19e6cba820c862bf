"""Statistics on labelled tables: a row a seed, a column a loss; randomness is an argument.

The index of every table of values is called `seed` and its columns `loss`; anything else is refused, since a table
the wrong way round would give numbers that look right. A missing value is a run that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.scales import Floats, Scale
from lossbench.core import ANY, Range

PAIRS = 5  # fewer say nothing: of four sign flips' 16 outcomes, the rarest has p = 0.125
ALPHA = 0.05
POWER = 0.8
EXACT = 14  # seeds up to which all 2^n sign flips are tried; beyond, as many are drawn
RESAMPLES = 9999
DEGENERATE = 0.01  # of the resamples may have no spread
FARTHEST = 1.5  # times Student's reach: how far resamples may carry an interval
ROUNDING = 1e-9  # ties of exact arithmetic that float sums break, relative


def check(values: pd.DataFrame) -> pd.DataFrame:
    """The table itself. Raises: ValueError unless rows are unique seeds and columns unique losses."""
    return _check((values.index.name, values.columns.name) == ("seed", "loss"), values)


def _check(right: bool, values: pd.DataFrame) -> pd.DataFrame:
    if not right:
        raise ValueError(
            f"rows are {values.index.name!r} and columns {values.columns.name!r}; a row is a seed, a column a loss"
        )
    if not (values.index.is_unique and values.columns.is_unique):
        raise ValueError("a seed or a loss stands there twice")
    return values


def intervals(
    values: pd.DataFrame,
    rng: np.random.Generator,
    ranges: Mapping[Any, Range] | None = None,
    *,
    widen: float = 1.0,
) -> pd.DataFrame:
    """95 % interval of each column's mean over its rows, within the column's range: its `low` and `high`, by column.

    g⁻¹(g(m) ∓ t·g′(m)·e),  e = s/√n,  t Student's quantile; where they lie farther out, but not beyond m ∓ 1.5·t·e,
    g⁻¹(g(m) − t*·g′(m)·e),  t* quantiles of (g(m*) − g(m))/(g′(m*)·e*) over resamples: the studentised bootstrap

    g is the logit between the ends of a range, the logarithm of the distance to its only end, the value itself where
    there is none (see Scale). `ranges` has a range a column, any number where it names none; a value outside widens it.
    `widen` is a factor on e. Missing for fewer than five values; without width where all are one value.

    Measured for 5 to 20 values: it holds the mean of normal and mid-range Beta values with 95 to 97 %, of Beta(38, 2)
    and of exponential values above 0 with 94 to 96 %, of Beta(9, .5) and of exponential values far from any end with
    92 to 95 % (of five with 92.4 %), of log-normal ones (σ = 1) with 88 to 92 % only. Student's interval on the values'
    own scale has 84 % for five of Beta(9, .5). The bootstrap without its bound is carried off by one outlier among six;
    the percentile bootstrap is too narrow even for ten. A failure too rare to be among the seeds is in no interval.
    Reference: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 12.5 and 12.6.
    """
    _check(values.index.name == "seed", values)
    found = pd.DataFrame(np.nan, index=values.columns, columns=["low", "high"])
    counts = values.notna().sum()
    for n in sorted(n for n in set(counts) if n >= PAIRS):
        columns = counts.index[counts == n]
        known = np.stack([values[column].dropna().to_numpy(float) for column in columns], axis=1)  # [seed, column]
        low, high = np.array([(ranges or {}).get(column, ANY) for column in columns]).T
        scale = Scale(np.minimum(low, known.min(0)), np.maximum(high, known.max(0)))
        found.loc[columns] = _ends(known, scale, widen, rng).T
    return found


def _ends(known: Floats, scale: Scale, widen: float, rng: np.random.Generator) -> Floats:
    """The ends [2, column] of the intervals of the means of values [seed, column]."""
    from scipy.special import stdtrit

    n, mean, spread = len(known), known.mean(0).clip(scale.low, scale.high), known.std(0, ddof=1)
    spread = np.where(spread > ROUNDING * np.abs(mean), spread, 0)
    error, student = widen * spread / np.sqrt(n), stdtrit(n - 1, 1 - ALPHA / 2)
    with np.errstate(all="ignore"):  # a mean at the end of its range has no slope
        middle, steep = scale(mean), scale.slope(mean) * error
        at_high, at_low = (scale.back(middle - t * steep) for t in _studentised(known, mean, spread, scale, rng))
        low = np.fmin(scale.back(middle - student * steep), np.maximum(at_low, mean - FARTHEST * student * error))
        high = np.fmax(scale.back(middle + student * steep), np.minimum(at_high, mean + FARTHEST * student * error))
    return np.where(spread > 0, [low, high], mean)


def _studentised(known: Floats, mean: Floats, spread: Floats, scale: Scale, rng: np.random.Generator) -> Floats:
    """The quantiles [2, column] of t* of `intervals`; missing where too many resamples are of one value only."""
    n = len(known)
    z = (known - mean) / np.where(spread > 0, spread, 1)
    weights = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    drawn = weights @ z
    variance = (weights @ np.square(z) - np.square(drawn)) * n / (n - 1)
    means = mean + spread * drawn
    t = (scale(means) - scale(mean)) / (scale.slope(means) * spread * np.sqrt(variance / n))
    t = np.where((variance > ROUNDING) & np.isfinite(t), t, np.nan)  # nan: one value, drawn n times
    t[:, spread == 0] = 0
    few = np.isnan(t).mean(0) > DEGENERATE
    return np.where(few, np.nan, np.nanquantile(np.where(few, 0, t), [ALPHA / 2, 1 - ALPHA / 2], axis=0))


def flips(seeds: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Signs [flip, seed] under which a difference by seed is as likely if two losses are alike; the first flips none.

    All 2^n up to fourteen seeds, so that p is exact; beyond, that many drawn ones.
    """
    if seeds <= EXACT:
        return 1.0 - 2.0 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)
    signs = rng.choice([-1.0, 1.0], (2**EXACT, seeds))
    signs[0] = 1
    return signs


def differences(
    values: pd.DataFrame, rng: np.random.Generator, *, higher_is_better: bool, overlap: float | None = None
) -> pd.DataFrame:
    """Every pair of losses a, b compared seed by seed; the columns are

    n: seeds on which both have a value.
    difference: mean of a − b.  low, high: its interval, all the values that the sign-flip test would not reject at 5 %.
    p: sign-flip test of the mean, two-sided: the share of flips with |Σ ±d| ≥ |Σ d|; missing below five pairs.
    p_holm: p after Holm's correction over all pairs.  p_all: p after the step-down max-T correction over all pairs.
    improvement: share of the seeds on which a is better than b, ties by half.
    detectable: smallest difference that n seeds find with 80 % power at 5 %, after Bonferroni's correction.

    The max-T correction flips all pairs of losses together, so it knows how pairs depend on each other. Holm's does
    not: with ten seeds, the smallest p of a sign-flip test is 1/512, and Holm's correction over the pairs of eight
    losses could never call anything different.

    `overlap`: examples of a test split ÷ those of its training split, where every seed splits one and the same data
    set; None where each draws its data anew. Differences of re-splits depend on each other: of losses that are equal
    the sign-flip test then calls a pair different five times as often as it says. p, low, high and detectable are
    there those of `corrected_t`, and p_all is p_holm, since a max-T correction whose correlations are estimated from
    ten seeds is too bold for eight losses (.07 to .09 for .05). Raises: ValueError for an overlap that is none.

    Source: Westfall & Young 1993, Resampling-Based Multiple Testing; Romano & Wolf 2005 for the step-down.
    """
    check(values)
    if overlap is not None and not 0 <= overlap < np.inf:
        raise ValueError(f"overlap={overlap}: has to be the test split's size over the training split's")
    pairs = list(combinations(values.columns, 2))
    columns = ["a", "b", "n", "difference", "low", "high", "p", "p_holm", "p_all", "improvement", "detectable"]
    if not pairs:
        return pd.DataFrame(columns=columns)
    signs = flips(len(values), rng)
    sign = 1 if higher_is_better else -1
    by_seed = np.stack([(values[a] - values[b]).to_numpy(float) for a, b in pairs], axis=1)  # [seed, pair]
    tests = int(((~np.isnan(by_seed)).sum(0) >= PAIRS).sum())
    rows = []
    for (a, b), d in zip(pairs, by_seed.T, strict=True):
        known = d[~np.isnan(d)]
        n = len(known)
        mean = known.mean() if n else np.nan
        p, low, high = np.nan, np.nan, np.nan
        if n >= PAIRS and overlap is None:
            low, high = _range(d, signs)
        elif n >= PAIRS and overlap is not None:
            p, low, high = corrected_t(known, overlap)
        better = np.where(known == 0, 0.5, sign * known > 0).mean() if n else np.nan
        least = detectable(known, max(1, tests)) * np.sqrt(1 + n * (overlap or 0))
        rows.append((a, b, n, mean, low, high, p, better, least))
    table = pd.DataFrame(rows, columns=[c for c in columns if c not in ("p_holm", "p_all")])
    tested = (table["n"] >= PAIRS).to_numpy()
    table[["p_holm", "p_all"]] = np.nan
    if tested.any():
        if overlap is None:
            table.loc[tested, ["p", "p_all"]] = np.stack(sign_flip(np.nan_to_num(by_seed[:, tested]), signs), axis=1)
        table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"].to_numpy())
        if overlap is not None:
            table.loc[tested, "p_all"] = table.loc[tested, "p_holm"]
    return table[columns]


def within(table: pd.DataFrame, ends: Range) -> pd.DataFrame:
    """`differences` whose intervals stay in what two values of a metric of this range can differ by."""
    most = ends[1] - ends[0]
    return table.assign(low=table["low"].clip(-most, most), high=table["high"].clip(-most, most))


def corrected_t(d: np.ndarray[Any, Any], overlap: float) -> tuple[float, float, float]:
    """p and the 95 % interval of the mean of differences between re-splits, by the corrected resampled t test.

    t = d̄ / (s √(1/n + overlap)),  n − 1 degrees of freedom,  overlap = test examples ÷ training examples

    Differences that are all one value but zero have the p of a sign-flip test, and that value for an interval.
    Source: Nadeau & Bengio 2003, Inference for the generalization error, Machine Learning 52.
    """
    from scipy.special import stdtr, stdtrit

    n, mean, spread = len(d), float(d.mean()), float(d.std(ddof=1))
    if spread <= ROUNDING * abs(mean):
        return (1.0 if mean == 0 else 2.0 ** (1 - n)), mean, mean
    error = spread * np.sqrt(1 / n + overlap)
    reach = float(stdtrit(n - 1, 1 - ALPHA / 2) * error)
    return float(2 * stdtr(n - 1, -abs(mean) / error)), mean - reach, mean + reach


def sign_flip(by_seed: np.ndarray[Any, Any], signs: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """p of each pair alone, and by step-down over all, of differences [seed, pair] under `flips`.

    |Σ ±d| / √Σd² has the same spread for every pair.
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
        # the largest among this pair and all that look weaker
        together += (np.maximum.accumulate(flipped[:, ::-1], axis=1)[:, ::-1] >= seen).sum(0)
    back = np.argsort(order)
    return (single / len(signs))[back], np.maximum.accumulate(together / len(signs))[back]


def _range(d: np.ndarray[Any, Any], signs: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The sign-flip test turned round: its limits are order statistics of the means of subsets (Hartigan 1969).

    Five seeds have no 95 % interval; theirs is the range of the five, which holds the centre with 93.8 %.
    """
    known = ~np.isnan(d)
    chosen = (signs[:, known] < 0).astype(float)
    sizes = chosen.sum(1)
    means = np.sort((chosen[sizes > 0] @ d[known]) / sizes[sizes > 0])
    none = int((sizes == 0).sum())
    skip = max(0, int(ALPHA / 2 * len(signs)) - none)
    return float(means[skip]), float(means[-1 - skip])


def holm(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """p after Holm's correction over all of them."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p, method="holm")[1]


def detectable(d: np.ndarray[Any, Any], tests: int = 1) -> float:
    """The smallest mean difference that a paired t test on as many seeds finds with 80 % power at 5 % over `tests`."""
    return np.nan if len(d) < 2 else float(_effect(len(d), tests) * d.std(ddof=1))


@cache
def _effect(n: int, tests: int) -> float:
    """The same in standard deviations of the difference."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(nobs=n, alpha=ALPHA / tests, power=POWER))


def seeds_least() -> int:
    """How many seeds a sign-flip test needs to reach 5 % at all: 2/2^n, whatever the data."""
    return int(np.ceil(1 + np.log2(1 / ALPHA)))


def seeds_needed(d: pd.Series[float], tests: int = 1) -> float:
    """How many seeds would find a difference as large as the mean of these, with 80 % power at 5 % over `tests` tests.

    Infinite for differences that are all zero; never fewer than `seeds_least`.
    """
    from statsmodels.stats.power import TTestPower

    known, least = d.dropna().to_numpy(float), seeds_least()
    if len(known) < 2 or known.mean() == 0:
        return np.inf
    spread = known.std(ddof=1)
    if spread == 0:
        return least
    effect = abs(known.mean()) / spread
    if effect > 5:
        return least
    if effect < 0.005:
        return np.inf
    return max(least, float(np.ceil(TTestPower().solve_power(effect_size=effect, alpha=ALPHA / tests, power=POWER))))


def ranks(values: pd.DataFrame, failed: pd.DataFrame, *, higher_is_better: bool) -> pd.DataFrame:
    """Each loss's place on each seed, the best is 1; all that failed on a seed share its last places.

    What is missing for another reason (never run, killed by its user, ended by the machine) stays missing.
    """
    check(values)
    _check(values.index.equals(check(failed).index) and values.columns.equals(failed.columns), failed)
    score = values if higher_is_better else -values
    return score.mask(failed, -np.inf).rank(axis=1, ascending=False, method="average")


def not_distinguishable(values: pd.DataFrame, table: pd.DataFrame, *, higher_is_better: bool) -> list[str]:
    """The loss with the best mean, first, and all that `differences` does not call worse than it.

    Means are taken over the seeds that all of them have, where these are five or more: whoever failed on the hard seeds
    has an easy mean. Losses with fewer than five values stay out, as do those that no test compared with the best.
    """
    counts = check(values).notna().sum()
    losses = [loss for loss in values.columns if counts[loss] >= PAIRS]
    common = values[losses].dropna()
    means = (common if len(common) >= PAIRS else values[losses]).mean()
    order = means.sort_values(ascending=not higher_is_better, kind="stable").index
    return [loss for loss in order if loss == order[0] or _holds(table, loss, order[0], higher_is_better) is False]


def worse(table: pd.DataFrame, loss: str, best: str, *, higher_is_better: bool) -> bool:
    """Whether `differences` calls a loss worse than the best: a corrected p, and the sign of the seeds they share."""
    return _holds(table, loss, best, higher_is_better) is True


def _holds(table: pd.DataFrame, loss: str, best: str, higher_is_better: bool) -> bool | None:
    """Whether it is worse; None where no test says."""
    row = table[((table["a"] == loss) & (table["b"] == best)) | ((table["a"] == best) & (table["b"] == loss))].iloc[0]
    if np.isnan(row["p_all"]):
        return None
    lead = row["difference"] if row["a"] == best else -row["difference"]
    return bool(row["p_all"] <= ALPHA and (lead > 0) == higher_is_better)


def across(
    tables: Mapping[str, tuple[pd.DataFrame, bool]], rng: np.random.Generator
) -> tuple[pd.DataFrame, float, pd.DataFrame]:
    """Losses over several datasets: average ranks with intervals, Friedman's p, Conover's pairwise p after Holm.

    `tables`: for each dataset its values (a row a seed, a column a loss) and whether higher is better. Losses that
    some dataset lacks stay out. A dataset is ranked by means over its seeds, so it counts once however many these
    are; the intervals resample datasets, and within each its seeds. Tests need three datasets and three losses.

    Source: Demšar 2006, Statistical comparisons of classifiers over multiple data sets, JMLR 7.
    """
    import scikit_posthocs
    from scipy.stats import friedmanchisquare, rankdata

    first, *others = (check(values).dropna(axis=1, how="all").columns for values, _ in tables.values())
    losses = [loss for loss in first if all(loss in columns for columns in others)]
    score = {name: (-1 if higher else 1) * values[losses] for name, (values, higher) in tables.items()}
    places = pd.DataFrame({name: values.mean().rank() for name, values in score.items()}).T
    drawn = []
    for values in score.values():
        known = values.notna().to_numpy()
        weights = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), RESAMPLES)
        with np.errstate(invalid="ignore"):
            means = (weights @ values.fillna(0).to_numpy()) / (weights @ known)
        drawn.append(rankdata(np.where(np.isnan(means), values.mean().to_numpy(), means), axis=1))
    chosen = rng.integers(0, len(drawn), (RESAMPLES, len(drawn)))
    averages = np.stack(drawn)[chosen, np.arange(RESAMPLES)[:, None]].mean(1)  # [resample, loss]
    low, high = np.quantile(averages, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    ranks = pd.DataFrame({"rank": places.mean(), "low": low, "high": high}).sort_values("rank", kind="stable")
    if len(places) < 3 or len(losses) < 3:
        return ranks, np.nan, pd.DataFrame()
    means = np.stack([values.mean().to_numpy() for values in score.values()])
    p = float(friedmanchisquare(*means.T).pvalue)
    with np.errstate(divide="ignore", invalid="ignore"):  # datasets that all rank alike leave no spread to divide by
        pairwise = scikit_posthocs.posthoc_conover_friedman(means, p_adjust="holm")
    pairwise.index = pairwise.columns = pd.Index(losses)
    return ranks, p, pairwise
