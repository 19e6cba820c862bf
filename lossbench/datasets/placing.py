"""Positions of boxes on an image that is rotated, or of another size than its annotator saw."""

from __future__ import annotations

from dataclasses import dataclass

from lossbench.datasets.annotations import Box, Entry, Faulty
from lossbench.datasets.pictures import Frame, proportional, stored

ROUNDING = 1.0  # pixels beyond the edge that nobody meant

# Stored pixels become upright by changing axes, then mirroring x, then y.
TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}

Size = tuple[int, int]


@dataclass(frozen=True)
class Placed:
    """Boxes in pixels of the upright image, how many were cut at its edge, and whether all were scaled or rotated."""

    boxes: list[Box]
    cut: int
    scaled: bool
    turned: bool


def placed(entry: Entry, size: Size, orientation: int, frame: Frame | None) -> Placed:
    """The boxes of an entry on an image of this upright size, drawn on it upright or as it is stored.

    Raises: Faulty where the image has other proportions than its entry says, a box lies outside of it, or it
        is unknown what boxes were drawn on.
    """
    if frame is None:
        raise Faulty(
            "turned by its EXIF data, and its entry's size does not tell whether boxes were drawn on it upright or as "
            "stored: save it upright, without EXIF data"
        )
    own = stored(size, orientation) if frame == "stored" else size
    seen = entry.size or own
    if not proportional(own, seen):
        raise Faulty(f"{seen[0]:g}×{seen[1]:g} in its entry, {own[0]}×{own[1]} in its file")
    across, down = own[0] / seen[0], own[1] / seen[1]
    boxes = [(x * across, y * down, width * across, height * down) for x, y, width, height in entry.boxes]
    beyond = [_beyond(box, own, known=entry.size is not None) for box in boxes]
    boxes = [_cut(box, own) for box in boxes]
    if frame == "stored":
        boxes = [_upright(box, size, orientation) for box in boxes]
    return Placed(boxes, sum(beyond), own != seen, frame == "stored")


def _beyond(box: Box, size: Size, *, known: bool) -> bool:
    """Whether a box reaches over the edge. Raises: Faulty where all of it does, or it may be of another size."""
    x, y, width, height = box
    text = f"box {', '.join(f'{side:g}' for side in box)}"
    if min(x + width, y + height, size[0] - x, size[1] - y) <= 0:
        raise Faulty(f"{text} lies outside of its {size[0]}×{size[1]}")
    over = max(-x, -y, x + width - size[0], y + height - size[1]) > ROUNDING
    if over and not known:
        raise Faulty(
            f"{text} reaches beyond its {size[0]}×{size[1]}, and its entry has no width and height to scale it"
        )
    return over


def _cut(box: Box, size: Size) -> Box:
    x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    if (left, top) == (x, y) and x + width <= size[0] and y + height <= size[1]:
        return box  # to the last bit
    return left, top, min(x + width, size[0]) - left, min(y + height, size[1]) - top


def _upright(box: Box, size: Size, orientation: int) -> Box:
    x, y, width, height = box
    swapped, mirror_x, mirror_y = TURNS[orientation]
    if swapped:
        x, y, width, height = y, x, height, width
    return size[0] - x - width if mirror_x else x, size[1] - y - height if mirror_y else y, width, height
