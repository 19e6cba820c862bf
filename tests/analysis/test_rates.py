"""What the statistics promise, held against simulation: how often intervals hold the truth, how often claims are false.

Every bound is the promised rate and four standard errors of so many simulations; the generators are fixed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from analysis.made import table
from scipy.stats import bootstrap, rankdata
from scipy.stats import t as student
from statsmodels.stats.power import TTestPower

from lossbench.analysis import confidence, level, stats
from lossbench.analysis.across import pairwise

COLUMNS, COMPARISONS = 1200, 500
LOSSES = 6


def errors_of(rate, n):
    return 4 * np.sqrt(rate * (1 - rate) / n)


def covered(values, mean, rng, ends=(-np.inf, np.inf)):
    columns = table(values, losses=list(range(values.shape[1])))
    found = confidence.intervals(columns, rng, dict.fromkeys(columns, ends))
    return (found["low"] <= mean) & (mean <= found["high"])


@pytest.mark.parametrize("n", [6, 10, 20])
def test_intervals_hold_the_mean_of_normal_values_on_95_of_100(n):
    rng = np.random.default_rng(n)
    held = covered(rng.normal(3, 2, (n, COLUMNS)), 3, rng).mean()
    assert held == pytest.approx(0.95, abs=errors_of(0.95, COLUMNS))


@pytest.mark.parametrize(("n", "rate", "of_t"), [(6, 0.93, 0.887), (10, 0.94, 0.90), (20, 0.945, 0.924)])
def test_intervals_hold_the_mean_of_exponential_values_a_little_less_often(n, rate, of_t):
    rng = np.random.default_rng(n)
    held = covered(rng.exponential(1, (n, COLUMNS)), 1, rng).mean()
    assert held >= rate - errors_of(rate, COLUMNS)
    assert held > of_t, "no better than Student's t, which takes values for normal"


def test_the_percentile_bootstrap_is_too_narrow_for_ten_seeds():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((10, COLUMNS // 2))
    plain = bootstrap((values,), np.mean, axis=0, method="percentile", n_resamples=1999, rng=rng).confidence_interval
    held = ((plain.low <= 0) & (plain.high >= 0)).mean()
    assert held < 0.95 - errors_of(0.95, COLUMNS // 2)
    assert covered(values, 0, rng).mean() > held + 0.02


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_intervals_of_few_distinct_values_hold_the_mean_too(share):
    """As of an accuracy on few examples."""
    rng = np.random.default_rng(5)
    values = (rng.random((10, COLUMNS)) < share).astype(float)
    held = covered(values, share, rng)[np.ptp(values, axis=0) > 0].mean()
    assert held >= 0.95 - errors_of(0.95, COLUMNS)


def claimed(draw, rng, within, losses=LOSSES, n=10):
    """Of so many comparisons, the share with a claim about any pair of these losses."""
    names = list("abcdefghijkl"[:losses])
    false = 0
    for _ in range(COMPARISONS):
        found = stats.differences(table(draw(rng, n, losses), names), rng, higher_is_better=True)
        called = found[found["p_all"] <= level.ALPHA]
        false += any(a in within and b in within for a, b in zip(called["a"], called["b"], strict=True))
    return false / COMPARISONS


def normal(rng, n, losses):
    """A hard seed is hard for every loss, and makes all of them spread."""
    hard = rng.standard_normal((n, 1))
    return 3 * hard + np.exp(hard) * rng.standard_normal((n, losses))


def skewed(rng, n, losses):
    return 3 * rng.standard_normal((n, 1)) + rng.exponential(1, (n, losses))


def related(rng, n, losses):
    """Losses in a row, each like its neighbour, the last the noisiest."""
    return rng.standard_normal((n, losses)).cumsum(1) - rng.standard_normal((n, 1)) * np.arange(losses)


@pytest.mark.parametrize("draw", [normal, skewed, related])
def test_equal_losses_bring_one_false_claim_in_twenty_comparisons(draw):
    rate = claimed(draw, np.random.default_rng(1), "abcdef")
    assert rate <= level.ALPHA + errors_of(level.ALPHA, COMPARISONS)
    assert rate >= 0.01, "no claim at all would be no test"


@pytest.mark.parametrize("shift", [(1, 1.5, 2), (5, 5, 10)])
def test_losses_that_differ_bring_no_more_false_claims_about_those_that_do_not(shift):
    def draw(rng, n, losses):
        return rng.standard_normal((n, losses)) + np.array([0, 0, 0, *shift])

    rate = claimed(draw, np.random.default_rng(2), "abc")
    assert rate <= level.ALPHA + errors_of(level.ALPHA, COMPARISONS)


def test_one_loss_under_two_names_is_seldom_called_different():
    def noisy(rng, n, losses):
        return rng.standard_normal((n, 1)) + 0.3 * rng.standard_normal((n, losses))

    rate = claimed(noisy, np.random.default_rng(3), "ab", losses=2)
    exact = int(level.ALPHA * 2**9) / 2**9  # the p-values of ten seeds are multiples of 1/512
    assert rate == pytest.approx(exact, abs=errors_of(exact, COMPARISONS))


def found_at(effect, losses, n=10):
    """How often a loss that is better by so many standard deviations of the difference is told from another."""
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(COMPARISONS):
        values = 2 * rng.standard_normal((n, 1)) + rng.standard_normal((n, losses)) / np.sqrt(2)
        values[:, 0] += effect
        row = stats.differences(table(values), rng, higher_is_better=True).iloc[0]
        assert (row["a"], row["b"]) == ("a", "b")
        found += row["p_all"] <= level.ALPHA
    return found / COMPARISONS


@pytest.mark.parametrize("effect", [0.5, 1.0, 1.5])
def test_a_planted_difference_is_found_as_often_as_by_a_paired_t_test(effect):
    power = TTestPower().power(effect, nobs=10, alpha=0.05)
    assert found_at(effect, losses=2) == pytest.approx(power, abs=errors_of(power, COMPARISONS) + 0.02)


@pytest.mark.parametrize("losses", [2, 3, LOSSES])
def test_what_is_detectable_is_found_on_80_of_100(losses):
    """Or a little more often: Bonferroni's correction, after which it is told, is coarser than that which decides."""
    values = table(np.random.default_rng(6).standard_normal((10, losses)))
    row = stats.differences(values, np.random.default_rng(0), higher_is_better=True).iloc[0]
    rate = found_at(row["detectable"] / (values["a"] - values["b"]).std(ddof=1), losses)
    room = errors_of(0.8, COMPARISONS) + 0.02
    assert 0.8 - room <= rate <= 0.8 + room + (losses > 2) * 0.05


