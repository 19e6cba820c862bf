"""Made-up batches for each task type: at random, at extremes, and as before anything is learned."""

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
    """The players that a loss of this task type is called for."""
    found: tuple[str, ...] = load(task_type).players
    return found


def at_random(task_type: str, outputs_per_target: int = 1, batch: int = 8, seed: int = 7) -> Sample:
    """A random batch in double precision; for embeddings, each identity is there at least twice."""
    random = stream(seed, f"contract/{named(task_type)}")
    task = load(task_type)
    prediction, target = task.batch(batch, outputs_per_target, random)
    return Sample(task_type, prediction, target, task.counts, task.weights(random))


def undecided(task_type: str, outputs_per_target: int = 1, player: str = "model") -> Sample:
    """A batch with predictions of zero; where zero has no meaning, a random one.

    A critic starts at zero where it learns, and is there where a generator learns from it.
    """
    sample = at_random(task_type, outputs_per_target)
    silent: Sample | None = load(task_type).undecided(sample, player)
    return sample if silent is None else silent


def extremes(task_type: str, outputs_per_target: int = 1) -> Iterator[Sample]:
    """Every pairing of far predictions with far targets."""
    far = torch.tensor(EXTREMES, dtype=torch.float64)
    for sample in load(task_type).extremes(at_random(task_type, outputs_per_target), far, outputs_per_target):
        yield replace(sample, task_type=task_type)
