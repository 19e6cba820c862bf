"""Augmentation of photos, the same for every loss under a seed: a person has only a few photos."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TURN = math.radians(10)
SHIFT, GROW, CONTRAST = 0.08, 0.1, 0.3  # shares of a side, of the size, of the standard deviation
DRAWS = 6  # uniform numbers a photo


def augmented(photos: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Photos mirrored, rotated, shifted, zoomed and changed in contrast at random, by `strength`.

    At strength 1: up to 10°, 8 % of a side, 10 % of the size, 30 % of the contrast. Edge pixels are repeated outwards.

    Shapes: photos [..., batch, channels, height, width], standardised; draws [..., batch, DRAWS] from [0, 1).
    """
    flat = photos.flatten(0, -4)
    mirror, *rest = draws.flatten(0, -2).unbind(-1)
    turn, x, y, grow, contrast = (strength * (2 * draw - 1) for draw in rest)
    turn, zoom = TURN * turn, 1 + GROW * grow
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    height, width = flat.shape[-2:]
    side = torch.where(mirror < 0.5, -1.0, 1.0)
    rows = [
        torch.stack([side * cos, -side * sin * height / width, 2 * SHIFT * x], -1),
        torch.stack([sin * width / height, cos, 2 * SHIFT * y], -1),
    ]
    grid = F.affine_grid(torch.stack(rows, -2), list(flat.shape), align_corners=False)
    views = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    views = views * (1 + CONTRAST * contrast)[:, None, None, None]
    return views.unflatten(0, photos.shape[:-3])
