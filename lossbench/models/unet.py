"""A small U-Net: a value for every pixel of an image of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from lossbench.core import ConfigError
from lossbench.models.initial import initialise


class UNet(nn.Module):
    """Convolutions of stride 2 down; up, nearest-neighbour upsampling concatenated with the features of the same size.

    One 3×3 convolution per level and direction. Group normalisation, without which Dice hardly starts, or none;
    never batch normalisation: its running statistics would tie a stack's replicas.

    Shapes: inputs [batch, channels, height, width]; result [batch, height, width] for one output, else
        [batch, outputs, height, width].
    Reference: Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, 2015,
        https://arxiv.org/abs/1505.04597 (there two convolutions a level, max-pooling and transposed convolutions)
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        *,
        widths: Sequence[int] = (8, 16, 32, 64),
        norm: Literal["none", "group"] = "group",
    ) -> None:
        super().__init__()
        if len(inputs) != 3:
            raise ConfigError(f"model=unet: wants images [channels, height, width], the dataset gives {list(inputs)}")
        if norm not in ("none", "group"):
            raise ConfigError(f"model.norm={norm}: unknown; choose none or group")
        if not widths:
            raise ConfigError("model.widths=[]: a U-Net has at least one level; [8,16,32,64] is the default")
        self.down = nn.ModuleList([_layer(inputs[0], widths[0], 1, norm)])
        self.down.extend(_layer(above, width, 2, norm) for above, width in pairwise(widths))
        self.middle = _layer(widths[-1], widths[-1], 1, norm)
        self.up = nn.ModuleList(
            _layer(below + beside, beside, 1, norm) for below, beside in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head: nn.Conv2d = skip_init(nn.Conv2d, widths[0], outputs, kernel_size=1)
        initialise(self, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs for every pixel of images [batch, channels, height, width]."""
        first, *further = self.down
        levels = [_channels_last(first(inputs))]
        for layer in further:
            levels.append(layer(levels[-1]))
        hidden = self.middle(levels.pop())
        for layer in self.up:
            beside = levels.pop()
            grown = F.interpolate(hidden, size=beside.shape[-2:], mode="nearest")
            hidden = layer(torch.cat([grown, beside], 1))
        return self.head(hidden).squeeze(1)


def _channels_last(images: Tensor) -> Tensor:
    """The same, each pixel's channels beside each other in memory, as the layers after then keep them.

    A step on a CPU takes 45 rather than 70 ms. `to(memory_format=…)` is not known to vmap.
    """
    return images.movedim(-3, -1).contiguous().movedim(-1, -3)


def _layer(before: int, after: int, stride: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = [skip_init(nn.Conv2d, before, after, kernel_size=3, stride=stride, padding=1)]
    if norm == "group":
        layers.append(nn.GroupNorm(math.gcd(8, after), after))
    return nn.Sequential(*layers, nn.ReLU())
