"""Halving: pauses at evaluations before the end, and as many go on for every loss, the best of them."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lossbench.config import schema
from lossbench.core import ConfigError
from lossbench.sweeps.tuning import halving
from lossbench.sweeps.tuning.study import Trial


def search(higher_is_better):
    return SimpleNamespace(primary=SimpleNamespace(higher_is_better=higher_is_better))


def paused(scores, higher_is_better=True):
    one = search(higher_is_better)
    return [(one, Trial(number, {}, "paused", score, 10)) for number, score in enumerate(scores)]


def numbers(kept):
    return [trial.number for _, trial in kept]


@pytest.mark.parametrize("eta", [1, 0, -3, 2.5, True, "3"])
def test_a_factor_that_halves_nothing(eta):
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.pruning="):
        halving.check(eta)


@pytest.mark.parametrize("eta", [None, 2, 3, 10])
def test_a_factor_that_halves(eta):
    halving.check(eta)


@pytest.fixture(scope="module")
def composed():
    schema.register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return compose("config", ["experiment_name=test"]).train


@pytest.fixture
def train(composed):
    return lambda steps, every: OmegaConf.merge(composed, {"steps": steps, "eval_every": every})


@pytest.mark.parametrize("steps", [1, 7, 20, 100, 2000])
@pytest.mark.parametrize("every", [1, 3, 10, 250, None])
def test_pauses_are_at_evaluations_before_the_end(steps, every, train):
    from lossbench.runs import builders

    interval = builders.plan(train(steps, every)).eval_every
    for eta in (2, 3, 4):
        for trials in (1, 2, 5, 9, 20, 100):
            found = halving.rungs(train(steps, every), eta, trials)
            assert len(found) <= 2
            assert all(0 < step < steps and step % interval == 0 for step in found), (eta, trials, found)
            assert all(earlier < later for earlier, later in pairwise(found))


def test_pauses_are_a_ninth_and_a_third_of_the_steps(train):
    assert halving.rungs(train(900, 10), 3, 20) == [100, 300]
    assert halving.rungs(train(1600, 10), 4, 20) == [100, 400]


def test_a_batch_that_is_too_small_pauses_less(train):
    """With eight trials a ninth would keep none: only the last pause is left; two trials train to the end."""
    assert halving.rungs(train(900, 10), 3, 9) == [100, 300]
    assert halving.rungs(train(900, 10), 3, 8) == [300]
    assert halving.rungs(train(900, 10), 3, 2) == []


def test_no_pruning_pauses_nowhere(train):
    assert halving.rungs(train(900, 10), None, 20) == []


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(2, 5), st.integers(0, 1), st.booleans())
def test_the_best_go_on_and_one_in_eta_of_them(scores, eta, rung, higher):
    """By brute force: nobody who is left is better than one who goes on."""
    trials = paused(scores, higher_is_better=higher)
    going = halving.survivors(trials, len(scores), eta, rung)
    assert len(going) == math.ceil(len(scores) / eta ** (rung + 1))
    left = [trial.score for one in trials if one not in going for trial in [one[1]]]
    stay = [trial.score for _, trial in going]
    assert all((a >= b) if higher else (a <= b) for a in stay for b in left)


def test_of_equals_the_first_go_on():
    assert numbers(halving.survivors(paused([1.0, 2.0, 2.0, 2.0, 2.0, 1.0]), 6, 3, 0)) == [1, 2]


@pytest.mark.parametrize("failed", range(7))
def test_as_many_go_on_for_a_loss_some_of_whose_trials_failed(failed):
    whole = paused([0.1 * number for number in range(9)])
    assert (
        len(halving.survivors(whole, 9, 3, 0)) == len(halving.survivors(whole[failed:], 9, 3, 0)) == min(3, 9 - failed)
    )
    assert len(halving.survivors(whole[failed:], 9, 3, 1)) == 1


def test_one_without_a_score_goes_on_last():
    for higher in (True, False):
        trials = paused([math.nan, -5.0, math.nan, 7.0], higher_is_better=higher)
        best = 3 if higher else 1
        assert numbers(halving.survivors(trials, 4, 2, 0)) == [best, 4 - best]
    assert halving.survivors([], 9, 3, 0) == []


def test_one_that_has_ended_takes_the_place_of_one_that_would_go_on():
    (one, _), *_ = whole = paused([0.1 * number for number in range(9)])
    for ended in ([], [8], [7, 8], [6, 7, 8], [0, 1], [0, 8]):
        finished = [(search, trial) for search, trial in whole if trial.number in ended]
        left = [one for one in whole if one not in finished]
        going = numbers(halving.survivors(left, 9, 3, 0, finished))
        assert going == [number for number in (8, 7, 6) if number not in ended]
    assert numbers(halving.survivors(whole[:2], 3, 3, 0, [(one, Trial(2, {}, "finished", math.nan))])) == [1]
