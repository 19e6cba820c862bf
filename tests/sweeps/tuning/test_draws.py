"""Draws: the same for one seed, shared by losses parameter by parameter, even by the scale of each range."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lossbench.core import ConfigError
from lossbench.sweeps.tuning import draws
from lossbench.sweeps.tuning.space import choices, interval

SPACE = {
    "loss.beta": interval("loss.beta", 0.9, 0.9999),
    "loss.gamma": interval("loss.gamma", 0, 5),
    "loss.kind": choices("loss.kind", ["a", "b", "c"]),
    "optimizer.lr": interval("optimizer.lr", 1e-4, 3e-2),
    "optimizer.weight_decay": interval("optimizer.weight_decay", 1e-6, 1e-2),
}
SHARED = {name: SPACE[name] for name in ("optimizer.lr", "optimizer.weight_decay")}
SAMPLERS = {"random": draws.random, "quasi": draws.quasi, "grid": lambda space, seed: draws.grid(space, seed, 40)}
LEARN_NOTHING = ("random", "quasi")  # from the number of trials


class Share:
    """A parameter whose value is the share itself."""

    def at(self, share):
        return share


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_draws_the_same(sampler):
    one, same, other = (SAMPLERS[sampler](SPACE, seed) for seed in (0, 0, 1))
    drawn = [one(number) for number in range(40)]
    assert drawn == [same(number) for number in range(40)]
    assert drawn != [other(number) for number in range(40)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_trial_is_the_same_whichever_were_drawn_before(sampler):
    """So that a search that is topped up, or goes on, continues the one it was."""
    forth, back = SAMPLERS[sampler](SPACE, 3), SAMPLERS[sampler](SPACE, 3)
    assert [forth(number) for number in range(40)] == [back(number) for number in reversed(range(40))][::-1]


@pytest.mark.parametrize("sampler", LEARN_NOTHING)
def test_losses_share_the_draws_of_what_they_share(sampler):
    draw = SAMPLERS[sampler]
    mine, shared = draw(SPACE, 7), draw(SHARED, 7)
    backwards = draw(dict(reversed(SPACE.items())), 7)
    for number in range(50):
        assert shared(number).items() <= mine(number).items()
        assert backwards(number) == mine(number)


@pytest.mark.parametrize("sampler", LEARN_NOTHING)
def test_another_range_of_one_leaves_the_others_as_they_were(sampler):
    wider = {**SPACE, "optimizer.lr": interval("optimizer.lr", 1e-5, 1)}
    one, other = SAMPLERS[sampler](SPACE, 0), SAMPLERS[sampler](wider, 0)
    for number in range(50):
        before, after = one(number), other(number)
        assert before.pop("optimizer.lr") != after.pop("optimizer.lr")
        assert before == after


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name in SPACE if name != "loss.kind"])
def test_random_draws_are_uniform_by_the_scale_of_the_range(name, seed):
    """Against scipy's distributions: p of Kolmogorov and Smirnov, of fixed draws, so that it holds for ever."""
    draw = draws.random(SPACE, seed)
    values = [draw(number)[name] for number in range(2000)]
    low, high = SPACE[name].low, SPACE[name].high
    scale = {
        "loss.gamma": stats.uniform(low, high - low).cdf,
        "loss.beta": lambda x: 1 - stats.loguniform(1 - high, 1 - low).cdf(1 - np.asarray(x)),
    }.get(name, stats.loguniform(low, high).cdf)
    assert stats.kstest(values, scale).pvalue > 0.01


def test_random_choices_are_alike_likely():
    draw = draws.random(SPACE, 0)
    seen = [draw(number)["loss.kind"] for number in range(3000)]
    assert stats.chisquare([seen.count(value) for value in "abc"]).pvalue > 0.01


