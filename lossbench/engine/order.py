"""Which examples each step sees."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(examples: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions [size] of one batch after another, without end.

    One permutation follows another and batches cut across their seams, so that every batch is full and every
    example is seen once before any is seen again.
    """
    waiting = torch.randperm(examples, generator=generator)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(examples, generator=generator)])
        whole = len(waiting) // size * size
        yield from waiting[:whole].split(size)
        waiting = waiting[whole:]
