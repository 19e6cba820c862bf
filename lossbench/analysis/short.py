"""Foreign losses are recorded under their whole path; a report shows as little of it as tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short(names: Iterable[str]) -> dict[str, str]:
    """The last word of a path where no other name is that, else its package beside it, else the path."""
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
    return name.rpartition(".")[2]


def _packaged(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{_last(rest)}" if rest else name
