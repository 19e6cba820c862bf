"""Losses for labels of which some are wrong: multi-class, logits [batch, classes], targets [batch]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import card, demand


@card(kinds=("multiclass",))
def softmax_mae(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of probabilities: bounded, and all labels together cost the same whatever is predicted.

    Σ_k |1_{k=y} − p_k| = 2·(1 − p_y),  p = softmax(z)

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … 2, without unit.
    Use it when: many labels are wrong, alike for all classes, and training can take long.
    Beware: hardly pulls where p_y is small, so that it learns slowly and with many classes may stay at some of them.
        Called a mean, it is a sum over classes, as in the paper; without its 2 it is `gce` at q = 1.
    Reference: Ghosh et al., Robust loss functions under label noise for deep neural networks, 2017,
        https://arxiv.org/abs/1712.09482
    """
    return 2 - 2 * (-F.cross_entropy(logits, targets, reduction="none")).exp()


@card(kinds=("multiclass",), search={"q": (0.0, 1.0)})
def gce(logits: Tensor, targets: Tensor, *, q: float = 0.7) -> Tensor:
    """Generalised cross-entropy: from cross-entropy, which fits every label, to the absolute error, which fits few.

    (1 − p_y^q)/q,  p = softmax(z);  q → 0: −log p_y,  q = 1: 1 − p_y

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … 1/q.
    Use it when: some labels are wrong and cross-entropy ends by learning them too.
    Beware: q near 1 hardly starts with many classes; the paper also truncates the loss where p_y is small, which is
        left out here.
    Reference: Zhang & Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy labels,
        2018, https://arxiv.org/abs/1805.07836
    """
    demand("loss.q", q, lambda v: 0 <= v <= 1, "0 … 1; 0 is cross-entropy")
    log_p = -F.cross_entropy(logits, targets, reduction="none")
    # not p^q, whose slope at p = 0 is infinite, nor 1 − p^q, of which a small q leaves no digits
    return -torch.expm1(q * log_p) / q if q else -log_p


@card(kinds=("multiclass",), search={"alpha": (0.01, 10.0), "beta": (0.1, 1.0)})
def sce(logits: Tensor, targets: Tensor, *, alpha: float = 0.01, beta: float = 1.0, log_zero: float = -4.0) -> Tensor:
    """Symmetric cross-entropy: beside cross-entropy its reverse, in which the label is what is doubted.

    −α·log p_y − β·Σ_k p_k·log 1_{k=y} = −α·log p_y − β·A·(1 − p_y),  p = softmax(z), A = log_zero, for log 0

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], in nats.
    Use it when: some labels are wrong; α starts the learning, β bounds what a wrong label can pull.
    Beware: α and β are the paper's for MNIST (CIFAR-10: .1 and 1, CIFAR-100: 6 and .1). Only β·A matters, and code
        that clips labels at 1e-4 has A = −9.2; the reverse alone is `softmax_mae` at another learning rate.
    Reference: Wang et al., Symmetric cross entropy for robust learning with noisy labels, 2019,
        https://arxiv.org/abs/1908.06112
    """
    demand("loss.alpha", alpha, lambda v: v >= 0, "0 or above")
    demand("loss.beta", beta, lambda v: v >= 0, "0 or above")
    demand("loss.log_zero", log_zero, lambda v: v < 0, "below 0")
    log_p = -F.cross_entropy(logits, targets, reduction="none")
    return -alpha * log_p - beta * log_zero * (1 - log_p.exp())
