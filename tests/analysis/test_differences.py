"""Differences of pairs against scipy's permutation test, enumeration of all flips, loops, and by their definitions."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from analysis.made import table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.multitest import multipletests

from lossbench.analysis import level, stats

RANDOM = np.random.default_rng
LINE = ["a", "b", "n", "difference", "low", "high", "p", "p_holm", "p_all", "improvement", "detectable", "p_equal"]


def compare(values, seed=0, *, higher_is_better=True):
    """The table of differences, by pair."""
    found = stats.differences(values, RANDOM(seed), higher_is_better=higher_is_better)
    return found.set_index(["a", "b"], drop=False)


def numbers(found, row=0):
    return found.iloc[row].drop(["a", "b"]).to_numpy(float)


def drawn(n, losses, seed=0, ties=False):
    rng = RANDOM(seed)
    return rng.integers(-3, 4, (n, losses)).astype(float) if ties else rng.standard_normal((n, losses))


# sign flips


@pytest.mark.parametrize("n", [5, 6, 9, 14])
def test_flips_are_all_sign_patterns_and_the_first_flips_none(n):
    signs = stats.flips(n, RANDOM(0))
    assert {tuple(row) for row in signs} == set(product([-1.0, 1.0], repeat=n))
    assert len(signs) == 2**n
    assert (signs[0] == 1).all()


def test_beyond_fourteen_seeds_flips_are_drawn():
    signs = stats.flips(20, RANDOM(0))
    assert signs.shape == (2**14, 20)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert (signs[0] == 1).all()
    assert np.abs(signs[1:].mean(0)).max() < 4 / np.sqrt(2**14)
    assert not np.array_equal(signs, stats.flips(20, RANDOM(1)))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [6, 7, 8, 10])
def test_p_is_scipys_paired_permutation_test(n, ties):
    values = drawn(n, 3, seed=n, ties=ties)
    found = compare(table(values))
    for (i, a), (j, b) in combinations(enumerate("abc"), 2):
        test = permutation_test(
            (values[:, i], values[:, j]),
            lambda x, y, axis: (x - y).mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        )
        assert found.loc[(a, b), "p"] == pytest.approx(test.pvalue, abs=1e-12)
        assert found.loc[(a, b), "difference"] == pytest.approx(test.statistic)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.8])
def test_p_of_twenty_seeds_is_that_of_all_flips_but_for_what_is_drawn(shift):
    d = RANDOM(3).standard_normal(20) + shift
    halves = [np.array(list(product([-1, 1], repeat=10))) @ part for part in (d[:10], d[10:])]
    exact = (np.abs(np.add.outer(*halves)) >= abs(d.sum()) - 1e-9).mean()
    found = compare(table(np.column_stack([d, np.zeros(20)]))).iloc[0]["p"]
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2**14))


def all_flips_of(values):
    """Every table that flips some seeds of this one: equally likely, if the losses are alike. Mirror images once."""
    for signs in product([1.0, -1.0], repeat=len(values) - 1):
        yield np.array([1.0, *signs])[:, None] * values


def test_p_is_uniform_where_losses_are_alike():
    d = drawn(6, 1)
    columns = np.column_stack([*all_flips_of(d), np.zeros(6)])
    names = [f"flip {k}" for k in range(32)]
    found = compare(table(columns, [*names, "zero"])).xs("zero", level="b")
    expected = np.arange(1, 33) / 32
    np.testing.assert_allclose(np.sort(found["p"]), expected, atol=1e-12)


@pytest.mark.parametrize(("n", "share"), [(6, 31 / 32), (7, 61 / 64)])
def test_intervals_hold_the_centre_on_as_many_flips_as_promised(n, share):
    d = drawn(n, 1, seed=n)
    columns = np.column_stack([*all_flips_of(d), np.zeros(n)])
    found = compare(table(columns, [*(f"flip {k}" for k in range(2 ** (n - 1))), "zero"])).xs("zero", level="b")
    assert ((found["low"] < 0) & (found["high"] > 0)).mean() == share


def test_the_least_corrected_p_is_uniform_where_all_losses_are_alike():
    values = drawn(7, 4)
    least = [compare(table(flipped))["p_all"].min() for flipped in all_flips_of(values)]
    np.testing.assert_allclose(np.sort(least), np.arange(1, 65) / 64, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(6, 12), st.integers(0, 10**6), st.sampled_from(["standard_normal", "standard_exponential"]))
def test_an_interval_is_what_the_test_would_not_reject(n, seed, draw):
    rng = RANDOM(seed)
    x, y = getattr(rng, draw)((2, n))
    low, high = compare(table(np.column_stack([x, y]))).iloc[0][["low", "high"]]
    near = 1e-6 * (high - low)
    tried = [low - near, low + near, high - near, high + near, *np.linspace(low - 1, high + 1, 5)]
    shifted = compare(table(np.column_stack([*(x - d0 for d0 in tried), y]), [*map(str, range(len(tried))), "y"]))
    for place, d0 in enumerate(tried):
        assert (shifted.loc[(str(place), "y"), "p"] > level.ALPHA) == (low <= d0 <= high)


def test_the_interval_of_twenty_seeds_is_that_of_the_test_but_for_what_is_drawn():
    x, y = RANDOM(0).standard_normal((2, 20))
    low, high = compare(table(np.column_stack([x, y]))).iloc[0][["low", "high"]]
    at_ends = compare(table(np.column_stack([x - low, x - high, y])))
    assert at_ends.loc[("a", "c"), "p"] == pytest.approx(0.05, abs=0.01)
    assert at_ends.loc[("b", "c"), "p"] == pytest.approx(0.05, abs=0.01)


# many pairs


def step_down(values):
    """Westfall and Young's p by loops: for each pair, the share of flips whose largest of it and all weaker ones
    reaches it; never less than that of a stronger one."""
    d = {pair: (values[pair[0]] - values[pair[1]]).fillna(0).to_numpy() for pair in combinations(values, 2)}
    d = {pair: each for pair, each in d.items() if (values[pair[0]] - values[pair[1]]).count() >= level.PAIRS}

    def size(each, signs):
        return abs(sum(s * x for s, x in zip(signs, each, strict=True))) / max(sum(x * x for x in each) ** 0.5, 1e-300)

    everything = list(product([1, -1], repeat=len(values)))
    sizes = {pair: [size(each, signs) for signs in everything] for pair, each in d.items()}
    order = sorted(d, key=lambda pair: -sizes[pair][0])
    found, least = {}, 0.0
    for place, pair in enumerate(order):
        largest = [max(sizes[other][k] for other in order[place:]) for k in range(len(everything))]
        least = max(least, np.mean([one >= sizes[pair][0] - 1e-9 for one in largest]))
        found[pair] = least
    return found


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_p_all_is_the_step_down_correction_by_loops(ties, holes):
    values = table(drawn(8, 4, seed=5, ties=ties) + np.array([0, 0.5, 2, 0]))
    if holes:
        values.iloc[0, 1] = values.iloc[3, 2] = np.nan
        values.iloc[:4, 3] = np.nan
    found = compare(values)
    expected = step_down(values)
    assert len(expected) == (3 if holes else 6)
    for pair, p in found["p_all"].items():
        assert p == pytest.approx(expected.get(pair, np.nan), abs=1e-12, nan_ok=True)


def test_p_all_is_never_below_p_and_grows_as_the_evidence_shrinks():
    values = drawn(9, 6, seed=2) + np.arange(6) / 4
    found = compare(table(values))
    assert (found["p_all"] >= found["p"]).all()
    d = [values[:, i] - values[:, j] for i, j in combinations(range(6), 2)]
    evidence = [abs(each.sum()) / np.sqrt(np.square(each).sum()) for each in d]
    assert (np.diff(found["p_all"].to_numpy()[np.argsort(evidence)]) <= 0).all()
    assert found["p_all"].nunique() > 5


def test_p_holm_is_holms_correction():
    found = compare(table(drawn(10, 5, seed=1) + np.arange(5) / 2))
    p = found["p"].to_numpy()
    np.testing.assert_allclose(found["p_holm"], multipletests(p, method="holm")[1])
    by_hand, least = np.empty(10), 0.0
    for place, pair in enumerate(np.argsort(p, kind="stable")):
        least = max(least, min(1.0, (10 - place) * p[pair]))
        by_hand[pair] = least
    np.testing.assert_allclose(found["p_holm"], by_hand)
    assert 0 < (by_hand < 1).sum() < 10


def test_of_eight_losses_the_step_down_correction_finds_what_holms_cannot():
    values = drawn(10, 8)
    values[:, 0] += 20
    found = compare(table(values))
    first = found.loc["a"]
    assert (first["p"] == 2 / 2**10).all()
    assert (first["p_all"] <= level.ALPHA).all()
    assert (first["p_holm"] > level.ALPHA).all()


def test_the_order_of_losses_and_of_seeds_decides_nothing():
    values = table(drawn(8, 4))
    values.iloc[2, 1] = np.nan
    before = compare(values)
    after = compare(values.iloc[::-1, ::-1])
    for a, b in before.index:
        one, other = before.loc[(a, b)], after.loc[(b, a)]
        assert [one[c] for c in LINE[6:9]] == pytest.approx([other[c] for c in LINE[6:9]])
        assert one["difference"] == pytest.approx(-other["difference"])
        assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))


def test_one_loss_under_two_names_has_no_difference_and_p_of_one():
    values = drawn(10, 3)
    values[:, 1] = values[:, 0]
    row = compare(table(values)).loc[("a", "b")]
    assert (row["difference"], row["low"], row["high"], row["improvement"]) == (0, 0, 0, 0.5)
    assert (row["p"], row["p_holm"], row["p_all"], row["detectable"]) == (1, 1, 1, 0)
    assert np.isnan(numbers(compare(table(np.full((4, 2), 0.9137)))))[4:7].all()
    assert numbers(compare(table(np.full((6, 2), 0.9137))))[4:7] == pytest.approx([1, 1, 1])


def test_scales_of_losses_do_not_decide_the_correction():
    """A pair that is a thousand times larger hides no other: sizes are in their own spread."""
    values = drawn(9, 4, seed=3)
    values[:, 1] += 2
    found = compare(table(values))
    larger = compare(table(1000 * values))
    np.testing.assert_allclose(found["p_all"], larger["p_all"])
    noisy = values.copy()
    noisy[:, 3] = 1e6 * drawn(9, 1, seed=4)[:, 0]
    assert compare(table(noisy)).loc[("a", "b"), "p_all"] < 3 * found.loc[("a", "b"), "p_all"]


# missing runs


def test_a_pair_is_compared_on_the_seeds_that_both_have():
    values = table(drawn(11, 2, seed=8))
    values.iloc[[0, 5], 0], values.iloc[[5, 7], 1] = np.nan, np.nan
    found = numbers(compare(values))
    dropped = numbers(compare(values.dropna()))
    assert found[0] == 8
    assert found == pytest.approx(dropped, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("common", [0, 1, 5])
def test_fewer_than_six_pairs_have_a_difference_and_no_test(common):
    values = table(drawn(9, 3))
    values.iloc[common:, 1] = np.nan
    found = compare(values)
    row = found.loc[("a", "b")]
    assert row["n"] == common
    assert row[["low", "high", "p", "p_holm", "p_all"]].isna().all()
    if common:
        assert row["difference"] == pytest.approx((values["a"] - values["b"])[:common].mean())
    alone = compare(values[["a", "c"]])
    assert numbers(found.loc[[("a", "c")]]) == pytest.approx(numbers(alone), nan_ok=True), (
        "a pair without a test changed another"
    )


def test_six_pairs_have_the_first_test_that_can_reject():
    row = compare(table(drawn(6, 2) + np.array([9, 0]))).iloc[0]
    assert row["p"] == row["p_all"] == 2 / 2**6 < level.ALPHA < 2 / 2**5
    d = drawn(6, 2) + np.array([9, 0])
    assert (row["low"], row["high"]) == pytest.approx((np.ptp(d, axis=1).min(), np.ptp(d, axis=1).max()))


def test_one_loss_has_no_differences():
    found = stats.differences(table(drawn(6, 1)), RANDOM(0), higher_is_better=True)
    assert list(found.columns) == LINE
    assert found.empty


def test_tables_have_these_columns_and_the_first_loss_first():
    found = compare(table(drawn(6, 3)))
    assert list(found.columns) == LINE
    assert list(found.index) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_improvement_is_the_share_of_seeds_won_and_half_of_the_ties():
    values = table(np.array([[1, 2], [1, 2], [3, 2], [2, 2], [2, 2], [0, 5], [1, 9], [1, 1]]))
    assert compare(values, higher_is_better=False)["improvement"].iloc[0] == (4 + 1.5) / 8
    assert compare(values, higher_is_better=True)["improvement"].iloc[0] == (1 + 1.5) / 8


def test_the_direction_changes_nothing_else():
    values = table(drawn(7, 3))
    up, down = (compare(values, higher_is_better=h).drop(columns="improvement") for h in (True, False))
    pd.testing.assert_frame_equal(up, down)


def test_drawn_flips_are_those_of_the_generator():
    values = table(drawn(16, 3) + np.array([0, 0.5, 30]))
    first, again, other = (compare(values, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert first.loc[("a", "b"), "p"] != other.loc[("a", "b"), "p"]
    assert first.loc[("a", "c"), "p"] == 1 / 2**14, "what was seen counts as one of the flips"


def test_differences_stay_in_what_two_values_of_a_metric_can_differ_by():
    values = table(np.column_stack([[0.99, 0.05, 0.98, 0.97, 0.96, 0.99], [0.1, 0.9, 0.0, 0.0, 0.02, 0.01]]))
    found = stats.differences(values, np.random.default_rng(0), higher_is_better=True, overlap=0.5)
    assert found["high"].item() > 1
    ended = stats.within(found, (0.0, 1.0))
    assert ended["high"].item() == 1
    assert ended.drop(columns=["low", "high"]).equals(found.drop(columns=["low", "high"]))
    assert ended["low"].equals(found["low"].clip(-1))
    assert stats.within(found, (0.0, np.inf)).equals(found)
    assert stats.within(stats.differences(values[["a"]], np.random.default_rng(0), higher_is_better=True), (0, 1)).empty
