"""Images and masks of a folder, in `images/` and `masks/`: a pair where names agree but for their endings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lossbench.core import ConfigError
from lossbench.datasets import pictures
from lossbench.datasets.drawn import OBJECT, VOID, drawn
from lossbench.datasets.pictures import Frame, Picture, Unreadable, listed, visible
from lossbench.datasets.remarks import say

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """An image and its mask, reduced; `size` is the image's own, `frame` what the mask was drawn on.

    `held`: the mask has an object before it is reduced; `white`: 255 is all that it has.
    """

    name: str
    mask_name: str
    size: tuple[int, int]
    mode: str
    frame: Frame | None
    image: Bytes  # [channels, height, width]
    mask: Bytes  # [height, width]: BACKGROUND, OBJECT, VOID
    held: bool
    white: bool


def paths(root: str) -> list[tuple[Path, Path]]:
    """The pairs of a folder by name.

    Raises: ConfigError where a folder is missing, an image has no mask, a mask no image, a name is there twice (all
        of them named at once), and for fewer than three pairs.
    """
    place = Path(root).expanduser()
    absent = [name for name in ("images", "masks") if not (place / name).is_dir()]
    if absent:
        raise ConfigError(
            f"dataset.root={root}: needs the folders images and masks; there is no {' and no '.join(absent)}"
        )
    images, masks = (sorted(p for p in (place / name).iterdir() if visible(p)) for name in ("images", "masks"))
    counts = [Counter(path.stem for path in files) for files in (images, masks)]
    faults = [f"{p.parent.name}/{p.name} (a folder)" for p in (*images, *masks) if p.is_dir()]
    faults += [f"images/{p.name} (no mask)" for p in images if p.stem not in counts[1]]
    faults += [f"masks/{p.name} (no image)" for p in masks if p.stem not in counts[0]]
    for folder, files, count in (("images", images, counts[0]), ("masks", masks, counts[1])):
        faults += [f"{folder}/{p.name} (name taken twice)" for p in files if count[p.stem] > 1]
    _refuse(root, faults)
    if len(images) < 3:
        raise ConfigError(
            f"dataset.root={root}: {len(images)} pairs; train, validation and test need at least one each"
        )
    beside = {path.stem: path for path in masks}
    return [(path, beside[path.stem]) for path in images]


def read(root: str, files: Sequence[tuple[Path, Path]], side: int) -> tuple[Tensor, Tensor]:
    """Images [n, channels, height, width] and masks [n, height, width] uint8, the longer side reduced to `side` pixels.

    Grey images have one channel, all others three; both are upright. Masks hold BACKGROUND, OBJECT and VOID of
    `drawn`, reduced to the nearest pixel. A mask without EXIF data lies as its image is stored, or upright, whichever
    its size fits; where it fits both, as the other masks of the folder do.

    Raises: ConfigError that names all files that cannot be read, are of another size or mode than most, and all masks
        of another size than their image or that can be read in two ways; also where no mask holds an object.
    """
    found = [_pair(*paths, side) for paths in files]
    frame = pictures.agreed(pair.frame for pair in found if isinstance(pair, Pair))
    read = [pair or _pair(*paths, side, frame) or _ambiguous(*paths) for pair, paths in zip(found, files, strict=True)]
    pairs = [pair for pair in read if isinstance(pair, Pair)]
    faults = [fault for fault in read if isinstance(fault, str)]
    for what, values in (("size", [_size(p.size) for p in pairs]), ("mode", [p.mode for p in pairs])):
        most = Counter(values).most_common(1)[0][0] if values else ""
        faults += [
            f"images/{p.name} ({what} {value}, most are {most})"
            for p, value in zip(pairs, values, strict=True)
            if value != most
        ]
    _refuse(root, faults + _whites(pairs))
    images = torch.from_numpy(np.stack([pair.image for pair in pairs])).contiguous()  # colours were last
    masks = torch.from_numpy(np.stack([pair.mask for pair in pairs]))
    _worth_training(root, side, pairs, masks == OBJECT)
    return images, masks


def _pair(image: Path, mask: Path, side: int, frame: Frame | None = None) -> Pair | str | None:
    """A pair, or its fault; None where the mask fits its image both upright and as stored."""
    try:
        with pictures.named(image):
            picture = pictures.read(image)
            pixels = pictures.plain(picture.image)
        with pictures.named(mask):
            marked = pictures.read(mask)
            fits = _frame(picture, marked)
            drawing = drawn(marked)
    except Unreadable as fault:
        return str(fault)
    if fits is None and frame is None:
        return None
    values = Image.fromarray(drawing.pixels)
    if (fits or frame) == "stored":
        values = pictures.to_upright(values, picture.orientation)
    width, height = (max(1, round(length * side / max(pixels.size))) for length in pixels.size)
    reduced = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))
    return Pair(
        image.name,
        mask.name,
        pixels.size,
        "grey" if pixels.mode == "L" else pixels.mode,
        fits if picture.orientation > 1 and marked.orientation == 1 else None,
        reduced[None] if pixels.mode == "L" else reduced.transpose(2, 0, 1),
        np.asarray(values.resize((width, height), Image.Resampling.NEAREST)),
        bool((drawing.pixels == OBJECT).any()),
        drawing.white,
    )


def _frame(picture: Picture, mask: Picture) -> Frame | None:
    """What a mask was drawn on, None where its size does not determine it; one with EXIF data of its own is upright.

    Raises: Unreadable where it is of another size.
    """
    size = picture.image.size
    frame = "upright" if mask.orientation > 1 else pictures.drawn_on(size, picture.orientation, mask.image.size)
    if mask.image.size != (pictures.stored(size, picture.orientation) if frame == "stored" else size):
        raise Unreadable(f"size {_size(mask.image.size)}, its image {_size(picture.image.size)}")
    return frame


def _ambiguous(image: Path, mask: Path) -> str:
    fault = f"turned by its EXIF data; masks/{mask.name} fits it so and as it is stored: save it upright, without them"
    return f"images/{image.name} ({fault})"


def _whites(pairs: Sequence[Pair]) -> list[str]:
    """Masks of 255 alone, in a folder where 255 is void: it cannot be known whether it is object there."""
    void = next((pair.mask_name for pair in pairs if (pair.mask == VOID).any()), None)
    fault = f"holds 0 and 255 alone, and beside the labels of masks/{void} 255 is void: write 0 for void"
    return [f"masks/{pair.mask_name} ({fault})" for pair in pairs if pair.white] if void else []


def _worth_training(root: str, side: int, pairs: Sequence[Pair], objects: Tensor) -> None:
    lost = [p.mask_name for p, left in zip(pairs, objects.flatten(1).any(1).tolist(), strict=True) if p.held > left]
    if not objects.any():
        gone = f"all of {len(lost)} masks vanish where {_size(pairs[0].size)} is reduced: raise dataset.side={side}"
        raise ConfigError(f"dataset.root={root}: no mask holds an object" + (f": {gone}" if lost else ""))
    if objects.all():
        raise ConfigError(f"dataset.root={root}: no mask holds background: every pixel of every mask is object")
    if lost:
        say(f"dataset.side={side}: too few pixels for the objects of {len(lost)} masks, now empty: {listed(lost)}")


def _refuse(root: str, faults: Sequence[str]) -> None:
    if faults:
        raise ConfigError(f"dataset.root={root}: cannot be used: {listed(faults)}")


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
