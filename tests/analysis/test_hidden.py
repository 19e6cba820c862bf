"""Differences by another metric than the primary: said where they are clear, and no oftener than a test errs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from analysis.made import Made, records
from scipy.stats import permutation_test

from lossbench.analysis import level
from lossbench.analysis.answer import sentence
from lossbench.analysis.hidden import LARGE, hidden
from lossbench.analysis.verdict import judge

YARDSTICKS = [("auprc", "↑", ""), ("f1", "↑", ""), ("ece", "↓", "")]
ALIKE = np.array([[0.60, 0.62], [0.66, 0.63], [0.55, 0.58], [0.61, 0.60], [0.57, 0.56], [0.64, 0.64]])
SIX = ALIKE.shape


def judged(auprc=ALIKE, **others):
    """A verdict by auprc on losses a, b, …; each metric an array [seed, loss]."""
    values = {"auprc": auprc, **others}
    runs = [
        Made("abcd"[loss], seed, metrics={f"test/{name}": float(v[seed, loss]) for name, v in values.items()})
        for seed, loss in np.ndindex(auprc.shape)
    ]
    return judge(records(*runs, metrics=[y for y in YARDSTICKS if y[0] in values]))


def far(a=0.116, b=0.587):
    """Six seeds of two losses around these means."""
    return np.array([a, b]) + np.random.default_rng(0).normal(0, 0.02, SIX)


def test_a_large_difference_that_the_primary_does_not_show_is_named_with_its_numbers():
    verdict = judged(f1=far(), ece=np.full(SIX, 0.1))
    assert sorted(verdict.starred) == ["a", "b"]
    found = hidden(verdict)
    assert (found.metric, found.losses, found.looked) == (YARDSTICKS[1], ("b", "a"), 2)
    assert found.means == pytest.approx((far()[:, 1].mean(), far()[:, 0].mean()))
    told = sentence(verdict)
    assert "by test f1: b 0.5" in told
    assert told.index("indistinguishable by test auprc") < told.index("by test f1")


def test_the_better_one_stands_first_where_lower_is_better():
    assert hidden(judged(ece=far())).losses == ("a", "b")


def test_the_largest_of_several_is_named():
    assert hidden(judged(f1=far(0.4, 0.5), ece=far())).metric[0] == "ece"
    assert hidden(judged(f1=far(), ece=far(0.4, 0.5))).metric[0] == "f1"


def test_p_of_one_pair_and_one_metric_is_that_of_scipy():
    f1 = far(0.5, 0.6)
    f1[0, 0] = 0.61  # one seed the other way round
    verdict = judged(f1=np.vstack([f1, far(0.5, 0.6)]), auprc=np.vstack([ALIKE, ALIKE]))
    known = verdict.runs.pivot(index="seed", columns="loss", values="test/f1")
    told = permutation_test(
        (known["b"], known["a"]), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", n_resamples=np.inf
    )
    assert hidden(verdict).p == pytest.approx(told.pvalue)
    assert 2 / 2**12 < told.pvalue < level.ALPHA


def test_of_all_flips_of_equal_losses_one_in_32_is_said_to_differ():
    """Exactly what a test at 5 % may do with six seeds, whatever it looks at: here two metrics and three losses."""
    rng = np.random.default_rng(1)
    auprc = 0.6 + rng.normal(0, 0.02, (6, 3))
    middle, apart = rng.normal(1, 0.1, (2, 6, 1)), rng.normal(0, 0.5, (2, 6, 3))
    spoke = 0
    for signs in product([1.0, -1.0], repeat=5):
        flipped = middle + np.array([1.0, *signs])[:, None] * (apart - apart.mean(2, keepdims=True))
        verdict = judged(auprc, f1=flipped[0], ece=flipped[1])
        assert len(verdict.starred) == 3
        spoke += hidden(verdict) is not None
    assert spoke == 1


def test_nothing_is_said_of_what_is_small_however_clear():
    small = far(0.5, 0.5 * (1 + LARGE) - 0.01)
    small[:, 1] = small[:, 0] + 0.5 * LARGE - 0.01
    assert hidden(judged(f1=small)) is None


def test_nothing_is_said_of_losses_that_the_verdict_tells_apart():
    apart = ALIKE + np.array([0.0, 5.0])
    verdict = judged(apart, f1=far())
    assert verdict.starred == ["b"]
    assert hidden(verdict) is None


@pytest.mark.parametrize("seeds", [1, 5])
def test_nothing_is_said_of_too_few_seeds(seeds):
    assert hidden(judged(ALIKE[:seeds], f1=far()[:seeds])) is None
