"""Images and boxes of a folder in COCO's format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lossbench.core import BadInput
from lossbench.datasets import pictures
from lossbench.datasets.pictures import Unreadable, visible
from lossbench.datasets.scenes import Scene

LONGEST = 320  # an image is shrunk to this, so that objects meet the anchors' sizes


@dataclass(frozen=True)
class Folder:
    """The images of a COCO annotation file, [(path, boxes as x, y, width, height)], in the order of their ids."""

    annotations: Path
    images: list[tuple[Path, list[list[float]]]]

    def scene(self, index: int) -> Scene:
        path, boxes = self.images[index]
        image = torch.from_numpy(pictures.grey(path))
        shrink = min(1.0, LONGEST / max(image.shape))
        if shrink < 1:
            size = [max(1, round(side * shrink)) for side in image.shape]
            image = torch.nn.functional.interpolate(image[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * shrink
        corners[:, 2:] += corners[:, :2]
        return Scene(image.clamp(0, 1), corners)


def folder(root: str | None) -> Folder:
    """A folder with one COCO annotation file (there, in annotations/, or in a sub-folder) and its images.

    Crowd regions are left out. Raises: BadInput where there is no such file or several, where it is no COCO file,
        and where images are missing or unreadable (all of them named at once).
    """
    if root is None:
        raise BadInput("dataset.source=coco: needs dataset.root=, a folder with images and a COCO annotation file")
    place = Path(root).expanduser()
    candidates = (
        sorted(place.glob("*.json")) or sorted(place.glob("annotations/*.json")) or sorted(place.glob("*/*.json"))
    )
    candidates = [p for p in candidates if visible(p) and visible(p.parent)]
    candidates = [p for p in candidates if "caption" not in p.name and "keypoint" not in p.name]
    if len(candidates) != 1:
        found = ", ".join(p.name for p in candidates) or "none"
        raise BadInput(f"dataset.root={root}: needs exactly one COCO annotation file (*.json), found {found}")
    try:
        content = json.loads(candidates[0].read_text())
        named = sorted(content["images"], key=lambda image: image["id"])
        boxes: dict[Any, list[list[float]]] = {image["id"]: [] for image in named}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                x, y, width, height = annotation["bbox"]
                boxes[annotation["image_id"]].append([float(x), float(y), float(width), float(height)])
        files = [(_find(place, candidates[0].parent, image["file_name"]), boxes[image["id"]]) for image in named]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{candidates[0]}: not a COCO annotation file: {type(error).__name__} {error}") from error
    broken = [f"{path.name} ({why})" for path, _ in files if (why := _fault(path))]
    if broken:
        more = f" and {len(broken) - 20} more" if len(broken) > 20 else ""
        raise BadInput(f"dataset.root={root}: unreadable images: {', '.join(broken[:20])}{more}")
    if len(files) < 3:
        raise BadInput(f"dataset.root={root}: {len(files)} images; train, validation and test need at least one each")
    return Folder(candidates[0], files)


def _find(root: Path, beside: Path, name: str) -> Path:
    for place in (beside, root, root / "images", *sorted(p for p in root.iterdir() if p.is_dir())):
        if (place / name).is_file():
            return place / name
    return root / name


def _fault(path: Path) -> str:
    """Why an image cannot be read; empty when it can."""
    try:
        pictures.plain(pictures.read(path).image)
    except Unreadable as fault:
        return str(fault)
    return ""
