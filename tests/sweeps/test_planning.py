"""Planning: every run in exactly one stack, in order, of those it may share; never more than memory holds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lossbench.config.settings import Settings
from lossbench.sweeps import planning
from lossbench.sweeps.planning import SEQUENTIAL, Schedule

RUN = {
    "seed": 0,
    "dataset": {"_target_": "d", "seed": "${seed}", "ratio": 1},
    "model": {"_target_": "m", "hidden": [8]},
    "loss": {"_target_": "l", "delta": 1.0},
    "optimizer": {"_target_": "o", "lr": 0.1, "weight_decay": 0.0, "betas": [0.9, 0.99]},
    "train": {"steps": 10, "batch_size": 4},
    "tracking": {"uri": "here"},
    "experiment_name": "e",
}
MAY_DIFFER = {
    "seed": [0, 1, 2],
    "loss._target_": ["l", "k"],
    "loss.delta": [1.0, 2.0],
    "optimizer.lr": [0.1, 0.2],
    "optimizer.weight_decay": [0.0, 0.1],
}
MAY_NOT = {
    "dataset.ratio": [1, 2],
    "model.hidden": [[8], [9]],
    "optimizer._target_": ["o", "p"],
    "train.steps": [10, 11],
    "train.batch_size": [4, 5],
    "tracking.uri": ["here", "there"],
}


def run(changes):
    cfg = OmegaConf.create(RUN)
    for key, value in changes.items():
        OmegaConf.update(cfg, key, value)
    return Settings.of(cfg)


def some(of):
    return st.fixed_dictionaries({key: st.sampled_from(values) for key, values in of.items()})


@settings(deadline=None)
@given(st.lists(some(MAY_DIFFER | MAY_NOT), min_size=1, max_size=12), st.integers(1, 5))
def test_every_run_is_in_exactly_one_stack_with_those_it_may_share(changes, size):
    groups = planning.stack_groups([run(each) for each in changes])
    stacks = [stack for group in groups for stack in planning.parts(group, size)]
    assert sorted(position for stack in stacks for position in stack) == list(range(len(changes)))
    assert all(1 <= len(stack) <= size for stack in stacks)
    fixed = [{tuple(map(str, (changes[p][key] for key in MAY_NOT))) for p in group} for group in groups]
    assert all(len(found) == 1 for found in fixed)
    assert len(set.union(*fixed)) == len(groups)


@settings(deadline=None)
@given(st.lists(some(MAY_DIFFER), min_size=1, max_size=12))
def test_runs_of_one_loss_stand_side_by_side_in_the_order_they_came(changes):
    (group,) = planning.stack_groups([run(each) for each in changes])
    losses = [(changes[p]["loss._target_"], changes[p]["loss.delta"]) for p in group]
    assert len(set(losses)) == 1 + sum(a != b for a, b in pairwise(losses))
    for loss in set(losses):
        members = [p for p, own in zip(group, losses, strict=True) if own == loss]
        assert members == sorted(members)


def test_losses_of_other_nets_train_in_stacks_of_their_own():
    losses = [f"lossbench.losses.regression.{name}" for name in ("mse", "gaussian_nll", "beta_nll", "tukey")]
    runs = [run({"loss._target_": loss, "seed": seed}) for seed in (0, 1) for loss in losses]
    assert planning.stack_groups(runs) == [[0, 4, 3, 7], [1, 5, 2, 6]]


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_parts_are_the_whole_in_order_and_even(members, size):
    parts = planning.parts(members, size)
    assert [member for part in parts for member in part] == members
    assert len(parts) == -(-len(members) // size)
    assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1


@given(st.integers(1, 10**12), st.integers(0, 10**13), st.integers(1, 1000))
def test_a_stack_fits_into_memory_unless_it_is_one_run(need, memory, runs):
    size = planning.most(need, memory, runs)
    assert 1 <= size <= runs
    assert size == 1 or size * need <= memory
    assert size == runs or (size + 1) * need > memory


@given(st.integers(1, 1000))
def test_sizes_rise_to_the_most(most):
    sizes = planning.sizes(most)
    assert sizes == sorted(set(sizes))
    assert all(1 < size <= most for size in sizes)
    assert most == 1 or sizes[-1] == most


@pytest.mark.parametrize(
    ("measured", "best"),
    [
        ({SEQUENTIAL: 1.0}, SEQUENTIAL),
        ({SEQUENTIAL: 1.0, Schedule(10): 5.0}, Schedule(10)),
        ({SEQUENTIAL: 1.0, Schedule(10): 9.8}, SEQUENTIAL),  # two per cent may be noise
        ({SEQUENTIAL: 1.0, Schedule(10): 30.0}, SEQUENTIAL),
        (
            {SEQUENTIAL: 1.0, Schedule(4): 2.0, Schedule(10): 4.5},
            Schedule(10),
        ),  # three stacks of four steps make six seconds
        ({SEQUENTIAL: 1.0, Schedule(10): 5.0, Schedule(10, 1): 5.4}, Schedule(10, 1)),  # a core is worth a tenth
        ({SEQUENTIAL: 1.0, Schedule(10): 5.0, Schedule(10, 1): 6.0}, Schedule(10)),
        ({SEQUENTIAL: 1.0, Schedule(5): 4.0, Schedule(5, 1, 2): 4.0}, Schedule(5, 1, 2)),
    ],
)
def test_the_fastest_way_is_chosen_and_turns_where_in_doubt(measured, best):
    assert planning.choose(measured, runs=10, steps=1000) == best


def test_worker_processes_wait_for_sweeps_that_are_worth_their_start():
    measured = {SEQUENTIAL: 1.0, Schedule(1, 1): 1.2, Schedule(1, 1, 2): 1.2}
    assert planning.choose(measured, runs=10, steps=2).workers == 0
    assert planning.choose(measured, runs=10, steps=2000).workers == 2


def test_configurations_that_differ_are_tried_once_whatever_its_seeds_and_rates():
    changes = [{}, {"seed": 1}, {"optimizer.lr": 1.0}, {"loss.delta": 2.0}, {"seed": 3, "loss.delta": 2.0}]
    assert planning.distinct([run(each) for each in changes]) == [0, 3]
