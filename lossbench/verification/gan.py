"""Games of two players that are small enough for their outcome to be known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lossbench.core import Split
from lossbench.engine import Nets, Plan, Replica, fit
from lossbench.runs import builders
from lossbench.verification.claims import Finding, Line, Loss, Losses, Picture, above, below, near, truth
from lossbench.verification.fitting import Free, info

STEPS, RATE = 5000, 0.1
BETWEEN = 5  # steps from one point of a path to the next
SHOWN = 60  # drawn points of a path
UNCLIPPED = 1e6

CIRCLING = {
    "minimax": ("minimax", {}, 1.40),
    "gan_hinge": ("gan_hinge", {}, 1.39),
    "wgan, unclipped": ("wgan", {"clip": UNCLIPPED}, 1.39),
    "non_saturating": ("non_saturating", {}, 0.125),
}
"""Norm of (θ, ψ) at the end, by iteration of the two equations."""


@truth(number=8, title="Dirac-GAN", source="Mescheder et al. 2018, arXiv 1801.04406")
def dirac_gan(losses: Losses) -> Iterator[Finding | Picture]:
    """A generator with one number θ, which should reach 0, against a critic D(x) = ψ·x: after 5,000 alternating steps
    from (1, 1) plain games still circle, and the non-saturating game has slowly come closer; R1 converges; a gradient
    penalty makes θ swing between ±2λ, where it balances the penalty's pull on the critic, and never reach 0."""
    paths = {}
    for name, (loss, settings, expected) in CIRCLING.items():
        paths[name] = _played(losses(loss, "gan", **settings))
        yield near(f"{name}: norm at the end", expected, math.hypot(*paths[name][-1]), 0.01)
    paths["non_saturating, r1=1"] = _played(losses("non_saturating", "gan", r1=1.0))
    norm = math.hypot(*paths["non_saturating, r1=1"][-1])
    yield below("non_saturating, r1=1: norm at the end", 1e-30, norm)
    paths["wgan_gp, λ=1"] = _played(losses("wgan_gp", "gan", penalty=1.0))
    late = paths["wgan_gp, λ=1"][STEPS // BETWEEN // 2 :]
    yield near("wgan_gp, λ=1: largest |θ| of the second half, 2λ", 2.0, max(abs(theta) for theta, _ in late), 0.01)
    yield above("wgan_gp, λ=1: least norm of the second half", 0.5, min(math.hypot(*point) for point in late))
    lines = [Line(name, [x for x, _ in path[:SHOWN]], [y for _, y in path[:SHOWN]]) for name, path in paths.items()]
    yield Picture(
        "The first 300 steps from (1, 1): generator θ and critic ψ, to come to (0, 0)", "θ", "ψ", lines, square=True
    )


class Point(nn.Module):
    """A generator whose samples are all at θ."""

    latent = 1

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, latent: Tensor) -> Tensor:
        """θ for every latent, [batch, 1]."""
        return self.theta.expand(len(latent), 1)


class Slope(nn.Module):
    """A critic D(x) = ψ·x."""

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        """ψ·x of points [batch, 1], [batch]."""
        return (points * self.psi).squeeze(-1)


def _played(loss: Loss) -> list[tuple[float, float]]:
    """The path of (θ, ψ) from the start to the end of training."""
    theta, psi = Point(), Slope()
    nets = Nets(critic=psi, generator=theta)
    path = [(1.0, 1.0)]

    def record(step: int, values: Mapping[str, float]) -> None:
        if any(name.startswith("train") for name in values):
            path.append((theta.theta.item(), psi.psi.item()))

    zero = torch.zeros(2, 1, dtype=torch.float64)
    around = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # validation metrics need data with a spread
    train, validation = Split(zero, zero), Split(around, around)
    task = builders.task("gan", loss, info("gan", train, mixture_means=((0.0,),)))
    optimizers = {name: torch.optim.SGD(player.parameters(), lr=RATE) for name, player in nets.named_children()}
    plan = Plan(STEPS, batch_size=1, eval_every=STEPS, record_every=BETWEEN)
    fit([Replica(task, nets, optimizers, train, validation, 0, record)], plan)
    return path


@truth(number=9, title="What minimax is worth", source="Goodfellow et al. 2014, arXiv 1406.2661, theorem 1")
def discriminator(losses: Losses) -> Iterator[Finding]:
    """Against the best critic, the value of minimax is 2·JS − log 4: −log 4 where the generator has the data's
    distribution, more where it does not."""
    data = 0.5
    for fake in (0.5, 0.8):
        middle = [(data + fake) / 2, 1 - (data + fake) / 2]
        divergence = (_kl([data, 1 - data], middle) + _kl([fake, 1 - fake], middle)) / 2
        measured = _value(losses("minimax", "gan"), fake)
        what = "fakes like the data, (.5, .5)" if fake == data else f"fakes ({fake}, {1 - fake:.1f}), data (.5, .5)"
        yield near(f"minimax: {what}", 2 * divergence - math.log(4), measured, 0.005)


class Coin(nn.Module):
    """A generator that gives the first of two faces with probability p, and learns nothing."""

    latent = 1

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.nothing = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, latent: Tensor) -> Tensor:
        """One-hot faces, [batch, 2]."""
        first = (torch.special.ndtr(latent) < self.p).double()
        return torch.cat([first, 1 - first], -1) + self.nothing


class Score(nn.Module):
    """A critic with a free score for each face."""

    def __init__(self) -> None:
        super().__init__()
        self.free = Free(torch.tensor([[2.0], [-1.0]], dtype=torch.float64))

    def forward(self, faces: Tensor) -> Tensor:
        """The score of each one-hot face, [batch]."""
        return self.free(faces).squeeze(-1)


def _value(loss: Loss, fake: float) -> float:
    """The critic's gain once it has been trained to its optimum."""
    faces = torch.eye(2, dtype=torch.float64).repeat(500, 1)
    split = Split(faces, faces)
    nets = Nets(critic=Score(), generator=Coin(fake))
    rates = {"critic": 1.0, "generator": 0.0}
    about = info("gan", split, mixture_means=((1.0, 0.0), (0.0, 1.0)), scale=0.1)
    optimizers = {n: torch.optim.SGD(getattr(nets, n).parameters(), lr=rate) for n, rate in rates.items()}
    plan = Plan(600, len(split), eval_every=300, record_every=300, schedule="cosine")
    (fitted,) = fit([Replica(builders.task("gan", loss, about), nets, optimizers, split, split, 0)], plan)
    return -fitted.last["train/critic/loss"]


def _kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
