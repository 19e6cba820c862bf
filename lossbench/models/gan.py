"""Two players: a generator from noise, and a critic that gives a score; for images, and for points of the plane."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from lossbench.core import ConfigError
from lossbench.models.autoencoder import Up, down
from lossbench.models.initial import initialise


def gan(
    inputs: Sequence[int],
    outputs: int,
    generator: torch.Generator,
    *,
    latent: int = 64,
    widths: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (128, 128),
) -> dict[str, nn.Module]:
    """A critic and a generator that fit the data: convolutions of `widths` for images, `hidden` layers for vectors.

    Raises: ConfigError for data that are neither.
    """
    if len(inputs) not in (1, 3):
        raise ConfigError(
            f"model=gan: wants images [channels, height, width] or vectors [size], the dataset gives {list(inputs)}"
        )
    if len(inputs) == 3:
        players = {"critic": ImageCritic(inputs, widths), "generator": ImageGenerator(inputs, latent, widths)}
    else:
        size = inputs[0]
        players = {"critic": Critic(size, hidden), "generator": Generator(size, latent, hidden)}
    for player in players.values():
        initialise(player, generator)
    return players


class ImageCritic(nn.Module):
    """Convolutions of stride 2 with leaky ReLU and no normalisation, which would tie the examples of a batch.

    Shapes: images [batch, channels, height, width]; result [batch].
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = inputs
        self.body, _ = down([channels, *widths], (height, width), 1, _Leaky)

    def forward(self, images: Tensor) -> Tensor:
        """Scores [batch] of images [batch, channels, height, width]."""
        return self.body(images).squeeze(-1)


class ImageGenerator(nn.Module):
    """The critic reversed: from noise to an image in 0 … 1, with group normalisation.

    Shapes: noise [batch, latent]; result [batch, channels, height, width].
    """

    def __init__(self, inputs: Sequence[int], latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.latent = latent
        channels, height, width = inputs
        start = (height, width)
        for _ in widths:
            start = ((start[0] + 1) // 2, (start[1] + 1) // 2)
        self.body = Up(latent, [*reversed(widths), channels], (height, width), start, norm=True)

    def forward(self, noise: Tensor) -> Tensor:
        """Images [batch, channels, height, width] in 0 … 1 from noise [batch, latent]."""
        return self.body(noise).sigmoid()


class Critic(nn.Module):
    """Linear layers with leaky ReLU. Shapes: vectors [batch, size]; result [batch]."""

    def __init__(self, size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.body = _layers([size, *hidden, 1])

    def forward(self, vectors: Tensor) -> Tensor:
        """Scores [batch] of vectors [batch, size]."""
        return self.body(vectors).squeeze(-1)


class Generator(nn.Module):
    """Linear layers with leaky ReLU. Shapes: noise [batch, latent]; result [batch, size]."""

    def __init__(self, size: int, latent: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.latent = latent
        self.body = _layers([latent, *hidden, size])

    def forward(self, noise: Tensor) -> Tensor:
        """Vectors [batch, size] from noise [batch, latent]."""
        return self.body(noise)


class _Leaky(nn.LeakyReLU):
    def __init__(self) -> None:
        super().__init__(0.2)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [skip_init(nn.Linear, width, following), _Leaky()]
    return nn.Sequential(*layers[:-1])
