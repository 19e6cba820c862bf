"""Predictions of a task on a split, from which its metrics are computed; in chunks, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lossbench.core import ConfigError, Outputs, Split, Task
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
        # copies, since a network may begin with an operation in place, and the split is looked at again
        copies = (chunk.each(lambda tensor: tensor.to(device, copy=True)) for chunk in split.chunks(CHUNK))
        chunks: list[Any] = [task.predict(nets, chunk, noise, closely=closely) for chunk in copies]
    if isinstance(chunks[0], Tensor):
        outputs: Outputs = torch.cat(chunks)
    elif isinstance(chunks[0], Mapping) and all(isinstance(value, Tensor) for value in chunks[0].values()):
        outputs = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    else:
        raise ConfigError(
            f"task: predict gives a {type(chunks[0]).__name__}; a tensor [n, …] works, or several by name"
        )
    rows = {len(tensor) for tensor in ([outputs] if isinstance(outputs, Tensor) else outputs.values())}
    if rows != {len(split)}:
        raise ConfigError(f"task: predict gives {', '.join(map(str, rows))} rows for {len(split)} examples")
    return outputs


def finite(outputs: Outputs) -> bool:
    """Whether every number of the outputs is finite."""
    tensors = [outputs] if isinstance(outputs, Tensor) else list(outputs.values())
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
