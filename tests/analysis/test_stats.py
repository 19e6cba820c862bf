"""What seeds can tell, ranks, who is not told from the best; and tables the wrong way round are refused."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from analysis.made import table
from scipy.integrate import quad
from scipy.stats import chi, norm, t
from statsmodels.stats.power import TTestPower

from lossbench.analysis import confidence, level, power, stats

RANDOM = np.random.default_rng


def drawn(n, losses, seed=0):
    return RANDOM(seed).standard_normal((n, losses))


def integrated(effect, n, alpha):
    """The power of a paired t test: over the deviation that is found, in true ones, as a chi has it."""
    critical, shift = t.isf(alpha / 2, n - 1), effect * np.sqrt(n)

    def share(spread):
        found = norm.sf(critical * spread - shift) + norm.cdf(-critical * spread - shift)
        return found * chi.pdf(spread * np.sqrt(n - 1), n - 1) * np.sqrt(n - 1)

    steep = [point for k in range(-8, 9, 2) if 0 < (point := (shift + k) / critical) < 6]
    return quad(share, 0, 6, epsabs=1e-13, limit=1000, points=[*steep, 1])[0]


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30, 1000])
@pytest.mark.parametrize("tests", [1, 6, 2775])
def test_power_is_the_integral_and_that_of_statsmodels(n, tests):
    alpha = 0.05 / tests
    for effect in np.linspace(0, 7 / np.sqrt(n), 30):
        expected = TTestPower().power(effect, nobs=n, alpha=alpha)  # NaN at times
        assert power.power(effect, n, alpha) == pytest.approx(integrated(effect, n, alpha), abs=1e-9)
        assert np.isnan(expected) or power.power(effect, n, alpha) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("tests", [1, 6, 2775])
def test_what_is_detectable_is_found_as_often_as_it_says(tests):
    d = drawn(9, 1)[:, 0]
    assert integrated(power.detectable(d, tests) / d.std(ddof=1), 9, 0.05 / tests) == pytest.approx(0.8, abs=1e-9)
    assert power.detectable(d[:2], 10**6) == np.inf


@pytest.mark.parametrize("n", [2, 5, 10, 30])
def test_detectable_has_80_per_cent_power_in_a_paired_t_test(n):
    d = drawn(n, 1, seed=n)[:, 0] * 3
    effect = power.detectable(d) / d.std(ddof=1)
    assert TTestPower().power(effect, nobs=n, alpha=0.05) == pytest.approx(0.8, abs=1e-9)
    assert power.detectable(7 * d + 5) == pytest.approx(7 * power.detectable(d))
    assert np.isnan(power.detectable(d[:1]))


def test_the_fewest_seeds_are_those_whose_rarest_flip_is_rare_enough():
    least = level.PAIRS
    assert 2 / 2**least <= 0.05 < 2 / 2 ** (least - 1)


@pytest.mark.parametrize("tests", [1, 6, 15])
@pytest.mark.parametrize("effect", [0.1, 0.5, 1.2])
def test_as_many_seeds_as_are_needed_have_80_per_cent_power(effect, tests):
    spread = np.array([-1.0, 1.0] * 10)
    d = pd.Series(spread / spread.std(ddof=1) + effect)
    n = power.seeds_needed(d, tests)
    powers = [TTestPower().power(effect, nobs=m, alpha=0.05 / tests) for m in (n - 1, n)]
    assert powers[0] < 0.8 <= powers[1] + 1e-9
    assert power.seeds_needed(-d, tests) == n


@pytest.mark.parametrize(
    ("d", "needed"),
    [
        ([0.0, 0.0, 0.0], np.inf),
        ([1.0], np.inf),
        ([1.0, np.nan], np.inf),
        ([1.0, -1.0], np.inf),
        ([1.0, -1.001, 0.0, 0.0], np.inf),
        ([2.0, 2.0, 2.0], 6),
        ([10.0, 10.1, 9.9], 6),
        ([1.0, 1.3, 0.7, 1.1], 6),
    ],
)
def test_seeds_needed_at_the_ends(d, needed):
    assert power.seeds_needed(pd.Series(d)) == needed


# ranks, and who is not told from the best


def test_failures_share_the_last_ranks_and_what_is_missing_stays_so():
    values = table([[3, 1, np.nan, np.nan], [1, 1, 2, np.nan], [1, np.nan, np.nan, np.nan]])
    failed = table(np.zeros((3, 4))).astype(bool)
    failed.loc["0", ["c", "d"]] = True
    failed.loc["2", ["b", "c", "d"]] = True
    up = stats.ranks(values, failed, higher_is_better=True)
    down = stats.ranks(values, failed, higher_is_better=False)
    np.testing.assert_array_equal(up, [[1, 2, 3.5, 3.5], [2.5, 2.5, 1, np.nan], [1, 3, 3, 3]])
    np.testing.assert_array_equal(down, [[2, 1, 3.5, 3.5], [1.5, 1.5, 3, np.nan], [1, 3, 3, 3]])


def test_a_failure_is_last_even_where_a_value_was_recorded():
    values = table([[9.0, 1.0]])
    failed = table([[1, 0]]).astype(bool)
    assert list(stats.ranks(values, failed, higher_is_better=True).iloc[0]) == [2, 1]


def alike(values, *, higher_is_better=True, seed=0):
    found = stats.differences(values, RANDOM(seed), higher_is_better=higher_is_better)
    return stats.not_distinguishable(values, found, higher_is_better=higher_is_better)


def test_the_best_stands_first_with_all_that_are_not_called_worse():
    rng = RANDOM(0)
    noise = rng.standard_normal((10, 1)) + 0.1 * rng.standard_normal((10, 4))
    values = table(noise + np.array([0, 5, 5.01, -5]))
    assert set(alike(values)) == {"b", "c"}
    assert alike(values)[0] == values.mean().idxmax()
    assert alike(values, higher_is_better=False) == ["d"]


def test_a_loss_on_too_few_seeds_is_not_among_the_best():
    values = table(drawn(8, 3) + np.array([0, 0.1, 50]))
    values.iloc[5:, 2] = np.nan
    assert set(alike(values)) <= {"a", "b"}
    values.iloc[5:] = np.nan
    assert alike(values) == []


def test_equality_of_corrected_p_and_5_per_cent_is_a_difference():
    values = table(drawn(6, 2))
    found = pd.DataFrame(
        {"a": ["a"], "b": ["b"], "p_all": [0.05], "difference": values["a"].mean() - values["b"].mean()}
    )
    assert len(stats.not_distinguishable(values, found, higher_is_better=True)) == 1
    found["p_all"] = 0.0501
    assert len(stats.not_distinguishable(values, found, higher_is_better=True)) == 2


def shared(seeds, others):
    """Losses a and b with so many seeds in common, on which b is better; b alone has the hard ones."""
    a = [1 + k / 100 for k in range(seeds)] + [np.nan] * others
    return table(np.column_stack([a, [0.5 + k / 100 for k in range(seeds)] + [5.0] * others]))


def test_the_best_mean_is_that_of_the_seeds_all_have():
    values = shared(6, 6)
    assert values["a"].mean() < values["b"].mean()
    assert alike(values, higher_is_better=False) == ["b"]
    assert alike(-values, higher_is_better=True) == ["b"]
    few = values.assign(c=values["b"].where(values.index < "2") - 9).rename_axis(columns="loss")
    assert alike(few, higher_is_better=False) == ["b"], "c has too few seeds to decide which all have"


def test_a_loss_with_too_few_seeds_in_common_is_neither_among_the_best_nor_worse():
    values = shared(5, 6)
    values["a"] = values["a"].fillna({"5": 1.0})  # the sixth in common, one more than b has
    values.loc["5", "b"] = np.nan
    found = stats.differences(values, RANDOM(0), higher_is_better=False)
    assert found["n"].item() == 5
    assert alike(values, higher_is_better=False) == ["a"]
    assert not stats.worse(found, "b", "a", higher_is_better=False)
    assert not stats.worse(found, "a", "b", higher_is_better=False)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_worse_is_what_a_test_says_in_the_direction_of_the_metric(higher_is_better):
    values = table(0.01 * drawn(8, 3) + np.array([0, 1, 1]))
    found = stats.differences(values, RANDOM(0), higher_is_better=higher_is_better)
    called = {
        (a, b): stats.worse(found, a, b, higher_is_better=higher_is_better) for a in "abc" for b in "abc" if a != b
    }
    expected = {("a", "b"), ("a", "c")} if higher_is_better else {("b", "a"), ("c", "a")}
    assert {pair for pair, is_worse in called.items() if is_worse} == expected


# tables the wrong way round

WITH_TABLES = {
    "check": lambda values: stats.check(values),
    "differences": lambda values: stats.differences(values, RANDOM(0), higher_is_better=True),
    "ranks": lambda values: stats.ranks(values, values > 0, higher_is_better=True),
    "not_distinguishable": lambda values: stats.not_distinguishable(
        values, stats.differences(table(drawn(6, 3)), RANDOM(0), higher_is_better=True), higher_is_better=True
    ),
    "intervals": lambda values: confidence.intervals(values, RANDOM(0)),
}


@pytest.mark.parametrize("wrong", ["swapped", "unnamed", "a loss twice", "a seed twice"])
@pytest.mark.parametrize("name", WITH_TABLES)
def test_a_table_the_wrong_way_round_is_refused(name, wrong):
    good = table(drawn(6, 3))
    bad = {
        "swapped": good.T,
        "unnamed": pd.DataFrame(good.to_numpy()),
        "a loss twice": table(drawn(6, 3), ["a", "b", "a"]),
        "a seed twice": table(drawn(6, 3), seeds=list("012340")),
    }[wrong]
    WITH_TABLES[name](good)
    with pytest.raises(ValueError, match=r"a row is a seed, a column a loss|occurs twice"):
        WITH_TABLES[name](bad)


def test_every_public_function_that_takes_a_table_stands_in_this_file():
    both = {**vars(stats), **vars(confidence)}.items()
    public = {name: f for name, f in both if inspect.isfunction(f) and not name.startswith("_")}
    del public["check_values"]  # which the others call
    taking = {name for name, f in public.items() if {"values", "tables"} & set(inspect.signature(f).parameters)}
    assert taking == set(WITH_TABLES)


def test_marks_of_failures_are_of_the_same_losses():
    values = table(drawn(6, 3))
    with pytest.raises(ValueError, match="a row is a seed, a column a loss"):
        stats.ranks(values, (values > 9).T, higher_is_better=True)


def test_the_table_itself_is_left_as_it_was():
    values = table(drawn(6, 3))
    values.iloc[0, 0] = np.nan
    before = values.copy()
    for call in WITH_TABLES.values():
        call(values)
    pd.testing.assert_frame_equal(values, before)
