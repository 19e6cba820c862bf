"""A stack: one replica or many that train as one program, from the states of each and back to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lossbench.core import LossOutput, Outputs, Split, Task
from lossbench.engine import randomness
from lossbench.engine.batches import Batches, Noise
from lossbench.engine.nets import Nets, PrecisionWrapper, Stacked
from lossbench.engine.optimizers import OptimizerStep, StackedOptimizerStep
from lossbench.engine.stacked_loss import StackedLoss

Record = Callable[[int, Mapping[str, float]], None]
"""Called with a step and its numbers by name."""

State = Mapping[str, Any]
"""Everything from which one replica resumes between two steps, bit for bit."""


@dataclass(frozen=True)
class Plan:
    """How long to train, and how often to record and evaluate. Steps are optimizer steps.

    `per_class` is how many examples of one target come together in a batch; None draws from all examples alike. After
    `patience` evaluations in a row without a better primary metric a replica stops; None: it makes all steps.
    """

    steps: int
    batch_size: int
    eval_every: int
    record_every: int
    schedule: str = "constant"
    clip_norm: float | None = None
    precision: str = "float32"
    compile: str | None = None
    per_class: int | None = None
    patience: int | None = None


@dataclass
class FitResult:
    """The result of training: the nets hold the last step's weights, `best` those of the selected step.

    `diverged` is the step at which a number was not finite, None if none was. `waited` is how many evaluations in a row
    were no better than the best; `stopped`: there were as many as the plan's patience, and `steps` is the last of them.
    `train_s` leaves evaluation out; in a stack it is the replica's share. `glimpses` are the outputs on the first few
    examples of validation, by step.
    """

    steps: int = 0
    diverged: int | None = None
    best: dict[str, Tensor] | None = None
    best_step: int | None = None
    best_value: float = math.nan
    waited: int = 0
    stopped: bool = False
    last: dict[str, float] = field(default_factory=dict)
    glimpses: dict[int, Outputs] = field(default_factory=dict)
    train_s: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether training ended before its last step."""
        return self.stopped or self.diverged is not None

    @staticmethod
    def of(state: State) -> FitResult:
        """The result so far of a replica that resumes from this state."""
        own = {name: dict(state[name]) for name in ("last", "glimpses")}
        return FitResult(**{field.name: state[field.name] for field in fields(FitResult)} | own)


@dataclass(frozen=True)
class Replica:
    """One run, as the engine trains it.

    The task is a dataclass with the field `loss`. `seed` decides batch order and noise.
    """

    task: Task
    nets: Nets
    optimizers: Mapping[str, Optimizer]
    train: Split
    validation: Split
    seed: int
    record: Record = lambda step, values: None


