"""Losses of boxes: offsets (t_x, t_y, t_w, t_h) from an anchor, predicted and true, [batch, 4]; see `offsets`.

In the equations A is the predicted box, B the true one, C the smallest box that contains both; IoU = |A ∩ B| / |A ∪ B|.
Lengths are in sides of the anchor. In pixels giou is the same; diou and ciou are the same if the anchor is square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import card, require
from lossbench.core.box_offsets import decode


@card(
    task_types=("boxes",),
    search={"beta": (0.01, 1.0)},
    limits={"huber": {"beta": 1.0}, "mse": {"beta": 1e6}, "mae": {"beta": 1e-9}},
)
def smooth_l1(prediction: Tensor, target: Tensor, *, beta: float = 1 / 9) -> Tensor:
    """Smooth L1 of the four offsets: squared error near zero, absolute error beyond β; Huber's loss over its δ.

    Σ_k ½r_k²/β where |r_k| ≤ β,  |r_k| − ½β beyond;  r = prediction − target

    Shapes: prediction and target [batch, 4], offsets; result [batch], a sum over them, without unit.
    Use it when: boxes are regressed from anchors, and some are far off or carelessly annotated.
    Beware: it judges the four offsets one by one and not the overlap: an error of .1 costs a small box and a large one
        the same. β is in sides of the anchor. The default is that of Faster R-CNN's proposals (σ = 3); Fast R-CNN has
        1, on offsets that are ten and five times as large.
    Raises: ConfigError unless β > 0.
    Reference: Girshick, Fast R-CNN, 2015, https://arxiv.org/abs/1504.08083
    """
    require("loss.beta", beta, lambda v: v > 0, "above 0")
    return F.smooth_l1_loss(prediction, target.to(prediction.dtype), reduction="none", beta=beta).sum(-1)


@card(task_types=("boxes",))
def giou(prediction: Tensor, target: Tensor) -> Tensor:
    """Generalised IoU: how little the boxes overlap, and how much empty space the box around both has.

    1 − IoU + |C ∖ (A ∪ B)| / |C|

    Shapes: prediction and target [batch, 4], offsets; result [batch], in 0 … 2, without unit.
    Use it when: IoU is what will be reported, and some boxes do not overlap theirs at all yet.
    Beware: where one box contains the other, the second part is 0 and the centres do not matter. A box that misses
        grows until it meets its target and shrinks again later, so training takes longer. Boxes far off get hardly
        any gradient: a net whose first steps are too large stays there, so lower the learning rate.
    Reference: Rezatofighi et al., Generalized intersection over union, 2019, https://arxiv.org/abs/1902.09630
    """
    return _overlapped("generalized_box_iou_loss", prediction, target)


@card(task_types=("boxes",))
def diou(prediction: Tensor, target: Tensor) -> Tensor:
    """Distance IoU: how little the boxes overlap, and how far apart their centres are.

    1 − IoU + d²(a, b) / c²,  a, b the centres, c the diagonal of C

    Shapes: prediction and target [batch, 4], offsets; result [batch], in 0 … 2, without unit.
    Use it when: IoU is what will be reported; it moves centres together, also where one box is inside the other.
    Beware: it ignores the sides until the boxes overlap, and a larger box lowers the second part.
    Reference: Zheng et al., Distance-IoU loss, 2020, https://arxiv.org/abs/1911.08287
    """
    return _overlapped("distance_box_iou_loss", prediction, target)


@card(task_types=("boxes",))
def ciou(prediction: Tensor, target: Tensor) -> Tensor:
    """Complete IoU: distance IoU, and how different the boxes' proportions are.

    1 − IoU + d²(a, b) / c² + α·v,  v = 4/π²·(arctan w_B/h_B − arctan w_A/h_A)²,  α = v / (1 − IoU + v)

    Shapes: prediction and target [batch, 4], offsets; result [batch], in 0 … 3, without unit.
    Use it when: you would take diou, and the boxes' proportions vary.
    Beware: α is a weight and has no gradient, so the slope of the value differs from the gradient. The gradient of v
        grows as 1/(w² + h²), large for a tiny box; some code leaves that factor out. Equal proportions are not equal
        sides.
    Reference: Zheng et al., Distance-IoU loss, 2020, https://arxiv.org/abs/1911.08287
    """
    return _overlapped("complete_box_iou_loss", prediction, target)


def _overlapped(name: str, prediction: Tensor, target: Tensor) -> Tensor:
    """A loss of torchvision on corners, at least in float32: in bfloat16 a corner has only two or three digits."""
    from lossbench.core.vision import torchvision

    exact = torch.promote_types(prediction.dtype, torch.float32)
    loss: Callable[..., Any] = getattr(torchvision.ops, name)
    return loss(decode(prediction.to(exact)), decode(target.to(exact)), reduction="none").to(prediction.dtype)
