"""Losses of masks: logits z and targets y ∈ {0, 1} of one shape [batch, …], one number per image, never over the batch.

In the equations p = σ(z), and sums are over the pixels of one image. ε is in numerator and denominator, so that an
empty mask that is predicted empty costs 0, not 0/0. Where ε is far below one pixel, an empty mask has hardly any
gradient until almost nothing is predicted.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import card, require


@card(task_types=("segmentation",), search={"epsilon": (0.01, 100.0)})
def dice(logits: Tensor, targets: Tensor, *, epsilon: float = 1.0) -> Tensor:
    """Soft Dice: how much the predicted and the true mask fail to overlap, relative to their sizes.

    1 − (2·Σ p·y + ε) / (Σ p + Σ y + ε)

    Shapes: logits z and targets y ∈ {0, 1} [batch, …]; result [batch], in 0 … 1.
    Use it when: objects fill a small share of the image, and overlap is what counts.
    Beware: probabilities end near 0 and 1, right or wrong. One pixel of a small object weighs more than one of a large
        object. An empty mask costs Σ p / (Σ p + ε), nearly 1 until nothing is predicted.
    Reference: Milletari et al., V-Net: fully convolutional neural networks for volumetric medical image segmentation,
        2016, https://arxiv.org/abs/1606.04797 (there with squares in the denominator)
    """
    both, predicted, true = _sums(logits, targets, epsilon)
    return 1 - (2 * both + epsilon) / (predicted + true + epsilon)


@card(
    task_types=("segmentation",),
    search={"weight": (0.1, 0.9)},
    limits={"dice": {"weight": 1.0}, "bce": {"weight": 0.0}},
)
def dice_bce(logits: Tensor, targets: Tensor, *, weight: float = 0.5, epsilon: float = 1.0) -> Tensor:
    """The weighted mean of soft Dice and the pixels' binary cross-entropy.

    λ·dice + (1 − λ)·mean(−y·log σ(z) − (1 − y)·log σ(−z)),  λ = weight

    Shapes: logits z and targets y ∈ {0, 1} [batch, …]; result [batch], without unit.
    Use it when: you want Dice's overlap, and gradients that do not fade while predictions are far off.
    Beware: the two differ in scale, and cross-entropy shrinks faster: late in training Dice dominates at any weight.
    Reference: Isensee et al., nnU-Net, 2021, https://doi.org/10.1038/s41592-020-01008-z (there the plain sum)
    """
    require("loss.weight", weight, lambda v: 0 <= v <= 1, "a share, 0 … 1")
    pixels = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").flatten(1)
    return weight * dice(logits, targets, epsilon=epsilon) + (1 - weight) * pixels.mean(1)


@card(
    task_types=("segmentation",),
    search={"alpha": (0.1, 0.9), "beta": (0.1, 0.9)},
    limits={"dice": {"alpha": 0.5, "beta": 0.5, "epsilon": 0.5}, "jaccard": {"alpha": 1.0, "beta": 1.0}},
)
def tversky(logits: Tensor, targets: Tensor, *, alpha: float = 0.3, beta: float = 0.7, epsilon: float = 1.0) -> Tensor:
    """Tversky index: overlap in which false positives weigh α and false negatives β.

    1 − (Σ p·y + ε) / (Σ p·y + α·Σ p·(1 − y) + β·Σ (1 − p)·y + ε)

    α = β = ½ is Dice (with twice the ε), α = β = 1 is Jaccard.

    Shapes: logits z and targets y ∈ {0, 1} [batch, …]; result [batch], in 0 … 1.
    Use it when: a missed pixel is worse than a false positive, or the other way round.
    Beware: β > α makes every mask larger, which trades precision for recall; IoU is best near α = β.
    Reference: Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep networks,
        2017, https://arxiv.org/abs/1706.05721
    """
    _require_weights(alpha, beta)
    both, predicted, true = _sums(logits, targets, epsilon)
    return 1 - (both + epsilon) / (both + alpha * (predicted - both) + beta * (true - both) + epsilon)


@card(
    task_types=("segmentation",),
    search={"alpha": (0.1, 0.9), "beta": (0.1, 0.9), "gamma": (0.75, 3.0)},
    limits={
        "tversky": {"gamma": 1.0},
        "dice": {"alpha": 0.5, "beta": 0.5, "gamma": 1.0, "epsilon": 0.5},
        "jaccard": {"alpha": 1.0, "beta": 1.0, "gamma": 1.0},
    },
)
def focal_tversky(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    epsilon: float = 1.0,
) -> Tensor:
    """Focal Tversky: a power of the Tversky loss, which raises the gradient of objects that are nearly right.

    t^(1/γ),  t = (α·Σ p·(1 − y) + β·Σ (1 − p)·y) / (Σ p·y + α·Σ p·(1 − y) + β·Σ (1 − p)·y + ε)

    t is the Tversky loss. As there, α weighs false positives and β false negatives; the paper's α = .7 weighs the
    latter.

    Shapes: logits z and targets y ∈ {0, 1} [batch, …]; result [batch], in 0 … 1.
    Use it when: objects are small and Tversky does not learn their edges.
    Beware: γ > 1 raises the slope of what is nearly right, without bound, and lowers that of what is far off: the
        reverse of the focal loss. At t = 0 the slope is defined as 0.
    Reference: Abraham & Khan, A novel focal Tversky loss function with improved attention U-Net for lesion
        segmentation, 2019, https://arxiv.org/abs/1810.07842
    """
    _require_weights(alpha, beta)
    require("loss.epsilon", epsilon, lambda v: v >= 0, "0 or above")
    require("loss.gamma", gamma, lambda v: v > 0, "above 0")
    y = targets.to(logits.dtype).flatten(1)
    hits, wrong = torch.sigmoid(logits).flatten(1), torch.sigmoid(-logits).flatten(1)  # 1 − p would round
    errors = alpha * (hits * (1 - y)).sum(1) + beta * (wrong * y).sum(1)
    loss = errors / ((hits * y).sum(1) + errors + epsilon)
    return (loss.clamp(min=torch.finfo(loss.dtype).tiny).log() / gamma).exp()


@card(task_types=("segmentation",), search={"epsilon": (0.01, 100.0)})
def jaccard(logits: Tensor, targets: Tensor, *, epsilon: float = 1.0) -> Tensor:
    """Soft Jaccard: one minus intersection over union, computed with probabilities.

    1 − (Σ p·y + ε) / (Σ p + Σ y − Σ p·y + ε)

    Shapes: logits z and targets y ∈ {0, 1} [batch, …]; result [batch], in 0 … 1.
    Use it when: intersection over union is what will be reported.
    Beware: it ranks single images as Dice does and has the same drawbacks; images that are far off weigh more.
    Reference: Rahman & Wang, Optimizing intersection-over-union in deep neural networks for image segmentation, 2016,
        https://doi.org/10.1007/978-3-319-50835-1_22
    """
    both, predicted, true = _sums(logits, targets, epsilon)
    return 1 - (both + epsilon) / (predicted + true - both + epsilon)


@card(task_types=("segmentation",))
def lovasz(logits: Tensor, targets: Tensor) -> Tensor:
    """Lovász hinge: the convex extension of one minus intersection over union to the pixels' hinges.

    Σ_i max(0, m_i)·(Δ_i − Δ_{i−1}),  m = 1 − z·(2y − 1) from the largest down,  Δ_i = 1 − IoU were the first i wrong

    If every logit is −1 or +1 it is 2·(1 − IoU) of the mask z > 0.

    Shapes: logits z and targets y ∈ {0, 1} [batch, …]; result [batch], in the unit of the logit.
    Use it when: intersection over union will be reported, and only the mask matters, not its probabilities.
    Beware: made for fine-tuning late in training. Logits are not log-odds, they settle at ±1. An empty mask costs the
        hinge of its highest logit, max(0, 1 + max z): 0 once all are below −1; until then one pixel has a gradient.
    Reference: Berman et al., The Lovász-softmax loss, 2018, https://arxiv.org/abs/1705.08790
    """
    z, y = logits.flatten(1), targets.to(logits.dtype).flatten(1)
    hinges, order = (1 - z * (2 * y - 1)).sort(dim=1, descending=True, stable=True)
    objects = y.gather(1, order).double()  # in a large image float32 rounds the steps of IoU
    true = objects.sum(1, keepdim=True)
    fails = 1 - (true - objects.cumsum(1)) / (true + (1 - objects).cumsum(1))
    steps = torch.cat([fails[:, :1], fails.diff(dim=1)], 1)
    return (hinges.clamp(min=0) * steps.to(hinges.dtype)).sum(1)


def _require_weights(alpha: float, beta: float) -> None:
    for name, weight in (("alpha", alpha), ("beta", beta)):
        require(f"loss.{name}", weight, lambda v: v >= 0, "0 or above")


def _sums(logits: Tensor, targets: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Σ p·y, Σ p and Σ y, each [batch]. Raises: ConfigError for a negative ε."""
    require("loss.epsilon", epsilon, lambda v: v >= 0, "0 or above")
    p, y = torch.sigmoid(logits).flatten(1), targets.to(logits.dtype).flatten(1)
    return (p * y).sum(1), p.sum(1), y.sum(1)
