"""Of whom the seeds of a comparison speak, as its records tell it, and what a report makes of that."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from analysis.made import Made, records
from scipy.stats import ttest_1samp

from lossbench.analysis import advice, errors, fairness, level, stats
from lossbench.analysis.population import Population, folded
from lossbench.analysis.verdict import judge

SIZES = json.dumps({"train": 60, "validation": 20, "test": 20, "candidates": 100})
SPLIT = {"lossbench.variation": "resplit", "lossbench.pool": "f00d", "lossbench.sizes": SIZES}


def compared(tags, n=8, gap=0.5, data="data {}", **left_out):
    rng = np.random.default_rng(0)
    made = []
    for seed in range(n):
        hard = rng.standard_normal()
        for loss, shift in (("a", 0.0), ("b", gap)):
            value = 10 + hard + shift + 0.5 * rng.standard_normal()
            own = {"lossbench.left_out": json.dumps(left_out[loss](value, rng))} if left_out else {}
            told = tags | own | {"lossbench.data": data.format(seed)}
            made.append(Made(loss, seed, value, tags=told))
    return records(*made)


def only(judged):
    return judged.differences.iloc[0]


def test_seeds_that_split_one_pool_are_compared_by_the_corrected_test():
    judged = judge(compared(SPLIT))
    assert judged.population.overlap == 20 / 80
    d = (judged.values["a"] - judged.values["b"]).to_numpy()
    assert only(judged)["p_all"] == errors.resplit(d, 0.25).p()
    assert "examples like these" in judged.population.words


def test_a_pool_part_of_which_is_kept_for_tests_overlaps_more():
    kept = json.dumps({"train": 60, "validation": 20, "test": 20, "candidates": 30})
    assert judge(compared(SPLIT | {"lossbench.sizes": kept})).population.overlap == 20 / 10


def test_folds_of_one_round_overlap_less_than_those_of_many_and_many_as_random_splits_do():
    once, many = folded(5, range(5)), folded(5, range(500))
    assert once == pytest.approx(0.1 / 0.9)
    assert once < folded(5, range(10)) < many == pytest.approx(1 / 4, abs=0.002)


def test_fresh_seeds_are_compared_by_sign_flips():
    judged = judge(compared({"lossbench.variation": "fresh"}))
    assert judged.population == Population("fresh")
    expected = stats.differences(judged.values, np.random.default_rng(0), higher_is_better=False).iloc[0]
    assert only(judged)["p_all"] == expected["p_all"]


@pytest.mark.parametrize("tags", [{"lossbench.variation": "fixed"}, {"lossbench.variation": "fresh"}, SPLIT])
def test_data_that_are_the_same_under_all_seeds_are_fixed_whatever_a_tag_says(tags):
    judged = judge(compared(tags, data="the same"))
    assert (judged.population.variation, judged.population.overlap) == ("fixed", None)
    assert judged.population.words == "on this test set"


def around(spread):
    return lambda value, rng: {"error": list(value + spread * rng.standard_normal(20))}


def test_a_fixed_test_split_is_judged_by_its_examples_too():
    tags = {"lossbench.variation": "fixed", "lossbench.sizes": SIZES}
    certain = judge(compared(tags, gap=1.5, data="the same", a=around(0.0), b=around(0.0)))
    doubtful = judge(compared(tags, gap=1.5, data="the same", a=around(3.0), b=around(3.0)))
    assert only(certain)["p_all"] < 0.05 < only(doubtful)["p_all"]
    assert "like those of this test set" in doubtful.population.words
    assert doubtful.population.examples == 20
    told = advice.advice(doubtful.values, doubtful.population, "a", "b", 1)
    assert "test examples" in told


def test_without_an_effect_of_examples_the_crossed_error_is_the_paired_t_test():
    rng = np.random.default_rng(3)
    d = rng.normal(0.3, 1, 9)
    found = errors.crossed(d, np.repeat(d[:, None], 20, axis=1))
    assert found.p() == pytest.approx(ttest_1samp(d, 0).pvalue, rel=1e-9)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    """With each example a part of its own, and seeds that differ in nothing."""
    rng = np.random.default_rng(4)
    scores = rng.exponential(1, 50)
    left = np.array([np.delete(scores, k).mean() for k in range(50)])
    found = errors.crossed(np.full(6, scores.mean()), np.tile(left, (6, 1)))
    assert found.error == pytest.approx(scores.std(ddof=1) / np.sqrt(50), rel=1e-9)
    assert found.freedom == pytest.approx(49)


def two_way(rng, n=8, examples=200):
    """Differences of one test split: an effect of seeds, of examples, and of both; the truth is 0."""
    per = 0.05 * rng.standard_normal((n, 1)) + rng.standard_normal(examples) + 1.5 * rng.standard_normal((n, examples))
    part = rng.permutation(examples) % 20
    left = np.stack([per[:, part != k].mean(1) for k in range(20)], axis=1)
    return errors.crossed(per.mean(1), left)


def test_a_crossed_interval_holds_the_truth_on_95_of_100():
    rng = np.random.default_rng(5)
    held = np.mean([low <= 0 <= high for low, high in (two_way(rng).interval(0.05) for _ in range(1200))])
    assert held == pytest.approx(0.955, abs=4 * np.sqrt(0.05 * 0.95 / 1200))


def test_more_rows_are_advised_where_more_seeds_cannot_tell():
    judged = judge(compared(SPLIT, gap=0.1))
    told = advice.advice(judged.values, judged.population, "a", "b", 1)
    assert "More seeds would not" in told
    assert "100" in told


def test_what_the_records_do_not_say_is_remarked_on():
    def texts(tags):
        return " ".join(r.text for r in fairness.remarks(compared(tags)) if r.about == "sampling" and r.concern)

    assert "treated as independent" in texts({"lossbench.variation": ""})
    assert "does not say where" in texts(SPLIT | {"lossbench.pool": ""})
    assert not texts(SPLIT)
    assert not texts({"lossbench.variation": "fresh"})


@pytest.mark.parametrize("overlap", [None, 0.25])
@pytest.mark.parametrize("edge", [1, -1])
def test_a_difference_at_the_margin_is_called_equal_on_at_most_5_of_100(overlap, edge):
    rng, n, said = np.random.default_rng(6), 10, 0
    shared = np.sqrt((overlap or 0) / (1 + (overlap or 0)))
    for _ in range(800):
        d = edge * 1.0 + 0.3 * (np.sqrt(1 - shared**2) * rng.standard_normal(n) + shared * rng.standard_normal())
        values = pd.DataFrame({"a": d, "b": np.zeros(n)}).rename_axis(index="seed", columns="loss")
        found = stats.differences(values, rng, higher_is_better=True, overlap=overlap, margin=1.0)
        said += bool((found["p_equal"] <= level.ALPHA).any())
    assert said / 800 <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 800)
    assert said / 800 > 0.01, "it never says so at all"


def test_a_small_difference_of_many_seeds_is_equal_within_a_wide_margin_and_not_within_a_narrow_one():
    values = pd.DataFrame(np.random.default_rng(7).normal([0, 0.01], 0.1, (12, 2)), columns=["a", "b"])
    values = values.rename_axis(index="seed", columns="loss")
    for margin, equal in ((1.0, True), (0.001, False)):
        found = stats.differences(values, np.random.default_rng(0), higher_is_better=True, margin=margin)
        assert bool(found["p_equal"].iloc[0] <= 0.05) is equal
