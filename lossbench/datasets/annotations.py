"""The entries of a COCO annotation file, each checked by itself and named in the error if it is wrong."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from lossbench.core import ConfigError
from lossbench.datasets import reading
from lossbench.datasets.pictures import listed

T = TypeVar("T")
Box = tuple[float, float, float, float]
"""x, y, width and height in pixels of the picture that was annotated."""

DIGITS = 100  # of a number; Python refuses to read thousands
OBJECTS = 10  # bytes of memory that a byte of JSON takes
CROWD = {"": False, "0": False, "none": False, "false": False, "1": True, "true": True}


class Faulty(Exception):
    """The fault of an entry, in a few words without its name."""


@dataclass(frozen=True)
class Entry:
    """An image of the file; `size` is its width and height, if the file has them."""

    number: int | str
    file_name: str
    size: tuple[float, float] | None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """The images of a file in the order of their ids, and how many objects were left out."""

    path: Path
    entries: list[Entry]
    crowds: int
    flat: int  # boxes of no width or height


def parse(path: Path) -> Annotations:
    """The images and boxes of a COCO file in UTF-8, 16 or 32, with or without a byte order mark.

    Numbers may be text, as some exporters write them. Crowd regions and boxes without area are left out and counted.

    Raises: ConfigError that names all entries that are wrong: without a file name or four finite numbers, of negative
        size, of an image that does not exist, with an id that is taken.
    """
    images, objects = _lists(path)
    entries: dict[int | str, Entry] = {}
    boxes: dict[int | str, list[Box]] = defaultdict(list)
    crowds = flat = 0
    faults: list[str] = []
    for entry in _read("images", images, lambda item: _entry(item, entries), faults):
        entries[entry.number] = entry
    _refuse(path, faults)
    for number, box in _read("annotations", objects, lambda item: _object(item, entries), faults):
        crowds += box is None
        flat += box is not None and min(box[2:]) == 0
        if box and min(box[2:]) > 0:
            boxes[number].append(box)
    _refuse(path, faults)
    if boxes and max(side for found in boxes.values() for box in found for side in box) <= 1:
        _refuse(path, ["all boxes lie within 0 … 1, as shares of their image; COCO's are in pixels"])
    ordered = sorted(entries.values(), key=lambda entry: (isinstance(entry.number, str), entry.number))
    return Annotations(path, [replace(entry, boxes=tuple(boxes[entry.number])) for entry in ordered], crowds, flat)


def _read(part: str, items: list[Any], read: Callable[[Mapping[str, Any]], T], faults: list[str]) -> Iterator[T]:
    """The result of `read` for each item; those that fail are added to `faults`."""
    for k, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise Faulty(f"{_quoted(item)} is no object")
            yield read(item)
        except Faulty as fault:
            numbered = f" (id {_quoted(item['id'])})" if isinstance(item, dict) and "id" in item else ""
            faults.append(f"{part}[{k}]{numbered}: {fault}")


def _lists(path: Path) -> tuple[list[Any], list[Any]]:
    reason = ""
    try:
        content = json.loads(reading.content(path, str(path), OBJECTS), object_pairs_hook=_once)
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__} {error}"
    except RecursionError:
        reason = "nested too deeply"
    else:
        images, objects = map(content.get, ("images", "annotations")) if isinstance(content, dict) else (None, None)
        if isinstance(images, list) and isinstance(objects, list):
            return images, objects
        reason = "an object with the lists images and annotations is wanted"
    raise _refusal(path, reason)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises: ValueError where two values have one name, which JSON allows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{_quoted(next(name for name in names if names.count(name) > 1))} stands twice in one object")
    return found


def _refuse(path: Path, faults: list[str]) -> None:
    if faults:
        raise _refusal(path, listed(faults))


def _refusal(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path}: not a COCO annotation file that can be used: {reason}")


def _entry(item: Mapping[str, Any], taken: Mapping[int | str, Entry]) -> Entry:
    name = item.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise Faulty(f"file_name is {_quoted(name)}")
    number = _identity("id", item)
    if number in taken:
        raise Faulty(f"id {_quoted(number)} is that of {taken[number].file_name}, too")
    width, height = (_number(side, item[side]) if item.get(side) is not None else 0.0 for side in ("width", "height"))
    if min(width, height) < 0:
        raise Faulty(f"width {width:g}, height {height:g}")
    return Entry(number, name, (width, height) if min(width, height) > 0 else None)


def _object(item: Mapping[str, Any], entries: Mapping[int | str, Entry]) -> tuple[int | str, Box | None]:
    """The image and the box of an object, None where it is a crowd."""
    number = _identity("image_id", item)
    if number not in entries:
        raise Faulty(f"image_id {_quoted(number)} is no image's")
    return number, None if _crowd(item.get("iscrowd")) else _box(item.get("bbox"))


def _box(value: Any) -> Box:
    if not isinstance(value, list) or len(value) != 4:
        raise Faulty(f"bbox is {_quoted(value)}; x, y, width and height are wanted")
    x, y, width, height = (_number("bbox", number) for number in value)
    if width < 0 or height < 0:
        raise Faulty(f"bbox is {_quoted(value)}, of negative size")
    return x, y, width, height


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Faulty(f"{name} holds {_quoted(value)}, no finite number")
    return number


def _identity(name: str, item: Mapping[str, Any]) -> int | str:
    """An id; "7" and 7.0 are 7, since exporters mix them."""
    value = item.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip():
        return int(value) if value.strip().isdecimal() and len(value) <= DIGITS else value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Faulty(f"{name} is {_quoted(value)}")


def _crowd(value: Any) -> bool:
    text = f"{int(value) if isinstance(value, float) and value.is_integer() else value}".strip().lower()
    if text not in CROWD:
        raise Faulty(f"iscrowd is {_quoted(value)}; 0 or 1 are wanted")
    return CROWD[text]


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}…"
