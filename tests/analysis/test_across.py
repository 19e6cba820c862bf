"""Losses ranked over several datasets: places, failures, average ranks, Friedman's and pairwise tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis.made import Made, records, table
from scipy.stats import binomtest, chi2

from lossbench.analysis import level, stats
from lossbench.analysis.across import PAIRWISE, Table, across, places, ranking
from lossbench.analysis.verdict import judge

RANDOM = np.random.default_rng


def drawn(n, losses, seed=0):
    return RANDOM(seed).standard_normal((n, losses))


def finished(values, higher=True, losses=None):
    """A dataset on which a missing value is a run that was killed."""
    values = table(values, losses)
    return Table(values, pd.DataFrame(False, values.index, values.columns), higher)


def fallible(values, higher=True):
    """A dataset on which a missing value is a run that its loss is to blame for."""
    return Table(table(values), table(values).isna(), higher)


def ranked(*tables):
    return ranking({f"data {k}": one for k, one in enumerate(tables)}, RANDOM(0))


def datasets(count, losses=4, seed=0, shift=0.5):
    rng = RANDOM(seed)
    return [finished(rng.standard_normal((6, losses)) + shift * np.arange(losses)) for _ in range(count)]


def test_average_ranks_are_those_of_the_places():
    found = ranked(
        finished([[1, 2, 3], [3, 4, 5]]), finished([[1, 2, 3], [3, 4, 5]], higher=False), finished([[5, 1, 5]])
    )
    expected = {"a": (3 + 1 + 1.5) / 3, "b": (2 + 2 + 3) / 3, "c": 5.5 / 3}
    assert found.ranks["rank"].to_dict() == pytest.approx(expected)
    assert list(found.ranks["rank"]) == sorted(found.ranks["rank"])
    assert found.places.loc["data 1"].to_dict() == {"a": 1, "b": 2, "c": 3}


def test_a_place_is_the_rank_of_the_mean_of_the_places_on_the_seeds():
    tables = datasets(6, seed=4, shift=0.3)
    failed = RANDOM(0).random((6, 4)) < 0.2
    tables[2] = Table(tables[2].values.mask(failed), tables[2].failed | failed, True)
    found = ranked(*tables)
    for name, (values, fell, _) in zip(found.datasets, tables, strict=True):
        mean = stats.ranks(values, fell, higher_is_better=True).mean()
        assert found.places.loc[name].to_dict() == mean.round(9).rank().to_dict()


def test_one_easy_seed_of_ten_wins_nothing():
    values = np.array([[2.0, 3.0, 4.0]] * 10)
    values[:9, 2] = np.nan
    found = ranked(fallible(values), fallible(values))
    assert found.ranks["rank"].to_dict() == {"b": 1, "a": 2, "c": 3}


def test_a_loss_that_failed_on_a_whole_dataset_is_last_there_and_takes_part():
    easy, hard = drawn(6, 3) * 0.01 + [1, 2, 3], drawn(6, 3) * 0.01 + [1, 2, 3]
    hard[:, 2] = np.nan
    found = ranked(fallible(easy), fallible(hard))
    assert found.places["c"].to_dict() == {"data 0": 1, "data 1": 3}
    assert found.places["a"].to_dict() == {"data 0": 3, "data 1": 2}
    assert found.left_out == []


def test_all_that_failed_everywhere_share_the_last_places():
    values = drawn(6, 4)
    values[:, 1:3] = np.nan
    found = ranked(fallible(values), fallible(values))
    assert found.places.loc["data 0", ["b", "c"]].to_list() == [3.5, 3.5]


def test_one_failure_in_fifty_costs_one_last_place_only():
    values = 0.01 * drawn(50, 3) + [1, 2, 3]
    values[7, 2] = np.nan
    assert ranked(fallible(values), fallible(values)).ranks["rank"].to_dict() == {"c": 1, "b": 2, "a": 3}


def test_a_run_that_was_killed_is_nobodys_merit():
    values = 0.01 * drawn(10, 3) + [1, 2, 3]
    values[:6, 1:] = np.nan  # where the worst ran alone
    found = ranked(finished(values), finished(values))
    assert found.ranks["rank"].to_dict() == {"c": 1, "b": 2, "a": 3}
    assert found.ranks.loc["c", "high"] < 3


def test_losses_that_share_no_seed_tie():
    values = np.full((6, 2), np.nan)
    values[:3, 0], values[3:, 1] = 1, 2
    assert ranked(finished(values), finished(values)).ranks["rank"].to_list() == [1.5, 1.5]


def test_losses_that_a_dataset_never_ran_stay_out_and_are_named():
    tables = datasets(4, seed=3)
    tables[1] = finished(tables[1].values.assign(b=np.nan).to_numpy())
    tables[2] = finished(tables[2].values.drop(columns="c").to_numpy(), losses=["a", "b", "d"])
    found = ranked(*tables)
    assert set(found.ranks.index) == set(found.places) == {"a", "d"}
    assert set(found.ranks["rank"]) <= {1, 1.25, 1.5, 1.75, 2}
    assert found.left_out == ["b", "c"]


def test_a_dataset_without_any_result_takes_no_part():
    tables = datasets(3)
    assert ranked(*tables, finished(np.full((6, 4), np.nan))).datasets == ["data 0", "data 1", "data 2"]


def test_there_is_no_ranking_of_one_loss():
    assert ranked(finished(drawn(6, 1)), finished(drawn(6, 2))) is None


def test_a_drawn_seed_counts_as_often_as_it_was_drawn():
    by_seed = stats.ranks(table(drawn(7, 5)), table(drawn(7, 5)) > 9, higher_is_better=True).to_numpy(copy=True)
    by_seed[RANDOM(1).random(by_seed.shape) < 0.2] = np.nan
    counts = RANDOM(2).multinomial(7, np.full(7, 1 / 7), 50)
    one_by_one = [places(np.repeat(by_seed, n, axis=0), np.ones((1, 7)))[0] for n in counts]
    np.testing.assert_array_equal(places(by_seed, counts), one_by_one)


@pytest.mark.parametrize("how", [np.exp, lambda values: 1e6 * values - 5, lambda values: np.cbrt(values)])
def test_places_know_no_scale(how):
    one = drawn(9, 4)
    pd.testing.assert_frame_equal(ranked(*[finished(one)] * 2).places, ranked(*[finished(how(one))] * 2).places)


def test_friedmans_p_is_the_chi_square_of_the_ranks():
    found = ranked(*datasets(8, shift=0.05))
    b, k = found.places.shape
    statistic = 12 * b / (k * (k + 1)) * np.square(found.places.mean() - (k + 1) / 2).sum()
    tied = sum(c**3 - c for row in found.places.to_numpy() for c in np.unique(row, return_counts=True)[1])
    assert tied > 0
    assert found.friedman == pytest.approx(chi2.sf(statistic / (1 - tied / (b * (k**3 - k))), k - 1))
    assert 0.001 < found.friedman < 0.9


def test_datasets_on_which_all_tie_say_nothing():
    found = ranked(*[fallible(np.full((6, 3), np.nan))] * PAIRWISE)
    assert found.friedman == 1
    assert (found.pairwise == 1).all(axis=None)


@pytest.mark.parametrize(("ahead", "count"), [(6, 6), (6, 7), (8, 9), (5, 10), (10, 12)])
def test_two_losses_are_compared_by_the_sign_test(ahead, count):
    one, other = finished([[1, 2]] * 6), finished([[2, 1]] * 6)
    found = ranked(*[one] * ahead, *[other] * (count - ahead))
    assert found.pairwise.loc["a", "b"] == pytest.approx(binomtest(ahead, count).pvalue)


def test_pairs_are_corrected_together():
    found = ranked(*datasets(8, seed=1))
    d = stats.differences(found.places.rename_axis("seed"), RANDOM(0), higher_is_better=False)
    for row in d.itertuples():
        assert found.pairwise.loc[row.a, row.b] == found.pairwise.loc[row.b, row.a] == pytest.approx(row.p_all)
    assert (np.diag(found.pairwise) == 1).all()


def test_a_dataset_counts_once_however_many_seeds_it_has():
    tables = datasets(6, seed=2)
    many = finished(np.tile(tables[0].values, (20, 1)))
    one, other = ranked(*tables), ranked(many, *tables[1:])
    pd.testing.assert_frame_equal(one.places, other.places)
    assert one.friedman == other.friedman
    pd.testing.assert_frame_equal(one.pairwise, other.pairwise)


@pytest.mark.parametrize(
    ("count", "losses", "friedman", "pairs"),
    [(2, 4, False, False), (3, 3, True, False), (5, 4, True, False), (6, 2, False, True), (6, 3, True, True)],
)
def test_tests_need_datasets_enough(count, losses, friedman, pairs):
    found = ranked(*datasets(count, losses, seed=6, shift=9))
    assert len(found.ranks) == losses
    assert np.isfinite(found.friedman) == friedman
    assert len(found.pairwise) == (losses if pairs else 0)
    assert bool(pairs and found.pairwise.loc["a", "b"] <= level.ALPHA) == pairs


def test_intervals_of_ranks_know_what_seeds_and_datasets_leave_open():
    def clear(sign):
        return finished(0.01 * drawn(6, 3) + sign * np.array([3, 2, 1]))

    sure = ranked(clear(1), clear(1)).ranks
    assert sure.to_numpy().tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    torn = ranked(clear(1), clear(-1)).ranks
    assert torn.loc["a"].tolist() == torn.loc["c"].tolist() == [2, 1, 3]
    assert torn.loc["b"].tolist() == [2, 2, 2]
    noisy = ranked(finished(drawn(6, 3))).ranks
    assert (noisy["low"] < noisy["high"]).all()
    assert ((noisy["low"] <= noisy["rank"]) & (noisy["rank"] <= noisy["high"])).all()


def test_cliques_join_neighbours_that_no_test_tells_apart():
    near = [finished(0.01 * drawn(6, 4, seed) + np.array([5, 5, 1, 1])) for seed in range(10)]
    assert [set(clique) for clique in ranked(*near).cliques] == [{"a", "b"}, {"c", "d"}]
    assert ranked(*[finished(0.01 * drawn(6, 3) + np.array([1, 2, 3]))] * 8).cliques == []
    assert ranked(*datasets(3)).cliques == []


@pytest.mark.parametrize("wrong", ["swapped", "unnamed", "a loss twice", "a seed twice"])
def test_a_table_the_wrong_way_round_is_refused(wrong):
    bad = {
        "swapped": table(drawn(6, 3)).T,
        "unnamed": pd.DataFrame(drawn(6, 3)),
        "a loss twice": table(drawn(6, 3), ["a", "b", "a"]),
        "a seed twice": table(drawn(6, 3), seeds=list("012340")),
    }[wrong]
    with pytest.raises(ValueError, match=r"a row is a seed, a column a loss|occurs twice"):
        ranked(finished(drawn(6, 3)), Table(bad, bad.isna(), True))


def verdicts(*errors):
    """A verdict a dataset of six seeds, from the mean error of each loss; None for one that always diverged."""
    noise = RANDOM(0).normal(0, 0.01, (len(errors), 6, 9))
    return [
        judge(
            records(
                *(
                    Made(loss, seed, mean and mean + noise[k, seed, i], "finished" if mean else "diverged")
                    for seed in range(6)
                    for i, (loss, mean) in enumerate(means.items())
                ),
            )
        )
        for k, means in enumerate(errors)
    ]


def named(found):
    return [replace(verdict, dataset=f"data {k}") for k, verdict in enumerate(found)]


def test_verdicts_together_are_ranked_and_set_against_the_baseline():
    found = across(named(verdicts({"mse": 2.0, "mae": 1.0}, {"mse": 2.0, "mae": 1.5}, {"mse": 1.0, "mae": None})))
    assert found.ranking.places["mae"].to_list() == [1, 1, 2]
    assert found.effects.baseline == "mse"
    assert found.effects.by_dataset["effect"].to_list() == pytest.approx([50, 25, np.nan], abs=1, nan_ok=True)
    assert found.effects.by_dataset["failed"].to_list() == [0, 0, 6]
    assert across(named(verdicts({"mse": 2.0, "mae": 1.0}))) is None


def test_there_are_no_effects_where_a_dataset_lacks_the_baseline():
    found = across(named(verdicts({"mse": 2.0, "mae": 1.0, "huber": 3.0}, {"mae": 2.0, "huber": 1.5})))
    assert found.effects is None
    assert found.ranking.left_out == ["mse"]
