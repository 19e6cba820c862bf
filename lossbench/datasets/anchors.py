"""Dense anchors over an image, as a detector has them: boxes, their IoU with the objects, and their crops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

STRIDE = 4
HEIGHTS = (14, 20, 28, 36)
ASPECTS = (0.5, 0.75, 1.0)  # width to height


def anchors(height: int, width: int) -> Tensor:
    """Boxes [n, 4] of every height and aspect, centred on a grid, as far as they lie inside the image."""
    shapes = torch.tensor([(h * aspect, h) for h in HEIGHTS for aspect in ASPECTS])
    ys, xs = torch.meshgrid(torch.arange(0, height, STRIDE), torch.arange(0, width, STRIDE), indexing="ij")
    centres = torch.stack([xs, ys], -1).reshape(-1, 1, 2)
    boxes = torch.cat([centres - shapes / 2, centres + shapes / 2], -1).reshape(-1, 4)
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
    return boxes[inside]


def crops(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """What lies in each box, resampled to a square: [n, side, side] from an image [height, width]."""
    height, width = image.shape
    size = torch.tensor([width, height])
    low, high = boxes[:, :2] / size, boxes[:, 2:] / size  # 0 … 1
    ticks = (torch.arange(side) + 0.5) / side
    x = low[:, :1] + (high - low)[:, :1] * ticks
    y = low[:, 1:] + (high - low)[:, 1:] * ticks
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], -1) * 2 - 1
    source = image[None, None].expand(len(boxes), -1, -1, -1)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]
