"""Intervals of means against the recipe, in their range, and at its ends; test_rates.py says how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.made import table
from scipy.stats import t as student

from lossbench.analysis import confidence

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
def test_intervals_are_students_or_where_it_reaches_farther_the_studentised_bootstrap(draw, n, monkeypatch):
    monkeypatch.setattr(confidence, "RESAMPLES", 100_000)  # so that little is left to chance
    known = getattr(RANDOM(n), draw)(n)
    mean, half = known.mean(), students(known)[1] - known.mean()
    left, right = np.clip(np.abs(bootstrap_t(known, 100_000, RANDOM(2)) - mean), half, 1.5 * half)
    found = confidence.intervals(table(known[:, None]), RANDOM(3)).loc["a"]
    assert found["low"] == pytest.approx(mean - left, abs=0.015 * (left + right))
    assert found["high"] == pytest.approx(mean + right, abs=0.015 * (left + right))
    if draw == "standard_exponential":
        assert half < right, "this case would not tell the bootstrap from Student's"


def students(known, factor=1.0):
    return student.interval(0.95, len(known) - 1, known.mean(), factor * known.std(ddof=1) / np.sqrt(len(known)))


def test_many_seeds_have_the_interval_of_the_normal_distribution():
    known = RANDOM(0).normal(5, 2, 400)
    found = confidence.intervals(table(known[:, None]), RANDOM(1)).loc["a"]
    half = 1.96 * known.std(ddof=1) / 20
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.05)
    assert (found["low"] + found["high"]) / 2 == pytest.approx(known.mean(), abs=0.1 * half)


def test_columns_together_have_the_intervals_they_have_alone():
    values = table(drawn(9, 4) * [1, 10, 0.1, 1] + [0, 5, -3, 1e3])
    together = confidence.intervals(values, RANDOM(7))
    for loss in values:
        alone = confidence.intervals(values[[loss]], RANDOM(7))
        assert together.loc[loss].to_numpy() == pytest.approx(alone.loc[loss].to_numpy(), rel=1e-9)


@pytest.mark.parametrize(("factor", "shift"), [(3.0, 2.0), (1e-4, 0.0), (-2.0, 1.0)])
def test_intervals_move_and_scale_with_the_values(factor, shift):
    values = RANDOM(0).standard_exponential((8, 3))
    before, after = (confidence.intervals(table(v), RANDOM(1)) for v in (values, factor * values + shift))
    expected = np.sort(factor * before.to_numpy() + shift, axis=1)
    np.testing.assert_allclose(after, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "constant"), [(8, 0.0), (10, 0.5), (6, -2.0), (20, 1e6), (10, 0.9137), (10, 0.3), (20, 0.1), (6, 123.456)]
)
def test_a_constant_column_has_an_interval_without_width(n, constant):
    values = table(np.column_stack([np.full(n, constant), drawn(n, 1)[:, 0]]))
    found = confidence.intervals(values, RANDOM(0))
    assert tuple(found.loc["a"]) == pytest.approx((constant, constant), rel=1e-12)
    assert found.loc["b", "low"] < found.loc["b", "high"]


@pytest.mark.parametrize("apart", [1, -1])
def test_few_values_apart_leave_room_on_both_sides_of_the_mean(apart):
    values = np.where(np.arange(10) < abs(apart), 0.9 - 0.01 * np.sign(apart), 0.9)
    found = confidence.intervals(table(values[:, None]), RANDOM(0)).loc["a"]
    assert found["low"] < values.mean() - 1e-4
    assert found["high"] > values.mean() + 1e-4


def test_where_many_resamples_are_of_one_value_the_interval_is_students():
    values = np.array([0.9] * 9 + [0.8])
    found = confidence.intervals(table(np.column_stack([values, drawn(10, 1)[:, 0]])), RANDOM(0))
    expected = student.interval(0.95, 9, values.mean(), values.std(ddof=1) / np.sqrt(10))
    assert found.loc["a"].to_numpy() == pytest.approx(expected)
    alone = confidence.intervals(table(drawn(10, 1)), RANDOM(0))
    assert found.loc["b"].to_numpy() == pytest.approx(alone.loc["a"].to_numpy()), "a column changed another"


def test_missing_values_are_left_out():
    values = drawn(12, 1)
    holes = values.copy()
    holes[[1, 4, 11]] = np.nan
    kept = np.delete(values, [1, 4, 11], axis=0)
    left, right = (confidence.intervals(table(v), RANDOM(5)) for v in (holes, kept))
    np.testing.assert_array_equal(left, right)


def test_fewer_than_six_values_have_no_interval():
    values = drawn(7, 3)
    values[5:, 0], values[6:, 1] = np.nan, np.nan
    found = confidence.intervals(table(values), RANDOM(0))
    assert list(found["low"].isna()) == list(found["high"].isna()) == [True, False, False]


# within a range

IOU, FEW_FAR = [0.97, 0.975, 0.96, 0.972, 0.968, 0.6], [2.1, 3.0, 2.5, 2.8, 2.2, 40.0]
SHARE, POSITIVE, BELOW_ONE = (0.0, 1.0), (0.0, np.inf), (-np.inf, 1.0)


def within(values, ends, **more):
    values = np.reshape(np.asarray(values, float).T, (-1, np.shape(values)[0])).T
    columns = table(values, list(range(values.shape[1])))
    return confidence.intervals(columns, RANDOM(0), dict.fromkeys(columns, ends), **more).to_numpy()


@pytest.mark.parametrize(("values", "ends", "last"), [(IOU, SHARE, (0.55, 0.99)), (FEW_FAR, (0.0, 90.5), (1.0, 50.0))])
def test_one_outlier_among_six_leaves_an_interval_that_can_be_believed(values, ends, last):
    ((low, high),) = within(values, ends)
    assert ends[0] < last[0] < low < np.mean(values) < high < last[1] < ends[1]
    assert high > np.median(values) > low


@pytest.mark.parametrize(
    ("ends", "scale"),
    [
        (SHARE, (lambda x: np.log(x / (1 - x)), lambda z: 1 / (1 + np.exp(-z)), lambda x: 1 / (x * (1 - x)))),
        (POSITIVE, (np.log, np.exp, lambda x: 1 / x)),
        (BELOW_ONE, (lambda x: -np.log(1 - x), lambda z: 1 - np.exp(-z), lambda x: 1 / (1 - x))),
    ],
)
def test_where_few_values_differ_it_is_students_on_the_scale_of_the_range(ends, scale):
    values = np.array([0.9] * 5 + [0.8])
    there, back, slope = scale
    mean, half = values.mean(), students(values)[1] - values.mean()
    expected = [back(there(mean) + sign * slope(mean) * half) for sign in (-1, 1)]
    np.testing.assert_allclose(within(values, ends), [expected], rtol=1e-9)


@pytest.mark.parametrize("ends", [SHARE, POSITIVE, BELOW_ONE, (-1.0, 3.0), (0.0, 90.5097)])
def test_no_interval_leaves_the_range_of_its_metric(ends):
    random = RANDOM(1)
    low, high = (end if np.isfinite(end) else sign * 5 for end, sign in zip(ends, (-1, 1), strict=True))
    for n in (6, 9, 20):
        shape = 10 ** random.uniform(-2, 2, (2, 1, 60))
        share = random.beta(*shape, (n, 60))
        share[:, :20] = np.round(share[:, :20], 1)  # some at an end, some all alike
        values = low + (high - low) * np.clip(share, 0, 1)
        found = within(values, ends)
        assert np.isfinite(found).all()
        assert (found[:, 0] >= ends[0]).all()
        assert (found[:, 1] <= ends[1]).all()
        assert (found[:, 0] <= values.mean(0) + 1e-9).all()
        assert (found[:, 1] >= values.mean(0) - 1e-9).all()


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_values_that_are_all_at_an_end_stay_there(end):
    np.testing.assert_array_equal(within([end] * 6, SHARE), [[end, end]])


def test_a_range_far_away_changes_nothing():
    values = RANDOM(0).standard_exponential((9, 4))
    np.testing.assert_allclose(within(values, (-1e7, 1e7)), within(values, (-np.inf, np.inf)), rtol=1e-4)


def test_a_value_outside_of_what_its_metric_is_said_to_have_widens_the_range():
    ((low, high),) = within([0.9, 0.95, 1.2, 0.8, 0.7, 0.91], SHARE)
    assert low < 0.91 < high <= 1.2


@pytest.mark.parametrize("ends", [SHARE, POSITIVE, (-np.inf, np.inf)])
def test_a_wider_error_widens_both_ends_and_a_large_one_to_the_range(ends):
    values = RANDOM(3).uniform(0.2, 0.9, (8, 5))
    narrow, wide = within(values, ends), within(values, ends, widen=dict.fromkeys(range(5), 2.0))
    assert (wide[:, 0] < narrow[:, 0]).all()
    assert (wide[:, 1] > narrow[:, 1]).all()
    if np.isinf(ends).all():
        mean = values.mean(0)[:, None]
        np.testing.assert_allclose(wide - mean, 2 * (narrow - mean))
