"""Pictures of files, as every dataset reads them: upright, in 8 bits, without transparency; and which files count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

GREY = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # more than 8 bits
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
PAGED = ("GIF", "TIFF", "WEBP", "PNG", "AVIF")  # a JPEG's second picture is a phone's map of depth or gain
LEFTOVERS = {"@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "#recycle", "lost+found"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WHITE_16, DARK_16 = 65535, 1 << 14  # sensors of 10, 12 and 14 bits stay below the second
LONGEST = 500  # characters of one of them
NAMED = 20  # of many that are wrong, so many are named

Frame = Literal["upright", "stored"]
"""What annotations were drawn on, for a picture that EXIF data rotate: the picture as viewers show it, or as stored."""


class Unreadable(Exception):
    """Why a file cannot be read as a picture, in a few words without its name."""


@dataclass(frozen=True)
class Picture:
    """A picture upright, otherwise as its file has it; `orientation` is the EXIF one that was undone, 1 … 8."""

    image: Image.Image
    orientation: int
    format: str


def read(path: Path) -> Picture:
    """Raises: Unreadable for what is no picture, cut short, corrupt, too large for Pillow, or of several pages."""
    if path.exists() and not path.is_file():  # a pipe would be waited for, and a device has no end
        raise Unreadable("a folder" if path.is_dir() else "no file but a pipe, socket or device")
    try:
        # through a file of our own: given a path, Pillow 13 maps uncompressed TIFF files and scrambles turned ones
        with path.open("rb") as file, Image.open(file) as image:
            if image.format == "EPS":  # a program, which Ghostscript would run
                raise Unreadable("EPS: save it as PNG")
            pages = getattr(image, "n_frames", 1) if image.format in PAGED else 1
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # loading a TIFF file removes it
            image.load()
            upright = ImageOps.exif_transpose(image)
            format_name = image.format or ""
    except FileNotFoundError:
        raise Unreadable("missing") from None
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("HEIC: save it as JPEG" if path.suffix.lower() in (".heic", ".heif") else "no image") from None
    except Exception as error:  # decoders raise whatever a broken file makes them stumble on
        raise Unreadable(str(error) or type(error).__name__) from error
    if pages > 1:
        raise Unreadable(f"{pages} pages or frames, one is wanted")
    return Picture(upright, orientation if orientation in range(1, 9) else 1, format_name)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Adds the file's name and folder to faults raised inside."""
    try:
        yield
    except Unreadable as fault:
        raise Unreadable(f"{path.parent.name}/{path.name} ({fault})") from fault


def plain(image: Image.Image) -> Image.Image:
    """The picture in 8 bits, grey (L) or colour (RGB); what is transparent shows white, as on a page.

    16 bits reach from 0 to 65535, floats from 0 to 1 or, in whole numbers, to 255.

    Raises: Unreadable for other modes, and for deep pictures whose white is unknown.
    """
    if image.mode not in GREY + COLOUR:
        raise Unreadable(f"mode {image.mode}: save it as RGB or grey")
    grey = image.mode in GREY
    if image.mode in DEEP:
        return Image.fromarray(_bytes(np.asarray(image)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("L" if grey else "RGB")


def grey(path: Path) -> NDArray[np.float32]:
    """Grey values [height, width] in 0 … 1 of an upright picture. Raises: Unreadable, see `read` and `plain`."""
    return np.asarray(plain(read(path).image).convert("L"), dtype=np.float32) / np.float32(255)


def to_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The upright picture of one that is stored in this EXIF orientation."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def stored(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height in the file of a picture that has this size upright."""
    return size[::-1] if orientation >= 5 else size


def drawn_on(size: tuple[int, int], orientation: int, drawn: tuple[float, float]) -> Frame | None:
    """What something of this width and height was drawn on, for a picture of this upright size; None if unknown.

    It may be of another scale: where the size is neither's, proportions decide, to a pixel of the larger.
    """
    if orientation == 1:
        return "upright"
    if orientation < 5:
        return None
    for fits in (eq, proportional):
        upright, sideways = fits(size, drawn), fits(stored(size, orientation), drawn)
        if upright != sideways:
            return "upright" if upright else "stored"
    return None


def proportional(size: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two sizes have the same proportions, up to rounding."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(sum(size), sum(other))


def agreed(frames: Iterable[Frame | None]) -> Frame | None:
    """The frame that all decidable pictures of a folder share, since one tool wrote them; None if they differ."""
    known = set(frames) - {None}
    return known.pop() if len(known) == 1 else None


def visible(path: Path) -> bool:
    """Whether a file or folder exists and is not a leftover of an archive, a system or an editor."""
    return not path.name.startswith(".") and path.name not in LEFTOVERS and path.exists()


def listed(names: Sequence[str]) -> str:
    """Names in one line: each shortened to LONGEST characters, the first NAMED of them and how many more there are."""
    shortened = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in names[:NAMED]]
    return ", ".join(shortened) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _bytes(values: NDArray) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise Unreadable("grey values that are not finite")
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return (values * 255).round().astype(np.uint8)
    if values.dtype.kind == "f" and low >= 0 and high <= 255 and (values == values.round()).all():
        return values.astype(np.uint8)
    if values.dtype.kind == "f" or low < 0 or high > WHITE_16:
        raise Unreadable(f"grey values {low:g} … {high:g}: white is unknown; save it with 0 … 255")
    if 0 < high < DARK_16:
        raise Unreadable(f"16 bits of which {high} is the brightest: white is unknown; save it with 0 … 255 or … 65535")
    return (values.astype(np.float64) * (255 / WHITE_16)).round().astype(np.uint8)
