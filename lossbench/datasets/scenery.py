"""Scenes for each split: digits pasted into photographs, or the images of a COCO folder. None is in two splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, Sampling
from lossbench.datasets import coco
from lossbench.datasets.digits import LICENCE, Digits, digits
from lossbench.datasets.pools import Positions, Stage, draw, sampling
from lossbench.datasets.scenes import Scene, photographs, scene
from lossbench.datasets.splits import fingerprint

STRIPS = {"train": (0.0, 0.5), "validation": (0.5, 0.72), "test": (0.72, 1.0)}  # of each photograph's width
READERS = ("annotations.py", "coco.py", "coco_files.py", "pictures.py", "placing.py")
MAKERS = (*READERS, "anchors.py", "pools.py", "scenery.py", "scenes.py")  # what decides crops of scenes beside settings


@dataclass(frozen=True)
class Scenery:
    """The scenes of each split, endless where they are pasted; `key` tells from others what they are made of."""

    scenes: Mapping[str, Iterator[Scene]]
    key: Mapping[str, Any]
    source: str
    licence: str
    sampling: Sampling


def scenery(source: str, root: str | None, seed: int, folds: int | None = None, stage: Stage | None = None) -> Scenery:
    """Raises: ConfigError for digits or a folder that cannot be had, or folds of a folder that is split already."""
    if source == "coco":
        folder = coco.folder(root)
        seen = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in folder.images]
        key = {
            "annotations": [sha256(path.read_bytes()).hexdigest() for path in folder.annotations],
            "images": seen,
            "folds": folds,
            "stage": stage,
        }
        origin = f"COCO folder {', '.join(map(str, folder.annotations))}" + (folder.remarks and f": {folder.remarks}")
        parts, varied = _apart(folder, seed, folds, stage)
        scenes = {name: map(folder.scene, map(int, index)) for name, index in parts.items()}
        return Scenery(scenes, key, origin, "of the folder's images", varied)
    found = digits(source, root)
    if folds is not None:
        raise ConfigError(f"dataset.folds={folds}: every seed makes scenes of its own; leave it null")
    pool = fingerprint(*found.train)
    return Scenery(
        _pasted(found, seed, stage),
        {"digits": pool, "stage": stage},
        f"{found.source} in scikit-learn's photographs",
        f"digits {LICENCE}; photographs CC BY 2.0",
        Sampling("fresh", pool),
    )


def code(*files: str) -> list[str]:
    """The text of what makes crops: of the files that every dataset of scenes shares, and of these."""
    return [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in (*MAKERS, *files)]


def glyphs(found: Digits, seed: int, stage: Stage | None) -> dict[str, Tensor]:
    """The digits [n, 28, 28] that are pasted into the scenes of each split: three fifths, a tenth, the rest."""
    n = len(found.train[0])
    cuts = [n * 3 // 5, n * 7 // 10]
    drawn = draw([seed, 0], {"train": cuts[0], "validation": cuts[1] - cuts[0], "test": n - cuts[1]}, stage)
    return {name: found.train[0][torch.from_numpy(index)] for name, index in drawn.items()}


def fifths(n: int) -> dict[str, int]:
    """How many of a folder's pictures each split gets: three fifths, a fifth, a fifth, at least one each."""
    train, both = max(1, n * 3 // 5), max(2, n * 4 // 5)
    return {"train": train, "validation": both - train, "test": n - both}


def _pasted(found: Digits, seed: int, stage: Stage | None) -> dict[str, Iterator[Scene]]:
    """Endless scenes, from glyphs and photograph strips that no other split sees."""
    pasted, photos = glyphs(found, seed, stage), photographs()

    def endless(name: str, index: int) -> Iterator[Scene]:
        random = np.random.default_rng([seed, 1, index])
        while True:
            yield scene(photos, STRIPS[name], pasted[name], random)

    return {name: endless(name, index) for index, name in enumerate(STRIPS)}


def _apart(folder: coco.Folder, seed: int, folds: int | None, stage: Stage | None) -> tuple[Positions, Sampling]:
    """The images of a folder, each in one split: the folder's own splits, where it has them."""
    digest = sha256(b"".join(sha256(path.read_bytes()).digest() for path in folder.annotations)).hexdigest()
    if not folder.splits:
        sizes = fifths(len(folder.images))
        drawn = draw([seed, 0], sizes, stage, folds)
        return drawn, sampling(digest, sizes, stage, folds, len(drawn["train"]))
    if folds is not None:
        raise ConfigError(f"dataset.folds={folds}: the folder has a test split of its own; leave it null")
    order = np.random.default_rng([seed, 0]).permutation(len(folder.images))
    drawn = {name: np.array([k for k in order if folder.splits[k] == name]) for name in STRIPS}
    train, validation, test = map(len, (drawn["train"], drawn["validation"], drawn["test"]))
    return drawn, Sampling("fixed", digest, train, validation, test, test)
