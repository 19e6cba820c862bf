"""Intervals of means against the recipe, and at their ends; test_rates.py says how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.made import table
from scipy.stats import t as student

from lossbench.analysis import stats

RANDOM = np.random.default_rng


def drawn(n, losses, seed=0):
    return RANDOM(seed).standard_normal((n, losses))


def bootstrap_t(known, draws, rng):
    """Efron and Tibshirani's recipe."""
    n, mean, error = len(known), known.mean(), known.std(ddof=1) / np.sqrt(len(known))
    again = rng.choice(known, (draws, n))
    again = again[np.ptp(again, axis=1) > 0]
    t = (again.mean(1) - mean) / (again.std(1, ddof=1) / np.sqrt(n))
    return mean - np.quantile(t, 0.975) * error, mean - np.quantile(t, 0.025) * error


@pytest.mark.parametrize("n", [6, 15])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential"])
def test_intervals_are_the_studentised_bootstrap(draw, n, monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 100_000)  # so that little is left to chance
    known = getattr(RANDOM(n), draw)(n)
    low, high = bootstrap_t(known, 100_000, RANDOM(2))
    found = stats.intervals(table(known[:, None]), RANDOM(3)).loc["a"]
    assert found["low"] == pytest.approx(low, abs=0.015 * (high - low))
    assert found["high"] == pytest.approx(high, abs=0.015 * (high - low))


def test_many_seeds_have_the_interval_of_the_normal_distribution():
    known = RANDOM(0).normal(5, 2, 400)
    found = stats.intervals(table(known[:, None]), RANDOM(1)).loc["a"]
    half = 1.96 * known.std(ddof=1) / 20
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.05)
    assert (found["low"] + found["high"]) / 2 == pytest.approx(known.mean(), abs=0.1 * half)


def test_columns_together_have_the_intervals_they_have_alone():
    values = table(drawn(9, 4) * [1, 10, 0.1, 1] + [0, 5, -3, 1e3])
    together = stats.intervals(values, RANDOM(7))
    for loss in values:
        alone = stats.intervals(values[[loss]], RANDOM(7))
        assert together.loc[loss].to_numpy() == pytest.approx(alone.loc[loss].to_numpy(), rel=1e-9)


@pytest.mark.parametrize(("factor", "shift"), [(3.0, 2.0), (1e-4, 0.0), (-2.0, 1.0)])
def test_intervals_move_and_scale_with_the_values(factor, shift):
    values = RANDOM(0).standard_exponential((8, 3))
    before, after = (stats.intervals(table(v), RANDOM(1)) for v in (values, factor * values + shift))
    expected = np.sort(factor * before.to_numpy() + shift, axis=1)
    np.testing.assert_allclose(after, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "constant"), [(8, 0.0), (10, 0.5), (6, -2.0), (20, 1e6), (10, 0.9137), (10, 0.3), (20, 0.1), (6, 123.456)]
)
def test_a_constant_column_has_an_interval_without_width(n, constant):
    values = table(np.column_stack([np.full(n, constant), drawn(n, 1)[:, 0]]))
    found = stats.intervals(values, RANDOM(0))
    assert tuple(found.loc["a"]) == pytest.approx((constant, constant), rel=1e-12)
    assert found.loc["b", "low"] < found.loc["b", "high"]


@pytest.mark.parametrize("apart", [1, -1])
def test_few_values_apart_leave_room_on_both_sides_of_the_mean(apart):
    values = np.where(np.arange(10) < abs(apart), 0.9 - 0.01 * np.sign(apart), 0.9)
    found = stats.intervals(table(values[:, None]), RANDOM(0)).loc["a"]
    assert found["low"] < values.mean() - 1e-4
    assert found["high"] > values.mean() + 1e-4


def test_where_many_resamples_are_of_one_value_the_interval_is_students():
    values = np.array([0.9] * 9 + [0.8])
    found = stats.intervals(table(np.column_stack([values, drawn(10, 1)[:, 0]])), RANDOM(0))
    expected = student.interval(0.95, 9, values.mean(), values.std(ddof=1) / np.sqrt(10))
    assert found.loc["a"].to_numpy() == pytest.approx(expected)
    alone = stats.intervals(table(drawn(10, 1)), RANDOM(0))
    assert found.loc["b"].to_numpy() == pytest.approx(alone.loc["a"].to_numpy()), "a column changed another"


def test_missing_values_are_left_out():
    values = drawn(12, 1)
    holes = values.copy()
    holes[[1, 4, 11]] = np.nan
    kept = np.delete(values, [1, 4, 11], axis=0)
    left, right = (stats.intervals(table(v), RANDOM(5)) for v in (holes, kept))
    np.testing.assert_array_equal(left, right)


def test_fewer_than_six_values_have_no_interval():
    values = drawn(7, 3)
    values[5:, 0], values[6:, 1] = np.nan, np.nan
    found = stats.intervals(table(values), RANDOM(0))
    assert list(found["low"].isna()) == list(found["high"].isna()) == [True, False, False]
