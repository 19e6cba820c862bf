"""Foreign losses are recorded with their whole path; a report shows as little of it as distinguishes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short(names: Iterable[str]) -> dict[str, str]:
    """A short form of each name: the last part of its path if that is unique, else with its package, else the path."""
    every = list(dict.fromkeys(names))
    left = set(every)
    found: dict[str, str] = {}
    for form in (_last, _packaged, str):
        counted = Counter([*map(form, left), *found.values()])
        done = {name: form(name) for name in left if counted[form(name)] == 1}
        found |= done
        left -= set(done)
    return {name: found.get(name, name) for name in every}


def _last(name: str) -> str:
    return name.rpartition(".")[2] if _dotted(name) else name


def _packaged(name: str) -> str:
    return f"{name.partition('.')[0]}.{_last(name)}" if _dotted(name) else name


def _dotted(name: str) -> bool:
    """Whether a name is a Python path, and not a name that happens to contain a dot."""
    return "." in name and all(part.isidentifier() for part in name.split("."))
