"""The catalogue: signatures, docstrings and cards of losses, datasets, models and tasks.

Our own are read from an index beside this file, without torch; `python scripts/index.py` writes it from the imported
objects. Objects at any other dotted path are imported and inspected.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf

from lossbench.config.importing import imported, prepare_torchvision
from lossbench.config.task_types import TASK_TYPES, accepted, fits
from lossbench.core import Card, card_of

INDEX = Path(__file__).with_suffix(".json")
SECTIONS = ("Shapes", "Use it when", "Beware", "Raises", "Reference")


@dataclass(frozen=True)
class Described:
    """The parameters, docstring and card of a function or class.

    `takes_any`: whether it takes other keyword arguments too.
    """

    parameters: frozenset[str]
    takes_any: bool
    meaning: str = ""
    equation: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)
    card: Card | None = None


@dataclass(frozen=True)
class Entry:
    """A loss of the catalogue: name, family (its module), dotted path, parameters with defaults, and description."""

    name: str
    family: str
    target: str
    parameters: Mapping[str, Any]
    described: Described

    @property
    def card(self) -> Card:
        """Its card; a loss without one is taken to fit any task type."""
        return self.described.card or Card(TASK_TYPES)

    @property
    def task_types(self) -> tuple[str, ...]:
        """The task types it fits."""
        return self.card.task_types

    def fits(self, task_type: str) -> bool:
        """Whether it fits a task type, built-in or not: see `task_types.fits`."""
        return fits(self.described.card.task_types if self.described.card else None, task_type)


def card_at(target: str) -> Card:
    """The card of the loss at a dotted path; without one, a card that fits any task type."""
    described = describe(target)
    return described.card if described and described.card else Card(TASK_TYPES)


def ranges(card: Card, task_type: str) -> dict[str, tuple[float, float]]:
    """The search ranges (low, high) of a loss's own parameters for a task type."""
    known = accepted(task_type)
    return {
        name: (low, high)
        for name, (low, high, *task_types) in card.search.items()
        if not task_types or not set(known).isdisjoint(task_types[0])
    }


def losses(folders: Iterable[Path]) -> list[Entry]:
    """The losses of these configuration folders, by family and name."""
    entries = {path.stem: entry(path) for path in files(folders)}
    return sorted(entries.values(), key=lambda entry: (_place(entry.task_types[0]), entry.family, entry.name))


def _place(task_type: str) -> int:
    """The position of a task type among ours; others come last."""
    return TASK_TYPES.index(task_type) if task_type in TASK_TYPES else len(TASK_TYPES)


def files(folders: Iterable[Path]) -> list[Path]:
    """The losses' files in these configuration folders."""
    return [path for folder in folders for path in sorted((folder / "loss").glob("*.yaml"))]


def entry(path: Path) -> Entry:
    """The entry of a loss's file: its settings and what its target's docstring and card say."""
    settings = dict(OmegaConf.load(path))
    target = str(settings.pop("_target_", ""))
    family = target.rpartition(".")[0].rpartition(".")[2]
    return Entry(path.stem, family, target, settings, describe(target) or Described(frozenset(), True))


def describe(target: str) -> Described | None:
    """The description of the object at a dotted path; None where it has no signature or cannot be imported."""
    try:
        return ask(target)
    except (Exception, SystemExit):  # the error is reported where the object is used
        return None


def ask(target: str) -> Described | None:
    """The description of the object at a dotted path; None where it has no signature.

    Raises: whatever importing its module raises, including SystemExit.
    """
    if known := _ours(target):
        return known
    thing = imported(target)
    try:
        return described(thing)
    except (TypeError, ValueError):  # not callable, or not written in Python
        return None


def about(module: str) -> str:
    """The first paragraph of a module's docstring; empty where there is none, or it cannot be imported."""
    known = _index()["modules"].get(module)
    return known if known is not None and _current(module) else introduction(_module(module))


def public(module: str) -> list[str]:
    """The names of public functions and classes that a module defines; empty where there is no such module."""
    names = vars(_module(module)).items() if find(module) else ()
    return [
        name
        for name, thing in names
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module
    ]


def described(thing: Any) -> Described:
    """The description of a function or class. Raises: TypeError or ValueError for one without a signature."""
    every = inspect.signature(thing).parameters.values()
    documented = inspect.isclass(thing) or inspect.isroutine(
        thing
    )  # other objects inherit the docstring of their class
    paragraphs = inspect.cleandoc((documented and thing.__doc__) or "").split("\n\n")
    plain = [p for p in paragraphs if not p.startswith(SECTIONS)]
    return Described(
        frozenset(p.name for p in every if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)),
        any(p.kind is p.VAR_KEYWORD for p in every),
        meaning=" ".join(plain[0].split()) if plain else "",
        equation=plain[1] if len(plain) > 1 else "",
        sections=_sections(paragraphs),
        card=card_of(thing),
    )


def introduction(module: Any) -> str:
    """The first paragraph of a module's docstring, on one line."""
    return " ".join(inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0].split())


def index(targets: Iterable[str]) -> dict[str, Any]:
    """The content of INDEX: descriptions of the objects at these paths, aliases, and their modules' introductions.

    A package that exports an object gives it an alias.
    """
    found = {target: imported(target) for target in sorted(targets)}
    modules = {target: import_module(target.rpartition(".")[0]) for target in found}
    packages = {target: module.__name__.rpartition(".")[0] for target, module in modules.items()}
    names = {target: target.rpartition(".")[2] for target in found}
    return {
        "modules": {module.__name__: introduction(module) for module in modules.values()},
        "sources": {module.__name__: _digest(str(module.__file__)) for module in modules.values()},
        "aliases": {
            f"{packages[target]}.{names[target]}": target
            for target, thing in found.items()
            if getattr(import_module(packages[target]), names[target], None) is thing
        },
        "targets": {target: _written(described(thing)) for target, thing in found.items()},
    }


def _written(one: Described) -> dict[str, Any]:
    return asdict(one) | {"parameters": sorted(one.parameters)}


@cache
def _index() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(INDEX.read_text(encoding="utf-8"))
    return read


@cache
def _ours(target: str) -> Described | None:
    path = _index()["aliases"].get(target, target)
    known = _index()["targets"].get(path)
    if known is None or not _current(path.rpartition(".")[0]):
        return None
    card = Card(**{name: _tuples(value) for name, value in known["card"].items()}) if known["card"] else None
    return Described(**{**known, "parameters": frozenset(known["parameters"]), "card": card})


@cache
def _current(module: str) -> bool:
    """Whether the index was written from the source of this module as it is now."""
    spec = find(module)
    if spec is None or spec.origin is None:
        return False
    return bool(_digest(spec.origin) == _index()["sources"].get(module))


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, which they were before."""
    if isinstance(value, dict):
        return {name: _tuples(one) for name, one in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _module(name: str) -> Any:
    """A module; an empty one where it cannot be imported."""
    prepare_torchvision(name)
    try:
        return import_module(name)
    except (Exception, SystemExit):  # importing a foreign module may raise anything
        return ModuleType(name)


def find(module: str) -> ModuleSpec | None:
    """Where a module is, without importing it or its parents."""
    spec, path = None, None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def _sections(paragraphs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    current = ""
    for line in (line for p in paragraphs if p.startswith(SECTIONS) for line in p.splitlines()):
        title, colon, rest = line.partition(":")
        if colon and title in SECTIONS:
            current, line = title, rest
        found[current] = f"{found.get(current, '')} {line.strip()}".strip()
    return found
