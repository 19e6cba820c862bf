"""Images and masks of a folder, in `images/` and `masks/`: a pair where names agree but for their endings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lossbench.core import BadInput

GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
NAMED = 20  # files at most that one complaint names

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """An image and its mask, reduced; `size` and `mode` are the image's own."""

    name: str
    size: tuple[int, int]
    mode: str
    image: Bytes  # [channels, height, width]
    mask: Bytes  # [height, width], 0 … 255


def paths(root: str) -> list[tuple[Path, Path]]:
    """The pairs of a folder by name.

    Raises: BadInput where a folder is missing, where an image has no mask, a mask no image, a name is there twice (all
        of them named at once), and for fewer than three pairs.
    """
    place = Path(root).expanduser()
    absent = [name for name in ("images", "masks") if not (place / name).is_dir()]
    if absent:
        raise BadInput(
            f"dataset.root={root}: needs the folders images and masks; there is no {' and no '.join(absent)}"
        )
    images, masks = (sorted(p for p in (place / name).iterdir() if _visible(p)) for name in ("images", "masks"))
    counts = [Counter(path.stem for path in files) for files in (images, masks)]
    faults = [f"images/{p.name} (no mask)" for p in images if p.stem not in counts[1]]
    faults += [f"masks/{p.name} (no image)" for p in masks if p.stem not in counts[0]]
    for folder, files, count in (("images", images, counts[0]), ("masks", masks, counts[1])):
        faults += [f"{folder}/{p.name} (name taken twice)" for p in files if count[p.stem] > 1]
    _refuse(root, faults)
    if len(images) < 3:
        raise BadInput(f"dataset.root={root}: {len(images)} pairs; train, validation and test need at least one each")
    beside = {path.stem: path for path in masks}
    return [(path, beside[path.stem]) for path in images]


def read(root: str, files: Sequence[tuple[Path, Path]], side: int) -> tuple[Tensor, Tensor]:
    """Images [n, channels, height, width] and masks [n, height, width] uint8, the longer side reduced to `side` pixels.

    Grey images have one channel, all others three. A mask is object where it is not 0: in two-valued, palette and
    16-bit files as they are, in grey and colour files above 127 in the brightest channel, or above 0 where no mask of
    the folder reaches 127 (labels). It is reduced to the nearest pixel.

    Raises: BadInput that names all files that cannot be read, are of another size or mode than most, or of more than
        8 bits a channel, and all masks of another size than their image; also where no mask holds an object.
    """
    read = [_pair(image, mask, side) for image, mask in files]
    pairs = [found for found in read if isinstance(found, Pair)]
    faults = [fault for found in read if not isinstance(found, Pair) for fault in found]
    for what, values in (("size", [_size(p.size) for p in pairs]), ("mode", [p.mode for p in pairs])):
        most = Counter(values).most_common(1)[0][0] if values else ""
        faults += [
            f"images/{p.name} ({what} {value}, most are {most})"
            for p, value in zip(pairs, values, strict=True)
            if value != most
        ]
    _refuse(root, faults)
    drawn = np.stack([pair.mask for pair in pairs])
    if not drawn.any():
        raise BadInput(f"dataset.root={root}: no mask holds an object: every pixel of every mask is 0")
    masks = drawn > (127 if drawn.max() > 127 else 0)
    images = torch.from_numpy(np.stack([pair.image for pair in pairs])).contiguous()  # colours were last
    return images, torch.from_numpy(masks.astype(np.uint8))


def _pair(image: Path, mask: Path, side: int) -> Pair | list[str]:
    """A pair, or what is wrong with it."""
    opened = [_opened(path) for path in (image, mask)]
    faults = [fault for fault in opened if isinstance(fault, str)]
    pictures = [picture for picture in opened if isinstance(picture, Image.Image)]
    if len(pictures) < 2:
        return faults
    picture, drawn = pictures
    if picture.mode not in GREY + COLOUR:
        return [f"images/{image.name} (mode {picture.mode}: more than 8 bits a channel)"]
    if drawn.size != picture.size:
        return [f"masks/{mask.name} (size {_size(drawn.size)}, its image {_size(picture.size)})"]
    shrink = side / max(picture.size)
    size = [max(1, round(length * shrink)) for length in picture.size]
    grey = picture.mode in GREY
    reduced = np.asarray(picture.convert("L" if grey else "RGB").resize(size, Image.Resampling.BILINEAR))
    pixels = reduced[None] if grey else reduced.transpose(2, 0, 1)
    return Pair(image.name, picture.size, "grey" if grey else picture.mode, pixels, _nearest(_drawn(drawn), size))


def _drawn(mask: Image.Image) -> Bytes:
    """Grey values [height, width] of a mask; 255 for what is not 0 where values are no brightness."""
    if mask.mode in ("L", "LA"):
        return np.asarray(mask.convert("L"))
    if mask.mode in COLOUR and mask.mode not in ("P", "PA"):
        return np.asarray(mask.convert("RGB")).max(-1)
    return np.where(np.asarray(mask.convert("P") if mask.mode == "PA" else mask) != 0, 255, 0).astype(np.uint8)


def _nearest(values: Bytes, size: list[int]) -> Bytes:
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))


def _opened(path: Path) -> Image.Image | str:
    """The image of a file, read whole, or a complaint."""
    name = f"{path.parent.name}/{path.name}"
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except UnidentifiedImageError:
        return f"{name} (no image)"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{name} ({error or type(error).__name__})"


def _refuse(root: str, faults: Sequence[str]) -> None:
    if faults:
        more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise BadInput(f"dataset.root={root}: cannot be used: {', '.join(faults[:NAMED])}{more}")


def _visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name != "Thumbs.db"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
