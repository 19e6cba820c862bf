"""Losses for labels of which some are wrong: multi-class, logits [batch, classes], targets [batch]."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import card, require

NEWTON = 5  # steps, exact to the last digit for any logits: tests/losses/test_noise_losses.py


@card(task_types=("multiclass",))
def softmax_mae(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of probabilities: bounded, and its sum over all labels is constant.

    Σ_k |1_{k=y} − p_k| = 2·(1 − p_y),  p = softmax(z)

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … 2, without unit.
    Use it when: many labels are wrong, equally in all classes, and training may take long.
    Beware: the gradient is small where p_y is, so it learns slowly, and of many classes it may never learn some.
        Despite its name it is a sum over classes, as in the paper; without the factor 2 it is `gce` at q = 1.
    Reference: Ghosh et al., Robust loss functions under label noise for deep neural networks, 2017,
        https://arxiv.org/abs/1712.09482
    """
    return 2 - 2 * (-F.cross_entropy(logits, targets, reduction="none")).exp()


@card(
    task_types=("multiclass",),
    search={"q": (0.0, 1.0)},
    limits={"cross_entropy": {"q": 0.0}, "softmax_mae": {"q": 1.0}},
)
def gce(logits: Tensor, targets: Tensor, *, q: float = 0.7) -> Tensor:
    """Generalised cross-entropy: between cross-entropy, which fits every label, and absolute error, which fits few.

    (1 − p_y^q)/q,  p = softmax(z);  q → 0: −log p_y,  q = 1: 1 − p_y

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … 1/q.
    Use it when: some labels are wrong, and cross-entropy would memorise them in the end.
    Beware: with many classes and q near 1 it hardly starts to learn. The paper also truncates the loss where p_y is
        small, which is left out here.
    Reference: Zhang & Sabuncu, Generalized cross entropy loss for training deep neural networks with noisy labels,
        2018, https://arxiv.org/abs/1805.07836
    """
    require("loss.q", q, lambda v: 0 <= v <= 1, "0 … 1; 0 is cross-entropy")
    log_p = -F.cross_entropy(logits, targets, reduction="none")
    # not p^q, whose slope at p = 0 is infinite, nor 1 − p^q, which loses its digits for a small q
    return -torch.expm1(q * log_p) / q if q else -log_p


@card(
    task_types=("multiclass",),
    search={"alpha": (0.01, 10.0), "beta": (0.1, 1.0)},
    limits={"cross_entropy": {"beta": 0.0}, "rce": {"alpha": 0.0}},
)
def sce(logits: Tensor, targets: Tensor, *, alpha: float = 0.01, beta: float = 1.0, log_zero: float = -4.0) -> Tensor:
    """Symmetric cross-entropy: cross-entropy plus its reverse, in which prediction and label change places.

    −α·log p_y − β·Σ_k p_k·log 1_{k=y} = −α·log p_y − β·A·(1 − p_y),  p = softmax(z), A = log_zero, in place of log 0

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], in nats.
    Use it when: some labels are wrong; α gets training started, β makes it robust.
    Beware: α and β are the paper's for MNIST (CIFAR-10: .1 and 1, CIFAR-100: 6 and .1). Only β·A matters; code
        that clips labels at 1e-4 has A = −9.2. The reverse alone is `softmax_mae` at another learning rate.
    Reference: Wang et al., Symmetric cross entropy for robust learning with noisy labels, 2019,
        https://arxiv.org/abs/1908.06112
    """
    require("loss.alpha", alpha, lambda v: v >= 0, "0 or above")
    require("loss.beta", beta, lambda v: v >= 0, "0 or above")
    require("loss.log_zero", log_zero, lambda v: v < 0, "below 0")
    log_p = -F.cross_entropy(logits, targets, reduction="none")
    return -alpha * log_p - beta * log_zero * (1 - log_p.exp())


