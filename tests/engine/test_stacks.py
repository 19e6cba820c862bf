"""A stack gives each replica what it gets alone: weights, numbers, batches and noise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
import torch
from engine.toys import BATCH, Toy, alone, assert_close, assert_equal, plan, sigmoid_terms, train

from lossbench.engine import fit
from lossbench.engine.optimizers import BY_NUMBER
from lossbench.losses import bce, cross_entropy, focal, hinge, huber, label_smoothing, mae, mse, squared_hinge
from lossbench.tasks import Regression

MANY = {
    "regression-mlp": (mse, partial(huber, delta=0.5), mae, mse),
    "binary-mlp": (bce, partial(hinge), partial(focal, gamma=1.0), partial(hinge)),
    "binary-group": (squared_hinge, bce, partial(focal), partial(hinge)),
    "multiclass-none": (cross_entropy, partial(focal), partial(label_smoothing, epsilon=0.2), cross_entropy),
    "multiclass-group": (cross_entropy, cross_entropy, partial(focal, gamma=0.5), partial(focal, gamma=0.5)),
}
RATES, DECAYS = (0.01, 0.03, 0.01, 0.002), (0.01, 0.1, 0.2, 0.01)
MORE = {torch.optim.SGD: {"momentum": 0.9, "nesterov": True}, torch.optim.RMSprop: {"momentum": 0.5, "centered": True}}


def toys(name, optimizer=torch.optim.Adam, **more):
    """Four replicas that share as little as they may: not loss, seed, data, learning rate or weight decay."""
    task_type, model = name.split("-")
    return [
        Toy(loss, seed, task_type, model, optimizer, {"lr": rate, "weight_decay": decay, **more})
        for seed, (loss, rate, decay) in enumerate(zip(MANY[name], RATES, DECAYS, strict=True))
    ]


def assert_as_alone(many, how):
    found = train(many, how)
    for together, one in zip(found, alone(many, how), strict=True):
        assert_close(together, one)
        assert {"train/loss", "train/grad_norm"} <= set(one.fitted["last"])
    return found


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("optimizer", BY_NUMBER, ids=lambda optimizer: optimizer.__name__)
def test_each_learns_what_it_learns_alone(name, optimizer):
    assert_as_alone(toys(name, optimizer, **MORE.get(optimizer, {})), plan())


@pytest.mark.parametrize("name", ["regression-mlp", "multiclass-group"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_fused_optimizers_too(name, optimizer):
    assert_as_alone(toys(name, optimizer, fused=True, **MORE.get(optimizer, {})), plan())


@pytest.mark.parametrize("name", ["regression-mlp", "binary-group"])
@pytest.mark.parametrize(
    "changed", [{"schedule": "cosine"}, {"clip_norm": 0.1}, {"schedule": "cosine", "clip_norm": 1}]
)
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_schedules_and_clipping_are_each_replicas_own(name, changed, optimizer):
    many = toys(name, optimizer)
    found, plain = assert_as_alone(many, plan(**changed)), train(many, plan())
    assert all(a.recorded("train/loss") != b.recorded("train/loss") for a, b in zip(plain, found, strict=True))


def squared(scores, labels):
    return (scores - labels).square()


def test_two_players_move_in_turn():
    many = [
        Toy(sigmoid_terms, 0, "game", options={"lr": 0.01}),
        Toy(squared, 1, "game", options={"lr": 0.03}),
        Toy(sigmoid_terms, 2, "game", options={"lr": 0.01, "weight_decay": 0.1}),
    ]
    stack, single = train(many, plan()), alone(many, plan())
    for together, one, toy in zip(stack, single, many, strict=True):
        assert_close(together, one)
        before = toy.nets().to(toy.dtype).snapshot()
        assert not any(torch.equal(together.weights[name], before[name]) for name in before)
        assert {f"train/{player}/{what}" for player in ("critic", "generator") for what in ("loss", "grad_norm")} <= {
            name for _, values in together.seen for name in values
        }


@dataclass(frozen=True)
class Noting(Regression):
    """Regression that notes what each step is given."""

    noted: list = field(default_factory=list)

    def step(self, nets, batch, noise):
        self.noted.append((batch.inputs, batch.targets, noise.normal(3), noise.uniform(2, 2), noise.normal(1)))
        yield from super().step(nets, batch, noise)


def noted(toys, how):
    """What each step was given, by step, as [replica, …]."""
    made = [replace(toy, task=Noting).made() for toy in toys]
    fit(made, how)
    return [tuple(given if len(made) > 1 else given[None] for given in step) for step in made[0].task.noted]


@pytest.mark.parametrize(
    "shares",
    [
        pytest.param([(0, 0), (1, 0), (2, 0)], id="data"),
        pytest.param([(0, 0), (0, 1), (0, 2)], id="seed"),
        pytest.param([(1, 4), (1, 4), (0, 0), (1, 4)], id="both"),
        pytest.param([(0, 0), (1, 1), (2, 2)], id="neither"),
        pytest.param([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], id="some"),
    ],
)
def test_each_sees_the_batches_and_the_noise_that_it_sees_alone(shares):
    many = [Toy(seed=seed, data=data) for seed, data in shares]
    how = plan(steps=70)  # beyond the positions that are drawn at once
    stack, single = noted(many, how), [noted([toy], how) for toy in many]
    assert len(stack) == 70
    for step, together in enumerate(stack):
        for index, one in enumerate(single):
            assert all(torch.equal(a[index], b[0]) for a, b in zip(together, one[step], strict=True))
    inputs, _, normal, uniform, _ = stack[0]
    assert inputs.shape == (len(many), BATCH, 6)
    for one, other in itertools.combinations(range(len(many)), 2):
        same = [torch.equal(given[one], given[other]) for given in (inputs, normal, uniform)]
        same_seed = shares[one][0] == shares[other][0]
        assert same == [shares[one] == shares[other], same_seed, same_seed]


def test_splits_of_different_lengths_stack():
    long, short = Toy(seed=0).made(), Toy(seed=1).made()
    short = replace(short, train=short.train[torch.arange(17)])
    fit([long, short], plan())
    one = replace(Toy(seed=1).made(), train=short.train)
    fit([one], plan())
    torch.testing.assert_close(short.nets.snapshot(), one.nets.snapshot(), rtol=1e-9, atol=1e-12)


def test_trained_replicas_measure_what_was_recorded_last():
    made = [toy.made() for toy in toys("multiclass-group")]
    for replica, fitted in zip(made, fit(made, plan()), strict=True):
        with torch.no_grad():
            measured = replica.task.measure(replica.nets.model(replica.validation.inputs), replica.validation.targets)
        assert {f"val/{name}": value for name, value in measured.items()}.items() <= fitted.last.items()


def test_a_stack_does_not_depend_on_the_order_of_its_replicas():
    many = toys("regression-mlp")
    for one, other in zip(train(many, plan()), reversed(train(many[::-1], plan())), strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("optimizer", [torch.optim.Adafactor, torch.optim.LBFGS])
def test_an_optimizer_that_looks_beyond_a_number_does_not_stack(optimizer):
    with pytest.raises(ValueError, match=optimizer.__name__):
        train([Toy(seed=seed, optimizer=optimizer) for seed in range(2)], plan())


def test_optimizers_of_two_kinds_or_of_several_groups_do_not_stack():
    task_types = [
        Toy(seed=seed, optimizer=task_type) for seed, task_type in enumerate([torch.optim.Adam, torch.optim.AdamW])
    ]
    with pytest.raises(ValueError, match="cannot train a stack"):
        train(task_types, plan())
    groups = [Toy(seed=seed).made() for seed in range(2)]
    nets = groups[1].nets
    apart = [{"params": nets.model.body.parameters()}, {"params": nets.model.head.parameters(), "lr": 0.1}]
    with pytest.raises(ValueError, match="cannot train a stack"):
        fit([groups[0], replace(groups[1], optimizers={"model": torch.optim.Adam(apart)})], plan())
