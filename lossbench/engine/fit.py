"""The loop: ask the task what to minimise, move the player, look at validation, keep the best step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lossbench.core import Split, Task
from lossbench.engine.checkpoints import Interrupted
from lossbench.engine.nets import Nets, predict
from lossbench.engine.optimizers import Mover
from lossbench.engine.order import batches

Record = Callable[[int, Mapping[str, float]], None]
"""Takes the step and its numbers."""


@dataclass(frozen=True)
class Plan:
    """How long to train and how often to look. Steps are optimizer steps."""

    steps: int
    batch_size: int
    eval_every: int
    record_every: int
    schedule: str = "constant"
    clip_norm: float | None = None


@dataclass
class Fitted:
    """What training gave: the nets hold the last step's weights, `best` those of the selected step.

    `diverged` is the step at which a number was not finite, None if none was. `train_s` leaves evaluation out.
    """

    steps: int = 0
    diverged: int | None = None
    best: dict[str, Tensor] | None = None
    best_step: int | None = None
    best_value: float = math.nan
    last: dict[str, float] = field(default_factory=dict)
    train_s: float = 0.0


def fit(
    task: Task,
    nets: Nets,
    optimizers: Mapping[str, Optimizer],
    train: Split,
    validation: Split,
    plan: Plan,
    *,
    order: torch.Generator,
    noise: torch.Generator,
    record: Record,
    stop: Callable[[], bool] = lambda: False,
    resume: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train the players of a task, selecting the step at which the primary yardstick was best on validation.

    Recorded at every `record_every` steps: the means since the last record of each player's cost and gradient norm.
    At every `eval_every` steps and at the last: the yardsticks on validation. A number that is not finite ends the
    training: nothing is repaired, and nothing that is not finite is recorded.

    Raises: Interrupted between two steps, once `stop` says so; with its state as `resume` and fresh arguments
        otherwise the same, a later call goes on as if nothing had happened.
    """
    movers = {name: Mover(o, plan.schedule, plan.steps, plan.clip_norm) for name, o in optimizers.items()}
    fitted = Fitted()
    primary = task.yardsticks[0]
    window = _Window(alone=len(movers) == 1)
    indices = batches(len(train), plan.batch_size, order)
    if resume is not None:
        fitted = _restored(resume, nets, movers, window, noise)
        for _ in range(fitted.steps):
            next(indices)
    device = train.inputs.device
    since = time.perf_counter()
    for step in range(fitted.steps + 1, plan.steps + 1):
        if stop():
            fitted.train_s += time.perf_counter() - since
            raise Interrupted(_state(fitted, nets, movers, window, noise))
        batch = train[next(indices).to(device)]
        for player, terms in task.step(nets, batch, noise):
            cost = terms.mean(-1) if terms.dim() else terms
            window.add(player, cost.detach(), movers[player].move(cost.sum()))
        fitted.steps = step
        evaluate = step % plan.eval_every == 0 or step == plan.steps
        if not (evaluate or step % plan.record_every == 0):
            continue
        means, fitted.diverged = window.close(step)
        fitted.train_s += time.perf_counter() - since
        if means:
            fitted.last |= means
            record(step, means)
        if evaluate and fitted.diverged is None:
            values = _look(task, nets, validation)
            if values is None:
                fitted.diverged = step
            else:
                watched = {f"val/{name}": value for name, value in values.items()}
                fitted.last |= watched
                record(step, watched)
                if fitted.best is None or primary.better(values[primary.name], fitted.best_value):
                    fitted.best, fitted.best_step, fitted.best_value = nets.snapshot(), step, values[primary.name]
        if fitted.diverged is not None:
            break
        since = time.perf_counter()
    return fitted


def _state(
    fitted: Fitted, nets: Nets, movers: Mapping[str, Mover], window: _Window, noise: torch.Generator
) -> dict[str, Any]:
    return {
        **vars(fitted),
        "nets": nets.snapshot(),
        "optimizers": {name: mover.optimizer.state_dict() for name, mover in movers.items()},
        "window": window.seen,
        "noise": noise.get_state(),
    }


def _restored(
    state: Mapping[str, Any], nets: Nets, movers: Mapping[str, Mover], window: _Window, noise: torch.Generator
) -> Fitted:
    nets.load_state_dict(state["nets"])
    for name, mover in movers.items():
        mover.optimizer.load_state_dict(state["optimizers"][name])
        mover.done = state["steps"]
    window.seen = state["window"]
    noise.set_state(state["noise"])
    return Fitted(**{field.name: state[field.name] for field in fields(Fitted)})


def _look(task: Task, nets: Nets, validation: Split) -> dict[str, float] | None:
    """The yardsticks on validation, or None where an output or a yardstick is not finite."""
    outputs = predict(lambda inputs: task.predict(nets, inputs), validation.inputs)
    if not outputs.isfinite().all():
        return None
    values = task.measure(outputs, validation.targets)
    return values if all(map(math.isfinite, values.values())) else None


class _Window:
    """Costs and gradient norms of the steps since the last record, kept on the device until then."""

    def __init__(self, *, alone: bool) -> None:
        self.seen: dict[str, list[Tensor]] = {}
        self._prefix = "train" if alone else "train/{player}"

    def add(self, player: str, cost: Tensor, norm: Tensor) -> None:
        prefix = self._prefix.format(player=player)
        self.seen.setdefault(f"{prefix}/loss", []).append(cost)
        self.seen.setdefault(f"{prefix}/grad_norm", []).append(norm)

    def close(self, step: int) -> tuple[dict[str, float], int | None]:
        """Means over the steps up to the first that was not finite, and that step; None if all were finite."""
        series = {name: torch.stack(values).double().cpu() for name, values in self.seen.items()}
        self.seen = {}
        finite = torch.stack([values.isfinite() for values in series.values()]).all(0)
        length = len(finite)
        first_bad = length if finite.all() else int((~finite).nonzero()[0])
        means = {name: values[:first_bad].mean().item() for name, values in series.items()} if first_bad else {}
        return means, (None if first_bad == length else step - length + first_bad + 1)
