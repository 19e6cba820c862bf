"""Images and boxes of a folder in COCO's format, as exporters leave it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lossbench.core import ConfigError
from lossbench.datasets import pictures
from lossbench.datasets.annotations import Annotations, Box, Entry, Faulty, parse
from lossbench.datasets.coco_files import annotation_files, find, index
from lossbench.datasets.pictures import Frame, Unreadable, listed
from lossbench.datasets.placing import Placed, Size, placed
from lossbench.datasets.remarks import say
from lossbench.datasets.scenes import Scene

LONGEST = 320  # an image is shrunk to this, so that objects meet the anchors' sizes


@dataclass(frozen=True)
class Folder:
    """The images of COCO annotation files, [(path, boxes as x, y, width, height)], in the order of their ids.

    Boxes are in pixels of the upright image. `splits` names the split of each image where the folder is split.
    """

    annotations: list[Path]
    images: list[tuple[Path, list[Box]]]
    splits: list[str]
    remarks: str

    def scene(self, index: int) -> Scene:
        """The image of an index, grey and at most LONGEST pixels a side, with its boxes as corners [n, 4].

        Raises: Unreadable for an image that changed since the folder was checked.
        """
        path, boxes = self.images[index]
        image = torch.from_numpy(pictures.grey(path))
        shrink = min(1.0, LONGEST / max(image.shape))
        if shrink < 1:
            size = [max(1, round(side * shrink)) for side in image.shape]
            image = torch.nn.functional.interpolate(image[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
        corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) * shrink
        corners[:, 2:] += corners[:, :2]
        return Scene(image.clamp(0, 1), corners)


@dataclass(frozen=True)
class Look:
    """An image of the files: where it is, its size upright, and the EXIF orientation that was undone."""

    split: str
    entry: Entry
    path: Path
    size: Size
    orientation: int

    @property
    def frame(self) -> Frame | None:
        """What its boxes were drawn on, if its entry determines it; None otherwise."""
        if self.orientation == 1 or self.entry.size is not None:
            return pictures.drawn_on(self.size, self.orientation, self.entry.size or self.size)
        return None


def folder(root: str | None) -> Folder:
    """A folder with a COCO annotation file (there, in annotations/, or in a sub-folder) and its images, or with three.

    Three are of train, validation and test, by their names or their folders' names. Crowd regions and boxes
    without area are left out, boxes are brought to the image's size and cut at its edge; `remarks` counts what was
    changed.

    Raises: ConfigError where there are no such files, where entries are wrong (see `parse`, `placed`), and where
        images are missing, unreadable, listed twice or ambiguous (all of them are named at once).
    """
    if root is None:
        raise ConfigError("dataset.source=coco: needs dataset.root=, a folder with images and a COCO annotation file")
    place = Path(root).expanduser()
    parts = {name: parse(path) for name, path in annotation_files(root, place).items()}
    there = index(place)
    looks: list[Look] = []
    faults: list[str] = []
    for name, part in parts.items():
        for entry in part.entries:
            try:
                looks.append(_look(name, entry, find(place, part.path, entry.file_name, there)))
            except (Faulty, Unreadable, OSError) as fault:
                faults.append(f"{entry.file_name} ({fault})")
    if faults := faults + _twice(looks):
        raise ConfigError(f"dataset.root={root}: unreadable images: {listed(faults)}")
    if len(looks) < 3 or len({look.split for look in looks}) < len(parts):
        raise ConfigError(
            f"dataset.root={root}: {len(looks)} images; train, validation and test need at least one each"
        )
    boxes = _placed(root, looks)
    return Folder(
        [part.path for part in parts.values()],
        [(look.path, found.boxes) for look, found in zip(looks, boxes, strict=True)],
        [look.split for look in looks] if len(parts) > 1 else [],
        _remarks(root, list(parts.values()), boxes),
    )


def _look(split: str, entry: Entry, path: Path) -> Look:
    """Raises: Unreadable."""
    picture = pictures.read(path)
    pictures.plain(picture.image)
    return Look(split, entry, path, picture.image.size, picture.orientation)


def _twice(looks: Sequence[Look]) -> list[str]:
    """Images that two entries name, of one split or of two."""
    first: dict[str, Look] = {}
    faults = []
    for look in looks:
        before = first.setdefault(os.path.realpath(look.path), look)
        if before is not look:
            ids = f"ids {before.entry.number}{before.split and f' of {before.split}'} and {look.entry.number}"
            faults.append(f"{look.entry.file_name} (there twice: {ids}{look.split and f' of {look.split}'})")
    return faults


def _placed(root: str, looks: Sequence[Look]) -> list[Placed]:
    agreed = pictures.agreed(look.frame for look in looks if look.orientation > 1)
    found: list[Placed] = []
    faults: list[str] = []
    for look in looks:
        try:
            found.append(placed(look.entry, look.size, look.orientation, look.frame or agreed))
        except Faulty as fault:
            faults.append(f"{look.entry.file_name} ({fault})")
    if faults:
        raise ConfigError(f"dataset.root={root}: boxes that do not fit their images: {listed(faults)}")
    total, cut = sum(len(one.boxes) for one in found), sum(one.cut for one in found)
    if cut > total / 2:
        raise ConfigError(
            f"dataset.root={root}: {cut} of {total} boxes reach beyond their images: COCO's are x, y, width and "
            "height, not two corners"
        )
    return found


def _remarks(root: str, parts: Sequence[Annotations], boxes: Sequence[Placed]) -> str:
    """What was left out or changed, with counts: for the record, and printed unless it is crowds alone."""
    counts = {
        "crowd regions left out": sum(part.crowds for part in parts),
        "boxes without area left out": sum(part.flat for part in parts),
        "boxes cut at the edge of their image": sum(one.cut for one in boxes),
        "images with boxes of another size, scaled": sum(one.scaled for one in boxes),
        "images stored sideways, whose boxes were turned with them": sum(one.turned for one in boxes),
    }
    remarks = [f"{what} ({count:,})" for what, count in counts.items() if count]
    if remarks and not (len(remarks) == 1 and counts["crowd regions left out"]):
        say(f"dataset.root={root}: {', '.join(remarks)}")
    return ", ".join(remarks)
