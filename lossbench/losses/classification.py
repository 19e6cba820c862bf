"""Losses of logits and labels. Logits everywhere, never probabilities.

Binary: logits and targets [batch], targets 0 or 1 (−1 or +1 for the margin losses).
Multi-class: logits [batch, classes], targets [batch], the index of the class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import ConfigError, card, require


@card(task_types=("binary", "segmentation"), search={"pos_weight": (1.0, 1000.0)})
def bce(logits: Tensor, targets: Tensor, *, pos_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy: the negative log-likelihood of a coin with p = σ(z).

    −w·y·log σ(z) − (1 − y)·log σ(−z),  w = pos_weight

    Shapes: logits z and targets y ∈ {0, 1} [batch]; result [batch], in nats.
    Use it when: you want probabilities; the baseline of every binary problem.
    Beware: w ≠ 1 trades calibration for recall; moving the threshold often does the same without that cost.
    Raises: ConfigError for targets outside 0 … 1.
    Reference: Cox, The regression analysis of binary sequences, 1958, https://doi.org/10.1111/j.2517-6161.1958.tb00292.x
    """
    require("loss.pos_weight", pos_weight, lambda v: v > 0, "above 0")
    _require_shares(targets)
    weight = logits.new_tensor(pos_weight)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), pos_weight=weight, reduction="none")


@card(task_types=("multiclass", "embedding", "sequence"))
def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy: the negative log-likelihood of the softmax.

    −log softmax(z)_y

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], in nats.
    Use it when: you want class probabilities; the baseline of every multi-class problem.
    Beware: unbounded, so a wrong label can cost any amount.
    Reference: Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990,
        https://doi.org/10.1007/978-3-642-76153-9_28
    """
    return F.cross_entropy(logits, targets, reduction="none")


@card(
    task_types=("multiclass", "sequence"),
    search={"epsilon": (0.0, 0.3)},
    limits={"cross_entropy": {"epsilon": 0.0}},
)
def label_smoothing(logits: Tensor, targets: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Cross-entropy to targets of which a share ε is spread evenly over all classes.

    (1 − ε)·(−log p_y) + ε·mean_k(−log p_k),  p = softmax(z)

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], in nats.
    Use it when: over-confidence or mild label noise is a problem.
    Beware: at ε = .1 and ten classes the optimum is p_y = .91, so the network is under-confident by design.
    Reference: Szegedy et al., Rethinking the Inception architecture, 2016, https://arxiv.org/abs/1512.00567
    """
    require("loss.epsilon", epsilon, lambda v: 0 <= v <= 1, "a share, 0 … 1")
    return F.cross_entropy(logits, targets, label_smoothing=epsilon, reduction="none")


@card(task_types=("binary",), signed_targets=True)
def hinge(scores: Tensor, targets: Tensor) -> Tensor:
    """Hinge: how far a margin is below one, the loss of support-vector machines.

    max(0, 1 − t·s)

    Shapes: scores s and targets t ∈ {−1, +1} [batch]; result [batch], without unit.
    Use it when: only the decision matters, not the probability.
    Beware: scores are not log-odds: without temperature scaling, probabilities read from them are poorly calibrated.
    Raises: ConfigError for targets 0 and 1.
    Reference: Cortes & Vapnik, Support-vector networks, 1995, https://doi.org/10.1007/BF00994018
    """
    _require_signs(targets)
    return (1 - targets * scores).clamp(min=0)


@card(task_types=("binary",), signed_targets=True)
def squared_hinge(scores: Tensor, targets: Tensor) -> Tensor:
    """Squared hinge: a hinge that is smooth at the margin.

    max(0, 1 − t·s)²

    Shapes: scores s and targets t ∈ {−1, +1} [batch]; result [batch], without unit.
    Use it when: you want the hinge's margin with a gradient that fades towards it.
    Beware: quadratic for wrong labels. Its scores s do give a probability: η = ½(1 + s), clipped.
    Raises: ConfigError for targets 0 and 1.
    Reference: Zhang, Statistical behavior and consistency of classification methods, 2004,
        https://doi.org/10.1214/aos/1079120130
    """
    _require_signs(targets)
    return (1 - targets * scores).clamp(min=0).square()


