"""Predictions of a task on a split, from which its metrics are computed; in chunks, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossbench.core import Outputs, Split, Task
from lossbench.engine.batches import Noise
from lossbench.engine.nets import Nets
from lossbench.engine.randomness import seeded

PURPOSE = "evaluation"  # of the random streams in which nets are evaluated and measured
CHUNK = 1024  # examples per forward pass at evaluation: a convolution's activations take a hundred times their size


def predict(task: Task, nets: Nets, split: Split, seed: int, *, closely: bool = False) -> Outputs:
    """The task's outputs on a split in evaluation mode, on the nets' device; one seed always gives the same noise."""
    with seeded(seed, PURPOSE):
        return outputs_of(task, nets, split, seed, closely=closely)


@torch.inference_mode()
def outputs_of(task: Task, nets: Nets, split: Split, seed: int, *, closely: bool = False) -> Outputs:
    """As `predict`, where the global streams are `seeded` already."""
    device = next(nets.parameters()).device
    noise = Noise([seed], device, PURPOSE)
    with nets.evaluating():
        chunks: list[Any] = [
            task.predict(nets, chunk.to(device), noise, closely=closely) for chunk in split.chunks(CHUNK)
        ]
    if isinstance(chunks[0], Tensor):
        return torch.cat(chunks)
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def each(outputs: Outputs, change: Callable[[Tensor], Any]) -> Any:
    """The outputs with `change` applied to every tensor."""
    if isinstance(outputs, Tensor):
        return change(outputs)
    return {name: change(tensor) for name, tensor in outputs.items()}


def finite(outputs: Outputs) -> bool:
    """Whether every number of the outputs is finite."""
    tensors = [outputs] if isinstance(outputs, Tensor) else list(outputs.values())
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
