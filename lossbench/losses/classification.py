"""Losses of logits and labels. Logits everywhere, never probabilities.

Binary: logits and targets [batch], targets 0 or 1 (−1 or +1 for the margin losses).
Multi-class: logits [batch, classes], targets [batch], the index of the class.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lossbench.core import card, demand


@card(kinds=("binary", "segmentation"), search={"pos_weight": (1.0, 1000.0)})
def bce(logits: Tensor, targets: Tensor, *, pos_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy: the negative log-likelihood of a coin with p = σ(z).

    −w·y·log σ(z) − (1 − y)·log σ(−z),  w = pos_weight

    Shapes: logits z and targets y ∈ {0, 1} [batch]; result [batch], in nats.
    Use it when: you want probabilities; the baseline of every binary problem.
    Beware: w ≠ 1 trades calibration for recall; moving the threshold often does the same for nothing.
    Reference: Cox, The regression analysis of binary sequences, 1958, https://doi.org/10.1111/j.2517-6161.1958.tb00292.x
    """
    demand("loss.pos_weight", pos_weight, lambda v: v > 0, "above 0")
    weight = logits.new_tensor(pos_weight)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=weight, reduction="none")


@card(kinds=("multiclass", "embedding", "sequence"))
def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy: the negative log-likelihood of the softmax.

    −log softmax(z)_y

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], in nats.
    Use it when: you want class probabilities; the baseline of every multi-class problem.
    Beware: unbounded, so a wrong label pulls without limit.
    Reference: Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990,
        https://doi.org/10.1007/978-3-642-76153-9_28
    """
    return F.cross_entropy(logits, targets, reduction="none")


@card(kinds=("multiclass", "sequence"), search={"epsilon": (0.0, 0.3)})
def label_smoothing(logits: Tensor, targets: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Cross-entropy to targets that keep ε of their mass for all classes alike.

    (1 − ε)·(−log p_y) + ε·mean_k(−log p_k),  p = softmax(z)

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], in nats.
    Use it when: over-confidence or mild label noise hurts.
    Beware: at ε = .1 and ten classes the optimum is p_y = .91, so the network is under-confident by design.
    Reference: Szegedy et al., Rethinking the Inception architecture, 2016, https://arxiv.org/abs/1512.00567
    """
    demand("loss.epsilon", epsilon, lambda v: 0 <= v <= 1, "a share, 0 … 1")
    return F.cross_entropy(logits, targets, label_smoothing=epsilon, reduction="none")


@card(kinds=("binary",), signs=True)
def hinge(scores: Tensor, targets: Tensor) -> Tensor:
    """Hinge: what a support-vector machine pays for a margin below one.

    max(0, 1 − t·s)

    Shapes: scores s and targets t ∈ {−1, +1} [batch]; result [batch], without unit.
    Use it when: only the decision matters, not the probability.
    Beware: scores are no log-odds: probabilities and calibration read from them are poor before temperature.
    Reference: Cortes & Vapnik, Support-vector networks, 1995, https://doi.org/10.1007/BF00994018
    """
    return (1 - targets * scores).clamp(min=0)


@card(kinds=("binary",), signs=True)
def squared_hinge(scores: Tensor, targets: Tensor) -> Tensor:
    """Squared hinge: the hinge made smooth at the margin.

    max(0, 1 − t·s)²

    Shapes: scores s and targets t ∈ {−1, +1} [batch]; result [batch], without unit.
    Use it when: you want the hinge's margin with a gradient that fades towards it.
    Beware: grows with the square for wrong labels. Its scores s do tell a probability: η = ½(1 + s), clipped.
    Reference: Zhang, Statistical behavior and consistency of classification methods, 2004,
        https://doi.org/10.1214/aos/1079120130
    """
    return (1 - targets * scores).clamp(min=0).square()
