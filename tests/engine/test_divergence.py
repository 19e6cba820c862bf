"""A replica whose numbers are not finite ends alone: its neighbours go on as if it had never been there."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from engine.toys import BATCH, EXAMPLES, Toy, alone, assert_close, plan, train
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.core import stream
from lossbench.engine.batches import batches
from lossbench.losses import bce, cross_entropy, focal, hinge, huber, label_smoothing, mae, mse

LOSSES = {
    "regression-mlp": (mse, mae, partial(huber, delta=0.5), mae),
    "binary-mlp": (partial(focal, gamma=1.0), hinge, hinge, partial(focal, gamma=2.0)),
    "multiclass-none": (cross_entropy, partial(focal), cross_entropy, partial(label_smoothing, epsilon=0.2)),
    "multiclass-group": (cross_entropy, cross_entropy, cross_entropy, focal),
}
EACH = pytest.mark.parametrize("name", LOSSES)
PRECISION = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])


def toys(name, dtype=torch.float64, **changed):
    task_type, model = name.split("-")
    return [Toy(loss, seed, task_type, model, dtype=dtype, **changed) for seed, loss in enumerate(LOSSES[name])]


def first_step_with(example, seed):
    """When a seed's order first shows an example."""
    drawn = batches(EXAMPLES, BATCH, stream(seed, "order"))
    return next(step for step, positions in enumerate(drawn, 1) if example in positions)


def first_batch(seed):
    return next(batches(EXAMPLES, BATCH, stream(seed, "order"))).tolist()


def mse_of_probabilities(logits, labels):
    return (logits.sigmoid() - labels).square()


def by_spread(logits, labels):
    """Terms that depend on the whole batch."""
    residual = logits - (2 * labels - 1)
    return residual.square() / residual.std()


BEYOND = {torch.float32: 1e30, torch.float64: 1e300}  # rates after whose first step no number is finite


@PRECISION
@EACH
@pytest.mark.parametrize("at", [0, 1, 3])
def test_neighbours_go_on_as_if_it_had_never_been_there(name, dtype, at, subtests):
    many = toys(name, dtype)
    rest = many[:at] + many[at + 1 :]
    expected = train(rest, plan())
    rounding = 1e-9 if dtype == torch.float64 else 1e-4
    by_data = replace(many[at], poison=3), first_step_with(3, at)
    by_rate = replace(many[at], options={"lr": BEYOND[dtype]}), 2
    for ill, step in (by_data, by_rate):
        with subtests.test(poison=ill.poison):
            found = train([*many[:at], ill, *many[at + 1 :]], plan())
            gone, (single,) = found.pop(at), alone([ill], plan())
            assert gone.diverged == single.diverged == step
            assert_close(gone, single, rtol=rounding)
            for one, other in zip(found, expected, strict=True):
                assert one.diverged is None
                # not to the bit: on some processors a batched product of three matrices rounds otherwise than of four
                assert_close(one, other, rtol=rounding, atol=1e-12 if dtype == torch.float64 else 1e-6)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.none() | st.integers(0, EXAMPLES - 1), min_size=2, max_size=4), st.integers(1, 7))
def test_each_ends_at_its_own_step(poisons, record_every):
    many = [replace(toy, poison=poison) for toy, poison in zip(toys("regression-mlp"), poisons, strict=False)]
    how = plan(record_every=record_every)
    for seed, (toy, found, one) in enumerate(zip(many, train(many, how), alone(many, how), strict=True)):
        assert found.diverged == (None if toy.poison is None else first_step_with(toy.poison, seed))
        assert_close(found, one)
        assert all(math.isfinite(value) for _, values in found.seen for value in values.values())


@EACH
def test_all_can_end(name):
    many = [replace(toy, poison=poison) for toy, poison in zip(toys(name), itertools.count(5))]
    steps = [found.diverged for found in train(many, plan())]
    assert steps == [first_step_with(poison, seed) for seed, poison in enumerate(range(5, 9))]
    assert len(set(steps)) > 1


@pytest.mark.parametrize("batch_size", [7, 16])
@pytest.mark.parametrize("loss", [bce, mse_of_probabilities, by_spread], ids=lambda loss: loss.__name__)
def test_neighbours_under_the_same_loss_are_touched_by_no_more_than_rounding(loss, batch_size):
    """Where a flat batch ends decides how a logarithm or an exponential rounds."""
    many, how = [Toy(loss, seed, "binary") for seed in range(4)], plan(batch_size=batch_size)
    for at, place in itertools.product((0, 2), (0, batch_size - 1)):
        rest, ill = many[:at] + many[at + 1 :], replace(many[at], poison=first_batch(at)[place])
        found = train([*many[:at], ill, *many[at + 1 :]], how)
        assert found.pop(at).diverged == 1
        for one, other in zip(found, train(rest, how), strict=True):
            assert one.diverged is None
            assert_close(one, other)
