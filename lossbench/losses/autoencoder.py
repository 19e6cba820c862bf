"""Losses of autoencoders: sums over pixels and latent units, as likelihoods are.

They are called on a `Code` (posterior, decoder and noise) and the pixels [..., batch, pixels] in 0 … 1. The decoder
gives logits ℓ; the picture that they stand for is x̂ = σ(ℓ), whatever the loss of a pixel.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossbench.core import ConfigError, LossOutput, card, require
from lossbench.core.latent_code import LatentCode

PixelLoss = Literal["bce", "mse", "l1"]
MMD_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, which is a sum over them


@card(task_types=("autoencoder",), replica_batched=True)
def reconstruction(code: LatentCode, target: Tensor, *, pixel: PixelLoss = "bce") -> LossOutput:
    """Plain autoencoder: the error of the picture decoded from the posterior's mean; nothing shapes the latents.

    Σ_pixels d(x, x̂(μ)),  d as in elbo

    Shapes: code of a batch, target x [..., batch, pixels]; result [..., batch], in nats for bce.
    Use it when: you want codes to compress with, or a bound on how well a decoder could do.
    Beware: neither the posterior's width nor its match with the prior is trained, so samples from the prior are noise.
    Reference: Rumelhart et al., Learning representations by back-propagating errors, 1986,
        https://doi.org/10.1038/323533a0
    """
    picture = pixels(code.decode(code.mean), target, pixel)
    return LossOutput(picture, {"reconstruction": picture, "kl": code.divergence().sum(-1)})


@card(task_types=("autoencoder",), replica_batched=True)
def kl(code: LatentCode, target: Tensor) -> LossOutput:
    """Divergence of the posterior from the standard normal prior, alone: the part of an elbo that its latents cost.

    KL(q‖p) = ½ Σ_units (μ² + σ² − 1 − log σ²)

    Shapes: code of a batch, target x [..., batch, pixels], which is not used; result [..., batch], in nats.
    Use it when: you want to see a posterior collapse; the other end of elbo's trade from reconstruction.
    Beware: its minimum is a posterior that ignores the picture.
    Reference: Kingma & Welling, Auto-encoding variational Bayes, 2014, https://arxiv.org/abs/1312.6114
    """
    divergence = code.divergence().sum(-1)
    return LossOutput(divergence, {"kl": divergence})


@card(task_types=("autoencoder",), replica_batched=True, search={"beta": (0.1, 10.0), "free_bits": (0.0, 1.0)})
def elbo(
    code: LatentCode,
    target: Tensor,
    *,
    reconstruction: PixelLoss = "bce",
    beta: float = 1.0,
    free_bits: float = 0.0,
    warm_up: int = 0,
) -> LossOutput:
    """Evidence lower bound, negated: how well one sampled latent explains the picture, plus what its code costs.

    Σ_pixels d(x, x̂(z)) + β_t Σ_units max(λ, KL_unit),  z ~ q;  β_t = β·min(1, step / warm_up),  λ = free_bits

    d is bce: −x log x̂ − (1−x) log(1−x̂); mse: (x − x̂)², a Gaussian of variance ½; l1: |x − x̂|, a Laplacian of scale 1.

    Shapes: code of a batch, target x [..., batch, pixels]; result [..., batch], in nats (mse, l1: up to a constant).
    Use it when: you want a generative model with a likelihood; β > 1 for few and separate factors, β < 1 for detail.
    Beware: with mse the pixels of a digit weigh little against the divergence, so units collapse that bce keeps.
        Free bits apply to each unit of each example; the paper averages over the batch first.
    Reference: Kingma & Welling 2014, https://arxiv.org/abs/1312.6114; β: Higgins et al. 2017,
        https://openreview.net/forum?id=Sy2fzU9gl; free bits: Kingma et al. 2016, https://arxiv.org/abs/1606.04934
    """
    *_, logits = code.draw(1)
    picture = pixels(logits.squeeze(-2), target, reconstruction)
    return bounded(code, picture, beta, free_bits, warm_up)


@card(task_types=("autoencoder",), search={"beta": (0.1, 10.0)})
class GaussianElbo(nn.Module):
    """Evidence lower bound of a Gaussian decoder with one σ for all pixels, learned unless it is set.

    Σ_pixels [(x − x̂(z))² / 2σ² + log σ + ½ log 2π] + β_t KL(q‖p),  σ = floor + softplus(ρ), ρ learned from 0

    With σ² set to ½ it is elbo with mse, up to a constant.

    Shapes: code of a batch, target x [batch, pixels]; result [batch], in nats.
    Use it when: pixels are real numbers rather than black or white, and you would otherwise have to tune mse's weight.
    Beware: where pixels hardly vary, a learned σ falls to its floor (.01) and the likelihood grows without meaning. A
        fixed σ weighs pixels against codes as β does. Never compare it with a Bernoulli likelihood.
    Reference: Rybkin et al., Simple and effective VAE training with calibrated decoders, 2021,
        https://arxiv.org/abs/2006.13202
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        free_bits: float = 0.0,
        warm_up: int = 0,
        floor: float = 0.01,
        sigma: float | None = None,
    ) -> None:
        super().__init__()
        require("loss.floor", floor, lambda v: v > 0, "the least σ, above 0")
        if sigma is not None:
            require("loss.sigma", sigma, lambda v: v > 0, "above 0, or null to be learned")
        self.settings = (beta, free_bits, warm_up)
        self.floor, self.sigma = floor, sigma
        self.rho = nn.Parameter(torch.zeros(())) if sigma is None else None

    def forward(self, code: LatentCode, target: Tensor) -> LossOutput:
        """The bound for each example, [batch], with its parts and σ."""
        *_, logits = code.draw(1)
        sigma = logits.new_tensor(self.sigma) if self.rho is None else self.floor + F.softplus(self.rho)
        squares = (target - logits.squeeze(-2).sigmoid()).square() / (2 * sigma.square())
        bound = bounded(code, (squares + sigma.log() + 0.5 * math.log(2 * math.pi)).sum(-1), *self.settings)
        return LossOutput(bound.per_example, {**bound.parts, "sigma": sigma.expand(bound.per_example.shape)})