@card(task_types=("multiclass",), limits={"softmax_mae": {}})
def rce(logits: Tensor, targets: Tensor, *, log_zero: float = -9.2103) -> Tensor:
    """Reverse cross-entropy: prediction and label change places, so probability on wrong classes has a fixed cost.

    −Σ_k p_k·log 1_{k=y} = −A·(1 − p_y),  p = softmax(z), A = log_zero, in place of log 0

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … −A, in nats.
    Use it when: you compare with papers that use it; otherwise `softmax_mae` does the same.
    Beware: A = −9.2103 is log 10⁻⁴, at which the papers' code clips labels. It is `softmax_mae` times −A/2 = 4.605, so
        the two differ in learning rate only.
    Reference: Wang et al., Symmetric cross entropy for robust learning with noisy labels, 2019,
        https://arxiv.org/abs/1908.06112
    """
    require("loss.log_zero", log_zero, lambda v: v < 0, "below 0")
    return log_zero * torch.expm1(-F.cross_entropy(logits, targets, reduction="none"))


@card(task_types=("multiclass",))
def nce(logits: Tensor, targets: Tensor) -> Tensor:
    """Normalised cross-entropy: cross-entropy of the true label over the sum of that of all labels.

    log p_y / Σ_k log p_k,  p = softmax(z)

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … 1, without unit.
    Use it when: labels are wrong equally in all classes; the sum over all labels is always 1.
    Beware: underfits, since it also falls when other classes become less likely and the true one does not gain.
        Meant to be combined with a loss that only sees the true class, as in `nce_rce`.
    Reference: Ma et al., Normalized loss functions for deep learning with noisy labels, 2020,
        https://arxiv.org/abs/2006.13554
    """
    log_p = F.log_softmax(logits, dim=-1)
    return log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1) / log_p.sum(-1)


@card(
    task_types=("multiclass",),
    search={"alpha": (0.1, 50.0), "beta": (0.1, 100.0)},
    limits={"nce": {"beta": 0.0}, "rce": {"alpha": 0.0}},
)
def nce_rce(
    logits: Tensor, targets: Tensor, *, alpha: float = 1.0, beta: float = 10.0, log_zero: float = -9.2103
) -> Tensor:
    """Normalised plus reverse cross-entropy: both are robust, and each learns where the other does not.

    α·log p_y / Σ_k log p_k − β·A·(1 − p_y),  p = softmax(z), A = log_zero, in place of log 0

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … α − β·A.
    Use it when: many labels are wrong, and `softmax_mae` alone does not start to learn.
    Beware: at α = 1 and β = 10, the authors' for MNIST (CIFAR-10: 1 and 1, CIFAR-100: 10 and .1), a label can cost
        93, so a learning rate for cross-entropy does not fit: tune it for each loss.
    Reference: Ma et al., Normalized loss functions for deep learning with noisy labels, 2020,
        https://arxiv.org/abs/2006.13554
    """
    require("loss.alpha", alpha, lambda v: v >= 0, "0 or above")
    require("loss.beta", beta, lambda v: v >= 0, "0 or above")
    return alpha * nce(logits, targets) + beta * rce(logits, targets, log_zero=log_zero)


@card(
    task_types=("multiclass",),
    search={"a": (0.0, 10.0), "q": (0.1, 3.0)},
    limits={"gce": {"a": 0.0, "q": 0.7}, "softmax_mae": {"q": 1.0}},
)
def agce(logits: Tensor, targets: Tensor, *, a: float = 4.0, q: float = 0.2) -> Tensor:
    """Asymmetric generalised cross-entropy: learns the likeliest label, however the wrong ones are distributed.

    ((a + 1)^q − (a + p_y)^q)/q,  p = softmax(z)

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], 0 … ((a + 1)^q − a^q)/q.
    Use it when: labels are wrong in any way, but the right one is the likeliest for each example.
    Beware: a and q are the authors' for MNIST (CIFAR-10: .6 and .6). Below q = 1 the right label has to be
        ((a + 1)/a)^(1−q) times as likely as any other, here 1.2, to get all of p. The slope in p is (a + p)^(q−1), here
        a third of that of 1 − p: use a larger learning rate.
    Reference: Zhou et al., Asymmetric loss functions for learning with noisy labels, 2021,
        https://arxiv.org/abs/2106.03110
    """
    require("loss.a", a, lambda v: v >= 0, "0 or above")
    require("loss.q", q, lambda v: v > 0, "above 0")
    share = -F.cross_entropy(logits, targets, reduction="none")
    if a:  # the logarithm of (a + p)/(a + 1), as q·log p is for gce
        share = torch.logaddexp(share, share.new_tensor(math.log(a))) - math.log1p(a)
    return -((a + 1) ** q) * torch.expm1(q * share) / q


