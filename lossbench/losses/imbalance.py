"""Losses for classes of very different size, all from logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import ConfigError, card, require


@card(
    task_types=("binary", "multiclass", "segmentation", "sequence"),
    search={"gamma": (0.0, 5.0), "alpha": (0.05, 0.95, ("binary", "segmentation"))},
    limits={"bce": {"gamma": 0.0, "alpha": None}, "cross_entropy": {"gamma": 0.0, "alpha": None}},
)
def focal(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: float | Literal["auto"] | None = "auto"
) -> Tensor:
    """Cross-entropy in which easy examples count less.

    −α_t·(1 − p_t)^γ·log p_t,  p_t the probability given to the true class

    Binary: p = σ(z); α_t is α for positives and 1 − α for negatives; α = auto is the paper's .25, none is no weights.
    Multi-class: p = softmax(z); there are no positives to weigh, so auto is no weights and a number is an error.

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch].
    Use it when: easy negatives outnumber everything else, as among the anchors of a dense detector.
    Beware: γ > 0 makes the network under-confident (a known map would calibrate it). α = .25 with γ = 2 moves the
        decision to η = .75. Start its head at the prior: `model.prior=0.01`.
    Raises: ConfigError for a numeric α with softmax logits.
    Reference: Lin et al., Focal loss for dense object detection, 2017, https://arxiv.org/abs/1708.02002
    """
    require("loss.gamma", gamma, lambda v: v >= 0, "0 or above")
    if logits.dim() > targets.dim():
        if alpha not in ("auto", None):
            raise ConfigError(
                f"loss.alpha={alpha}: weights positives of a binary problem; with several classes use auto or null"
            )
        log_p = F.log_softmax(logits, dim=-1)
        log_pt = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        others = torch.ones_like(log_p, dtype=torch.bool).scatter(-1, targets.unsqueeze(-1), False)
        log_rest = log_p.masked_fill(~others, -torch.inf).logsumexp(-1)
        return -_power(log_rest, gamma) * log_pt
    positive = targets.to(logits.dtype)
    signed_targets = 2 * positive - 1
    per_example = -_power(F.logsigmoid(-signed_targets * logits), gamma) * F.logsigmoid(signed_targets * logits)
    if alpha is None:
        return per_example
    weight = 0.25 if alpha == "auto" else float(alpha)
    require("loss.alpha", weight, lambda v: 0 <= v <= 1, "a share, 0 … 1, auto or null")
    return per_example * (weight * positive + (1 - weight) * (1 - positive))


def _power(log_rest: Tensor, gamma: float) -> Tensor:
    """(1 − p_t)^γ from log(1 − p_t): pow has an infinite slope at p_t = 1 where γ < 1, and 0·∞ is NaN."""
    return (gamma * log_rest).exp()


@card(
    task_types=("binary",),
    search={"gamma_neg": (0.0, 8.0), "gamma_pos": (0.0, 4.0), "clip": (0.0, 0.3)},
    limits={"bce": {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.0}},
)
def asymmetric(
    logits: Tensor, targets: Tensor, *, gamma_neg: float = 4.0, gamma_pos: float = 1.0, clip: float = 0.05
) -> Tensor:
    """Focal loss with its own γ for each class, in which negatives that are easy enough do not count at all.

    −y·(1 − p)^γ₊·log p − (1 − y)·p_m^γ₋·log(1 − p_m),  p = σ(z), p_m = max(0, p − clip)

    Shapes: logits z and targets y ∈ {0, 1} [batch]; result [batch].
    Use it when: positives are rare and many negatives are easy, or are unlabelled positives.
    Beware: γ₋ > γ₊ moves the decision towards positives; below p = clip a negative has no gradient. The gradient is
        that of the equation; the authors' code treats the two powers as constants, and sums where we take the mean.
    Reference: Ridnik et al., Asymmetric loss for multi-label classification, 2021, https://arxiv.org/abs/2009.14119
    """
    require("loss.gamma_neg", gamma_neg, lambda v: v >= 0, "0 or above")
    require("loss.gamma_pos", gamma_pos, lambda v: v >= 0, "0 or above")
    require("loss.clip", clip, lambda v: 0 <= v < 1, "0 or above, below 1")
    positive = targets.to(logits.dtype)
    log_p, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    missed = -_power(log_rest, gamma_pos) * log_p
    if clip:
        log_rest = torch.logaddexp(log_rest, logits.new_tensor(math.log(clip)))
    easy = log_rest >= 0
    log_rest = log_rest.masked_fill(
        easy, -1
    )  # here too, not only in the sum: where p_m = 0 the slope of log p_m is infinite
    alarmed = -_power((-torch.expm1(log_rest)).log(), gamma_neg) * log_rest
    return positive * missed + (1 - positive) * alarmed.masked_fill(easy, 0)


@card(task_types=("binary", "multiclass"), needs=("class_counts",))
def class_weighted(logits: Tensor, targets: Tensor, *, class_counts: Sequence[int]) -> Tensor:
    """Cross-entropy in which every class has the same total weight, however few its examples.

    −w_y·log p_y,  w_k = N/(K·n_k)

    n_k is how many of the N examples of the training split are of class k of K, so the mean of w over them is 1.
    Binary: p₁ = σ(z); multi-class: p = softmax(z).

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch],
        in nats.
    Use it when: recall of the rare classes matters as much as of the frequent ones.
    Beware: a class of few examples makes few and large steps: lower the learning rate. The weights shift the decision
        and the probabilities; moving the threshold often does the same without that cost.
    Raises: ConfigError for a class without an example in the training split.
    Reference: King & Zeng, Logistic regression in rare events data, 2001,
        https://doi.org/10.1093/oxfordjournals.pan.a004868
    """
    counts = _counted(class_counts, logits, targets)
    return _weighed(logits, targets, counts.sum() / (len(counts) * counts))


@card(
    task_types=("binary", "multiclass"),
    needs=("class_counts",),
    search={"beta": (0.99, 0.9999)},
    limits={"bce": {"beta": 0.0}, "class_weighted": {"beta": 0.9999999999999}, "cross_entropy": {"beta": 0.0}},
)
def class_balanced(logits: Tensor, targets: Tensor, *, class_counts: Sequence[int], beta: float = 0.9999) -> Tensor:
    """Cross-entropy weighted by a class's effective number of examples: each repeats a share of those before it.

    −w_y·log p_y,  w_k ∝ (1 − β)/(1 − β^n_k),  the mean of w over the classes 1

    n_k is how many examples of class k the training split has. Binary: p₁ = σ(z); multi-class: p = softmax(z).

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch],
        in nats.
    Use it when: every class should count, and inverse frequency gives the rarest too much weight.
    Beware: β = 0 is cross-entropy, β → 1 inverse frequency as in `class_weighted`, which gives the mean over the
        examples rather than the classes the weight 1; from about 3/(1 − β) examples on all classes weigh alike. The
        weights shift the decision and the probabilities.
    Raises: ConfigError for a class without an example in the training split.
    Reference: Cui et al., Class-balanced loss based on effective number of samples, 2019,
        https://arxiv.org/abs/1901.05555
    """
    require("loss.beta", beta, lambda v: 0 <= v < 1, "0 or above, below 1")
    return _weighed(logits, targets, _of_effective_number(_counted(class_counts, logits, targets), beta))


@card(
    task_types=("binary", "multiclass"),
    needs=("class_counts",),
    search={"max_margin": (0.05, 2.0), "scale": (1.0, 64.0)},
    limits={"bce": {"max_margin": 0.0, "scale": 1.0}, "cross_entropy": {"max_margin": 0.0, "scale": 1.0}},
)
def ldam(
    logits: Tensor, targets: Tensor, *, class_counts: Sequence[int], max_margin: float = 0.5, scale: float = 30.0
) -> Tensor:
    """Cross-entropy with a margin for each class, wider for classes with fewer examples.

    −log softmax(s·(z − m_y·e_y))_y,  m_k ∝ n_k^(−¼), the largest max_margin, s = scale

    n_k is how many examples of class k the training split has. Binary: one logit is z₁ − z₀, so what is left of two
    is −log σ(s·(t·z − m_y)), t = 2y − 1.

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch],
        in nats.
    Use it when: rare classes are overfitted; the margins cost the frequent ones little.
    Beware: made for the cosines, −1 … 1, of a normalised last layer; with plain logits the scale acts as a learning
        rate, so tune it. The paper's deferred re-weighting is left out: it depends on the step, which a loss does not
        know.
    Raises: ConfigError for a class without an example in the training split.
    Reference: Cao et al., Learning imbalanced datasets with label-distribution-aware margin loss, 2019,
        https://arxiv.org/abs/1906.07413
    """
    require("loss.max_margin", max_margin, lambda v: v >= 0, "0 or above")
    require("loss.scale", scale, lambda v: v > 0, "above 0")
    counts = _counted(class_counts, logits, targets)
    margin = (max_margin * (counts.min() / counts) ** 0.25).to(logits)[targets.long()]
    if logits.dim() > targets.dim():
        adjusted = logits.scatter_add(-1, targets.unsqueeze(-1), -margin.unsqueeze(-1))
        return F.cross_entropy(scale * adjusted, targets, reduction="none")
    return -F.logsigmoid(scale * ((2 * targets.to(logits.dtype) - 1) * logits - margin))


@card(
    task_types=("binary", "multiclass"),
    needs=("class_counts",),
    search={"tau": (0.0, 3.0)},
    limits={"bce": {"tau": 0.0}, "cross_entropy": {"tau": 0.0}},
)
def logit_adjusted(logits: Tensor, targets: Tensor, *, class_counts: Sequence[int], tau: float = 1.0) -> Tensor:
    """Cross-entropy of logits to which the log-shares of the classes are added, in training only.

    −log softmax(z + τ·log π)_y,  π_k = n_k/N;  binary: −log σ(t·(z + τ·log(π₁/π₀))),  t = 2y − 1

    n_k is how many of the N examples of the training split are of class k. τ = 1 is balanced softmax.

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch],
        in nats.
    Use it when: some classes are rare and all should count alike: its minimiser has the least balanced error, without
        the large steps of class weights.
    Beware: the probabilities hold for classes that are equally frequent; add τ·log π to the logits for those of the
        training split. A head that starts at the prior counts it twice.
    Raises: ConfigError for a class without an example in the training split.
    Reference: Menon et al., Long-tail learning via logit adjustment, 2021, https://arxiv.org/abs/2007.07314
    """
    require("loss.tau", tau, lambda v: v >= 0, "0 or above")
    counts = _counted(class_counts, logits, targets)
    if logits.dim() > targets.dim():
        return F.cross_entropy(logits + tau * (counts / counts.sum()).log().to(logits), targets, reduction="none")
    adjusted = logits + tau * (counts[1] / counts[0]).log().item()
    return F.binary_cross_entropy_with_logits(adjusted, targets.to(logits.dtype), reduction="none")


def _weighed(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy, each example times the weight of its class."""
    weights = weights.to(logits)
    if logits.dim() > targets.dim():
        return F.cross_entropy(logits, targets, weight=weights, reduction="none")
    positive = targets.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, positive, weight=weights[targets.long()], reduction="none")


def _counted(counts: Sequence[int], logits: Tensor, targets: Tensor) -> Tensor:
    """The classes' counts. Raises: ConfigError where they are not as many as the logits, or one is 0."""
    classes = logits.shape[-1] if logits.dim() > targets.dim() else 2
    if len(counts) != classes:
        raise ConfigError(f"class_counts: {len(counts)} counts for {classes} classes")
    if min(counts) < 1:
        absent = next(k for k, count in enumerate(counts) if count < 1)
        raise ConfigError(
            f"class_counts: class {absent} has no example in the training split, and the loss weights by counts"
        )
    return torch.tensor(counts, dtype=torch.float64)


def _of_effective_number(counts: Tensor, beta: float) -> Tensor:
    """Weights of the classes by 1/(1 − βⁿ), 1 on average; by expm1, since 1 − βⁿ has no digits for β near 1."""
    weights = -1 / torch.expm1(counts * (math.log(beta) if beta else -math.inf))
    return weights / weights.mean()
