"""Metrics of boxes in pairs; torchvision only has the overlap of all combinations."""

from __future__ import annotations

import torch
from torch import Tensor


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """|A ∩ B| / |A ∪ B| of each pair of boxes [n, 4] as x0, y0, x1, y1, sides above 0; result [n]."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (_area(boxes) + _area(others) - both)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(-1)