@card(
    task_types=("multiclass",),
    search={"t1": (0.2, 1.0), "t2": (1.0, 4.0)},
    limits={"brier": {"t1": 0.0, "t2": 1.0}, "cross_entropy": {"t1": 1.0, "t2": 1.0}},
)
def bi_tempered(logits: Tensor, targets: Tensor, *, t1: float = 0.8, t2: float = 1.2) -> Tensor:
    """Cross-entropy with a bounded logarithm and a heavy-tailed softmax.

    −log_t1 p_y − (1 − Σ_k p_k^(2−t1))/(2 − t1),  p_k = exp_t2(z_k − λ), λ such that Σ_k p_k = 1;
    log_t x = (x^(1−t) − 1)/(1 − t),  exp_t x = max(0, 1 + (1 − t)·x)^(1/(1−t)),  at t = 1 log and exp

    Shapes: logits z [batch, classes], targets y [batch]; result [batch], at most 1/(1 − t1).
    Use it when: labels are wrong far from the boundary (t1 < 1 bounds what they cost) or near it (t2 > 1 lets p decay
        slowly there).
    Beware: t1 = t2 = 1 is cross-entropy. Outputs are not logits: p is their tempered softmax, and a plain softmax needs
        temperature scaling to be calibrated.
    Reference: Amid et al., Robust bi-tempered logistic loss based on Bregman divergences, 2019,
        https://arxiv.org/abs/1906.03361
    """
    require("loss.t1", t1, lambda v: 0 <= v <= 1, "0 … 1, where 1 is the logarithm")
    require("loss.t2", t2, lambda v: v >= 1, "1 or above, where 1 is the softmax")
    log_p = _log_tempered(logits.to(torch.promote_types(logits.dtype, torch.float32)), t2)
    log_pt = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    log_loss = -torch.expm1((1 - t1) * log_pt) / (1 - t1) if t1 != 1 else -log_pt
    return (log_loss - (1 - ((2 - t1) * log_p).exp().sum(-1)) / (2 - t1)).to(logits.dtype)


def _log_tempered(logits: Tensor, t: float) -> Tensor:
    """log exp_t(z − λ), with λ by Newton's method: five of the paper's own steps leave probabilities off by 2·10⁻⁶."""
    if t == 1:
        return F.log_softmax(logits, dim=-1)
    below = logits - logits.detach().amax(-1, keepdim=True)
    level = torch.zeros_like(below[..., :1])
    for _ in range(NEWTON):
        level = level + _newton(below.detach(), level, t - 1)
    escort = (t * _log_power(below.detach(), level, t - 1)).softmax(-1)
    level = level + (escort * (below - below.detach())).sum(-1, keepdim=True)  # adds 0, and the gradient of λ
    return _log_power(below, level, t - 1)


def _log_power(below: Tensor, level: Tensor, s: float) -> Tensor:
    return torch.log1p(s * (level - below)) / -s


def _newton(below: Tensor, level: Tensor, s: float) -> Tensor:
    """A step from the left to the root of (Σp)^(−s) = 1, which is concave in λ, and straight for equal logits."""
    log_p = _log_power(below, level, s)
    total, slope = log_p.exp().sum(-1, keepdim=True), ((1 + s) * log_p).exp().sum(-1, keepdim=True)
    return total * torch.expm1(s * total.log()) / (s * slope)
