"""The loop, against what it has to be: plain gradient steps, exact divergence, the best step kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from engine.toys import Toy, recording, stopped, train
from torch import nn

from lossbench.core import Metric, Split
from lossbench.engine import Nets, Plan, Replica, fit


@dataclass
class Line:
    """y = w·x with squared terms; `spoil` makes the terms of one step not finite."""

    spoil: int | None = None
    steps: int = 0
    metrics = (Metric("distance", "of w from 3", False),)

    def step(self, nets, batch, noise):
        self.steps += 1
        factor = math.inf if self.steps == self.spoil else 1.0
        yield "model", (nets.model(batch.inputs) - batch.targets).square().mean(-1) * factor

    def predict(self, nets, batch, noise, *, closely=False):
        return nets.model(batch.inputs)

    def measure(self, outputs, targets):
        return {"distance": float((outputs - targets).abs().mean())}


def line(weight=0.0):
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, weight)
    return Nets(model=model)


def data(n=64):
    x = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
    return Split(x, 3 * x)


def go(task, nets, plan, optimizer=torch.optim.SGD, **settings):
    seen = []
    optimizers = {"model": optimizer(nets.parameters(), **(settings or {"lr": 0.1}))}
    (fitted,) = fit([Replica(task, nets, optimizers, data(), data(), 0, recording(seen))], plan)
    return fitted, seen


def plan(**changed):
    return Plan(**{"steps": 20, "batch_size": 64, "eval_every": 5, "record_every": 2, **changed})


def by_hand(steps, rate, clip=math.inf):
    """Gradient descent on the whole split: weights, costs and gradient norms of each step."""
    split, w = data(), 0.0
    square = split.inputs.square().mean().item()
    rows = []
    for step in range(steps):
        mean_loss, gradient = (w - 3) ** 2 * square, 2 * (w - 3) * square
        rows.append((w, mean_loss, abs(gradient)))
        w -= rate(step) * gradient * min(1.0, clip / abs(gradient))
    return w, rows


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [("constant", lambda k: 0.1), ("cosine", lambda k: 0.1 * 0.5 * (1 + math.cos(math.pi * k / 20)))],
)
def test_steps_are_gradient_steps(schedule, rate):
    nets = line()
    fitted, seen = go(Line(), nets, plan(schedule=schedule))
    weight, rows = by_hand(20, rate)
    assert nets.model.weight.item() == pytest.approx(weight, rel=1e-12)
    assert fitted.steps == 20
    recorded = {step: values for step, values in seen if "train/loss" in values}
    for start, end in [(0, 2), (2, 4), (4, 5), (5, 6), (18, 20)]:  # windows end at records and evaluations
        assert recorded[end]["train/loss"] == pytest.approx(sum(r[1] for r in rows[start:end]) / (end - start))
        assert recorded[end]["train/grad_norm"] == pytest.approx(sum(r[2] for r in rows[start:end]) / (end - start))


def test_clipping_bounds_the_step_and_not_the_recorded_norm():
    nets = line()
    _, seen = go(Line(), nets, plan(clip_norm=0.5))
    weight, rows = by_hand(20, lambda k: 0.1, clip=0.5)
    assert nets.model.weight.item() == pytest.approx(weight, rel=1e-5)  # torch adds 1e-6 to the norm it divides by
    assert seen[0][1]["train/grad_norm"] == pytest.approx((rows[0][2] + rows[1][2]) / 2)
    assert rows[0][2] > 0.5


def test_evaluations_come_when_asked_and_at_the_end():
    _, seen = go(Line(), line(), plan(steps=12, eval_every=5))
    assert [step for step, values in seen if "val/distance" in values] == [5, 10, 12]


def test_the_best_step_is_kept_when_later_ones_are_worse():
    class Overshoot(Line):
        def step(self, nets, batch, noise):
            for player, per_example in super().step(nets, batch, noise):
                yield player, per_example if self.steps <= 10 else -per_example  # climbs from step 11 on

    nets = line()
    fitted, seen = go(Overshoot(), nets, plan())
    assert fitted.best_step == 10
    values = {step: values["val/distance"] for step, values in seen if "val/distance" in values}
    assert fitted.best_value == min(values.values()) == values[10]
    weight, _ = by_hand(10, lambda k: 0.1)
    assert fitted.best["model.weight"].item() == pytest.approx(weight)
    assert nets.model.weight.item() != pytest.approx(weight)


def test_a_metric_that_grows_is_selected_at_its_highest():
    class Higher(Line):
        metrics = (Metric("distance", "", True),)

    fitted, _ = go(Higher(), line(), plan())
    assert fitted.best_step == 5  # descent only lowers it


@pytest.mark.parametrize("spoil", [1, 2, 3, 5, 8, 9, 20])
def test_divergence_is_found_at_its_step(spoil):
    fitted, seen = go(Line(spoil), line(), plan())
    assert fitted.diverged == spoil
    assert fitted.steps <= spoil + 2
    assert all(math.isfinite(value) for _, values in seen for value in values.values())
    assert (fitted.best_step or 0) < spoil
    assert bool(fitted.last) == (spoil > 1)


def test_weights_that_overflow_between_evaluations_are_noticed():
    nets = line()
    fitted, _ = go(Line(), nets, plan(steps=1, eval_every=1, record_every=1), lr=1e308 * 10)
    assert fitted.diverged == 1
    assert fitted.best is None


def test_each_player_moves_by_its_own_terms_only():
    class Two(Line):
        def step(self, nets, batch, noise):
            yield "critic", (nets.critic(batch.inputs) + nets.model(batch.inputs)).mean(-1)
            yield "model", (nets.critic(batch.inputs) * nets.model(batch.inputs)).square().mean(-1)

    nets = Nets(model=line(1.0).model, critic=line(1.0).model)
    split = Split(data().inputs + 1, data().targets)
    seen = []
    optimizers = {name: torch.optim.SGD(player.parameters(), lr=0.1) for name, player in nets.named_children()}
    fit([Replica(Two(), nets, optimizers, split, split, 0, recording(seen))], plan(steps=1, eval_every=1))
    x = split.inputs
    critic = 1 - 0.1 * x.mean().item()
    model = 1 - 0.1 * 2 * critic**2 * x.pow(4).mean().item()  # of the critic that has already moved
    assert nets.critic.weight.item() == pytest.approx(critic)
    assert nets.model.weight.item() == pytest.approx(model)
    assert {"train/critic/loss", "train/model/loss", "train/critic/grad_norm"} <= set(seen[0][1])


@pytest.mark.parametrize("together", [1, 3])
def test_steps_are_heard_of_as_they_are_recorded(together):
    heard = []
    toys = [Toy(seed=seed) for seed in range(together)]
    train(toys, plan(steps=12, batch_size=16, record_every=4), watch=lambda *said: heard.append(said))
    assert heard == [(together * steps, 0) for steps in (4, 1, 3, 2, 2)]  # at 4, 5, 8, 10 and 12


def test_every_step_is_heard_of_also_where_runs_diverge_or_are_stopped():
    heard = []
    toys = [
        Toy(seed=seed, optimizer=torch.optim.SGD, options={"lr": lr}) for seed, lr in enumerate([0.01, 1e300, 0.01])
    ]
    train(toys, plan(steps=12, batch_size=16, record_every=4), watch=lambda *said: heard.append(said))
    assert sum(steps for steps, _ in heard) == 3 * 12
    assert sum(diverged for _, diverged in heard) == 1
    heard.clear()
    stopped(toys[::2], plan(steps=12, batch_size=16), 7, watch=lambda *said: heard.append(said))
    assert sum(steps for steps, _ in heard) == 2 * 7


def test_denormal_numbers_count_as_zero_while_it_trains_and_not_after():
    seen = []

    class Watching(Line):
        def step(self, nets, batch, noise):
            seen.append((torch.tensor(1e-39) * 1).any())
            yield from super().step(nets, batch, noise)

    go(Watching(), line(), plan(steps=2))
    assert seen
    assert not any(seen)
    assert (torch.tensor(1e-39) * 1).any()
