"""What a task gives a loss, made up for each task type: at random, far out, and before anything is learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from lossbench.config.task_types import load, named
from lossbench.core import stream
from lossbench.tasks.samples import Sample

EXTREMES = (0.0, 20.0, -20.0, 100.0, -100.0, 1e4, -1e4)
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def players(task_type: str) -> tuple[str, ...]:
    """What a loss of this type is called for."""
    found: tuple[str, ...] = load(task_type).players
    return found


def at_random(task_type: str, outputs_per_target: int = 1, batch: int = 8, seed: int = 7) -> Sample:
    """In double precision; of an embedding, each identity is there at least twice."""
    random = stream(seed, f"contract/{named(task_type)}")
    made = load(task_type)
    prediction, target = made.batch(batch, outputs_per_target, random)
    return Sample(task_type, prediction, target, made.counts, made.weights(random))


def undecided(task_type: str, outputs_per_target: int = 1, player: str = "model") -> Sample:
    """Predictions of zero, and whatever the target may be; where zero says nothing, at random.

    A critic starts at zero where it learns, and is there where a generator learns from it.
    """
    made = at_random(task_type, outputs_per_target)
    found: Sample | None = load(task_type).undecided(made, player)
    return made if found is None else found


def extremes(task_type: str, outputs_per_target: int = 1) -> Iterator[Sample]:
    """Every pairing of far predictions with far targets."""
    far = torch.tensor(EXTREMES, dtype=torch.float64)
    for sample in load(task_type).extremes(at_random(task_type, outputs_per_target), far, outputs_per_target):
        yield replace(sample, task_type=task_type)
