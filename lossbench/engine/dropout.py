"""Dropout in a stack: each replica drops what it would drop alone, drawn from its own stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

DIMENSIONS: dict[type[nn.Module], int | None] = {nn.Dropout: None, nn.Dropout1d: 3, nn.Dropout2d: 4, nn.Dropout3d: 5}
"""How many dimensions a layer's input has; layers with a number drop whole channels."""


class Streams:
    """One generator per replica, seeded at each step as the global stream would be if that replica trained alone."""

    def __init__(self, replicas: int) -> None:
        self._generators = [torch.Generator() for _ in range(replicas)]
        self.used = False  # by a layer: without one, no generator needs a seed

    def start(self, numbers: Sequence[int]) -> None:
        """Seed each replica's generator for the next step."""
        if self.used:
            for generator, number in zip(self._generators, numbers, strict=True):
                generator.manual_seed(number)

    def noise(self, keep: float, replicas: int, like: Tensor, shape: Sequence[int]) -> Tensor:
        """0 or 1 / keep, [replica, *shape], in the order in which torch's own dropout draws on a CPU.

        Raises: ValueError where only some of the replicas are called, since it is not known which, and off the CPU.
        """
        if replicas != len(self._generators) or like.device.type != "cpu":
            raise ValueError("dropout in a stack is drawn for all of its replicas, on a CPU")
        drawn = [
            torch.empty(tuple(shape), dtype=like.dtype).bernoulli_(keep, generator=generator)
            for generator in self._generators
        ]
        return torch.stack(drawn).div_(keep)


def drawing_from(streams: Streams, module: nn.Module) -> nn.Module:
    """The module with its dropout layers replaced by ones that draw from these streams."""
    if type(module) in DIMENSIONS:
        return _StackedDropout(module, streams)
    for name, layer in module.named_children():
        setattr(module, name, drawing_from(streams, layer))
    return module


class _StackedDropout(nn.Module):
    """A dropout layer that is called under `vmap` for all replicas of a stack."""

    def __init__(self, layer: nn.Module, streams: Streams) -> None:
        super().__init__()
        self.p: float = layer.p  # type: ignore[assignment]
        self.dimensions = DIMENSIONS[type(layer)]
        self.streams = streams
        self.train(layer.training)
        streams.used = True

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return inputs
        return _Dropped.apply(inputs, self.p, self.dimensions, self.streams)


class _Dropped(torch.autograd.Function):
    """Dropout as a custom function, since only these see under `vmap` which replica is which."""

    @staticmethod
    def forward(inputs: Tensor, p: float, dimensions: int | None, streams: Streams) -> Tensor:
        raise ValueError("dropout in a layer that is called for one replica of a stack")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, inputs: Tensor, p: float, dimensions: int | None, streams: Streams
    ) -> tuple[Tensor, int]:
        replicas = info.batch_size
        inputs = inputs.expand(replicas, *inputs.shape) if in_dims[0] is None else inputs.movedim(in_dims[0], 0)
        shape = inputs.shape[1:]
        if dimensions is not None:
            if len(shape) != dimensions:
                raise ValueError(f"dropout of whole channels in a stack wants {dimensions} dimensions")
            shape = torch.Size((*shape[:2], *(1 for _ in shape[2:])))
        if p == 1:
            return inputs * 0, 0
        return inputs * streams.noise(1 - p, replicas, inputs, shape), 0
