"""Batches show every example once an epoch, to a replica in a stack as to one alone; noise is each seed's own."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.core import Split
from lossbench.engine import Noise
from lossbench.engine.batches import Batches, batches

CPU = torch.device("cpu")
SEEDS = st.lists(st.integers(0, 3), min_size=1, max_size=5)


def taken(examples, size, count, seed=0):
    return list(itertools.islice(batches(examples, size, torch.Generator().manual_seed(seed)), count))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_every_example_is_seen_once_before_any_is_seen_again(examples, size, seed):
    epochs = 3
    drawn = taken(examples, size, -(-epochs * examples // size), seed)
    assert {len(batch) for batch in drawn} == {size}
    for epoch in torch.cat(drawn)[: epochs * examples].split(examples):
        assert sorted(epoch.tolist()) == list(range(examples))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_same_seed_same_batches(examples, size, seed):
    first, second = (torch.stack(taken(examples, size, 6, seed)) for _ in range(2))
    assert torch.equal(first, second)


def test_seeds_and_epochs_differ():
    (first, later), (other, _) = (taken(50, 50, 2, seed) for seed in (0, 1))
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


def test_batches_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    taken(10, 3, 9)
    assert torch.equal(torch.random.get_rng_state(), before)


def named(lengths):
    """Splits whose every example says of which split it is, and which of its examples."""
    return [
        Split(torch.stack([torch.full((n,), split), torch.arange(n)], 1), torch.arange(n))
        for split, n in enumerate(lengths)
    ]


def shown(splits, seeds, size, steps, start=0):
    """What replicas see in so many steps: inputs [replica, step, batch, 2] and targets [replica, step, batch]."""
    drawn = list(itertools.islice(iter(Batches(splits, seeds, size, start).__next__, None), steps))
    inputs, targets = torch.stack([b.inputs for b in drawn]), torch.stack([b.targets for b in drawn])
    return (inputs[None], targets[None]) if len(splits) == 1 else (inputs.transpose(0, 1), targets.transpose(0, 1))


@st.composite
def stacks(draw):
    """Splits and seeds of some replicas, which may share either."""
    splits = named(draw(st.lists(st.integers(1, 30), min_size=1, max_size=3)))
    seeds = draw(SEEDS)
    return [splits[draw(st.integers(0, len(splits) - 1))] for _ in seeds], seeds


@settings(deadline=None)
@given(stacks(), st.integers(1, 20))
def test_a_stack_shows_each_replica_its_own_examples_once_an_epoch(stack, size):
    splits, seeds = stack
    steps = -(-2 * max(map(len, splits)) // size)
    for split, inputs, targets in zip(splits, *shown(splits, seeds, size, steps), strict=True):
        assert torch.equal(inputs[..., 1], targets)
        assert (inputs[..., 0] == split.inputs[0, 0]).all()
        for epoch in targets.flatten()[: 2 * len(split)].split(len(split)):
            assert sorted(epoch.tolist()) == list(range(len(split)))


@settings(deadline=None)
@given(stacks(), st.integers(1, 20), st.sampled_from([0, 1, 5, 63, 64, 65, 130]))
def test_to_start_later_is_to_skip_and_company_changes_nothing(stack, size, start):
    splits, seeds = stack
    later = shown(splits, seeds, size, 4, start)
    skipped = [seen[:, start:] for seen in shown(splits, seeds, size, start + 4)]
    assert all(map(torch.equal, later, skipped))
    for replica, (split, seed) in enumerate(zip(splits, seeds, strict=True)):
        assert all(
            torch.equal(a[replica], b[0]) for a, b in zip(later, shown([split], [seed], size, 4, start), strict=True)
        )


@settings(deadline=None)
@given(SEEDS, st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 4), max_size=2)), max_size=5))
def test_noise_is_each_seeds_own(seeds, draws):
    stack, single = Noise(seeds, CPU), [Noise([seed], CPU) for seed in seeds]
    for normal, shape in draws:
        drawn, *each = [(noise.normal if normal else noise.uniform)(*shape) for noise in (stack, *single)]
        assert torch.equal(drawn, torch.stack(each) if len(seeds) > 1 else each[0])
        assert drawn.shape == ((len(seeds), *shape) if len(seeds) > 1 else tuple(shape))


def test_noise_has_the_moments_of_its_name():
    noise = Noise([0], CPU)
    normal, uniform = noise.normal(20_000), noise.uniform(20_000)
    assert normal.mean().item() == pytest.approx(0, abs=0.03)
    assert normal.std().item() == pytest.approx(1, abs=0.03)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.02)
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_runs_of_one_dataset_share_its_memory():
    split = Split(torch.randn(20, 3), torch.randn(20, 1))
    batches = Batches([split] * 3, [0, 1, 1], 5, 0)
    assert batches._pool.inputs.data_ptr() == split.inputs.data_ptr()
    batch = next(batches)
    assert torch.equal(batch.inputs[1], batch.inputs[2])
    assert not torch.equal(batch.inputs[0], batch.inputs[1])
