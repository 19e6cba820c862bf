"""The global random streams of torch, NumPy and Python, for modules that draw from them rather than from a generator.

A network with torch's own initialisers, dropout, or a loss with random centres takes no generator. So the global
streams are seeded from the run's seed wherever such code runs, and restored afterwards.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

LARGEST = 2**32  # NumPy takes seeds below it
STRIDE = 0x9E3779B9  # odd, so that steps run through all seeds before one returns


@contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Inside, the global streams start from this seed and purpose; afterwards they continue as if nothing was drawn."""
    before, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    start(number(seed, purpose))
    try:
        yield
    finally:
        torch.set_rng_state(before)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        if on_cuda:
            torch.cuda.set_rng_state_all(on_cuda)


def start(at: int) -> None:
    """Seed every global stream with this number; torch's own `manual_seed` takes a hundred times as long."""
    torch.default_generator.manual_seed(at)
    np.random.seed(at)  # noqa: NPY002
    random.seed(at)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(at)


def number(seed: int, purpose: str) -> int:
    """The number from which the global streams start for a seed and a purpose."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")


def of_step(first: int, done: int) -> int:
    """The number for the step after `done` steps; each starts afresh, so that no step's draws shift the next."""
    return (first + done * STRIDE) % LARGEST
