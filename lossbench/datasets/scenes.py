"""Scenes: real digits pasted into real photographs, with the box of each and the mask of all."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.datasets.pictures import grey

SIDE = 128  # of a scene
DIGIT = (18, 46)  # sides of the 28×28 glyph when pasted: the ink fills about 20 of the 28
CONTRAST = (0.35, 1.0)
OBJECTS = (1, 4)
PHOTO_CROP = (88, 128)  # side of the piece of photograph that becomes a scene
INK = 0.3  # what counts as part of the digit in its box and in the mask


@dataclass(frozen=True)
class Scene:
    """An image [height, width] in 0 … 1, and boxes [objects, 4] as x0, y0, x1, y1 in pixels.

    `mask` [height, width] says which pixels are ink of an object, where that is known.
    """

    image: Tensor
    boxes: Tensor
    mask: Tensor | None = None


def photographs() -> list[Tensor]:
    """The two photographs that scikit-learn carries, grey, [427, 640] in 0 … 1."""
    spec = find_spec("sklearn")  # found, not imported: that takes half a second
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "images"
    return [torch.from_numpy(grey(folder / name)) for name in ("china.jpg", "flower.jpg")]


def scene(
    photos: list[Tensor],
    strip: tuple[float, float],
    glyphs: Tensor,
    random: np.random.Generator,
    objects: tuple[int, int] = OBJECTS,
) -> Scene:
    """One scene: a piece of a photograph, taken from a strip of its width, with digits of varied size, contrast, place.

    `strip` is (left, right) as shares of the width, so that splits that use disjoint strips share no background.
    `objects` are the fewest and the most that are tried; one whose box would overlap another's is left out.
    """
    photo = photos[random.integers(len(photos))]
    height, width = photo.shape
    left, right = int(strip[0] * width), int(strip[1] * width)
    side = int(random.integers(PHOTO_CROP[0], min(PHOTO_CROP[1], right - left) + 1))
    y, x = random.integers(0, height - side + 1), random.integers(left, right - side + 1)
    image = _resize(photo[y : y + side, x : x + side], SIDE)
    image = image.flip(1) if random.random() < 0.5 else image
    boxes: list[NDArray[np.int64]] = []
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    for _ in range(random.integers(objects[0], objects[1] + 1)):
        glyph = _resize(glyphs[random.integers(len(glyphs))].float() / 255, int(random.integers(*DIGIT)))
        inside = (glyph > INK).nonzero().numpy()
        if not len(inside):
            continue
        top, start = random.integers(0, SIDE - len(glyph) + 1, size=2)
        corner = np.array([top, start])
        low, high = corner + inside.min(0), corner + inside.max(0) + 1
        box = np.array([low[1], low[0], high[1], high[0]])
        if any(_overlap(box, other) for other in boxes):
            continue
        patch = image[top : top + len(glyph), start : start + len(glyph)]
        ink = float(patch.mean() < 0.5)  # white on dark, black on light
        cover = glyph * random.uniform(*CONTRAST)
        patch += cover * (ink - patch)
        mask[top : top + len(glyph), start : start + len(glyph)] |= glyph > INK
        boxes.append(box)
    return Scene(image, torch.tensor(np.array(boxes).reshape(-1, 4), dtype=torch.float32), mask)


def _resize(image: Tensor, side: int) -> Tensor:
    grown = F.interpolate(image[None, None], size=(side, side), mode="bilinear", antialias=True)
    return grown[0, 0].clamp(0, 1)


def _overlap(a: NDArray[np.int64], b: NDArray[np.int64]) -> bool:
    return bool((np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:])).all())
