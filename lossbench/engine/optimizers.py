"""Optimizer steps of a player, with clipping and a learning-rate schedule; for one replica and for a stack."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

from lossbench.engine.nets import Stacked

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
BY_NUMBER = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.RMSprop,
)
"""Optimizers that update each number on its own, so that it does not matter in which tensor it lies."""

# torch 2.13 imports its compiler (a second, 800 modules) when the first optimizer is built, to keep these two methods
# from being compiled; the attribute that it looks for first says that they need not be
for _method in (Optimizer.add_param_group, Optimizer.zero_grad):
    if hasattr(_method, "__wrapped__"):
        setattr(_method.__wrapped__, "__dynamo_disable", _method.__wrapped__)

State = Mapping[str, Mapping[str, Any]]
"""An optimizer's state of one replica: {parameter: {name: tensor}}."""


def step_of(optimizer: Optimizer) -> Callable[[], Any]:
    """An optimizer's step; for torch's own optimizers without the wrappers for its compiler and profiler."""
    if type(optimizer) not in BY_NUMBER:
        return optimizer.step
    raw = inspect.unwrap(type(optimizer).step)

    def step() -> None:
        with torch.no_grad():
            raw(optimizer)

    return step


class Schedule:
    """The learning rates of an optimizer over time."""

    def __init__(self, optimizer: Optimizer, name: str, steps: int) -> None:
        self._groups = optimizer.param_groups
        self._rates = [group["lr"] for group in self._groups]
        self._factor = SCHEDULES[name]
        self._constant = name == "constant"
        self._steps = steps

    def at(self, step: int) -> None:
        """Set the learning rates for the step after `step` steps."""
        if not self._constant:
            factor = self._factor(step / self._steps)
            for group, rate in zip(self._groups, self._rates, strict=True):
                group["lr"] = rate * factor


class OptimizerStep:
    """Updates one player of one replica, and its loss's own parameters, by the configured optimizer."""

    def __init__(
        self,
        player: nn.Module,
        loss: nn.Module | None,
        optimizer: Optimizer,
        schedule: str,
        steps: int,
        clip_norm: float | None,
    ) -> None:
        self.optimizer = optimizer
        self._step = step_of(optimizer)
        self.parameters: Sequence[Tensor] = [
            p for group in optimizer.param_groups for p in group["params"] if p.requires_grad
        ]
        moved = {id(p) for p in self.parameters}
        own = loss.named_parameters() if loss is not None else ()
        named = {name: p for name, p in player.named_parameters() if p.requires_grad}
        self._named = named | {f"loss.{name}": p for name, p in own if id(p) in moved}
        self._schedule = Schedule(optimizer, schedule, steps)
        self._clip_norm = clip_norm

    def move(self, mean_losses: Tensor, done: int) -> Tensor:
        """Make the step after `done` steps, down the gradient of the mean loss [1].

        Returns the gradient's norm [1] before clipping.
        """
        self._schedule.at(done)
        self.optimizer.zero_grad()
        mean_losses.sum().backward(inputs=self.parameters)
        # by hand: torch's get_total_norm groups the tensors anew at each step, which takes longer than their norms
        norms = [torch.linalg.vector_norm(p.grad) for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if self._clip_norm is not None:
            clip_grads_with_norm_(self.parameters, self._clip_norm, norm)
        self._step()
        return norm.view(1)

    def states(self) -> list[State]:
        """The optimizer's state of this one replica, by parameter name."""
        return [{name: dict(self.optimizer.state.get(p, {})) for name, p in self._named.items()}]

    def load(self, states: Sequence[State]) -> None:
        """Continue from the state that `states` returned."""
        for name, p in self._named.items():
            self.optimizer.state[p] = _copied(states[0][name])


class StackedOptimizerStep:
    """Updates one player of every replica of a stack, each with its own optimizer's settings.

    A replica's numbers are one row, so that torch's optimizer sees one tensor a replica: its state, learning rate
    and weight decay are the replica's own, and what it computes for one does not depend on the others.

    Raises: ValueError for optimizers of different classes, or of one outside BY_NUMBER.
    """

    def __init__(
        self, player: Stacked, optimizers: Sequence[Optimizer], schedule: str, steps: int, clip_norm: float | None
    ) -> None:
        optimizer_class = type(optimizers[0])
        if optimizer_class not in BY_NUMBER or any(
            type(o) is not optimizer_class or len(o.param_groups) != 1 for o in optimizers
        ):
            raise ValueError(f"{optimizer_class.__name__} cannot train a stack")
        self._player = player
        self._leaves = list(player.parameters())  # only those that learn
        self._gradients = torch.zeros_like(player.rows)
        self._gradient_views = player.split(self._gradients)
        self._rows = list(player.rows.unbind())
        groups: dict[str, dict[str, Any]] = {}
        for row, gradient, optimizer in zip(self._rows, self._gradients, optimizers, strict=True):
            row.grad = gradient
            options = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
            groups.setdefault(repr(options), {"params": [], **options})["params"].append(row)
        make: Any = optimizer_class
        self.optimizer: Optimizer = make(list(groups.values()))
        self._step = step_of(self.optimizer)
        self._schedule = Schedule(self.optimizer, schedule, steps)
        self._clip_norm = clip_norm

    def move(self, mean_losses: Tensor, done: int) -> Tensor:
        """Make the step after `done` steps, each replica down the gradient of its mean loss [replica].

        Returns the gradients' norms [replica] before clipping.
        """
        self._schedule.at(done)
        torch._foreach_copy_(self._gradient_views, torch.autograd.grad(mean_losses.sum(), self._leaves))
        norms = torch.linalg.vector_norm(self._gradients, dim=1)
        if self._clip_norm is not None:
            self._gradients.mul_((self._clip_norm / (norms + 1e-6)).clamp(max=1)[:, None])
        self._step()
        return norms

    def states(self) -> list[State]:
        """The optimizer's state of each replica, in the form that `OptimizerStep.states` has."""
        return [self._state(self.optimizer.state.get(row, {})) for row in self._rows]

    def _state(self, of_row: Mapping[str, Any]) -> State:
        whole = {key: value for key, value in of_row.items() if not _of_each_number(value)}
        parts = {key: self._player.split(value) for key, value in of_row.items() if _of_each_number(value)}
        return {
            name: whole | {key: part[index] for key, part in parts.items()}
            for index, name in enumerate(self._player.names)
        }

    def load(self, states: Sequence[State]) -> None:
        """Continue from the states of these replicas, wherever they were trained."""
        for row, state in zip(self._rows, states, strict=True):
            of_each = [state[name] for name in self._player.names]
            self.optimizer.state[row] = {
                key: torch.cat([one[key].flatten() for one in of_each])
                if any(_of_each_number(one[key]) for one in of_each)
                else value
                for key, value in _copied(of_each[0]).items()
            }


def _of_each_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
