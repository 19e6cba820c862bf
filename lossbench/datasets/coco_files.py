"""Where exporters put annotation files and images: together, apart, in a folder for each split."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from lossbench.core import ConfigError
from lossbench.datasets.annotations import Faulty
from lossbench.datasets.photos import SPLITS
from lossbench.datasets.pictures import visible


def annotation_files(root: str, place: Path) -> dict[str, Path]:
    """The annotation file, or those of each split."""
    patterns = ("*.json", "annotations/*.json", "*/*.json")
    found = (
        sorted(
            p for p in place.glob(pattern) if visible(p) and p.is_file() and (p.parent == place or visible(p.parent))
        )
        for pattern in patterns
    )
    files = [p for p in next(filter(None, found), []) if "caption" not in p.name and "keypoint" not in p.name]
    if len(files) == 1:
        return {"": files[0]}
    named = {name: [p for p in files if name in _splits(p.relative_to(place))] for name in SPLITS}
    if files and sorted(p for paths in named.values() for p in paths) == files and max(map(len, named.values())) == 1:
        if missing := [name for name, paths in named.items() if not paths]:
            has = " and ".join(name for name in named if name not in missing)
            raise ConfigError(f"dataset.root={root}: has annotations of {has} but none of {' and '.join(missing)}")
        return {name: paths[0] for name, paths in named.items()}
    names = ", ".join(str(p.relative_to(place)) for p in files) or "none"
    raise ConfigError(
        f"dataset.root={root}: needs exactly one COCO annotation file (*.json), or one each of train, validation and "
        f"test, found {names}"
    )


def _splits(path: Path) -> set[str]:
    """The splits that a path's folders name, or else its file, as in instances_train2017.json."""
    for words in (path.parts[:-1], path.parts[-1:]):
        spelt = {word for part in words for word in re.findall("[a-z]+", part.lower())}
        if found := {name for name, spellings in SPLITS.items() if spelt & set(spellings)}:
            return found
    return set()


def index(place: Path) -> Mapping[str, list[Path]]:
    """The files of a folder and below by name, what is left over aside."""
    found: dict[str, list[Path]] = {}
    seen = set(map(str, Path(os.path.realpath(place)).parents))  # a link to what it lies in leads around in a circle
    for folder, folders, names in os.walk(place, followlinks=True):
        seen.add(os.path.realpath(folder))
        folders[:] = sorted(
            name for name in folders if visible(Path(folder, name)) and os.path.realpath(Path(folder, name)) not in seen
        )
        for name in sorted(names):
            found.setdefault(_composed(name), []).append(Path(folder, name))
    return found


def find(place: Path, annotations: Path, name: str, there: Mapping[str, Sequence[Path]]) -> Path:
    """The file of an image: beside its annotations, in their split's folder, in the folder or its images/, anywhere.

    Raises: Faulty where there is none, or several that could be meant; OSError for names that no file can have.
    """
    wanted = _parts(name)
    if not wanted:
        raise Faulty("missing")
    if (beside := annotations.parent / Path(*wanted)).is_file():
        return beside
    splits = _splits(annotations.relative_to(place))
    fit = [p for p in there.get(wanted[-1], []) if tuple(map(_composed, p.absolute().parts[-len(wanted) :])) == wanted]
    fit = [p for p in fit if visible(p) and p.is_file()]
    own = [p for p in fit if splits & _splits(p.parent.relative_to(place) / "_")]
    usual = [p for p in fit if p in (place / Path(*wanted), place / "images" / Path(*wanted))]
    chosen = next(filter(None, (own, usual, fit)), [])
    if not chosen:
        raise Faulty("missing")
    if len(chosen) > 1:
        raise Faulty(f"fits {' and '.join(str(p.relative_to(place)) for p in chosen)}: name its folder, too")
    return chosen[0]


def _parts(name: str) -> tuple[str, ...]:
    """A name's folders and file; of one on another machine (C:\\…, /…, ../…, http://…) the file alone."""
    path = PurePosixPath(_composed(name.replace("\\", "/")))
    foreign = path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "://" in name
    return path.parts[-1:] if foreign else path.parts


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS takes é apart