IN_RANGE = {  # how values are drawn, their mean, their range, and how often the interval has to hold it
    "near an end": (lambda rng, size: rng.beta(38, 2, size), 0.95, (0, 1), 0.945),
    "at an end": (lambda rng, size: rng.beta(9, 0.5, size), 9 / 9.5, (0, 1), 0.92),
    "shares of 100": (lambda rng, size: rng.binomial(100, 0.97, size) / 100, 0.97, (0, 1), 0.945),
    "above 0": (lambda rng, size: rng.exponential(1, size), 1, (0, np.inf), 0.935),
    "far from an end": (lambda rng, size: 5 + rng.exponential(1, size), 6, (0, np.inf), 0.92),
}


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("name", IN_RANGE)
def test_intervals_in_a_range_hold_the_mean_as_often_as_they_say(name, n):
    draw, mean, ends, rate = IN_RANGE[name]
    rng = np.random.default_rng(n)
    values = draw(rng, (n, COLUMNS))
    held = covered(values, mean, rng, ends)
    assert rate - errors_of(rate, COLUMNS) <= held.mean() <= 0.97 + errors_of(0.97, COLUMNS)


def test_students_interval_holds_the_mean_of_values_at_an_end_too_seldom():
    draw, mean, ends, rate = IN_RANGE["at an end"]
    rng = np.random.default_rng(6)
    values = draw(rng, (6, COLUMNS))
    half = student.ppf(0.975, 5) * values.std(0, ddof=1) / np.sqrt(6)
    plain = (np.abs(values.mean(0) - mean) <= half).mean()
    assert plain < rate - errors_of(rate, COLUMNS)
    assert covered(values, mean, rng, ends).mean() > plain + 0.05


# losses over several datasets


def over_datasets(rng, count, losses, equal, tests):
    """Of so many tables of places, the share in which a test calls any of the first losses, which are equal, different.

    The losses after them are ever worse, each by more.
    """
    names, apart = list("abcdefgh"[:losses]), 4.0 * np.maximum(0, np.arange(losses) - equal + 1)
    false = 0
    for _ in range(COMPARISONS):
        places = pd.DataFrame(rankdata(rng.standard_normal((count, losses)) + apart, axis=1), columns=names)
        false += (tests(places).loc[names[:equal], names[:equal]] <= level.ALPHA).any(axis=None)
    return false / COMPARISONS


@pytest.mark.parametrize("count", [6, 10])
@pytest.mark.parametrize(("losses", "equal"), [(4, 4), (8, 8), (4, 2)])
def test_equal_losses_are_seldom_called_different_over_datasets(losses, equal, count):
    rng = np.random.default_rng(losses * count)
    false = over_datasets(rng, count, losses, equal, lambda places: pairwise(places, rng))
    assert false <= level.ALPHA + errors_of(level.ALPHA, COMPARISONS)


def test_conovers_test_calls_equal_losses_different_among_others():
    def conover(places):
        with np.errstate(divide="ignore", invalid="ignore"):  # where all rank alike
            return scikit_posthocs.posthoc_conover_friedman(places, p_adjust="holm")

    assert over_datasets(np.random.default_rng(0), 10, 4, 2, conover) > 0.15
