"""Which pixels of a mask's file are object and which are void: decided for each file, or rejected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lossbench.datasets.pictures import COLOUR, GREY, Picture, Unreadable

BACKGROUND, OBJECT, VOID = 0, 1, 2
VOID_COLOUR = (224, 224, 192)  # the borders of PASCAL VOC, in colour
FEW = 8  # colours at most of a picture that is labels rather than a soft brush
LABELS, BESIDE_WHITE = 127, 63  # greys up to here are labels, the second where white stands beside them
BAND = 1 / 32  # greys so far from black and white are neither
AREAS, PHOTO = 0.01, 0.25  # shares of greys between, of what is drawn and of all, that no edge has

Mask = NDArray[np.bool_]
Values = NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """BACKGROUND, OBJECT and VOID [height, width]; `white`: 255 is all that is drawn, which elsewhere may be void."""

    pixels: NDArray[np.uint8]
    white: bool = False


def drawn(picture: Picture) -> Drawn:
    """The regions of a mask, read by the conventions of its file format.

    Where some of it is transparent, all that is visible is object. In a palette, all but index 0 is, if that is black.
    Of up to eight colours, all but black are. Of 0 and one grey, that is; of greys up to 127 (labels), all but
    0; of others, what is brighter than half. VOID are 255 beside labels up to 63, the last index beside others, and
    VOC's colour of borders.

    Raises: Unreadable where the file can be read in two ways.
    """
    image, lossless = picture.image, picture.format not in ("JPEG", "MPO")
    if image.mode not in GREY + COLOUR:
        raise Unreadable(f"mode {image.mode}: save it as RGB or grey")
    visible = _visible(image)
    if image.mode in ("P", "PA"):
        indices = np.asarray(image.convert("P") if image.mode == "PA" else image).astype(np.int64)
        return _labels(indices, _painted(image, indices) if visible is None else visible, 255)
    if visible is not None:
        return Drawn(visible.astype(np.uint8))
    if image.mode in GREY and image.mode != "LA":
        return _by_value(*_whole(np.asarray(image)), lossless)
    return _coloured(image.convert("RGB"), lossless)


def _visible(image: Image.Image) -> Mask | None:
    """What is not transparent; None where transparency carries no information."""
    if not image.has_transparency_data:
        return None
    pixels = np.asarray(image.convert("RGBA"))
    alpha, black = pixels[..., 3], (pixels[..., :3] == 0).all(-1)
    low, high = int(alpha.min()), int(alpha.max())
    if low == high > 0:  # one layer
        return None
    visible = alpha > high // 2
    two_ways = low > 0 or ((black & visible).any() and (~black & visible).any())
    if two_ways or (high == 0 and (pixels != pixels[0, 0]).any()):
        raise Unreadable("transparent in parts, black in others: which is background? save it without transparency")
    return visible


def _painted(image: Image.Image, indices: Values) -> Mask:
    colours = np.asarray(image.convert("RGB"))
    painted, black, white = indices != 0, (colours == 0).all(-1), (colours == 255).all(-1)
    if (black.any() and (black == painted).any()) or (white & ~painted).any():
        raise Unreadable("a palette whose first colour is not black: which is background? save it as grey, 0 and 255")
    return painted


def _whole(values: NDArray) -> tuple[Values, int]:
    """Values in whole numbers, and what white is among them: 255 or 65535."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "b":
        return values.astype(np.int64) * 255, 255
    if not np.isfinite(values).all() or low < 0 or high > 65535 or (high > 255 and (values != values.round()).any()):
        raise Unreadable(f"values {low:g} … {high:g}: 0 and 255 are wanted")
    if values.dtype.kind == "f" and high <= 1:
        values = values * 255
    whole = values.round().astype(np.int64)
    if high > 255 and not (whole % 257).any():  # 8 bits, brought to 16
        return whole // 257, 255
    return whole, 65535 if high > 255 else 255


def _by_value(values: Values, white: int, lossless: bool) -> Drawn:
    found = _levels(values)
    levels = found[found > 0]
    if not len(levels) or (len(levels) == 1 and lossless):
        return Drawn((values > 0).astype(np.uint8), white=levels.tolist() == [255])
    small = levels[levels < white].max(initial=0) <= (BESIDE_WHITE if levels[-1] == white else LABELS)
    soft = levels[-1] > white / 2 and _soft(values, white)
    if lossless and found[0] == 0 and (small or (white > 255 and not soft)):
        return _labels(values, values > 0, white)
    if not soft:
        first = ", ".join(map(str, found[:4].tolist())) + (f" … {found[-1]}" if len(found) > 4 else "")
        raise Unreadable(f"values {first}: which are object? 0 and 255 are wanted")
    return Drawn((values > white / 2).astype(np.uint8))


def _labels(values: Values, painted: Mask, last: int) -> Drawn:
    """All that is painted is object, but for the last label beside others."""
    levels = _levels(values[painted]).tolist()
    void = painted & (values == last) & (len(levels) > 1)
    return Drawn(np.where(void, VOID, painted).astype(np.uint8), white=levels == [255])


def _levels(values: Values) -> Values:
    return np.flatnonzero(np.bincount(values.ravel()))  # a phone's photo has twelve million, which take long to sort


def _soft(values: Values, white: int) -> bool:
    """Whether what is neither black nor white is the edges of what is: little, and hardly anywhere 3×3 of one grey."""
    between = (values > white * BAND) & (values < white * (1 - BAND))
    across = (values[:, :-2] == values[:, 1:-1]) & (values[:, 1:-1] == values[:, 2:])
    down = (values[:-2] == values[1:-1]) & (values[1:-1] == values[2:])
    areas = between[1:-1, 1:-1] & across[:-2] & across[1:-1] & across[2:] & down[:, 1:-1]
    return bool(between.mean() <= PHOTO and areas.sum() <= AREAS * (values > white * BAND).sum())


def _coloured(image: Image.Image, lossless: bool) -> Drawn:
    pixels = np.asarray(image)
    brightest = np.maximum.reduce(np.moveaxis(pixels, -1, 0)).astype(np.int64)
    colours = image.getcolors(FEW) or []  # none where there are more
    if (pixels == pixels[..., :1]).all() or len(colours) == 1:
        return _by_value(brightest, 255, lossless)
    if brightest.min() > 255 * BAND:
        raise Unreadable("colours, none of them black: which is background?")
    if lossless and colours and brightest.min() == 0:
        border = (pixels == VOID_COLOUR).all(-1)
        return Drawn(np.where(border, VOID, brightest > 0).astype(np.uint8))
    return _by_value(brightest, 255, lossless)
