"""Seeds that split one data set again and again: their differences depend on each other, and claims allow for that."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from analysis.made import table
from scipy.stats import ttest_1samp

from lossbench.analysis import errors, level, stats

SEEDS, SHARE = 10, 0.2
OVERLAP = SHARE / (1 - SHARE)
COMPARISONS = 400


def resplit(rng, losses, rows=200):
    """Mean absolute errors of so many learners, each of which fits features of its own that are worth the same."""
    inputs = rng.standard_normal((losses, rows, 3))
    targets = inputs.sum((0, 2)) / 2 + rng.standard_t(4, rows)
    held_out, found = int(rows * SHARE), np.empty((SEEDS, losses))
    for seed in range(SEEDS):
        order = rng.permutation(rows)
        test, train = order[:held_out], order[held_out:]
        for loss, known in enumerate(inputs):
            weights = np.linalg.lstsq(known[train], targets[train], rcond=None)[0]
            found[seed, loss] = np.abs(targets[test] - known[test] @ weights).mean()
    return table(found, list("abcdefgh"[:losses]))


@pytest.mark.parametrize("losses", [2, 8])
def test_equal_losses_on_one_data_set_bring_one_false_claim_in_twenty_comparisons(losses):
    rng = np.random.default_rng(losses)
    false = {None: 0, OVERLAP: 0}
    for _ in range(COMPARISONS):
        values = resplit(rng, losses)
        for overlap in false:
            found = stats.differences(values, rng, higher_is_better=False, overlap=overlap)
            false[overlap] += (found["p_all"] <= level.ALPHA).any()
    bound = 0.05 + 4 * np.sqrt(0.05 * 0.95 / COMPARISONS)
    assert false[OVERLAP] / COMPARISONS <= bound
    assert false[None] / COMPARISONS > 2 * bound, "the sign-flip test takes them for independent"


def test_without_overlap_it_is_the_paired_t_test():
    d = np.random.default_rng(0).normal(0.4, 1, 12)
    told, found = ttest_1samp(d, 0), errors.resplit(d, 0)
    assert found.p() == pytest.approx(told.pvalue, rel=1e-12)
    assert found.interval(0.05) == pytest.approx(told.confidence_interval(0.95), rel=1e-12)


def test_the_interval_ends_where_the_test_begins_to_reject():
    d = np.random.default_rng(1).normal(0.4, 1, 8)
    for end in errors.resplit(d, 0.25).interval(0.05):
        assert errors.resplit(d - end, 0.25).p() == pytest.approx(0.05, rel=1e-9)


def test_the_more_is_tested_on_little_training_the_less_is_claimed():
    values = table(np.random.default_rng(2).normal([0, 0.8], 0.5, (10, 2)), ["a", "b"])
    told = [
        stats.differences(values, np.random.default_rng(0), higher_is_better=True, overlap=overlap).iloc[0]
        for overlap in (0.0, 0.1, 0.25, 1.0)
    ]
    for column in ("p_all", "high", "detectable"):
        assert all(one[column] < other[column] for one, other in pairwise(told))


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.5, 2 / 2**6)])
def test_differences_that_are_all_one_value(value, p):
    found = errors.resplit(np.full(6, value), 0.25)
    assert (found.p(), *found.interval(0.05)) == (p, value, value)


@pytest.mark.parametrize("overlap", [-0.1, np.nan, np.inf])
def test_an_overlap_that_is_none_is_refused(overlap):
    values = table(np.zeros((6, 2)), ["a", "b"])
    with pytest.raises(ValueError, match="overlap="):
        stats.differences(values, np.random.default_rng(0), higher_is_better=True, overlap=overlap)
