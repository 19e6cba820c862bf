"""What a loss itself changes in a ranking, and what only a threshold changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from lossbench.engine import Nets, predict
from lossbench.runs import builders
from lossbench.verification.claims import Finding, Losses, near, truth
from lossbench.verification.fitting import Free, bernoulli, info, trained

ETAS = (0.02, 0.06, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.86, 0.9)
"""The probability of class 1 in each of ten groups of a population, all of the same size."""

CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "bce": ("bce", {}, 0.5),
    "bce pos_weight=3": ("bce", {"pos_weight": 3.0}, 0.25),
    "brier": ("brier", {}, 0.5),
    "squared_hinge": ("squared_hinge", {}, 0.5),
    "focal γ=2": ("focal", {"gamma": 2.0, "alpha": None}, 0.5),
    "focal γ=2, α=.25": ("focal", {"gamma": 2.0, "alpha": 0.25}, 0.75),
}
"""Each with the η above which it predicts class 1 at probability .5; no group of the population lies at that η."""


@truth(
    number=10, title="Losses that only move the threshold", source="Clémençon et al. 2008; Charoenphakdee et al. 2021"
)
def invariance(losses: Losses) -> Iterator[Finding]:
    """Every calibrated pointwise loss ranks a population by η, so that the area under the ROC curve is the same; a
    tuned threshold undoes what the loss changes in F1 at a fixed threshold."""
    population = bernoulli(ETAS)
    about = info("binary", population, 2)
    trained_losses = [losses(loss, "binary", **settings) for loss, settings, _ in CASES.values()]
    start = torch.linspace(1, -1, len(ETAS), dtype=torch.float64)[:, None]  # the reverse of the right ranking
    nets = [Nets(model=Free(start)) for _ in trained_losses]
    trained("binary", trained_losses, nets, [population] * len(trained_losses), about, steps=800)
    best = max(_f1(cut) for cut in ETAS)
    for (name, (_, _, cut)), loss, net in zip(CASES.items(), trained_losses, nets, strict=True):
        task = builders.task("binary", loss, about)
        outputs = predict(task, net, population, 0)
        found = task.report(outputs, population.targets, task.calibrate(outputs, population.targets))
        yield near(f"{name}: area under the ROC curve", _area(), found["auroc"], 1e-9)
        yield near(f"{name}: F1 at probability .5", _f1(cut), found["f1"], 1e-9)
        yield near(f"{name}: F1 at the tuned threshold", best, found["f1_tuned"], 1e-9)


def _area() -> float:
    """The probability that a positive example has a greater η than a negative one, ties counted half."""
    pairs = [(a * (1 - b), float(a > b) + 0.5 * (a == b)) for a in ETAS for b in ETAS]
    return sum(weight * wins for weight, wins in pairs) / sum(weight for weight, _ in pairs)


def _f1(cut: float) -> float:
    """F1 of predicting class 1 from this η on."""
    positive = [eta for eta in ETAS if eta >= cut]
    return 2 * sum(positive) / (len(positive) + sum(ETAS))
