"""Trials cost something and change nothing."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from engine.toys import Toy, plan, sigmoid_terms

from lossbench.core import DatasetInfo, Split, stream
from lossbench.engine import Nets, Replica, fit, trial
from lossbench.losses import cross_entropy, huber, mae, mse
from lossbench.models import MLP
from lossbench.tasks import Regression

PUSHED = {"optimizer": torch.optim.SGD, "options": {"lr": 0.1, "momentum": 0.9}}
MANY = {
    "alone": [Toy()],
    "stack": [Toy(mse, 0), Toy(huber, 1), Toy(mae, 2)],
    "game": [Toy(sigmoid_terms, seed, "game", **PUSHED) for seed in (0, 1)],
    "images": [Toy(cross_entropy, seed, "multiclass", "group", torch.optim.Adagrad) for seed in (0, 1)],
}
HOW = plan(schedule="cosine")


def all_of(replica):
    """Everything of a replica that training changes, and which tensor is whose."""
    kept = {name: optimizer.state_dict() for name, optimizer in replica.optimizers.items()}
    places = [p.data_ptr() for p in replica.nets.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in replica.nets.parameters()]
    return copy.deepcopy((replica.nets.snapshot(), kept)), places, gradients


def same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("trained", [False, True], ids=["new", "trained"])
@pytest.mark.parametrize("name", MANY)
def test_a_trial_changes_nothing(name, trained):
    points: list = []
    made = [toy.made(lambda step, values: points.append(values)) for toy in MANY[name]]
    if trained:
        for replica in made:
            fit([replica], plan(steps=3))
    points.clear()
    before = [all_of(replica) for replica in made]
    threads, generator = torch.get_num_threads(), torch.random.get_rng_state()
    assert trial.step_s(made, HOW, threads=2) > 0
    assert all(trial.nbytes(replica, HOW) > 0 for replica in made)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert not points
    same([all_of(replica) for replica in made], before)
    fit(made, HOW)
    tried = [replica.nets.snapshot() for replica in made]
    again = [toy.made() for toy in MANY[name]]
    if trained:
        for replica in again:
            fit([replica], plan(steps=3))
    fit(again, HOW)
    same(tried, [replica.nets.snapshot() for replica in again])


def test_what_cannot_train_together_is_told_and_threads_are_as_they_were():
    made = [Toy(seed=seed, optimizer=torch.optim.Adafactor).made() for seed in range(2)]
    threads = torch.get_num_threads()
    with pytest.raises(ValueError, match="Adafactor"):
        trial.step_s(made, plan(), threads=threads + 1)
    assert torch.get_num_threads() == threads


def replica_batched(width, examples=256, inputs=4):
    """A regression by a net of two hidden layers."""
    nets = Nets(model=MLP((inputs,), 1, stream(0, "init"), hidden=(width, width)))
    train = Split(torch.zeros(examples, inputs), torch.zeros(examples, 1))
    task = Regression(mse, DatasetInfo("toy", "regression", (inputs,), (1,), "", "", ""))
    return Replica(task, nets, {"model": torch.optim.Adam(nets.parameters())}, train, train[torch.arange(8)], 0)


def test_a_step_of_more_takes_longer():
    small, large = (trial.step_s([replica_batched(width)], plan(batch_size=256)) for width in (8, 1024))
    assert large > 3 * small


@pytest.mark.parametrize("measured", ["batch_size", "width", "examples"])
def test_memory_grows(measured):
    given = {
        "batch_size": lambda n: trial.nbytes(replica_batched(16), plan(batch_size=n)),
        "width": lambda n: trial.nbytes(replica_batched(n), plan()),
        "examples": lambda n: trial.nbytes(replica_batched(16, examples=n), plan()),
    }
    sizes = [given[measured](n) for n in (16, 32, 64, 128, 256)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("width", "batch_size", "examples", "inputs"),
    [
        pytest.param(16, 4096, 4096, 4, id="activations"),
        pytest.param(512, 1, 32, 4, id="weights"),
        pytest.param(8, 16, 100_000, 4, id="data"),
        pytest.param(64, 128, 1000, 784, id="all"),
    ],
)
def test_memory_is_what_is_counted_by_hand(width, batch_size, examples, inputs):
    """Data twice; weights, gradients, Adam's two moments, the best step's; what each layer gives, and its gradient."""
    layers = [(inputs, width), (width, width), (width, 1)]
    weights = sum(rows * columns + columns for rows, columns in layers)
    activations = batch_size * (inputs + 2 * sum(columns for _, columns in layers))
    data = 2 * examples * (inputs + 1) + 8 * (inputs + 1)
    expected = 4 * (data + 5 * weights + activations)
    found = trial.nbytes(replica_batched(width, examples, inputs), plan(batch_size=batch_size))
    assert 0.7 < found / expected < 2


def test_double_precision_takes_twice_as_much():
    single = replica_batched(64)
    double = replace(single, nets=Nets(model=replica_batched(64).nets.model.double()))
    double = replace(double, optimizers={"model": torch.optim.Adam(double.nets.parameters())})
    splits = [Split(s.inputs.double(), s.targets.double()) for s in (single.train, single.validation)]
    double = replace(double, train=splits[0], validation=splits[1])
    sizes = [trial.nbytes(replica, plan()) for replica in (single, double)]
    assert math.isclose(sizes[1], 2 * sizes[0], rel_tol=0.02)
