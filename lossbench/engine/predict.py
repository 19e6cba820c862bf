"""What a task's metrics are read from: its outputs on a split, in chunks so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossbench.core import Outputs, Split, Task
from lossbench.engine.batches import Noise
from lossbench.engine.nets import Nets
from lossbench.engine.randomness import seeded

CHUNK = 1024  # examples that one forward pass takes at evaluation: a convolution keeps a hundred times their size


@torch.inference_mode()
def predict(task: Task, nets: Nets, split: Split, seed: int, *, closely: bool = False) -> Outputs:
    """What the task predicts in evaluation mode, where the nets are; under one seed always with the same noise."""
    device = next(nets.parameters()).device
    noise = Noise([seed], device, "evaluation")
    with nets.evaluating(), seeded(seed, "evaluation"):
        found: list[Any] = [
            task.predict(nets, chunk.to(device), noise, closely=closely) for chunk in split.chunks(CHUNK)
        ]
    if isinstance(found[0], Tensor):
        return torch.cat(found)
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def each(outputs: Outputs, change: Callable[[Tensor], Any]) -> Any:
    """Every tensor of the outputs, changed."""
    if isinstance(outputs, Tensor):
        return change(outputs)
    return {name: change(tensor) for name, tensor in outputs.items()}


def finite(outputs: Outputs) -> bool:
    """Whether every number of the outputs is finite."""
    tensors = [outputs] if isinstance(outputs, Tensor) else list(outputs.values())
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
