"""Weights of examples: a weight of w is an example that is there w times, to a replica in a stack as to one alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from engine.toys import (
    EXAMPLES,
    Toy,
    alone,
    assert_close,
    assert_equal,
    plan,
    recording,
    sigmoid_terms,
    stopped,
    train,
)

from lossbench.core import Split, stream
from lossbench.engine import fit
from lossbench.engine.batches import Batches
from lossbench.losses import bce, focal, huber, mae, mse


def drawn(seed):
    """Whole weights, some of them 0."""
    return torch.randint(0, 4, (EXAMPLES,), generator=stream(seed, "weights"))


def normalised(weights):
    return (weights.double() / weights.double().mean()).tolist()


@dataclass(frozen=True)
class Weighted(Toy):
    """A toy whose training examples have weights; none where there are none."""

    weights: tuple[float, ...] = ()

    def made(self, record=lambda step, values: None):
        replica = super().made(record)
        weights = torch.tensor(self.weights, dtype=torch.float32) if self.weights else None
        return replace(replica, train=replace(replica.train, weights=weights))


def by_batch(prediction, target):
    """Terms that no card calls those of an example: called for one replica at a time."""
    return (prediction - target).abs().mean(-1)


MANY = {
    "regression": (mse, partial(huber, delta=0.5), by_batch, mae, mse),
    "binary": (bce, partial(focal, gamma=1.0), bce, partial(focal, gamma=1.0)),
    "game": (sigmoid_terms, sigmoid_terms, sigmoid_terms),
}
EACH = pytest.mark.parametrize("task_type", MANY)


def toys(task_type, weights):
    return [Weighted(loss, seed, task_type, weights=weights(seed)) for seed, loss in enumerate(MANY[task_type])]


@EACH
def test_weights_of_one_change_no_bit(task_type):
    ones, none = (toys(task_type, weights) for weights in (lambda seed: (1.0,) * EXAMPLES, lambda seed: ()))
    for how in (train, alone):
        for one, other in zip(how(ones, plan()), how(none, plan()), strict=True):
            assert_equal(one, other)


@EACH
def test_a_stack_weighs_as_each_does_alone(task_type):
    many = toys(task_type, lambda seed: tuple(normalised(drawn(seed))))
    found, unweighted = train(many, plan()), train(toys(task_type, lambda seed: ()), plan())
    for together, one, plain in zip(found, alone(many, plan()), unweighted, strict=True):
        assert_close(together, one)
        name = "train/critic/loss" if task_type == "game" else "train/loss"
        assert together.recorded(name) != plain.recorded(name)


def test_a_weight_is_how_often_an_example_is_there():
    """Gradient steps on the whole split: the mean over repeated rows, number by number."""
    weights, toy = drawn(0), Toy(huber, optimizer=torch.optim.SGD, options={"lr": 0.1})
    once, often = [], []
    first, second = toy.made(recording(once)), toy.made(recording(often))
    rows = torch.arange(EXAMPLES).repeat_interleave(weights)
    split = replace(first.train, weights=torch.tensor(normalised(weights)))
    weighted = replace(first, train=split)
    repeated = replace(second, train=first.train[rows])
    fit([weighted], plan(batch_size=EXAMPLES))
    fit([repeated], plan(batch_size=len(rows)))
    for (step, values), (other_step, others) in zip(once, often, strict=True):
        assert step == other_step
        assert values == pytest.approx(others, rel=1e-6)
    torch.testing.assert_close(weighted.nets.snapshot(), repeated.nets.snapshot(), rtol=1e-6, atol=1e-9)


def test_an_example_without_weight_is_not_learned():
    weights = torch.ones(EXAMPLES)
    weights[3] = 0
    toy = Weighted(weights=tuple(normalised(weights)))
    plain, changed = toy.made(), toy.made()
    inputs = changed.train.inputs.clone()
    inputs[3] += 100
    changed = replace(changed, train=replace(changed.train, inputs=inputs))
    for replica in (plain, changed):
        fit([replica], plan())
    torch.testing.assert_close(plain.nets.snapshot(), changed.nets.snapshot(), rtol=0, atol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_each_example_brings_its_own_weight(count):
    splits = [
        Split(torch.arange(n).float()[:, None] + 100 * n, torch.arange(n), weights=torch.arange(n) + 100.0 * n)
        for n in (11, 17, 13)[:count]
    ]
    got = Batches(splits, range(count), 5, 0)
    for batch in [next(got) for _ in range(9)]:
        assert batch.weights.shape == ((5,) if count == 1 else (count, 5))
        assert torch.equal(batch.weights, batch.inputs.squeeze(-1))


def test_splits_go_with_their_weights():
    split = Split(torch.arange(7.0)[:, None], torch.arange(7), {"outlier": torch.zeros(7)}, torch.arange(7.0))
    moved = split.to(torch.device("cpu"))
    assert torch.equal(torch.cat([part.weights for part in moved.chunks(3)]), split.weights)
    assert split[torch.tensor([4, 2])].weights.tolist() == [4, 2]


def test_weights_for_some_of_a_stack_alone():
    many = [Weighted(weights=(1.0,) * EXAMPLES), Weighted(seed=1)]
    with pytest.raises(ValueError, match="weights, all of them or none"):
        train(many, plan())


def test_a_number_of_a_whole_batch_is_not_weighted():
    with pytest.raises(ValueError, match="cannot be weighted"):
        train([Weighted(lambda p, y: (p - y).abs().mean(), weights=(1.0,) * EXAMPLES)], plan())


def test_a_weighted_run_goes_on_where_it_stopped():
    many = toys("regression", lambda seed: tuple(normalised(drawn(seed))))
    states, seen = stopped(many, plan(), 9)
    for index, (points, whole) in enumerate(zip(seen, train(many, plan()), strict=True)):
        (rest,) = train(many[index : index + 1], plan(), states=states[index : index + 1])
        rest.seen = points + rest.seen
        assert_close(rest, whole)
