"""Metrics of generated samples: distances between them and real examples as point clouds, and their overlap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROWS = 1024  # of a table of distances that is held at once


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Wasserstein-2 distance of the two clouds, each taken for a Gaussian.

    ‖μ − μ'‖² + Tr(Σ + Σ' − 2(Σ½ Σ' Σ½)½)

    Shapes: real [n, features], fake [m, features]; result ≥ 0, in the squared unit of the features.
    Reference: Heusel et al., GANs trained by a two time-scale update rule, 2017, https://arxiv.org/abs/1706.08500
    """
    a, b = real.double(), fake.double()
    here, there = (torch.atleast_2d(torch.cov(cloud.T)) for cloud in (a, b))
    root = _root(here)
    # of a symmetric product, so that no part of an eigenvalue is imaginary
    overlap = torch.linalg.eigvalsh(root @ there @ root).clamp(min=0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum() + here.trace() + there.trace() - 2 * overlap
    return max(0.0, apart.item())


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Squared maximum mean discrepancy under a cubic kernel, estimated without bias: it may fall below 0.

    mean k(x, x') + mean k(y, y') − 2 mean k(x, y) over distinct pairs,  k(x, y) = (x·y/features + 1)³

    Shapes: real [n, features], fake [m, features].
    Reference: Bińkowski et al., Demystifying MMD GANs, 2018, https://arxiv.org/abs/1801.01401
    """
    a, b = real.double(), fake.double()
    return (_pairs(a, a, distinct=True) + _pairs(b, b, distinct=True) - 2 * _pairs(a, b)).item()


def precision_recall(real: Tensor, fake: Tensor, *, neighbours: int = 3) -> tuple[float, float]:
    """The share of fakes within reach of a real example, and of real examples within reach of a fake.

    An example reaches as far as its k-th nearest neighbour in its own cloud.

    Shapes: real [n, features], fake [m, features]; result two shares.
    Reference: Kynkäänniemi et al., Improved precision and recall metric for assessing generative models, 2019,
        https://arxiv.org/abs/1904.06991
    """
    return _within(fake, real, neighbours), _within(real, fake, neighbours)


def spread(cloud: Tensor, *, most: int = 1000) -> float:
    """Mean distance between two of the first points of a cloud [n, features], in the unit of the features."""
    few = cloud[:most].double()
    return (torch.cdist(few, few).sum() / (len(few) * max(1, len(few) - 1))).item()


def parzen_nll(points: Tensor, samples: Tensor, *, width: float) -> float:
    """Mean negative log-likelihood, in nats, of points under Gaussians of one width around each sample.

    Shapes: points [n, dimensions], samples [m, dimensions].
    Reference: Parzen, On estimation of a probability density function and mode, 1962,
        https://doi.org/10.1214/aoms/1177704472
    """
    a, b = points.double(), samples.double()
    logs = torch.cat([(-torch.cdist(rows, b).square() / (2 * width**2)).logsumexp(1) for rows in a.split(ROWS)])
    norm = math.log(len(b)) + a.shape[1] * math.log(width * math.sqrt(2 * math.pi))
    return norm - logs.mean().item()


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _pairs(a: Tensor, b: Tensor, *, distinct: bool = False) -> Tensor:
    """Mean of the kernel over pairs of a and b, those of an example with itself left out where asked."""
    total = sum((((rows @ b.T) / a.shape[1] + 1) ** 3).sum() for rows in a.split(ROWS))
    if not distinct:
        return torch.as_tensor(total) / (len(a) * len(b))
    itself = ((a.square().sum(1) / a.shape[1] + 1) ** 3).sum()
    return (torch.as_tensor(total) - itself) / (len(a) * (len(a) - 1))


def _within(cloud: Tensor, around: Tensor, neighbours: int) -> float:
    """The share of a cloud that lies within reach of an example around."""
    k = min(neighbours, len(around) - 1) + 1  # the nearest of all is itself
    reach = torch.cat([torch.cdist(rows, around).kthvalue(k, 1).values for rows in around.split(ROWS)])
    inside = [(torch.cdist(rows, around) <= reach).any(1) for rows in cloud.split(ROWS)]
    return torch.cat(inside).double().mean().item()
