"""A multi-layer perceptron for vectors, and for images laid flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from lossbench.core import ConfigError
from lossbench.models.initial import initialise


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Shapes: inputs [batch, *inputs]; result [batch, outputs].
    """

    def __init__(
        self, inputs: Sequence[int], outputs: int, generator: torch.Generator, *, hidden: Sequence[int] = (64, 64)
    ) -> None:
        super().__init__()
        if outputs < 1:
            raise ConfigError("model=mlp: the dataset asks for no outputs")
        widths = [math.prod(inputs), *hidden]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [skip_init(nn.Linear, width, following), nn.ReLU()]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        self.head: nn.Linear = skip_init(nn.Linear, widths[-1], outputs)
        initialise(self, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [batch, outputs] for inputs [batch, *inputs]."""
        return self.head(self.body(inputs))
