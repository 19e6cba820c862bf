"""Autoencoders whose optimum is known: linear ones, which cannot do better than principal components."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from lossbench.core import Split, stream
from lossbench.engine import Nets
from lossbench.models import MLPAutoencoder
from lossbench.verification.claims import Finding, Loss, Losses, near, truth
from lossbench.verification.fitting import info, trained

EXAMPLES, PIXELS, LATENT = 64, 8, 3
NARROW = 0.03  # deviation of pixels around ½, where the decoder's sigmoid is nearly a straight line


@truth(number=9, title="Linear autoencoder", source="Baldi & Hornik 1989; Bourlard & Kamp 1988")
def linear_autoencoder(losses: Losses) -> Iterator[Finding]:
    """The squared error of the best linear autoencoder is the sum of the eigenvalues that its code has no room for."""
    data = _data()
    about = data - data.mean(0)
    expected = torch.linalg.eigvalsh(about.T @ about / EXAMPLES)[: PIXELS - LATENT].sum().item()
    plain = _outputs(losses("mse", "regression"), "regression", data, rate=0.03)
    yield near("mse", expected, _error(plain, data), 1e-3 * expected)
    around = 0.5 + NARROW * data
    logits = _outputs(losses("reconstruction", "autoencoder", pixel="mse"), "autoencoder", around, rate=0.1)
    yield near("reconstruction pixel=mse", expected, _error(logits.sigmoid(), around) / NARROW**2, 1e-2 * expected)


def _outputs(loss: Loss, task_type: str, examples: Tensor, rate: float) -> Tensor:
    """The reconstructions of an autoencoder that is trained to its optimum."""
    split = Split(examples, examples)
    random = stream(0, "truths/autoencoder")
    model = MLPAutoencoder((PIXELS,), PIXELS, random, latent=LATENT, hidden=()).double()
    optimizer = partial(torch.optim.Adam, lr=rate)
    trained(task_type, [loss], [Nets(model=model)], [split], info(task_type, split), steps=3000, optimizer=optimizer)
    with torch.no_grad():
        return model(examples)


def _error(outputs: Tensor, examples: Tensor) -> float:
    return (outputs - examples).square().sum(1).mean().item()


def _data() -> Tensor:
    """Correlated Gaussians with eigenvalues from 4 to .05, shifted from the origin."""
    random = stream(0, "truths/pixels")
    scales = torch.logspace(0.3, -0.65, PIXELS, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(PIXELS, PIXELS, generator=random, dtype=torch.float64))
    return torch.randn(EXAMPLES, PIXELS, generator=random, dtype=torch.float64) * scales @ rotation + 0.3
