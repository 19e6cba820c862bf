"""Autoencoders: an encoder to the mean and log-variance of a Gaussian a latent unit, and a decoder back to logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from lossbench.core import ConfigError
from lossbench.models.initial import initialise


class MLPAutoencoder(nn.Module):
    """Linear layers with ReLU between them, mirrored.

    Shapes: `encoder` takes [batch, *inputs] and gives [batch, 2·latent], means before log-variances; `decoder` takes
    [batch, latent] and gives [batch, pixels].
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        *,
        latent: int = 20,
        hidden: Sequence[int] = (400,),
    ) -> None:
        super().__init__()
        self.latent = latent
        pixels = math.prod(inputs)
        self.encoder = nn.Sequential(nn.Flatten(), *_linear([pixels, *hidden, 2 * latent]))
        self.decoder = nn.Sequential(*_linear([latent, *reversed(hidden), pixels]))
        initialise(self, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits of the picture decoded from the posterior's mean."""
        return self.decoder(self.encoder(inputs)[..., : self.latent])


class ConvAutoencoder(nn.Module):
    """3×3 convolutions of stride 2 down to the latents; up again by doubling pixels before each convolution.

    Doubling rather than transposed convolutions, whose strides leave a checkerboard.

    Shapes: `encoder` takes [batch, channels, height, width] and gives [batch, 2·latent], means before log-variances;
    `decoder` takes [batch, latent] and gives [batch, channels, height, width].
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        *,
        latent: int = 20,
        widths: Sequence[int] = (16, 32),
    ) -> None:
        super().__init__()
        if len(inputs) != 3:
            raise ConfigError(
                f"model=vae_conv: wants images [channels, height, width], the dataset gives {list(inputs)}"
            )
        self.latent = latent
        channels, height, width = inputs
        self.encoder, size = down([channels, *widths], (height, width), 2 * latent)
        self.decoder = Up(latent, [*reversed(widths), channels], (height, width), size)
        initialise(self, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits of the picture decoded from the posterior's mean."""
        return self.decoder(self.encoder(inputs)[..., : self.latent])


class Up(nn.Module):
    """From a vector to an image: a linear layer, then convolutions, each on an image of twice the side.

    Shapes: vectors [batch, latent]; result [batch, channels, height, width].
    """

    def __init__(
        self, latent: int, widths: Sequence[int], size: tuple[int, int], start: tuple[int, int], *, norm: bool = False
    ) -> None:
        super().__init__()
        self.size, self.start, self.first = size, start, widths[0]
        self.linear: nn.Linear = skip_init(nn.Linear, latent, widths[0] * math.prod(start))
        pairs = list(pairwise(widths))
        self.convolutions = nn.ModuleList(skip_init(nn.Conv2d, a, b, kernel_size=3, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, a), a) if norm else nn.Identity() for a, _ in pairs)

    def forward(self, latent: Tensor) -> Tensor:
        """Images [batch, channels, height, width] from vectors [batch, latent]."""
        image = self.linear(latent).unflatten(-1, (self.first, *self.start))
        last = len(self.convolutions) - 1
        for index, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            image = F.interpolate(norm(image).relu(), scale_factor=2)
            if index == last:
                image = image[..., : self.size[0], : self.size[1]]
            image = convolution(image)
        return image


def down(
    widths: Sequence[int], size: tuple[int, int], outputs: int, activation: type[nn.Module] = nn.ReLU
) -> tuple[nn.Sequential, tuple[int, int]]:
    """Convolutions of stride 2 and a linear layer, and the size of the image that this layer sees."""
    layers: list[nn.Module] = []
    height, width = size
    for channels, following in pairwise(widths):
        layers += [skip_init(nn.Conv2d, channels, following, kernel_size=3, stride=2, padding=1), activation()]
        height, width = (height + 1) // 2, (width + 1) // 2
    linear: nn.Linear = skip_init(nn.Linear, widths[-1] * height * width, outputs)
    return nn.Sequential(*layers, nn.Flatten(), linear), (height, width)


def _linear(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [skip_init(nn.Linear, width, following), nn.ReLU()]
    return layers[:-1]
