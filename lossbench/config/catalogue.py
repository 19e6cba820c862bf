"""The catalogue: what losses, datasets and models say of themselves, read from source without importing torch."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lossbench.core import TASK_TYPES

SECTIONS = ("Shapes", "Use it when", "Beware", "Raises", "Reference")


@dataclass(frozen=True)
class Described:
    """A function or class as its source describes it. `card` holds the literals of its `@card(...)`, if it has one."""

    parameters: frozenset[str]
    takes_any: bool
    meaning: str = ""
    equation: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A loss of the catalogue: name, family (its module), dotted path, parameters with defaults, and description."""

    name: str
    family: str
    target: str
    parameters: Mapping[str, Any]
    described: Described

    @property
    def task_types(self) -> tuple[str, ...]:
        """The task types it fits; a loss without a card is its author's word for any of them."""
        return tuple(self.described.card.get("task_types", TASK_TYPES))


def ranges(described: Described | None, task_type: str) -> dict[str, tuple[float, float]]:
    """Over which ranges to search a loss's own parameters on problems of a kind."""
    search = described.card.get("search", {}) if described else {}
    return {
        name: (low, high)
        for name, (low, high, *task_types) in search.items()
        if not task_types or task_type in task_types[0]
    }


def outputs_per_target(target: str) -> int:
    """How many numbers the loss at a dotted path takes of a net for each output."""
    described = describe(target)
    return int(described.card.get("outputs_per_target", 1)) if described else 1


def losses(folders: Iterable[Path]) -> list[Entry]:
    """The losses that these configuration folders hold, by family and name."""
    entries = {path.stem: entry(path) for path in files(folders)}
    return sorted(entries.values(), key=lambda entry: (TASK_TYPES.index(entry.task_types[0]), entry.family, entry.name))


def files(folders: Iterable[Path]) -> list[Path]:
    """The files of losses in these configuration folders."""
    return [path for folder in folders for path in sorted((folder / "loss").glob("*.yaml"))]


def entry(path: Path) -> Entry:
    """What the file of a loss says, and the source of the loss."""
    settings = dict(OmegaConf.load(path))
    target = str(settings.pop("_target_", ""))
    family = target.rpartition(".")[0].rpartition(".")[2]
    return Entry(path.stem, family, target, settings, describe(target) or Described(frozenset(), True))


@cache
def describe(target: str, depth: int = 4) -> Described | None:
    """What the source at a dotted path says; None where there is no Python source for it.

    A package that imports the name from a module is followed there, so many times at most.
    """
    module, _, name = target.rpartition(".")
    spec = find(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    body = _body(spec.origin)
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return _described(node)
    imports = [node for node in body if isinstance(node, ast.ImportFrom)] if depth else []
    for node in imports:
        for alias in node.names:
            if name == (alias.asname or alias.name):
                return describe(f"{_source(node, module, spec)}.{alias.name}", depth - 1)
    return None


def public(module: str) -> list[str]:
    """Functions and classes of a module, as far as its source says; empty where there is no such Python source."""
    spec = find(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return []
    found = [node.name for node in _body(spec.origin) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [name for name in found if not name.startswith("_")]


@cache
def _body(path: str) -> list[ast.stmt]:
    try:
        return ast.parse(Path(path).read_text(encoding="utf-8")).body
    except (SyntaxError, UnicodeDecodeError):  # which the import will say
        return []


def _source(node: ast.ImportFrom, module: str, spec: ModuleSpec) -> str:
    """The module from which another one imports."""
    if not node.level:
        return str(node.module)
    package = module.split(".") if spec.submodule_search_locations else module.split(".")[:-1]
    return ".".join([*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])])


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


def _described(node: ast.FunctionDef | ast.ClassDef) -> Described:
    function: ast.FunctionDef | ast.ClassDef | None = node
    if isinstance(node, ast.ClassDef):
        function = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if isinstance(function, ast.FunctionDef):
        arguments = function.args
        named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        takes_any = arguments.kwarg is not None
    else:  # a class with no __init__ of its own, such as a data class
        named = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        takes_any = not named
    paragraphs = inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n")
    plain = [p for p in paragraphs if not p.startswith(SECTIONS)]
    return Described(
        frozenset(named) - {"self"},
        takes_any,
        meaning=" ".join(plain[0].split()) if plain else "",
        equation=plain[1] if len(plain) > 1 else "",
        sections=_sections(paragraphs),
        card=_card(node),
    )


def _sections(paragraphs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    current = ""
    for line in (line for p in paragraphs if p.startswith(SECTIONS) for line in p.splitlines()):
        title, colon, rest = line.partition(":")
        if colon and title in SECTIONS:
            current, line = title, rest
        found[current] = f"{found.get(current, '')} {line.strip()}".strip()
    return found


def _card(node: ast.FunctionDef | ast.ClassDef) -> dict[str, Any]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "card":
            return {k.arg: ast.literal_eval(k.value) for k in decorator.keywords if k.arg}
    return {}
