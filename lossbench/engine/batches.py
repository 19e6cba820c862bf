"""Which examples each step gets, and the noise that is drawn for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, islice

import torch
from torch import Tensor

from lossbench.core import Split, Targets, stream

AHEAD = 64  # steps whose positions are drawn and moved to the device at once


def batches(examples: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions [size] of one batch after another, without end.

    One permutation follows another and a batch may span two of them, so that every batch is full and every
    example comes once before any comes again.
    """
    waiting = torch.randperm(examples, generator=generator)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(examples, generator=generator)])
        whole = len(waiting) // size * size
        yield from waiting[:whole].split(size)
        waiting = waiting[whole:]


def grouped(groups: Tensor, size: int, each: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions of batches with `each` examples of each of size / each groups; a smaller group repeats its examples.

    Shapes: groups [n], the group of each example; result [size].
    """
    members = [(groups == group).nonzero().flatten() for group in groups.unique()]
    while True:
        drawn = []
        for group in torch.randperm(len(members), generator=generator)[: size // each].tolist():
            own = members[group]
            times = -(-each // len(own))
            drawn += [own[torch.randperm(len(own), generator=generator)] for _ in range(times - 1)]
            drawn.append(own[torch.randperm(len(own), generator=generator)[: each - (times - 1) * len(own)]])
        yield torch.cat(drawn)


class Batches:
    """The batches of a run [batch, …] or of a stack [replica, batch, …], from a step on.

    Replicas that share data and seed share their draws. With `per_class`, that many examples of a target come together.

    Raises: ValueError where some of the splits have weights and others have none.
    """

    def __init__(
        self, splits: Sequence[Split], seeds: Sequence[int], size: int, start: int, per_class: int | None = None
    ) -> None:
        self._alone = len(splits) == 1
        distinct = {id(split): split for split in splits}
        lengths = [len(split) for split in distinct.values()]
        starts = dict(zip(distinct, accumulate(lengths, initial=0), strict=False))
        inputs = _joined([split.inputs for split in distinct.values()])
        same = all(split.targets is split.inputs for split in distinct.values())
        targets = inputs if same else _joined_targets(list(distinct.values()))
        self._pool = Split(inputs, targets, weights=_joined_weights(list(distinct.values())))
        keys = [(id(split), seed) for split, seed in zip(splits, seeds, strict=True)]
        drawn = {key: distinct[key[0]] for key in keys}
        device = self._pool.inputs.device
        self._draw = torch.tensor([list(drawn).index(key) for key in keys], device=device)
        self._first = torch.tensor([[starts[split]] for split, _ in keys], device=device)

        def order(split: Split, seed: int) -> Iterator[Tensor]:
            random = stream(seed, "order")
            if per_class is None:
                return batches(len(split), size, random)
            return grouped(split.targets.cpu(), size, per_class, random)

        self._positions = _ahead(
            [islice(order(split, seed), start, None) for (_, seed), split in drawn.items()], device
        )

    def __next__(self) -> Split:
        positions = next(self._positions)
        if self._alone:
            return self._pool[positions[0]]
        positions = positions[self._draw] + self._first
        return self._pool[positions.flatten()].each(lambda tensor: tensor.unflatten(0, positions.shape))


class Noise:
    """Standard normal and uniform numbers of a step, from each replica's seed; replicas of one seed share them.

    Every step starts a stream of its own, so that what a loss draws in one step does not shift the next, and a run
    that is resumed needs no more than its number of steps.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, purpose: str = "noise") -> None:
        self._alone = len(seeds) == 1
        self._seeds = tuple(seeds)
        self._device = device
        self._purpose = purpose
        self._streams: dict[int, torch.Generator] = {}
        self._parts: dict[tuple[int, int | None], Noise] = {}
        self.done = 0

    def at(self, done: int) -> Noise:
        """This noise for the step after `done` steps."""
        self.done = done
        self._streams = {}
        self._parts = {}
        return self

    def own(self) -> Noise:
        """Noise for what only a loss draws in this step, so that it does not shift what all losses share."""
        noise = Noise(self._seeds, self._device, f"{self._purpose}/loss").at(self.done)
        noise._alone = self._alone
        return noise

    def only(self, part: slice | int) -> Noise:
        """Noise of some of the replicas, or of one; within a step, the same part continues its own stream."""
        key = (part.start, part.stop) if isinstance(part, slice) else (part, None)
        if key not in self._parts:
            seeds = self._seeds[part] if isinstance(part, slice) else (self._seeds[part],)
            noise = Noise(seeds, self._device, self._purpose).at(self.done)
            noise._alone = isinstance(part, int)
            noise._streams = {seed: g.clone_state() for seed, g in self._streams.items() if seed in seeds}
            self._parts[key] = noise
        return self._parts[key]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers: [*shape] for one replica, [replica, *shape] for a stack."""
        return self._each(lambda generator: torch.randn(shape, generator=generator))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers from [0, 1), in the shapes of `normal`."""
        return self._each(lambda generator: torch.rand(shape, generator=generator))

    def _each(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        drawn = {seed: draw(self._stream(seed)) for seed in dict.fromkeys(self._seeds)}
        if self._alone:
            return drawn[self._seeds[0]].to(self._device)
        return torch.stack([drawn[seed] for seed in self._seeds]).to(self._device)

    def _stream(self, seed: int) -> torch.Generator:
        if seed not in self._streams:
            self._streams[seed] = stream(seed, f"{self._purpose}/{self.done}")
        return self._streams[seed]


def _ahead(streams: Sequence[Iterator[Tensor]], device: torch.device) -> Iterator[Tensor]:
    """Positions [stream, batch] of each step, drawn and moved to the device many steps at a time."""
    while True:
        drawn = torch.stack([torch.stack(list(islice(positions, AHEAD))) for positions in streams], 1)
        yield from drawn.to(device).unbind()


def _joined_targets(splits: Sequence[Split]) -> Targets:
    first = splits[0].targets
    if isinstance(first, Mapping):
        return {name: _joined([split.targets[name] for split in splits]) for name in first}
    return _joined([split.targets for split in splits])


def _joined_weights(splits: Sequence[Split]) -> Tensor | None:
    weights = [split.weights for split in splits if split.weights is not None]
    if len(weights) not in (0, len(splits)):
        raise ValueError("the splits of a stack have to have weights, all of them or none")
    return _joined(weights) if weights else None


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
