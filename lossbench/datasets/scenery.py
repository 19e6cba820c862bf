"""Scenes for each split: digits pasted into photographs, or the images of a COCO folder. None is in two splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossbench.datasets import coco
from lossbench.datasets.digits import LICENCE, Digits, digits
from lossbench.datasets.scenes import Scene, photographs, scene
from lossbench.datasets.splits import fingerprint

STRIPS = {"train": (0.0, 0.5), "validation": (0.5, 0.72), "test": (0.72, 1.0)}  # of each photograph's width
READERS = ("annotations.py", "coco.py", "coco_files.py", "pictures.py", "placing.py")
MAKERS = (*READERS, "anchors.py", "scenery.py", "scenes.py")  # what decides crops of scenes beside settings


@dataclass(frozen=True)
class Scenery:
    """The scenes of each split, endless where they are pasted; `key` tells from others what they are made of."""

    scenes: Mapping[str, Iterator[Scene]]
    key: Mapping[str, Any]
    source: str
    licence: str


def scenery(source: str, root: str | None, seed: int) -> Scenery:
    """Raises: BadInput for digits or a folder that cannot be had."""
    if source == "coco":
        folder = coco.folder(root)
        seen = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path, _ in folder.images]
        key = {"annotations": [sha256(path.read_bytes()).hexdigest() for path in folder.annotations], "images": seen}
        origin = f"COCO folder {', '.join(map(str, folder.annotations))}" + (folder.remarks and f": {folder.remarks}")
        return Scenery(_apart(folder, seed), key, origin, "of the folder's images")
    found = digits(source, root)
    return Scenery(
        _pasted(found, seed),
        {"digits": fingerprint(*found.train)},
        f"{found.source} in scikit-learn's photographs",
        f"digits {LICENCE}; photographs CC BY 2.0",
    )


def code(*files: str) -> list[str]:
    """The text of what makes crops: of the files that every dataset of scenes shares, and of these."""
    return [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in (*MAKERS, *files)]


def _pasted(found: Digits, seed: int) -> dict[str, Iterator[Scene]]:
    """Endless scenes, from glyphs and photograph strips that no other split sees."""
    glyphs = found.train[0][torch.from_numpy(np.random.default_rng([seed, 0]).permutation(len(found.train[0])))]
    cuts = [0, len(glyphs) * 3 // 5, len(glyphs) * 7 // 10, len(glyphs)]
    photos = photographs()

    def endless(index: int, strip: tuple[float, float]) -> Iterator[Scene]:
        random = np.random.default_rng([seed, 1, index])
        while True:
            yield scene(photos, strip, glyphs[cuts[index] : cuts[index + 1]], random)

    return {name: endless(i, strip) for i, (name, strip) in enumerate(STRIPS.items())}


def _apart(folder: coco.Folder, seed: int) -> dict[str, Iterator[Scene]]:
    """The images of a folder, each in one split: the folder's own, else three fifths, a fifth, a fifth."""
    order = np.random.default_rng([seed, 0]).permutation(len(folder.images))
    if folder.splits:
        parts = {name: [k for k in order if folder.splits[k] == name] for name in STRIPS}
        return {name: map(folder.scene, part) for name, part in parts.items()}
    cuts = [0, max(1, len(order) * 3 // 5), max(2, len(order) * 4 // 5), len(order)]
    return {name: (folder.scene(k) for k in order[cuts[i] : cuts[i + 1]]) for i, name in enumerate(STRIPS)}
