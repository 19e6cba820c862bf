"""Foreign networks in a stack: equal to the run alone, buffers and all, or one at a time, and it says why."""

from __future__ import annotations

import copy
import random
from functools import cache

import numpy as np
import pytest
import torch
from engine.toys import info, plan
from foreign import networks
from foreign.networks import INPUTS, OUTPUTS

from lossbench.core import Split, stream
from lossbench.engine import Interrupted, Nets, Replica, fit, predict, trial
from lossbench.engine.randomness import seeded
from lossbench.losses import huber, mae, mse
from lossbench.runs import builders

LOSSES = (mse, huber, mae)
EQUAL = ["Normalised", "Averaging", "Hidden", "Frozen", "Channels"]
APART = ["Attending", "Functional", "Numbered", "Remembering"]


@cache
def data(seed, n=60):
    drawn = stream(seed, "data")
    inputs = torch.randn(n, INPUTS, generator=drawn, dtype=torch.float64)
    return Split(inputs, torch.randn(n, OUTPUTS, generator=drawn, dtype=torch.float64))


def replica(name, seed=0, loss=mse, record=lambda step, values: None):
    with seeded(seed, "init"):
        net = getattr(networks, name)().double()
    task = builders.task("regression", loss, info("regression"))
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer_steps = {"model": torch.optim.Adam(learning, lr=0.01, weight_decay=0.01)}
    return Replica(task, Nets(model=net), optimizer_steps, data(seed), data(seed + 50), seed, record)


def many(name):
    return [replica(name, seed, loss) for seed, loss in enumerate(LOSSES)]


@pytest.mark.parametrize("name", EQUAL)
def test_a_stack_trains_it_as_it_trains_alone(name):
    together, alone = many(name), many(name)
    assert trial.difference(together, plan()) == ""
    stacked, singly = fit(together, plan()), [fit([one], plan())[0] for one in alone]
    for one, other, found, expected in zip(together, alone, stacked, singly, strict=True):
        torch.testing.assert_close(one.nets.snapshot(), other.nets.snapshot(), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found.best, expected.best, rtol=1e-8, atol=1e-10)
        assert found.last == pytest.approx(expected.last, rel=1e-8)
    assert len({one.nets.hash() for one in together}) == len(together)


@pytest.mark.parametrize("name", APART)
def test_what_cannot_be_equal_is_found_out_before_it_trains(name):
    together = many(name)
    before = [copy.deepcopy(one.nets.snapshot()) for one in together]
    try:
        found = trial.difference(together, plan())
    except Exception as error:  # what vmap does not know, it refuses
        found = str(error)
    assert found
    for one, kept in zip(together, before, strict=True):
        torch.testing.assert_close(one.nets.snapshot(), kept, rtol=0, atol=0)


def noisy(prediction, target):
    return mse(prediction, target) * (1 + torch.rand(len(target), dtype=target.dtype))


def test_a_loss_that_draws_is_found_out_wherever_it_stands_in_the_stack():
    losses = (mse, noisy, mae)
    assert trial.difference([replica("Frozen", seed, loss) for seed, loss in enumerate(losses)], plan())


@pytest.mark.parametrize("name", [*EQUAL, *APART])
def test_the_same_seed_gives_the_same_numbers_whatever_was_drawn_before(name):
    first = replica(name)
    fit([first], plan())
    torch.rand(7), np.random.rand(5), random.random()  # noqa: NPY002
    again = replica(name)
    fit([again], plan())
    torch.testing.assert_close(first.nets.snapshot(), again.nets.snapshot(), rtol=0, atol=0)
    assert replica(name, 1).nets.hash() != replica(name, 0).nets.hash()


def test_training_and_evaluation_leave_the_global_streams_as_they_were():
    one = replica("Normalised")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    fit([one], plan())
    predict(one.task, one.nets, one.validation, 0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1], before[2]) == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002


@pytest.mark.parametrize("name", ["Normalised", "Hidden", "Functional"])
def test_one_that_was_stopped_goes_on_to_the_bit(name):
    whole = replica(name)
    fit([whole], plan())
    steps = iter(range(100))
    with pytest.raises(Interrupted) as caught:
        fit([replica(name)], plan(), stop=lambda: next(steps) >= 7)
    rest = replica(name)
    fit([rest], plan(), states=caught.value.states)
    torch.testing.assert_close(rest.nets.snapshot(), whole.nets.snapshot(), rtol=0, atol=0)


def test_a_loss_that_draws_does_not_shift_the_dropout_of_later_steps():
    """Noise of the network is shared by all losses of a seed, also where one draws from the global stream."""

    class Watched(networks.Normalised):
        def forward(self, inputs):
            if self.training:
                self.seen.append(self.layers[3](torch.ones(4, dtype=inputs.dtype)))
            return super().forward(inputs)

    def zeros(loss):
        one = replica("Normalised", loss=loss)
        one.nets.model.__class__, one.nets.model.seen = Watched, []
        fit([one], plan())
        return torch.stack(one.nets.model.seen)

    def drawing(prediction, target):
        return mse(prediction, target) * (1 + 0 * torch.rand(3).sum())

    assert torch.equal(zeros(mse), zeros(drawing))
    assert zeros(mse).unique(dim=0).shape[0] > 5


def test_evaluation_rests_dropout_and_leaves_buffers_alone():
    one = replica("Normalised")
    fit([one], plan())
    kept, net = one.nets.snapshot(), one.nets.model
    net.layers[3].train()
    net.layers[1].eval()  # as its author left it
    found = [predict(one.task, one.nets, split, seed) for split, seed in ((data(9), 0), (data(9), 1))]
    assert torch.equal(*found)
    assert (net.layers[1].training, net.layers[3].training) == (False, True)
    with torch.no_grad():
        torch.testing.assert_close(found[0], copy.deepcopy(net).eval()(data(9).inputs), rtol=0, atol=0)
        one_by_one = torch.cat([copy.deepcopy(net).eval()(x[None]) for x in data(9).inputs])
    torch.testing.assert_close(found[0], one_by_one)
    torch.testing.assert_close(one.nets.snapshot(), kept, rtol=0, atol=0)
    assert kept["model.layers.1.num_batches_tracked"] == plan().steps
