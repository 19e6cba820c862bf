"""The latent code of an autoencoder: shared by its losses and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.core.task import Noise


@dataclass(frozen=True)
class LatentCode:
    """One Gaussian per latent unit, and the decoder of latents.

    Shapes: mean and log_variance [..., batch, latent]; the decoder returns logits of pixels, [..., batch, …].
    """

    mean: Tensor
    log_variance: Tensor
    decoder: Callable[[Tensor], Tensor]
    noise: Noise

    def draw(self, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noise and its latents, both [..., batch, samples, latent], and logits [..., batch, samples, pixels].

        A smaller number of samples gives the first of a larger one.
        """
        shape = self.mean.shape[-2:]
        noise = torch.stack([self.noise.normal(*shape) for _ in range(samples)], -2).to(self.mean.dtype)
        latent = self.mean.unsqueeze(-2) + (0.5 * self.log_variance).exp().unsqueeze(-2) * noise
        return noise, latent, self.decode(latent.flatten(-3, -2)).unflatten(-2, (shape[0], samples))

    def decode(self, latent: Tensor) -> Tensor:
        """Logits [..., n, pixels] of latents [..., n, latent]."""
        return self.decoder(latent).flatten(latent.dim() - 1)

    def divergence(self) -> Tensor:
        """KL of each unit's Gaussian from the standard normal, [..., batch, latent], in nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)

    def log_ratio(self, noise: Tensor, latent: Tensor) -> Tensor:
        """log p(z) − log q(z|x) of latents [..., batch, samples, latent] and their noise; [..., batch, samples].

        Computed from the noise, since (z − μ) / σ of a narrow Gaussian loses all digits to rounding.
        """
        return 0.5 * (noise.square() + self.log_variance.unsqueeze(-2) - latent.square()).sum(-1)
