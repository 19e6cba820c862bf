"""Overrides on a command line: a `_target_` replaces a file of the group, settings included."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from lossbench.config import catalogue, words
from lossbench.core import ConfigError

TARGET = "._target_"
OURS = {"dataset": {"task_type"}, "model": {"prior"}, "task": {"primary", "metrics"}}
"""Settings that belong to a group whatever its target; they are not passed to it."""

OF_TASK = ("task._target_", "task.primary", "task.metrics")
"""Settings that any task takes, though no file has them."""


FORM = "{focal: {gamma: 1}} or {_target_: my_module.my_loss, k: 1}"
"""How a loss with settings of its own is written in a sweep over losses."""


def key(override: str) -> str:
    """The key of an override."""
    return override.lstrip("+~").partition("=")[0]


def assigned(overrides: Sequence[str]) -> list[str]:
    """The keys that overrides set, in order."""
    return [key(override) for override in overrides if "=" in override and override[0] not in "~-"]


def targets(overrides: Sequence[str]) -> list[str]:
    """The groups, and the nodes inside them, whose `_target_` is set; outer ones first."""
    found = {name.removesuffix(TARGET) for name in assigned(overrides) if name.endswith(TARGET)}
    return sorted(found, key=lambda path: path.count("."))


def expanded(overrides: Sequence[str]) -> list[str]:
    """The overrides of a job, with a loss that has settings of its own, `loss={focal: {gamma: 1}}`, as several.

    Raises: ConfigError for a loss that is written in another form.
    """
    return [word for override in overrides for word in (_loss(override) if _form(override) else [override])]


def _form(override: str) -> bool:
    return key(override) == "loss" and override.partition("=")[2].lstrip().startswith("{")


def _loss(override: str) -> list[str]:
    try:
        value: Any = OverridesParser.create().parse_override(override).value()
        if TARGET[1:] in value:
            chosen, settings = f"loss{TARGET}={words.word(value.pop(TARGET[1:]))}", value
        else:
            ((name, settings),) = value.items()
            chosen = f"loss={name}"
        return [chosen, *(words.setting(f"++loss.{name}", one) for name, one in settings.items())]
    except (HydraException, ValueError, AttributeError) as error:
        raise ConfigError(f"{override}: not understood; {FORM} works") from error


def free(arguments: Sequence[str]) -> list[str]:
    """Arguments in a form in which Hydra accepts settings that no chosen file has.

    Settings beside a `_target_` need no +, since it replaces the file that would have them. In a sweep over several
    losses, a single value of a loss's setting becomes a sweep, which applies to the losses that have it.
    """
    inside = tuple(f"{path}." for path in targets(arguments))
    several = any(key(word) in ("loss", f"loss{TARGET}") and re.search(r"[,(]", word) for word in arguments)
    return [_freed(word, inside, several and not {"-m", "--multirun"}.isdisjoint(arguments)) for word in arguments]


def _freed(word: str, inside: tuple[str, ...], several: bool) -> str:
    name, equals, value = word.partition("=")
    if key(word) in OF_TASK:
        return f"++{word.lstrip('+')}"
    if not equals or name[0] in "~-" or name.endswith(TARGET):
        return word
    if inside and key(word).startswith(inside):
        name = f"++{name.lstrip('+')}"
    if several and key(word).startswith("loss.") and re.fullmatch(r"[\w.+-]+", value):
        value = f"choice({value})"
    return f"{name}={value}"


def replace(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Where overrides set a `_target_`, remove the settings of its node that they do not set too.

    Some settings stay: a dataset's task type, unless a task is set, a model's prior, and `dataset.seed`, which follows
    the run's, if the function takes one: otherwise every seed would have the same data.
    """
    names = assigned(overrides)
    for path in targets(overrides):
        node = OmegaConf.select(cfg, path)
        if isinstance(node, DictConfig):
            below = {name.removeprefix(f"{path}.") for name in names if name.startswith(f"{path}.")}
            stay = OURS.get(path, set()) | ({"seed"} if path == "dataset" and _seeded(node) else set())
            if OF_TASK[0] in names:  # which decides the task type
                stay = stay - {"task_type"}
            with open_dict(node):
                _leave(node, below | stay)


def _seeded(dataset: DictConfig) -> bool:
    described = catalogue.describe(str(dataset.get("_target_")))
    return described is not None and (described.takes_any or "seed" in described.parameters)


def _leave(node: DictConfig, names: set[str]) -> None:
    for name in list(node):
        below = {one.removeprefix(f"{name}.") for one in names if one.startswith(f"{name}.")}
        child = node._get_node(name)
        if name not in names and below and isinstance(child, DictConfig):
            _leave(child, below)
        elif name not in names:
            node.pop(name)


def name(group: str, overrides: Sequence[str], choice: str) -> str:
    """The name of a part of a run in its record: the chosen file, or the whole path of a `_target_` that is set.

    The whole path, so that two classes of one name stay apart, in this comparison and in later ones. Reports shorten
    it as far as names stay different.
    """
    own = [override.partition("=")[2] for override in overrides if key(override) == f"{group}{TARGET}"]
    return own[-1].strip("'\"") if own else choice