def test_random_draws_of_two_parameters_or_seeds_have_nothing_in_common():
    space = {"a": Share(), "b": Share()}
    drawn = [[*draws.random(space, 0)(n).values(), *draws.random(space, 1)(n).values()] for n in range(2000)]
    correlations = np.corrcoef(np.array(drawn).T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4 / math.sqrt(2000)


def test_random_draws_of_trials_in_a_row_have_nothing_in_common():
    drawn = [draws.random({"a": Share()}, 0)(number)["a"] for number in range(2000)]
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 4 / math.sqrt(2000)


@given(st.integers(0, 2**32), st.integers(0, 7))
@settings(max_examples=25, deadline=None)
def test_each_of_the_first_2_to_the_m_even_draws_has_a_slice_of_its_own(seed, power):
    draw = draws.quasi({"a": Share(), "loss.b": Share()}, seed)
    drawn = [draw(number) for number in range(2**power)]
    for name in ("a", "loss.b"):
        assert sorted(int(one[name] * 2**power) for one in drawn) == list(range(2**power))


def test_even_draws_of_two_parameters_reach_every_corner_of_their_square():
    """Even one by one is not enough: were their orders the same, large learning rates met one weight decay."""
    names = ("loss.gamma", "optimizer.lr", "optimizer.weight_decay")
    draw = draws.quasi(dict.fromkeys(names, Share()), 0)
    drawn = [draw(number) for number in range(256)]
    for one, other in combinations(names, 2):
        cells = np.histogram2d([d[one] for d in drawn], [d[other] for d in drawn], bins=4, range=[[0, 1]] * 2)[0]
        assert cells.min() >= 4, (one, other, cells)  # of 16 expected; independent ones have fewer once in 5,000 times


def test_even_draws_stay_inside_however_many():
    draw = draws.quasi(SPACE, 0)
    for number in (0, 1, 1000, 50_000):
        for name, value in draw(number).items():
            assert name == "loss.kind" or SPACE[name].low <= value <= SPACE[name].high


@pytest.mark.parametrize("trials", [1, 2, 3, 9, 16, 20, 50])
@pytest.mark.parametrize("names", [*list(combinations(SPACE, 2))[::3], tuple(SPACE)])
def test_a_grid_has_as_many_points_as_trials_and_no_two_alike(names, trials):
    draw = draws.grid({name: SPACE[name] for name in names}, 0, trials)
    points = {tuple(draw(number).items()) for number in range(trials)}
    assert len(points) == trials
    assert all(tuple(dict(point)) == names for point in points)


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_a_grid_of_all_its_points_has_the_ends_of_every_range(levels):
    """Of as many trials as points, the grid is the product of its levels; fewer than that many levels do not do."""
    draw = draws.grid(SHARED, 0, levels**2)
    points = [draw(number) for number in range(levels**2)]
    for name, dimension in SHARED.items():
        seen = sorted({point[name] for point in points})
        assert (seen[0], seen[-1], len(seen)) == (dimension.low, dimension.high, levels)
        assert np.diff(np.log(seen)) == pytest.approx(math.log(dimension.high / dimension.low) / (levels - 1), rel=1e-3)


def test_a_grid_comes_in_an_order_of_chance():
    """The first of many trials are spread, whatever a search is cut down to."""
    draw = draws.grid(SHARED, 0, 100)
    for name in SHARED:
        first = {draw(number)[name] for number in range(20)}
        assert len(first) > 5
    assert [draw(n) for n in range(100)] != sorted((draw(n) for n in range(100)), key=lambda d: tuple(d.values()))


def test_a_grid_of_choices_has_their_product():
    space = {"a": choices("a", [1, 2]), "b": choices("b", ["x", "y", "z"])}
    draw = draws.grid(space, 0, 6)
    assert {(draw(n)["a"], draw(n)["b"]) for n in range(6)} == {(a, b) for a in (1, 2) for b in "xyz"}
    with pytest.raises(ConfigError, match=r"trials=7: the grid has 6 points, of a, b"):
        draws.grid(space, 0, 7)


def test_a_grid_of_a_narrow_range_has_no_point_twice():
    draw = draws.grid({"a": interval("a", 100, 100.01)}, 0, 10)
    assert len({draw(number)["a"] for number in range(10)}) == 10
