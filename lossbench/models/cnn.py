"""A small convolutional network for images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from lossbench.core import ConfigError
from lossbench.models.initial import initialise


class CNN(nn.Module):
    """3×3 convolutions of stride 2, each halving the image, then one linear layer.

    Strides rather than max-pooling, which costs more than the convolutions on a CPU (a step: 6.2 against 32.6 ms).
    Group normalisation or none, never batch normalisation: its running statistics would tie a stack's replicas.

    Shapes: inputs [batch, channels, height, width]; result [batch, outputs].
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        *,
        widths: Sequence[int] = (16, 32, 64),
        norm: Literal["none", "group"] = "none",
    ) -> None:
        super().__init__()
        if len(inputs) != 3:
            raise ConfigError(f"model=cnn: wants images [channels, height, width], the dataset gives {list(inputs)}")
        if norm not in ("none", "group"):
            raise ConfigError(f"model.norm={norm}: unknown; choose none or group")
        channels, height, width = inputs
        layers: list[nn.Module] = []
        for following in widths:
            layers.append(skip_init(nn.Conv2d, channels, following, kernel_size=3, stride=2, padding=1))
            if norm == "group":
                layers.append(nn.GroupNorm(math.gcd(8, following), following))
            layers.append(nn.ReLU())
            channels, height, width = following, (height + 1) // 2, (width + 1) // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head: nn.Linear = skip_init(nn.Linear, channels * height * width, outputs)
        initialise(self, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [batch, outputs] for images [batch, channels, height, width]."""
        return self.head(self.body(inputs))
