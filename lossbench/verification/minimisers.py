"""What a loss's minimum estimates: of a sample, of a probability, of a region."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lossbench.core import Split, stream
from lossbench.engine import Nets
from lossbench.verification.claims import Finding, Line, Losses, Picture, near, truth
from lossbench.verification.fitting import bernoulli, info, labelled, minimisers, trained

ETAS = (0.05, 0.25, 0.45, 0.55, 0.8, 0.95)
FOCAL_ETAS = (0.01, *(n / 20 for n in range(1, 15)), 0.74, 0.76, 0.8, 0.85, 0.9, 0.95, 0.99)
FOCAL = {2.0: {0.9: 0.6942, 0.99: 0.8464}, 5.0: {0.9: 0.5974}}
"""p* by γ and η, by numerical minimisation."""
REGION = (0.45, 0.49, 0.51, 0.55)
SURE, UNSURE = 20, 2  # pixels of a mask that are always foreground, and that are foreground with probability p


@truth(number=3, title="Minimisers", source="Gneiting & Raftery 2007; Bartlett et al. 2006; Koenker & Bassett 1978")
def minimum(losses: Losses) -> Iterator[Finding]:
    """MSE gives the mean, MAE the median, pinball τ the τ-quantile; cross-entropy and Brier the probability η, hinge no
    more than the sign of 2η − 1; label smoothing .1 of ten classes stops at .91."""
    yield from _of_a_sample(losses)
    yield from _of_a_coin(losses)
    yield from _of_classes(losses)


def _of_a_sample(losses: Losses) -> Iterator[Finding]:
    values = torch.randn(201, 1, generator=stream(0, "truths/skewed"), dtype=torch.float64).exp()
    ranked = values.flatten().sort().values  # 201 · .9 = 180.9, so the minimum is the 181st; the median is the 101st
    pinballs = {tau: losses("pinball", "regression", tau=tau) for tau in (0.1, 0.9)}
    found = minimisers(
        "regression",
        [losses("mse", "regression"), losses("mae", "regression"), *pinballs.values()],
        Split(torch.ones_like(values), values),
        torch.ones(1, 1, dtype=torch.float64),
    ).flatten()
    expected = [values.mean(), *(ranked[math.ceil(201 * tau) - 1] for tau in (0.5, *pinballs))]
    names = ("mse: the mean", "mae: the median", *(f"pinball τ={tau}: the quantile" for tau in pinballs))
    for name, truth_, measured in zip(names, expected, found, strict=True):
        yield near(f"{name} of a skewed sample", truth_.item(), measured.item(), 1e-3)


def _of_a_coin(losses: Losses) -> Iterator[Finding]:
    names = ("bce", "brier", "hinge")
    found = minimisers("binary", [losses(name, "binary") for name in names], bernoulli(ETAS), _start(len(ETAS)))
    for name, scores in zip(names, found.flatten(1), strict=True):
        for eta, score in zip(ETAS, scores, strict=True):
            if name == "hinge":
                yield near(f"hinge: score at η={eta}", math.copysign(1, 2 * eta - 1), score.item(), 1e-3)
            else:
                yield near(f"{name}: p at η={eta}", eta, score.sigmoid().item(), 1e-3)


def _of_classes(losses: Losses) -> Iterator[Finding]:
    counts, names = (10, 6, 4), ("cross_entropy", "brier")
    scores = _of_counts(losses, names, counts)
    for name, p in zip(names, scores.softmax(-1), strict=True):
        for k, count in enumerate(counts):
            yield near(f"{name}: p of class {k}", count / sum(counts), p[k].item(), 1e-3)
    (logits,) = _of_counts(losses, ("label_smoothing",), (20, *[0] * 9), epsilon=0.1)
    yield near("label_smoothing .1, ten classes: p of the label", 0.91, logits.softmax(-1)[0].item(), 1e-3)
    gap = (logits[0] - logits[1:].mean()).item()
    yield near("label_smoothing .1, ten classes: logit above the others", 4.5109, gap, 2e-3)


def _of_counts(losses: Losses, names: Sequence[str], counts: Sequence[int], **changed: float) -> Tensor:
    """Scores [loss, class] of one bin with this many examples of each class."""
    fitted = [losses(name, "multiclass", **changed) for name in names]
    start = torch.linspace(0.5, -0.5, len(counts), dtype=torch.float64).flip(0)[
        None
    ]  # the reverse of the right ranking
    return minimisers("multiclass", fitted, labelled(counts), start, classes=len(counts))[:, 0]


@truth(number=4, title="Focal is calibrated, not proper", source="Charoenphakdee et al. 2021, arXiv 2011.09172")
def focal(losses: Losses) -> Iterator[Finding | Picture]:
    """Focal loss is minimal at a probability that is less confident than η, by a known map; α = .25 moves the decision
    threshold of γ = 2 to η = .75."""
    cases = {"focal γ=0": (0.0, None), "γ=2": (2.0, None), "γ=5": (5.0, None), "γ=2, α=.25": (2.0, 0.25)}
    fitted = [losses("focal", "binary", gamma=gamma, alpha=alpha) for gamma, alpha in cases.values()]
    logits = minimisers("binary", fitted, bernoulli(FOCAL_ETAS), _start(len(FOCAL_ETAS))).squeeze(-1)
    found = dict(zip(cases, logits, strict=True))
    for gamma, points in FOCAL.items():
        for eta, expected in points.items():
            p = found[f"γ={gamma:g}"][FOCAL_ETAS.index(eta)].sigmoid().item()
            yield near(f"γ={gamma:g}: p* at η={eta}", expected, p, 1e-3)
    yield near("γ=2, α=.25: η at the decision", 0.75, _cut(found["γ=2, α=.25"].tolist()), 2e-3)
    lines = [Line(name, FOCAL_ETAS, z.sigmoid().tolist()) for name, z in found.items()]
    yield Picture("The probability that focal loss asks for", "η", "p*", lines, square=True)


def _cut(logits: Sequence[float]) -> float:
    """The η at which the logit crosses 0, on the line between its neighbours."""
    above = next(place for place, logit in enumerate(logits) if logit > 0)
    (low, high), (a, b) = FOCAL_ETAS[above - 1 : above + 1], logits[above - 1 : above + 1]
    return low - a * (high - low) / (b - a)


@truth(number=6, title="Multi-class hinges are inconsistent", source="Tewari & Bartlett 2007; Liu 2007")
def multiclass_hinge(losses: Losses) -> Iterator[Finding]:
    """Where no class has half of the mass, η = (.4, .35, .25), Weston–Watkins is minimal at (1, 1, 0), a tie, and
    Crammer–Singer at (0, 0, 0); cross-entropy ranks correctly."""
    expected = {
        "multi_margin": (0.0, 1.0),
        "crammer_singer": (0.0, 0.0),
        "cross_entropy": (math.log(0.4 / 0.35), math.log(0.4 / 0.25)),
    }
    scores = _of_counts(losses, tuple(expected), (8, 7, 5))
    for (name, gaps), found in zip(expected.items(), scores, strict=True):
        for k, gap in enumerate(gaps, 1):
            yield near(f"{name}: score of class 0 over class {k}", gap, (found[0] - found[k]).item(), 0.01)


@truth(number=7, title="Dice is all or nothing", source="Bertels et al. 2019, arXiv 1911.02278; numerical minimisation")
def dice(losses: Losses) -> Iterator[Finding | Picture]:
    """Of a region that is foreground with probability p, beside one that always is, soft Dice predicts nothing below
    p = .5 and all of it above; cross-entropy predicts p."""
    names, shares = ("dice", "bce"), (0.1, 0.2, 0.3, 0.4, *REGION, 0.6, 0.7, 0.8, 0.9)
    splits = [_masks(p) for p in shares]
    fitted = [losses(name, "segmentation") for name in names for _ in splits]
    nets = [Nets(model=Regions()) for _ in fitted]
    trained("segmentation", fitted, nets, splits * len(names), info("segmentation", splits[0], 2), steps=1000)
    found = torch.stack([net.model.values[1].detach().sigmoid() for net in nets]).view(len(names), -1)  # type: ignore[index]
    for name, predicted in zip(names, found.tolist(), strict=True):
        for p in REGION:
            expected = p if name == "bce" else float(p > 0.5)
            yield near(f"{name}: predicted where p={p}", expected, predicted[shares.index(p)], 5e-3)
    lines = [Line(name, shares, predicted, dots=True) for name, predicted in zip(names, found.tolist(), strict=True)]
    yield Picture("What is predicted of a region that is foreground with probability p", "p", "predicted", lines)


class Regions(nn.Module):
    """Two free logits, one for the sure pixels and one for the others: masks [batch, 1, SURE + UNSURE]."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        """The same mask of logits for every image."""
        logits = torch.cat([self.values[:1].expand(SURE), self.values[1:].expand(UNSURE)])
        return logits.expand(len(inputs), 1, -1)


def _masks(p: float, images: int = 100) -> Split:
    """Masks in exactly the share p of which the uncertain pixels are foreground, all of them or none."""
    masks = torch.ones(images, 1, SURE + UNSURE, dtype=torch.long)
    masks[round(p * images) :, :, SURE:] = 0
    return Split(torch.zeros(images, 1, dtype=torch.float64), masks)


def _start(bins: int) -> Tensor:
    return torch.full((bins, 1), 0.3, dtype=torch.float64)
