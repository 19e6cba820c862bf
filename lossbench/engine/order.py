"""Which examples each step sees, and the noise that is drawn for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

import torch
from torch import Tensor

from lossbench.core import Split, stream

AHEAD = 64  # steps whose positions are drawn and moved to the device at once


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


class Batches:
    """The batches of a run [batch, …] or of a stack [replica, batch, …], from a step on.

    Replicas that share data and seed share their draws.
    """

    def __init__(self, splits: Sequence[Split], seeds: Sequence[int], size: int, start: int) -> None:
        self._alone = len(splits) == 1
        distinct = {id(split): split for split in splits}
        lengths = [len(split) for split in distinct.values()]
        starts = dict(zip(distinct, accumulate(lengths, initial=0), strict=False))
        self._pool = Split(
            _joined([split.inputs for split in distinct.values()]),
            _joined([split.targets for split in distinct.values()]),
        )
        keys = [(id(split), seed) for split, seed in zip(splits, seeds, strict=True)]
        drawn = {key: distinct[key[0]] for key in keys}
        device = self._pool.inputs.device
        self._draw = torch.tensor([list(drawn).index(key) for key in keys], device=device)
        self._first = torch.tensor([[starts[split]] for split, _ in keys], device=device)
        self._positions = _ahead(
            [
                islice(batches(len(split), size, stream(seed, "order")), start, None)
                for (_, seed), split in drawn.items()
            ],
            device,
        )

    def __next__(self) -> Split:
        positions = next(self._positions)
        if self._alone:
            return self._pool[positions[0]]
        positions = positions[self._draw] + self._first
        flat = self._pool[positions.flatten()]
        return Split(flat.inputs.unflatten(0, positions.shape), flat.targets.unflatten(0, positions.shape))


class Noise:
    """Standard normal and uniform numbers from each replica's generator; replicas of one seed share them."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._alone = len(seeds) == 1
        self.generators = {seed: stream(seed, "noise") for seed in seeds}
        self._seeds = tuple(seeds)
        self._device = device

    def normal(self, *shape: int) -> Tensor:
        """[*shape] for one replica, [replica, *shape] for a stack."""
        return self._each({seed: torch.randn(shape, generator=g) for seed, g in self.generators.items()})

    def uniform(self, *shape: int) -> Tensor:
        """As `normal`, from [0, 1)."""
        return self._each({seed: torch.rand(shape, generator=g) for seed, g in self.generators.items()})

    def _each(self, drawn: dict[int, Tensor]) -> Tensor:
        if self._alone:
            return drawn[self._seeds[0]].to(self._device)
        return torch.stack([drawn[seed] for seed in self._seeds]).to(self._device)


def _ahead(streams: Sequence[Iterator[Tensor]], device: torch.device) -> Iterator[Tensor]:
    """Positions [stream, batch] a step, drawn and moved many steps at a time."""
    while True:
        drawn = torch.stack([torch.stack(list(islice(positions, AHEAD))) for positions in streams], 1)
        yield from drawn.to(device).unbind()


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
