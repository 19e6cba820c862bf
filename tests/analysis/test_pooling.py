"""Effects against a baseline, on each dataset and pooled: by hand, by scipy and by statsmodels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from analysis.made import Made, compared, records
from scipy.stats import sem, t, ttest_1samp
from statsmodels.stats.meta_analysis import combine_effects

from lossbench.analysis import stats
from lossbench.analysis.pooling import effect, effects, pool
from lossbench.analysis.verdict import judge

RANDOM = np.random.default_rng


def normal(k, tau=2.0, seed=0):
    rng = RANDOM(seed)
    errors = rng.uniform(0.5, 2, k)
    return 3 + rng.normal(0, tau, k) + rng.normal(0, errors), errors


def verdict(mse, mae, dataset="toy"):
    return replace(judge(compared(mse=list(mse), mae=list(mae))), dataset=dataset)


def by_t(one):
    """The same verdict with Student's intervals of its differences."""
    d = (one.values["mse"] - one.values["mae"]).dropna()
    low, high = t.interval(0.95, len(d) - 1, d.mean(), sem(d))
    return replace(one, differences=one.differences.assign(low=low, high=high))


def test_an_effect_is_the_paired_difference_in_per_cent_of_the_baselines_mean():
    rng = RANDOM(0)
    mse = rng.normal(4, 0.5, 8)
    mae = mse - 1 + rng.normal(0, 0.1, 8)
    found = effect(by_t(verdict(mse, mae)), "mae", "mse")
    assert found["effect"] == pytest.approx(100 * (mse - mae).mean() / mse.mean())
    assert found["effect"] == pytest.approx(25, abs=2)
    assert found["error"] == pytest.approx(100 * sem(mse - mae) / mse.mean())
    assert found["low"] < found["effect"] < found["high"]
    assert (found["n"], found["failed"], found["skipped"]) == (8, 0, "")


def test_the_sign_of_an_effect_says_which_is_better():
    runs = [
        Made(loss, seed, 1.0, metrics={"test/score": score + 0.01 * RANDOM(seed).random()})
        for seed in range(6)
        for loss, score in (("mse", 0.5), ("mae", 0.6))
    ]
    assert effect(judge(records(*runs), primary="score"), "mae", "mse")["effect"] == pytest.approx(20, abs=1)
    assert effect(judge(records(*runs), primary="score"), "mse", "mae")["effect"] == pytest.approx(-16.7, abs=1)


@pytest.mark.parametrize(("n", "most"), [(6, 1.35), (10, 1.1), (20, 1.05)])
def test_the_error_of_a_sign_flip_interval_is_the_standard_error_or_a_little_more(n, most):
    ratios, rng, any_ = [], RANDOM(n), verdict(np.ones(n), np.ones(n))
    for _ in range(40):
        values = any_.values.assign(mse=100.0, mae=100 + rng.standard_normal(n)).rename_axis(columns="loss")
        one = replace(any_, values=values, differences=stats.differences(values, rng, higher_is_better=False))
        ratios.append(effect(one, "mae", "mse")["error"] / effect(by_t(one), "mae", "mse")["error"])
    assert 0.95 < np.mean(ratios) < most


def test_the_baselines_mean_is_of_the_seeds_that_both_have():
    mse, mae = [*np.full(6, 2.0), 1000.0], [*(1 + 0.01 * RANDOM(0).random(6)), None]
    found = effect(verdict(mse, mae), "mae", "mse")
    assert found["effect"] == pytest.approx(50, abs=1)
    assert (found["n"], found["failed"]) == (6, 1)


@pytest.mark.parametrize(
    ("mse", "mae"),
    [([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 2.0, 2.0]), ([1.0] * 6, [None] * 6), (np.arange(6) - 9.0, np.arange(6) * 1.5)],
)
def test_where_there_is_no_effect_it_says_why(mse, mae):
    found = effect(verdict(mse, mae), "mae", "mse")
    assert found["skipped"]
    assert "effect" not in found