@card(task_types=("multiclass",), search={"margin": (0.1, 10.0)})
def multi_margin(scores: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Weston–Watkins hinge: a sum over the classes that come nearer to the true one than the margin.

    Σ_{k≠y} max(0, m − s_y + s_k),  m = margin

    Shapes: scores s [batch, classes], targets y [batch]; result [batch], without unit.
    Use it when: only the decision matters, and one class is clearly the likeliest for every input.
    Beware: a sum, as in the paper; torch's MultiMarginLoss divides it by the number of classes. Inconsistent: where no
        class has half of the probability its minimum can be a tie. The margin only sets the scores' scale.
    Reference: Weston & Watkins, Support vector machines for multi-class pattern recognition, 1999,
        https://www.esann.org/sites/default/files/proceedings/legacy/es1999-461.pdf
    """
    require("loss.margin", margin, lambda v: v > 0, "above 0")
    index = targets.unsqueeze(-1)
    return (margin - scores.gather(-1, index) + scores).clamp(min=0).scatter(-1, index, 0).sum(-1)


@card(task_types=("multiclass",), search={"margin": (0.1, 10.0)})
def crammer_singer(scores: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Crammer–Singer hinge: only the wrong class with the highest score counts.

    max(0, m − s_y + max_{k≠y} s_k),  m = margin

    Shapes: scores s [batch, classes], targets y [batch]; result [batch], without unit.
    Use it when: only the decision matters, there are many classes, and few of them are ever confused.
    Beware: moves two scores per example, so it starts slowly; ties share the gradient. Inconsistent: where no
        class has half of the probability, its minimum is at equal scores.
    Reference: Crammer & Singer, On the algorithmic implementation of multiclass kernel-based vector machines, 2001,
        https://jmlr.org/papers/v2/crammer01a.html
    """
    require("loss.margin", margin, lambda v: v > 0, "above 0")
    index = targets.unsqueeze(-1)
    nearest = scores.scatter(-1, index, -torch.inf).amax(-1)
    return (margin - scores.gather(-1, index).squeeze(-1) + nearest).clamp(min=0)


@card(task_types=("binary", "multiclass"))
def brier(logits: Tensor, targets: Tensor) -> Tensor:
    """Brier score: the squared error of probabilities; a proper score like cross-entropy, but bounded.

    Binary: (σ(z) − y)²;  multi-class: Σ_k (p_k − 1_{k=y})²,  p = softmax(z)

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch],
        0 … 1 and 0 … 2: two classes cost twice as much as one logit.
    Use it when: probabilities should be calibrated, and what a wrong label costs should be bounded.
    Beware: the gradient vanishes where the model is confident and wrong, so it starts slowly with many classes.
    Reference: Brier, Verification of forecasts expressed in terms of probability, 1950,
        https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2
    """
    if logits.dim() == targets.dim():
        return (logits.sigmoid() - targets.to(logits.dtype)).square()
    p = logits.softmax(-1)
    return p.scatter_add(-1, targets.unsqueeze(-1), -torch.ones_like(p)).square().sum(-1)


@card(
    task_types=("binary", "multiclass"),
    search={"k": (1.0, 30.0, ("multiclass",)), "M": (1.0, 30.0)},
)
def square_logits(logits: Tensor, targets: Tensor, *, k: float = 1.0, M: float = 1.0) -> Tensor:
    """Squared error between the logits and a one-hot target: regression instead of cross-entropy.

    Multi-class: (k·(z_y − M)² + Σ_{j≠y} z_j²)/K for K classes;  binary: (z − M·t)²,  t = 2y − 1

    The binary form is that of two classes with the best common offset, up to a factor; k has no effect there.

    Shapes: logits z [batch] and targets y ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch].
    Use it when: you want to see whether cross-entropy is needed; often it is not, once k and M are tuned.
    Beware: with many classes the zeros outweigh the one: the paper takes k = 15 and M = 30 for a thousand. Outputs
        are not logits: without temperature scaling, probabilities read from them are poorly calibrated.
    Raises: ConfigError for k other than 1 with one logit.
    Reference: Hui & Belkin, Evaluation of neural architectures trained with square loss vs cross-entropy in
        classification tasks, 2021, https://arxiv.org/abs/2006.07322
    """
    require("loss.k", k, lambda v: v > 0, "above 0")
    require("loss.M", M, lambda v: v > 0, "above 0")
    if logits.dim() == targets.dim():
        if k != 1:
            raise ConfigError(f"loss.k={k}: weights the true class against the others; with one logit only 1 works")
        return (logits - M * (2 * targets.to(logits.dtype) - 1)).square()
    index = targets.unsqueeze(-1)
    true = k * (logits.gather(-1, index) - M).square()
    return logits.square().scatter(-1, index, true).mean(-1)


@card(
    task_types=("binary", "multiclass"),
    search={"epsilon": (-0.9, 6.0)},
    limits={"bce": {"epsilon": 0.0}, "cross_entropy": {"epsilon": 0.0}},
)
def poly1(logits: Tensor, targets: Tensor, *, epsilon: float = 1.0) -> Tensor:
    """Cross-entropy with another first coefficient of its series in 1 − p_t.

    −log p_t + ε·(1 − p_t),  p_t the probability given to the true class: by σ(z), or by softmax(z)

    Shapes: logits z [batch] and targets ∈ {0, 1} [batch], or z [batch, classes] and class indices; result [batch].
    Use it when: cross-entropy works, and you can afford to tune one more number.
    Beware: ε > 0 sharpens, ε < 0 softens, and neither leaves the probabilities calibrated.
    Reference: Leng et al., PolyLoss: a polynomial expansion perspective of classification loss functions, 2022,
        https://arxiv.org/abs/2204.12511
    """
    require("loss.epsilon", epsilon, lambda v: v > -1, "above −1, below which being right would be penalised")
    if logits.dim() == targets.dim():
        minus_log = -F.logsigmoid((2 * targets.to(logits.dtype) - 1) * logits)
    else:
        minus_log = F.cross_entropy(logits, targets, reduction="none")
    return minus_log - epsilon * torch.expm1(-minus_log)


def _require_signs(targets: Tensor) -> None:
    """Raises: ConfigError for labels 0 and 1. On a CPU only: reading values from a GPU would wait for it."""
    if targets.is_cpu and targets.numel() and targets.min().item() not in (-1, 1):
        raise ConfigError(f"targets have to be −1 and +1; got {_some(targets)}")


def _require_shares(targets: Tensor) -> None:
    """Raises: ConfigError for targets that are no probabilities. On a CPU only, as above."""
    if targets.is_cpu and targets.numel():
        low, high = torch.aminmax(targets)
        if low.item() < 0 or high.item() > 1:
            raise ConfigError(f"targets have to lie in 0 … 1; got {_some(targets)}")


def _some(targets: Tensor) -> str:
    values = targets.unique().tolist()
    return ", ".join(f"{value:g}" for value in values[:4]) + (", …" if len(values) > 4 else "")
