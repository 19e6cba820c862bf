"""The best of k trials: right on average, and a band that holds at its rate whatever the scores are drawn from."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from lossbench.analysis.tuning import best_of
from lossbench.analysis.tuning.best_of import curve

SEARCHES = 1500
RARE = 1e-3  # how often chance alone would fail a test, if its draws were not fixed
TRIALS = (10, 20, 50)
DISCRETE = stats.binom(4, 0.4)
# of each distribution: a draw of n scores, and its quantile as the least x with F(x) ≥ q
SPREADS = {
    "normal": (lambda rng, n: rng.normal(size=n), stats.norm.ppf),
    "exponential": (lambda rng, n: rng.exponential(size=n), stats.expon.ppf),
    "ties": (lambda rng, n: rng.binomial(4, 0.4, n).astype(float), DISCRETE.ppf),
    "failures": (
        lambda rng, n: np.where(rng.random(n) < 0.2, -np.inf, rng.normal(size=n)),
        lambda q: np.where(q <= 0.2, -np.inf, stats.norm.ppf(np.maximum(q - 0.2, 1e-12) / 0.8)),
    ),
}


def held(spread, n, sign):
    """Of so many simulated searches, the share whose band holds the true median of the best of k for every k."""
    draw, quantile = SPREADS[spread]
    rng = np.random.default_rng(n)
    truth = quantile(0.5 ** (1 / np.arange(1, n + 1)))
    kept = 0
    for _ in range(SEARCHES):
        found = curve(sign * draw(rng, n), sign > 0)
        kept += bool(((found["low"] <= sign * truth) & (sign * truth <= found["high"])).all())
    return kept / SEARCHES


@pytest.mark.parametrize("n", TRIALS)
@pytest.mark.parametrize("spread", SPREADS)
def test_the_band_holds_every_median_at_its_rate(spread, n):
    """As often as a rate of 95 % allows, and where there are no ties no more often than one of 96.5 %."""
    share = held(spread, n, 1)
    assert share >= stats.binom(SEARCHES, 0.95).ppf(RARE) / SEARCHES > 0.93
    if spread != "ties":
        assert share <= stats.binom(SEARCHES, 0.965).ppf(1 - RARE) / SEARCHES < 0.98


@pytest.mark.parametrize("spread", ["exponential", "failures"])
def test_the_band_holds_where_lower_is_better(spread):
    kept = held(spread, 20, -1) * SEARCHES
    assert stats.binom(SEARCHES, 0.95).ppf(RARE) <= kept <= stats.binom(SEARCHES, 0.965).ppf(1 - RARE)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_the_local_level_is_the_one_that_all_limits_hold_at(n):
    """Counted anew from uniform numbers against the limits themselves, with another generator."""
    low, _, high = best_of._places(n)
    q, rng, kept = 0.5 ** (1 / np.arange(1, n + 1)), np.random.default_rng(99), 0
    for _ in range(4000):
        u = np.concatenate([[-np.inf], np.sort(rng.random(n)), [np.inf]])
        kept += bool(((u[low] <= q) & (q <= u[high])).all())
    assert kept >= stats.binom(4000, 0.95).ppf(RARE)


@pytest.mark.parametrize("higher", [True, False])
def test_expected_is_the_mean_over_all_subsets(higher):
    scores = np.random.default_rng(0).normal(size=8).round(1)  # with ties
    best = max if higher else min
    brute = [np.mean([best(some) for some in combinations(scores, k)]) for k in range(1, 9)]
    assert curve(scores, higher)["expected"].tolist() == pytest.approx(brute)


def test_failed_trials_make_the_mean_missing_until_no_subset_has_only_them():
    scores = [2.0, np.inf, 1.0, np.inf]
    found = curve(scores, False)
    brute = [np.mean([min(some) for some in combinations(scores, k)]) for k in (1, 2, 3, 4)]
    assert found["expected"].isna().tolist() == [not np.isfinite(b) for b in brute] == [True, True, False, False]
    assert found["expected"].tolist()[2:] == pytest.approx(brute[2:])
    assert found["median"].isna().tolist() == [True, False, False, False], "half of the trials failed"
    assert found["median"].tolist()[1:] == [2.0, 1.0, 1.0]


def test_all_failed_have_neither():
    found = curve([-np.inf] * 5, True)
    assert found[["expected", "median"]].isna().all().all()
    assert (found["low"] == -np.inf).all()


def test_the_median_lies_within_its_band_and_no_more_trials_make_it_worse():
    for n in (1, 2, 3, 10, 60):
        scores = np.random.default_rng(n).exponential(size=n)
        found = curve(scores, False)
        assert list(found.index) == list(range(1, n + 1))
        assert ((found["low"] <= found["median"]) & (found["median"] <= found["high"])).all()
        assert (np.diff(found[["expected", "median"]], axis=0) <= 1e-12).all()
        assert (found["low"] == -np.inf).iloc[-1], "nothing bounds what a better trial might be"


def test_directions_mirror_each_other():
    scores = np.random.default_rng(1).normal(size=12)
    up, down = curve(scores, True), -curve(-scores, False)
    assert np.array_equal(up[["expected", "median", "low", "high"]], down[["expected", "median", "high", "low"]])


def test_a_missing_score_is_refused():
    with pytest.raises(ValueError, match="missing"):
        curve([1.0, np.nan], True)


def test_the_level_is_the_same_each_time():
    level = best_of.local_level(17)
    best_of.local_level.cache_clear()
    assert best_of.local_level(17) == level