class Stack:
    """One replica, called as it is, or several as one program over a leading replica axis.

    Each starts from its state, or from its initial weights where that is None; all states are of the same step.

    Raises: ValueError for replicas that cannot train together.
    """

    def __init__(self, replicas: Sequence[Replica], states: Sequence[State | None], plan: Plan) -> None:
        first = replicas[0]
        self.replicas = replicas
        self.fitted = [FitResult.of(state) if state else FitResult() for state in states]
        self.done = self.fitted[0].steps
        if any(fitted.steps != self.done for fitted in self.fitted):
            raise ValueError("the replicas of a stack have to be at the same step")
        for replica, state in zip(replicas, states, strict=True):
            if state:
                replica.nets.restore(state["nets"])
        settings = (plan.schedule, plan.steps, plan.clip_norm)
        self.task: Task = first.task
        self.nets = first.nets
        self.optimizer_steps: dict[str, OptimizerStep | StackedOptimizerStep]
        if len(replicas) == 1:
            own = getattr(self.nets, "loss", None)
            self.optimizer_steps = {
                n: OptimizerStep(getattr(self.nets, n), own, o, *settings) for n, o in first.optimizers.items()
            }
        else:
            together = StackedLoss([replica.task.loss for replica in replicas])
            self.task = replace(first.task, loss=together)  # type: ignore[type-var]
            self.nets = Nets.stack([replica.nets for replica in replicas])
            self.optimizer_steps = {
                name: StackedOptimizerStep(getattr(self.nets, name), [r.optimizers[name] for r in replicas], *settings)
                for name in first.optimizers
            }
        self._streams = [player.streams for player in self.nets.children() if isinstance(player, Stacked)]
        if plan.precision != "float32" or plan.compile:
            called = {
                n: PrecisionWrapper(getattr(self.nets, n), plan.precision, plan.compile) for n in self.optimizer_steps
            }
            self.nets = Nets(**called)
        self.nets.train()
        seeds = [replica.seed for replica in replicas]
        self._starts = [randomness.number(seed, "steps") for seed in seeds]
        trains = [replica.train for replica in replicas]
        self._batches = Batches(trains, seeds, plan.batch_size, self.done, plan.per_class)
        self._noise = Noise(seeds, first.train.inputs.device)
        self.window: dict[str, list[Tensor]] = {}  # numbers [replica] of each step since the last record
        self._parts: dict[str, list[Tensor]] = {}  # the same for the parts of losses
        if self.done:
            self._restore([state for state in states if state])

    def step(self) -> None:
        """One step of every player of every replica; it seeds the global random streams and does not restore them."""
        starts = [randomness.of_step(start, self.done) for start in self._starts]
        randomness.start(starts[0])  # in a stack, nothing may draw from them: see `trial.difference`
        for streams in self._streams:
            streams.start(starts)
        batch = next(self._batches)
        alone = len(self.optimizer_steps) == 1
        numbers: dict[str, list[Tensor]] = {}
        part_means: dict[str, list[Tensor]] = {}
        for player, loss in self.task.step(self.nets, batch, self._noise.at(self.done)):
            per_example, parts = LossOutput.of(loss)
            mean_losses = _weighted(per_example, batch.weights).reshape(len(self.replicas), -1).mean(-1)
            norms = self.optimizer_steps[player].move(mean_losses, self.done)
            prefix = "train" if alone else f"train/{player}"
            numbers.setdefault(f"{prefix}/loss", []).append(mean_losses.detach())
            numbers.setdefault(f"{prefix}/grad_norm", []).append(norms)
            for name, part in parts.items():
                mean = part.detach().reshape(len(self.replicas), -1).mean(-1)
                part_means.setdefault(f"{prefix}/{name}", []).append(mean)
        for window, by_name in ((self.window, numbers), (self._parts, part_means)):
            for name, values in by_name.items():  # a player may have moved more than once
                mean = values[0] if len(values) == 1 else torch.stack(values).mean(0)
                window.setdefault(name, []).append(mean)
        self.done += 1

    def close(self) -> list[tuple[dict[str, float], int | None]]:
        """For each replica, means since the last call over the steps before the first non-finite one, and that step.

        The step is None if all were finite. A part that is not finite is left out: only losses and norms decide.
        """
        series, parts = (
            {name: torch.stack(values).double().cpu() for name, values in window.items()}  # [step, replica]
            for window in (self.window, self._parts)
        )
        self.window, self._parts = {}, {}
        finite = torch.stack([values.isfinite() for values in series.values()]).all(0)
        length = len(finite)
        closed: list[tuple[dict[str, float], int | None]] = []
        for replica in range(len(self.replicas)):
            bad = (~finite[:, replica]).nonzero().flatten().tolist()
            good = bad[0] if bad else length
            means = {n: v[:good, replica].mean().item() for n, v in (series | parts).items()} if good else {}
            means = {name: mean for name, mean in means.items() if name in series or math.isfinite(mean)}
            closed.append((means, self.done - length + good + 1 if bad else None))
        return closed

    def states(self) -> list[State]:
        """The state from which each replica resumes, whatever it is stacked with then."""
        optimizer_states = {name: step.states() for name, step in self.optimizer_steps.items()}
        return [
            {
                **vars(fitted),
                "steps": self.done,
                "nets": replica.nets.snapshot(),
                "optimizers": {name: _copied(states[index]) for name, states in optimizer_states.items()},
                "window": {name: torch.stack(values)[:, index] for name, values in self.window.items()},
                "parts": {name: torch.stack(values)[:, index] for name, values in self._parts.items()},
            }
            for index, (replica, fitted) in enumerate(zip(self.replicas, self.fitted, strict=True))
        ]

    def _restore(self, states: Sequence[State]) -> None:
        for name, step in self.optimizer_steps.items():
            step.load([state["optimizers"][name] for state in states])
        for what, window in (("window", self.window), ("parts", self._parts)):
            by_name = {name: values for state in states for name, values in state[what].items()}
            for name, values in by_name.items():  # a loss may have had no such part
                absent = torch.full_like(values, math.nan)
                window[name] = list(torch.stack([state[what].get(name, absent) for state in states], 1).unbind())


def _weighted(per_example: Tensor, weights: Tensor | None) -> Tensor:
    """Per-example losses [..., batch] times the weights of their examples [..., batch].

    Raises: ValueError for a loss that does not give one number per example.
    """
    if weights is None:
        return per_example
    if per_example.shape != weights.shape:
        raise ValueError(f"losses {list(per_example.shape)} of a batch of {list(weights.shape)} cannot be weighted")
    return per_example * weights.to(per_example.dtype)


def _copied(state: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """A copy, which further training does not change."""
    return {
        name: {key: value.clone() if isinstance(value, Tensor) else value for key, value in tensors.items()}
        for name, tensors in state.items()
    }
