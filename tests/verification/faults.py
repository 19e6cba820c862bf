"""Losses with a fault that only a truth can see: they keep the contract, and are something else than they say."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lossbench.core import LossOutput, card
from lossbench.losses import Minimax, class_balanced, dice


@card(task_types=("regression",))
def squared(prediction, target):
    return (prediction - target).square().mean(-1)


@card(task_types=("regression",))
def absolute(prediction, target):
    return (prediction - target).abs().mean(-1)


@card(task_types=("multiclass",))
def reversed_smoothing(logits, targets, *, epsilon=0.1):
    return F.cross_entropy(logits, targets, label_smoothing=1 - epsilon, reduction="none")


@card(task_types=("binary",))
def focal_of_the_other_sign(logits, targets, *, gamma=2.0, alpha=None):
    p = torch.where(targets == 1, logits, -logits).sigmoid()
    weight = 0.5 if alpha is None else torch.where(targets == 1, 1 - alpha, alpha)
    return -weight * (1 - p) ** gamma * p.log()


@card(task_types=("multiclass",))
def cross_entropy(logits, targets, **ignored):
    return F.cross_entropy(logits, targets, reduction="none")


@card(task_types=("segmentation",))
def dice_for_bce(logits, targets, *, pos_weight=1.0):
    return dice(logits, targets)


@card(task_types=("gan",), replica_batched=True)
class HalfMinimax(Minimax):
    """Its critic never sees a fake."""

    def critic(self, critic, real, fake):
        told = super().critic(critic, real, fake)
        return LossOutput(F.softplus(-critic(real)), told.parts)


@card(task_types=("binary",))
def labels_swapped(logits, targets):
    return F.binary_cross_entropy_with_logits(logits, 1 - targets.to(logits.dtype), reduction="none")


@card(task_types=("multiclass",), needs=("class_counts",))
def one_more_of_each(logits, targets, *, class_counts):
    counts = logits.new_tensor(class_counts) + 1
    return F.cross_entropy(logits, targets, weight=counts.sum() / (len(counts) * counts), reduction="none")


@card(task_types=("multiclass",), needs=("class_counts",))
def balanced_by_the_next_class(logits, targets, *, class_counts, beta=0.9999):
    return class_balanced(logits, targets, class_counts=class_counts[1:] + class_counts[:1], beta=beta)


@card(task_types=("multiclass",))
def not_a_number(logits, targets, **ignored):
    return torch.nan * logits.sum(-1)


@card(task_types=("multiclass",), needs=("class_counts",))
def raises(logits, targets, *, class_counts):
    raise ArithmeticError("<b>no</b> [red]way[/]")
