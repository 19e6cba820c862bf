"""Boxes as offsets from an anchor, as detectors give and want them: what datasets, losses and tasks of boxes share.

Lengths are in sides of the anchor, which is the square of side 1 about the origin; x goes right, y goes down. A crop
shows CROP sides of the anchor, with the anchor in its middle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CROP = 2.5
FURTHEST = math.log(1000 / 16)  # a side is the anchor's times at most 62.5, or at least a 62.5th


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Offsets (t_x, t_y, t_w, t_h) of boxes from anchors, both [n, 4] as x0, y0, x1, y1 in any one unit.

    t_x = (x − x_a) / w_a,  t_y = (y − y_a) / h_a,  t_w = log(w / w_a),  t_h = log(h / h_a);  x, y are centres

    Reference: Ren et al., Faster R-CNN, 2015, https://arxiv.org/abs/1506.01497
    """
    sides, others = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    centres, places = boxes[:, :2] + sides / 2, anchors[:, :2] + others / 2
    return torch.cat([(centres - places) / others, (sides / others).log()], -1)


def decode(offsets: Tensor) -> Tensor:
    """Corners x0, y0, x1, y1 of offsets [..., 4], in sides of the anchor.

    Sides beyond FURTHEST stay there and pull no more, so that neither do they overflow nor does any become 0.
    """
    centres, sides = offsets[..., :2], offsets[..., 2:].clamp(-FURTHEST, FURTHEST).exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], -1)