@card(task_types=("autoencoder",), replica_batched=True)
def iwae(code: LatentCode, target: Tensor, *, samples: int = 5, reconstruction: PixelLoss = "bce") -> LossOutput:
    """Importance-weighted bound, negated: the logarithm of the mean weight of k samples.

    −log ( 1/k Σ_i p(x|z_i) p(z_i) / q(z_i|x) ),  z_i ~ q,  −log p(x|z) = Σ_pixels d(x, x̂(z)) as in elbo

    Shapes: code of a batch, target x [..., batch, pixels]; result [..., batch], in nats.
    Use it when: the likelihood is what counts; with k = 1 it is the elbo with a sampled divergence.
    Beware: takes k times the decoder's work, and for large k noise dominates the encoder's gradient.
    Reference: Burda et al., Importance weighted autoencoders, 2016, https://arxiv.org/abs/1509.00519
    """
    require("loss.samples", samples, lambda v: v >= 1 and v % 1 == 0, "a whole number, at least 1")
    noise, latent, logits = code.draw(samples)
    picture = pixels(logits, target.unsqueeze(-2), reconstruction)
    bound = -(code.log_ratio(noise, latent) - picture).logsumexp(-1) + math.log(samples)
    return LossOutput(bound, {"reconstruction": picture.mean(-1), "kl": code.divergence().sum(-1)})


