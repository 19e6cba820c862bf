"""Boxes as offsets from an anchor, the form in which detectors predict them: shared by datasets, losses and tasks.

The unit of length is the side of the anchor, a square of side 1 centred on the origin; x points right, y points down.
A crop is CROP sides wide, with the anchor in its middle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CROP = 2.5
FURTHEST = math.log(1000 / 16)  # a side is between 1/62.5 and 62.5 times that of the anchor


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (t_x, t_y, t_w, t_h) of boxes from anchors, both [n, 4] as x0, y0, x1, y1 in the same unit.

    t_x = (x − x_a) / w_a,  t_y = (y − y_a) / h_a,  t_w = log(w / w_a),  t_h = log(h / h_a);  x, y are centres

    Reference: Ren et al., Faster R-CNN, 2015, https://arxiv.org/abs/1506.01497
    """
    sides, anchor_sides = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    centres, anchor_centres = boxes[:, :2] + sides / 2, anchors[:, :2] + anchor_sides / 2
    return torch.cat([(centres - anchor_centres) / anchor_sides, (sides / anchor_sides).log()], -1)


def decode(offsets: Tensor) -> Tensor:
    """Corners x0, y0, x1, y1 of offsets [..., 4], in sides of the anchor.

    Log sides are clamped to ±FURTHEST, where their gradient is 0, so that no side overflows or becomes 0.
    """
    centres, sides = offsets[..., :2], offsets[..., 2:].clamp(-FURTHEST, FURTHEST).exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], -1)
