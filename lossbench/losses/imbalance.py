"""Losses for classes of very different size, all from logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import BadInput, card, demand


@card(
    kinds=("binary", "multiclass", "segmentation", "sequence"),
    search={"gamma": (0.0, 5.0), "alpha": (0.05, 0.95, ("binary", "segmentation"))},
)
def focal(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float | Literal["auto"] | None = "auto"
) -> Tensor:
    """Cross-entropy that fades on what is already easy.

    −α_t·(1 − p_t)^γ·log p_t,  p_t the probability given to the true class

    Binary: p = σ(z); α_t is α for positives and 1 − α for negatives; α = auto means the paper's .25, none no weights.
    Multi-class: p = softmax(z); there are no positives to weigh, so auto means no weights and a number is refused.

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch].
    Use it when: easy negatives outnumber all else, as among the anchors of a dense detector.
    Beware: γ > 0 makes the network under-confident (calibrated after a known map, not as it stands);
        α = .25 with γ = 2 moves the decision to η = .75. Start its head at the prior: `model.prior=0.01`.
    Raises: BadInput for a numeric α with softmax logits.
    Reference: Lin et al., Focal loss for dense object detection, 2017, https://arxiv.org/abs/1708.02002
    """
    demand("loss.gamma", gamma, lambda v: v >= 0, "0 or above")
    if logits.dim() > targets.dim():
        if alpha not in ("auto", None):
            raise BadInput(f"loss.alpha={alpha}: weighs positives of a binary problem; with classes use auto or null")
        log_p = F.log_softmax(logits, dim=-1)
        log_pt = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        others = torch.ones_like(log_p, dtype=torch.bool).scatter(-1, targets.unsqueeze(-1), False)
        log_rest = log_p.masked_fill(~others, -torch.inf).logsumexp(-1)
        return -_power(log_rest, gamma) * log_pt
    positive = targets.to(logits.dtype)
    signs = 2 * positive - 1
    terms = -_power(F.logsigmoid(-signs * logits), gamma) * F.logsigmoid(signs * logits)
    if alpha is None:
        return terms
    weight = 0.25 if alpha == "auto" else float(alpha)
    demand("loss.alpha", weight, lambda v: 0 <= v <= 1, "a share, 0 … 1, auto or null")
    return terms * (weight * positive + (1 - weight) * (1 - positive))


def _power(log_rest: Tensor, gamma: float) -> Tensor:
    """(1 − p_t)^γ from log(1 − p_t): pow has an infinite slope at p_t = 1 where γ < 1, and 0·∞ is NaN."""
    return (gamma * log_rest).exp()


@card(kinds=("binary", "multiclass"), needs=("class_counts",), search={"beta": (0.99, 0.9999)})
def class_balanced(logits: Tensor, targets: Tensor, *, class_counts: Sequence[int], beta: float = 0.9999) -> Tensor:
    """Cross-entropy weighed by how much new a class's examples tell: each repeats a share of those before it.

    −w_y·log p_y,  w_k ∝ (1 − β)/(1 − β^n_k),  the mean of w over the classes 1

    n_k is how many examples of class k the training split has. Binary: p₁ = σ(z); multi-class: p = softmax(z).

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch],
        in nats.
    Use it when: every class shall count, and inverse frequency gives the rarest too much.
    Beware: β = 0 is cross-entropy, β → 1 inverse frequency, and from some 3/(1 − β) examples on all classes weigh
        alike; the weights move the decision, and the probabilities with it.
    Raises: BadInput for a class without an example in the training split.
    Reference: Cui et al., Class-balanced loss based on effective number of samples, 2019,
        https://arxiv.org/abs/1901.05555
    """
    demand("loss.beta", beta, lambda v: 0 <= v < 1, "0 or above, below 1")
    classes = logits.shape[-1] if logits.dim() > targets.dim() else 2
    weights = _of_effective_number(class_counts, beta, classes).to(logits)
    if logits.dim() > targets.dim():
        return F.cross_entropy(logits, targets, weight=weights, reduction="none")
    positive = targets.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, positive, weight=weights[targets.long()], reduction="none")


def _of_effective_number(counts: Sequence[int], beta: float, classes: int) -> Tensor:
    """Weights of the classes by 1/(1 − βⁿ), 1 on average; expm1, since β near 1 leaves no digits of 1 − βⁿ."""
    if len(counts) != classes:
        raise BadInput(f"class_counts: {len(counts)} of them, and {classes} classes")
    if min(counts) < 1:
        absent = next(k for k, count in enumerate(counts) if count < 1)
        raise BadInput(f"class_counts: class {absent} has no example in the training split, so its weight is infinite")
    exponents = torch.tensor(counts, dtype=torch.float64) * (math.log(beta) if beta else -math.inf)
    weights = -1 / torch.expm1(exponents)
    return weights / weights.mean()
