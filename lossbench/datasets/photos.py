"""Photos in folders, one folder an identity: found, checked all at once, read as grey bytes of one size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lossbench.core import ConfigError
from lossbench.datasets import pictures
from lossbench.datasets.cache import remembered
from lossbench.datasets.pictures import Unreadable, listed, visible

SUFFIXES = {
    *(".pgm", ".ppm", ".pnm", ".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".avif", ".heic", ".heif"),  # the last two are no pictures to Pillow, and named as such
}
SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}

Album = Mapping[str, Sequence[Path]]
"""The photos of each identity, both in the order of their names."""


@dataclass(frozen=True)
class Look:
    """A file's size and mode, or why it cannot be read."""

    size: str = ""
    fault: str = ""


def album(folder: Path, suffixes: Collection[str] = SUFFIXES) -> Album:
    """The sub-folders that hold photos."""
    places = [place for place in _natural(folder.iterdir()) if place.is_dir() and visible(place)]
    found = {place.name: _photos(place, suffixes) for place in places}
    return {name: photos for name, photos in found.items() if photos}


def parted(root: Path) -> dict[str, Album] | None:
    """The albums of a root that is already split into train, validation and test; None where it is not.

    Raises: ConfigError where one of the three is missing, and for identities that are in two of them.
    """
    present = {
        name: next((root / spelt for spelt in spellings if (root / spelt).is_dir()), None)
        for name, spellings in SPLITS.items()
    }
    folders = {name: place for name, place in present.items() if place and not _photos(place)}
    if not folders:
        return None
    if missing := [name for name in SPLITS if name not in folders]:
        raise ConfigError(f"dataset.root={root}: has {' and '.join(folders)} but no {' and no '.join(missing)} folder")
    albums = {name: album(place) for name, place in folders.items()}
    where: dict[str, list[str]] = {}
    for name, people in albums.items():
        for person in people:
            where.setdefault(person, []).append(name)
    if twice := [f"{person} ({' and '.join(names)})" for person, names in where.items() if len(names) > 1]:
        raise ConfigError(
            f"dataset.root={root}: identities in more than one split: {listed(twice)}; each belongs to one"
        )
    return albums


def read(name: str, files: Sequence[Path], height: int, width: int, *, mixed: bool) -> Tensor:
    """Grey photos [n, height, width] uint8, cached until a file changes.

    Raises: ConfigError that names all files that cannot be read, and, unless `mixed`, those of another size or mode.
    """
    stats = [path.stat() for path in files]
    seen = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in zip(files, stats, strict=True)]

    def make() -> dict[str, Tensor]:
        photos = np.zeros((len(files), height, width), np.uint8)
        looks = [_look(path, _into(photos, k)) for k, path in enumerate(files)]
        _alike(name, files, looks, mixed)
        return {"photos": torch.from_numpy(photos)}

    code = [Path(module).read_text(encoding="utf-8") for module in (__file__, pictures.__file__)]
    key = {"files": seen, "height": height, "width": width, "mixed": mixed, "code": code}
    return remembered("photos", key, make)["photos"]


def resized(photos: Tensor, height: int, width: int) -> Tensor:
    """Grey photos [n, height, width] uint8 of another size."""
    images = (Image.fromarray(photo) for photo in photos.numpy())
    return torch.from_numpy(np.stack([np.asarray(_shrunk(image, height, width)) for image in images]))


def _into(photos: np.ndarray, k: int) -> Callable[[Image.Image], None]:
    def keep(image: Image.Image) -> None:
        photos[k] = np.asarray(_shrunk(image.convert("L"), *photos.shape[1:]))

    return keep


def _shrunk(image: Image.Image, height: int, width: int) -> Image.Image:
    # in integers, so that the bytes are the same whatever the number of threads
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _look(path: Path, keep: Callable[[Image.Image], None]) -> Look:
    try:
        image = pictures.read(path).image
        keep(pictures.plain(image))
    except Unreadable as fault:
        return Look(fault=str(fault))
    return Look(f"{image.width}×{image.height} {image.mode}")


def _alike(name: str, files: Sequence[Path], looks: Sequence[Look], mixed: bool) -> None:
    names = [f"{path.parent.name}/{path.name}" for path in files]
    if broken := [f"{file} ({look.fault})" for file, look in zip(names, looks, strict=True) if look.fault]:
        raise ConfigError(f"{name}: unreadable photos: {listed(broken)}")
    (usual, count), *others = Counter(look.size for look in looks).most_common()
    if others and not mixed:
        odd = [f"{file} ({look.size})" for file, look in zip(names, looks, strict=True) if look.size != usual]
        raise ConfigError(
            f"{name}: photos of mixed sizes or modes: {count} are {usual}, but {listed(odd)}\n"
            "dataset.mixed=true makes all of them grey and of one size"
        )


def _photos(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    return [p for p in _natural(folder.iterdir()) if p.suffix.lower() in suffixes and visible(p)]


def _natural(paths: Iterable[Path]) -> list[Path]:
    """s2 before s10."""

    def key(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(paths, key=key)
