"""What moves a player: its gradient's norm, its learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}


class Mover:
    """An optimizer with its schedule and an optional bound on the gradient's norm."""

    def __init__(self, optimizer: Optimizer, schedule: str, steps: int, clip_norm: float | None) -> None:
        self.optimizer = optimizer
        self.parameters: Sequence[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self.clip_norm = clip_norm
        self._factor = SCHEDULES[schedule]
        self._constant = schedule == "constant"
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._steps = steps
        self.done = 0

    def move(self, cost: Tensor) -> Tensor:
        """One step down the gradient of the cost; the gradient's norm before clipping."""
        if not self._constant:
            factor = self._factor(self.done / self._steps)
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * factor
        self.done += 1
        self.optimizer.zero_grad()
        cost.backward(inputs=self.parameters)
        # by hand: torch's get_total_norm groups the tensors anew at each step, which takes longer than their norms
        norms = [torch.linalg.vector_norm(p.grad) for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if self.clip_norm is not None:
            clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        self.optimizer.step()
        return norm
