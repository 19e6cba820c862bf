"""Losses of a stack as one: each gets its own batch, and what it gives is what it gives alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from engine.toys import Toy, alone, assert_close, plan, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lossbench.core import Card, stream
from lossbench.engine.stacked_loss import StackedLoss
from lossbench.losses import bce, focal, hinge, huber, mae, mse
from lossbench.losses.regression import barron, cauchy, geman_mcclure, tukey, welsch
from lossbench.tasks.lifting import of_signs

BATCH = 6


def of_the_whole_batch(prediction, target):
    """One number: a ratio of means is no mean of ratios."""
    return (prediction - target).square().mean() / target.square().mean()


def by_spread(prediction, target):
    """Terms in units of how far the batch's residuals lie apart."""
    residual = (prediction - target).mean(-1)
    return residual.square() / residual.std()


def by_rank(prediction, target):
    """Terms weighed by their rank in the batch."""
    per_example = (prediction - target).square().mean(-1)
    return per_example * (1 + per_example.argsort().argsort())


def repeated(prediction, target, *, factor):
    return factor * (prediction - target).abs().mean(-1)


class Weighted(nn.Module):
    """A loss that is no function: `factor` learns, or counts, or whatever its author likes."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, prediction, target):
        return self.factor * (prediction - target).square().mean(-1)


WEIGHTED = [Weighted(1.0), Weighted(2.0)]
LOSSES = [
    mse,
    mae,
    partial(huber, delta=0.5),
    partial(huber, delta=2.0),
    partial(repeated, factor=1.0),
    partial(repeated, factor=3.0),
    of_the_whole_batch,
    by_spread,
    by_rank,
    *WEIGHTED,
]


def slices(replicas, *shape, seed=0):
    random = stream(seed, "slices")
    return [torch.randn(replicas, BATCH, *shape, generator=random, dtype=torch.float64) for _ in range(2)]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(LOSSES), min_size=1, max_size=6), st.integers(0, 5))
def test_together_is_each_loss_on_its_own_slice(losses, seed):
    together = StackedLoss(losses)
    prediction, target = slices(len(losses), 2, seed=seed)
    per_example = together(prediction, target)
    expected = [loss(p, t).expand(BATCH) for loss, p, t in zip(losses, prediction, target, strict=True)]
    torch.testing.assert_close(per_example, torch.stack(expected), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from([bce, focal, partial(of_signs, hinge), partial(focal, gamma=0.5)]), min_size=1, max_size=5)
)
def test_labels_have_no_outputs(losses):
    prediction, _ = slices(len(losses))
    target = (prediction + prediction.flip(1) > 0).long()
    per_example = StackedLoss(losses)(prediction, target)
    expected = [loss(p, t) for loss, p, t in zip(losses, prediction, target, strict=True)]
    torch.testing.assert_close(per_example, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_mixed_losses_learn_what_each_learns_alone():
    toys = [Toy(loss, seed) for seed, loss in enumerate([by_spread, by_spread, *LOSSES, of_the_whole_batch])]
    for together, one in zip(train(toys, plan()), alone(toys, plan()), strict=True):
        assert_close(together, one)


def by_positives(scores, labels):
    """As detectors do it: one positive or none in the batch, and its terms look like anybody's."""
    return bce(scores, labels) / labels.sum().clamp(min=1)


def test_a_loss_that_promises_nothing_is_called_replica_by_replica():
    scores, labels = torch.zeros(2, 8), torch.zeros(2, 8)
    labels[0, 0] = 1
    together = StackedLoss([by_positives] * 2)
    assert torch.equal(together(scores, labels)[0], by_positives(scores[0], labels[0]))
    ones = torch.ones(2, 8)
    assert torch.equal(together(scores, ones)[1], by_positives(scores[1], ones[1]))


class Spy:
    """The sizes of the batches that a loss is called with; its card promises that its terms are independent."""

    def __init__(self, loss=mse, *, batch=False, replica_batched=False):
        self.loss, self.sizes = loss, []
        self.card = Card(("regression",), batch=batch, replica_batched=replica_batched)

    def __call__(self, prediction, target, **settings):
        self.sizes.append(len(prediction))
        return self.loss(prediction, target)


def sizes(spy, losses):
    """How many examples each call of the spy gets."""
    prediction, target = slices(len(losses), 2)
    StackedLoss(losses)(prediction, target)
    return spy.sizes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([{}, {}, {}], [18]),
        ([{"a": 1, "b": [2]}, {"b": [2], "a": 1}], [12]),
        ([{"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}, {"a": 1}], [12, 12, 6]),
        ([{"a": 1}, {}], [6, 6]),
        ([{"a": 1}, {"a": 1.0}, {"a": True}], [6, 6, 6]),
        ([{}], [6]),
    ],
    ids=str,
)
def test_neighbours_of_one_configuration_are_one_flat_batch(settings, expected):
    spy = Spy()
    assert sizes(spy, [partial(spy, **each) for each in settings]) == expected


def test_partials_of_partials_are_compared_within():
    spy, wrap = Spy(), lambda loss, prediction, target: loss(prediction, target)
    wrapped = [partial(wrap, partial(spy, a=a)) for a in (1, 1, 2)]
    assert sizes(spy, wrapped) == [12, 6]


@pytest.mark.parametrize("loss", [of_the_whole_batch, by_spread, by_rank])
def test_a_loss_that_needs_its_batch_gets_it(loss):
    spy = Spy(loss, batch=True)
    assert sizes(spy, [spy, spy, spy]) == [6, 6, 6]


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_wide_loss_gets_its_replicas_at_once(replicas, batch):
    spy = Spy(batch=batch, replica_batched=True)
    assert sizes(spy, [spy] * replicas) == [replicas]


@pytest.mark.parametrize("loss", [tukey, cauchy, welsch, geman_mcclure, barron])
def test_replicas_of_one_call_are_measured_by_their_own_scale(loss):
    losses = [partial(loss, scale="mad")] * 2 + [loss, partial(loss, scale="mad")]
    prediction, target = slices(4, 3)
    prediction[1], target[1] = 40 * prediction[1], 40 * target[1]
    per_example = StackedLoss(losses)(prediction, target)
    expected = [one(p, t) for one, p, t in zip(losses, prediction, target, strict=True)]
    torch.testing.assert_close(per_example, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_equal_modules_are_only_themselves():
    one, other = Spy(), Spy()
    modules = [nn.Module() for _ in range(2)]
    for module, spy in zip(modules, (one, other), strict=True):
        module.forward = spy
    together = StackedLoss([*modules, partial(modules[0]), partial(modules[0])])
    for _ in range(2):
        together(*slices(4, 2))
    assert max(one.sizes + other.sizes) == BATCH


def test_gradients_are_each_replicas_own():
    losses = [mse, mse, of_the_whole_batch, by_spread, by_spread]
    prediction, target = slices(len(losses), 2)
    prediction.requires_grad_()
    StackedLoss(losses)(prediction, target)[1].mean().backward()
    assert [bool(gradient.any()) for gradient in prediction.grad] == [False, True, False, False, False]
