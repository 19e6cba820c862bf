"""Replicas that train in milliseconds, made afresh as often as a test needs them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lossbench.core import DatasetInfo, Metric, Split, stream
from lossbench.engine import Interrupted, Nets, Plan, Replica, fit
from lossbench.losses import mse
from lossbench.models import CNN, MLP
from lossbench.runs import builders

EXAMPLES, BATCH = 50, 16
OUTPUTS = {"regression": 2, "binary": 1, "multiclass": 4, "game": 1}
SHAPES = {"mlp": (6,), "none": (2, 9, 9), "group": (2, 9, 9)}


def info(task_type):
    classes = {"binary": 2, "multiclass": 4}.get(task_type, 0)
    return DatasetInfo(
        "toy", task_type, (), (2,) if task_type == "regression" else (), "", "", "", classes=("c",) * classes
    )


def plan(**changed):
    return Plan(**{"steps": 20, "batch_size": BATCH, "eval_every": 10, "record_every": 3, **changed})


@cache
def data(task_type, seed, shape, dtype, n=EXAMPLES, poison=None):
    """The same object for the same arguments; `poison` is an example whose inputs are not finite."""
    random = stream(seed, "data")
    inputs = torch.randn(n, *shape, generator=random, dtype=dtype)
    if task_type in ("regression", "game"):
        targets = torch.randn(n, OUTPUTS[task_type], generator=random, dtype=dtype)
    else:
        targets = torch.randint(len(info(task_type).classes), (n,), generator=random)
    if poison is not None:
        inputs[poison] = torch.nan
    return Split(inputs, targets)


@dataclass(frozen=True)
class Game:
    """Two players: a critic tells examples from what a generator makes of noise; `loss` is of scores and labels."""

    loss: Callable
    info: DatasetInfo
    metrics = (Metric("score", "mean score of the critic", True),)

    def step(self, nets, batch, noise):
        latent = noise.normal(BATCH, 3).to(batch.inputs.dtype)
        made, real = nets.generator(latent), batch.inputs
        share = noise.uniform(BATCH, 1).to(real.dtype)
        between = nets.critic(share * real + (1 - share) * made.detach()).squeeze(-1)
        scores = [nets.critic(inputs).squeeze(-1) for inputs in (real, made.detach())]
        ones, zeros = torch.ones_like(between), torch.zeros_like(between)
        yield "critic", self.loss(scores[0], ones) + self.loss(scores[1], zeros) + 0.1 * between.square()
        yield "generator", self.loss(nets.critic(made).squeeze(-1), ones)

    def predict(self, nets, batch, noise, *, closely=False):
        return nets.critic(batch.inputs).squeeze(-1)

    def measure(self, outputs, targets):
        return {"score": outputs.mean().item()}


@dataclass(frozen=True)
class Toy:
    """What a replica is made of; equal toys make equal replicas. `data` is a seed, its own `seed` unless told."""

    loss: Callable = mse
    seed: int = 0
    task_type: str = "regression"
    model: str = "mlp"
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    options: Mapping[str, Any] = field(default_factory=lambda: {"lr": 0.01})
    data: int | None = None
    poison: int | None = None
    dtype: torch.dtype = torch.float64
    task: Callable | None = None

    def made(self, record=lambda step, values: None):
        nets = self.nets().to(self.dtype)
        make = self.task or (Game if self.task_type == "game" else partial(builders.task, self.task_type))
        seed, shape = self.seed if self.data is None else self.data, SHAPES[self.model]
        return Replica(
            make(self.loss, info(self.task_type)),
            nets,
            {name: self.optimizer(player.parameters(), **self.options) for name, player in nets.named_children()},
            data(self.task_type, seed, shape, self.dtype, poison=self.poison),
            data(self.task_type, seed + 1000, shape, self.dtype, 30),
            self.seed,
            record,
        )

    def nets(self):
        random, outputs, shape = stream(self.seed, "init"), OUTPUTS[self.task_type], SHAPES[self.model]
        if self.task_type == "game":
            critic, generator = MLP(shape, 1, random, hidden=(8,)), MLP((3,), 6, random, hidden=(5,))
            return Nets(critic=critic, generator=generator)
        if self.model == "mlp":
            return Nets(model=MLP(shape, outputs, random, hidden=(7,)))
        # groups of three channels: a bias whose group is its channel alone has no gradient but rounding
        return Nets(model=CNN(shape, outputs, random, widths=(6, 6), norm=self.model))


@dataclass
class Trained:
    """What came of a toy: all that the engine gave and recorded, the time apart."""

    fitted: dict[str, Any]
    weights: dict[str, torch.Tensor]
    seen: list[tuple[int, dict[str, float]]]

    @property
    def diverged(self):
        return self.fitted["diverged"]

    def recorded(self, name):
        return {step: values[name] for step, values in self.seen if name in values}


def train(toys: Sequence[Toy], plan: Plan, **how: Any) -> list[Trained]:
    """The toys as one stack."""
    seen: list[list] = [[] for _ in toys]
    made = [toy.made(recording(points)) for toy, points in zip(toys, seen, strict=True)]
    results = fit(made, plan, **how)
    return [
        Trained(
            {f.name: getattr(fitted, f.name) for f in fields(fitted) if f.name != "train_s"},
            replica.nets.snapshot(),
            points,
        )
        for fitted, replica, points in zip(results, made, seen, strict=True)
    ]


def alone(toys: Sequence[Toy], plan: Plan) -> list[Trained]:
    """Each toy by itself."""
    return [train([toy], plan)[0] for toy in toys]


def stopped(toys: Sequence[Toy], plan: Plan, after: int, **how: Any) -> tuple[list[Any], list[list]]:
    """The states of a stack that is stopped after so many steps, and what was recorded until then."""
    seen: list[list] = [[] for _ in toys]
    made = [toy.made(recording(points)) for toy, points in zip(toys, seen, strict=True)]
    steps: Iterator[int] = itertools.count()
    with pytest.raises(Interrupted) as caught:
        fit(made, plan, stop=lambda: next(steps) >= after, **how)
    return list(caught.value.states), seen


def recording(points: list) -> Callable[[int, Mapping[str, float]], None]:
    return lambda step, values: points.append((step, dict(values)))


def assert_equal(found: Trained, expected: Trained) -> None:
    """To the bit."""
    assert found.seen == expected.seen
    assert _plain(found) == _plain(expected)
    for tensors, others in zip(_tensors(found), _tensors(expected), strict=True):
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


def assert_close(found: Trained, expected: Trained, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    """But for rounding."""
    assert [step for step, _ in found.seen] == [step for step, _ in expected.seen]
    for (_, values), (_, others) in zip(found.seen, expected.seen, strict=True):
        assert values == pytest.approx(others, rel=rtol)
    assert (found.diverged, found.fitted["best_step"]) == (expected.diverged, expected.fitted["best_step"])
    for tensors, others in zip(_tensors(found), _tensors(expected), strict=True):
        torch.testing.assert_close(tensors, others, rtol=rtol, atol=atol, equal_nan=True)


def _plain(trained: Trained) -> dict[str, Any]:
    kept = {name: value for name, value in trained.fitted.items() if name not in ("best", "glimpses")}
    return {**kept, "best_value": repr(trained.fitted["best_value"])}  # nan where nothing was selected


def _tensors(trained: Trained) -> tuple[dict[str, torch.Tensor], ...]:
    weights = trained.weights if trained.diverged is None else {}  # how far it went on after that is no result
    return weights, trained.fitted["best"] or {}, trained.fitted["glimpses"]


def sigmoid_terms(scores, labels):
    return F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
