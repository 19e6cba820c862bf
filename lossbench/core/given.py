"""Objects that were passed from Python, under dotted paths: a loss defined in a notebook, a table in memory."""

from __future__ import annotations

from typing import Any

ROOT = "given"

_given: dict[str, Any] = {}


def give(thing: Any, name: str, digest: str) -> str:
    """The path of an object, `given.<digest>.<name>`; equal digests must mean equal objects.

    Raises: ValueError for a name or a digest that cannot be part of a dotted path.
    """
    if not name.isidentifier() or not digest.isalnum():
        raise ValueError(f"{name!r}, {digest!r}: letters, digits and underscores work")
    path = f"{ROOT}.{digest}.{name}"
    _given[path] = thing
    return path


def is_given(path: str) -> bool:
    """Whether a path is one of `give`."""
    return path.startswith(f"{ROOT}.")


def without_digest(name: str) -> str:
    """The name to show for one of `give`'s paths: its last part; any other name as it is."""
    return name.rpartition(".")[2] if is_given(name) else name


def given(path: str) -> Any:
    """The object at a path. Raises: ImportError where this process was not given it."""
    try:
        return _given[path]
    except KeyError:
        raise ImportError(f"{path}: was passed from Python, in another process") from None