def test_pooled_is_what_the_t_test_says_of_the_effects():
    y, errors = normal(7)
    found, test = pool(y, errors), ttest_1samp(y, 0)
    assert found["p"] == pytest.approx(test.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(test.confidence_interval(0.95))


@pytest.mark.parametrize("k", [3, 6, 20])
def test_of_equal_errors_pooled_is_the_random_effects_model_of_statsmodels(k):
    y, error = normal(k, tau=6, seed=k)[0], 0.7
    found, reference = pool(y, np.full(k, error)), combine_effects(y, np.full(k, error**2), use_t=True, maxiter=500)
    assert found["effect"] == pytest.approx(reference.mean_effect_re)
    assert (found["low"], found["high"]) == pytest.approx(reference.conf_int(0.05)[3])
    assert found["tau"] == pytest.approx(np.sqrt(reference.tau2), rel=1e-3)
    assert found["i2"] == pytest.approx(reference.i2)
    assert found["i2"] > 0.5


def test_of_effects_that_seeds_explain_nothing_is_left_between_datasets():
    y, _ = normal(8, tau=0)
    found = pool(y, np.full(8, 100.0))
    assert found["tau"] == found["i2"] == 0


def test_effects_that_are_all_alike_have_no_spread():
    found = pool(np.full(4, 5.0), np.zeros(4))
    assert [found[name] for name in ("effect", "low", "high", "p", "tau", "i2")] == [5, 5, 5, 0, 0, 0]
    assert pool(np.zeros(4), np.zeros(4))["p"] == 1


def test_two_effects_are_not_pooled():
    assert np.isnan(list(pool(*normal(2)).values())).all()


def test_the_table_has_every_loss_and_corrects_for_all():
    rng, means = RANDOM(0), {"mse": 5.0, "mae": 4.0, "huber": 4.9, "tukey": None}
    made = [
        replace(
            judge(
                compared(
                    **{
                        loss: [mean and mean + rng.normal(0, 0.1) for _ in range(6)] if mean else [None] * 6
                        for loss, mean in means.items()
                    }
                )
            ),
            dataset=f"data {k}",
        )
        for k in range(4)
    ]
    found = effects(made, "mse", list(means))
    assert list(found.pooled["loss"]) == ["mae", "huber", "tukey"]
    assert list(found.pooled["datasets"]) == [4, 4, 0]
    assert found.pooled["effect"].to_list() == pytest.approx([20, 2, np.nan], abs=2, nan_ok=True)
    np.testing.assert_allclose(found.pooled["p_holm"][:2], stats.holm(found.pooled["p"][:2].to_numpy()))
    assert np.isnan(found.pooled["p_holm"][2])
    assert list(found.by_dataset["failed"]) == [0] * 8 + [6] * 4
    mae = found.by_dataset[found.by_dataset["loss"] == "mae"]
    assert found.pooled["effect"][0] == pytest.approx(mae["effect"].mean())


# how often it holds what it promises; the bounds are four standard errors of so many draws

DRAWS = 1500


@pytest.mark.parametrize("tau", [0, 2])
@pytest.mark.parametrize("k", [3, 5, 10])
def test_intervals_hold_the_mean_and_the_next_dataset_on_95_of_100(k, tau):
    rng = RANDOM(10 * k + tau)
    held = np.zeros(2)
    for _ in range(DRAWS):
        y = rng.normal(3, tau, k + 1) + rng.standard_normal((5, k + 1)).mean(0)
        found = pool(y[:k], np.ones(k))
        held += [found["low"] <= 3 <= found["high"], found["new_low"] <= y[k] <= found["new_high"]]
    assert held / DRAWS == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / DRAWS))


def test_weights_by_precision_would_hold_it_less_often():
    """Why every dataset counts alike."""
    rng, held = RANDOM(0), np.zeros(2)
    for _ in range(DRAWS // 2):
        sizes = np.exp(rng.normal(0, 1, 3)) * np.sqrt(10)
        by_seed = rng.normal(3, 1, 3) + sizes * rng.standard_normal((10, 3))
        y, errors = by_seed.mean(0), sem(by_seed)
        low, high = combine_effects(y, errors**2, use_t=True, maxiter=500).conf_int(0.05)[3]
        found = pool(y, errors)
        held += [found["low"] <= 3 <= found["high"], low <= 3 <= high]
    margin = 4 * np.sqrt(0.95 * 0.05 / (DRAWS // 2))
    assert held[0] / (DRAWS // 2) > 0.95 - margin
    assert held[1] / (DRAWS // 2) < 0.95 - margin


def test_tau_squared_is_right_on_average_of_estimated_errors():
    rng, found = RANDOM(1), []
    for _ in range(DRAWS):
        by_seed = rng.normal(0, 2, 10) + np.exp(rng.normal(0, 0.3, 10)) * rng.standard_normal((5, 10))
        found.append(pool(by_seed.mean(0), sem(by_seed))["tau"] ** 2)
    assert np.mean(found) == pytest.approx(4, abs=4 * np.std(found) / np.sqrt(DRAWS))