@card(task_types=("autoencoder",), batch=True, search={"penalty": (1.0, 1000.0)})
def mmd_wae(
    code: LatentCode, target: Tensor, *, reconstruction: PixelLoss = "mse", penalty: float = 10.0, scale: float = 1.0
) -> LossOutput:
    """Wasserstein autoencoder: the codes of a batch together should look like the prior; a single one may be anywhere.

    Σ_pixels d(x, x̂(z)) + λ·MMD²(z, z'),  z ~ q, z' ~ p;  d as in elbo, λ = penalty

    MMD² = mean_{i≠j} k(z_i, z_j) + mean_{i≠j} k(z'_i, z'_j) − 2·mean_{i,j} k(z_i, z'_j), unbiased, with the inverse
    multiquadratic kernel k(a, b) = Σ_s C_s / (C_s + |a − b|²), C_s = 2·units·scale·s, s = .1, .2, .5, 1, 2, 5, 10.

    Shapes: code of a batch of 2 or more, target x [batch, pixels]; result [batch]: the loss of each picture's pixels
        plus the penalty, which is the same for all.
    Use it when: elbo's codes blur or collapse, and you want pictures from the prior rather than a likelihood.
    Beware: nothing keeps a posterior wide, so its likelihood is poor. The unbiased MMD² may be below 0. Small batches
        say little about many units. The paper's λ is 10, and its code multiplies the squares by .05.
    Reference: Tolstikhin et al., Wasserstein auto-encoders, 2018, https://arxiv.org/abs/1711.01558; sampled codes:
        Zhao et al., InfoVAE, 2019, https://arxiv.org/abs/1706.02262
    """
    require("loss.penalty", penalty, lambda v: v >= 0, "0 or above")
    require("loss.scale", scale, lambda v: v > 0, "above 0")
    require(
        "train.batch_size", target.shape[-2], lambda v: v >= 2, "2 or more: the loss compares codes with each other"
    )
    _, latent, logits = code.draw(1)
    z = latent.squeeze(-2)
    squared_mmd = discrepancy(z, code.noise.normal(*z.shape[-2:]).to(z.dtype), scale)
    picture = pixels(logits.squeeze(-2), target, reconstruction)
    parts = {
        "reconstruction": picture,
        "kl": code.divergence().sum(-1),
        "mmd": squared_mmd.unsqueeze(-1).expand_as(picture),
    }
    return LossOutput(picture + penalty * squared_mmd.unsqueeze(-1), parts)


def discrepancy(one: Tensor, other: Tensor, scale: float) -> Tensor:
    """Unbiased MMD², with the kernel of mmd_wae: samples [..., n, units] each; result [...]."""
    n, units = one.shape[-2:]

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squares = (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)
        return torch.stack([1 / (1 + squares / (2 * units * scale * s)) for s in MMD_SCALES]).sum(0)

    within = (kernel(one, one) + kernel(other, other)).sum((-2, -1)) - 2 * n * len(MMD_SCALES)  # k(z, z) is 1 a scale
    return within / (n * (n - 1)) - 2 * kernel(one, other).mean((-2, -1))


def pixels(logits: Tensor, target: Tensor, name: PixelLoss) -> Tensor:
    """Σ_pixels d(x, x̂): logits and target [..., pixels]; result [...]. Raises: ConfigError for an unknown name."""
    if name == "bce":
        return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none").sum(-1)
    if name == "mse":
        return (target - logits.sigmoid()).square().sum(-1)
    if name == "l1":
        return (target - logits.sigmoid()).abs().sum(-1)
    raise ConfigError(f"loss: pixel loss {name}: unknown; choose bce, mse or l1")


def bounded(code: LatentCode, picture: Tensor, beta: float, free_bits: float, warm_up: int) -> LossOutput:
    """The loss of the pixels plus the weighted divergence, with both as parts to record."""
    for name, value in (("beta", beta), ("free_bits", free_bits), ("warm_up", warm_up)):
        require(f"loss.{name}", value, lambda v: v >= 0, "0 or above")
    divergence = code.divergence()
    weight = beta * min(1.0, (code.noise.done + 1) / warm_up) if warm_up else beta
    counted = divergence.clamp(min=free_bits) if free_bits else divergence
    return LossOutput(picture + weight * counted.sum(-1), {"reconstruction": picture, "kl": divergence.sum(-1)})
