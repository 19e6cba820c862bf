"""Losses over several datasets: Friedman, Conover and average ranks, by hand and by scikit-posthocs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from analysis.made import table
from scipy.stats import chi2

from lossbench.analysis import stats

RANDOM = np.random.default_rng


def drawn(n, losses, seed=0):
    return RANDOM(seed).standard_normal((n, losses))


def datasets(count, losses=4, seed=0, shift=0.5):
    rng = RANDOM(seed)
    return {
        f"data {k}": (table(rng.standard_normal((6, losses)) + shift * np.arange(losses)), True) for k in range(count)
    }


def test_average_ranks_are_those_of_the_means():
    tables = {
        "x": (table([[1, 2, 3], [3, 4, 5]]), True),
        "y": (table([[1, 2, 3], [3, 4, 5]]), False),
        "z": (table([[5, 1, 5]]), True),
    }
    ranks, _, _ = stats.across(tables, RANDOM(0))
    assert ranks["rank"].to_dict() == pytest.approx({"a": (3 + 1 + 1.5) / 3, "b": (2 + 2 + 3) / 3, "c": 5.5 / 3})
    assert list(ranks["rank"]) == sorted(ranks["rank"])


def test_friedmans_p_is_the_chi_square_of_the_ranks():
    tables = datasets(8, shift=0.3)
    means = np.stack([values.mean().to_numpy() for values, _ in tables.values()])
    places = np.array([(-row).argsort().argsort() + 1 for row in means])
    b, k = places.shape
    statistic = 12 * b / (k * (k + 1)) * np.square(places.mean(0) - (k + 1) / 2).sum()
    _, p, _ = stats.across(tables, RANDOM(0))
    assert p == pytest.approx(chi2.sf(statistic, k - 1))
    assert 0.001 < p < 0.9


def test_pairwise_p_are_conovers_after_holms_correction():
    import scikit_posthocs

    tables = datasets(8, seed=1)
    tables["data 0"] = (-tables["data 0"][0], False)
    means = [values.mean() if higher else -values.mean() for values, higher in tables.values()]
    expected = scikit_posthocs.posthoc_conover_friedman(pd.DataFrame(means), p_adjust="holm")
    _, _, pairwise = stats.across(tables, RANDOM(0))
    assert list(pairwise.index) == list(pairwise.columns) == list("abcd")
    np.testing.assert_allclose(pairwise, expected)
    assert ((pairwise > 0.001) & (pairwise < 0.999)).to_numpy().any()


def test_a_dataset_counts_once_however_many_seeds_it_has():
    tables = datasets(5, seed=2)
    many = dict(tables)
    values = tables["data 0"][0]
    many["data 0"] = (table(np.tile(values, (20, 1))), True)
    (ranks, p, pairwise), (other, other_p, other_pairwise) = (stats.across(t, RANDOM(0)) for t in (tables, many))
    assert ranks["rank"].to_dict() == pytest.approx(other["rank"].to_dict())
    assert p == pytest.approx(other_p)
    np.testing.assert_allclose(pairwise, other_pairwise)


def test_losses_that_a_dataset_lacks_stay_out():
    tables = datasets(4, seed=3)
    tables["data 1"] = (tables["data 1"][0].assign(b=np.nan).rename_axis(columns="loss"), True)
    tables["data 2"] = (tables["data 2"][0].drop(columns="c"), True)
    ranks, _, pairwise = stats.across(tables, RANDOM(0))
    assert set(ranks.index) == {"a", "d"}
    assert set(ranks["rank"]) <= {1, 1.25, 1.5, 1.75, 2}
    assert pairwise.empty


@pytest.mark.parametrize(("count", "losses", "tested"), [(2, 4, False), (3, 3, True), (3, 2, False)])
def test_tests_need_three_datasets_and_three_losses(count, losses, tested):
    ranks, p, pairwise = stats.across(datasets(count, losses, seed=6, shift=0), RANDOM(0))
    assert len(ranks) == losses
    assert np.isnan(p) != tested
    assert pairwise.empty != tested


def test_intervals_of_ranks_know_what_seeds_and_datasets_leave_open():
    def clear(sign):
        return table(0.01 * drawn(6, 3) + sign * np.array([1, 2, 3])), True

    sure, _, _ = stats.across({k: clear(1) for k in "xy"}, RANDOM(0))
    assert sure.to_numpy().tolist() == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    torn, _, _ = stats.across({"x": clear(1), "y": clear(-1)}, RANDOM(0))
    assert torn.loc["a"].tolist() == torn.loc["c"].tolist() == [2, 1, 3]
    assert torn.loc["b"].tolist() == [2, 2, 2]
    noisy, _, _ = stats.across({"x": (table(drawn(6, 3)), True)}, RANDOM(0))
    assert (noisy["low"] < noisy["high"]).all()
    assert ((noisy["low"] <= noisy["rank"]) & (noisy["rank"] <= noisy["high"])).all()


def test_seeds_that_a_loss_lacks_are_no_zeros():
    values = table(drawn(8, 3) + np.array([100, 101, 102]))
    values.iloc[:6, 2] = np.nan
    ranks, _, _ = stats.across({"x": (values, True)}, RANDOM(0))
    assert ranks["rank"].to_dict() == values.mean().rank(ascending=False).to_dict()
    assert ranks.loc["c", "high"] < 3


def test_datasets_that_all_rank_alike_tell_losses_apart():
    tables = {k: (table(0.01 * drawn(6, 3, seed=n) + np.array([1, 2, 3])), True) for n, k in enumerate("wxyz")}
    _, _, pairwise = stats.across(tables, RANDOM(0))
    assert pairwise.loc["a", "c"] <= stats.ALPHA
