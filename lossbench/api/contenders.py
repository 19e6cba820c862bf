"""The losses of a comparison, from Python: names, paths, functions, classes and modules, with or without settings."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lossbench.api import digest, sources
from lossbench.config import catalogue, schema
from lossbench.config.words import setting, word
from lossbench.core import ConfigError, give

TARGET = "_target_"
FORMS = 'losses are names ("focal"), functions and the like, or either with settings: ("focal", {"gamma": 1})'


def words(losses: Any) -> str:
    """The value of `loss` in a sweep over these losses. Raises: ConfigError for what is no loss."""
    if isinstance(losses, (str, Mapping)) or callable(losses) or _with_settings(losses):
        losses = [losses]
    every = [contender(loss) for loss in losses] if isinstance(losses, Iterable) else [contender(losses)]
    if not every:
        raise ConfigError("losses=[]: name at least one; without it, every loss that fits is compared")
    return f"choice({','.join(every)})"


def contender(loss: Any) -> str:
    """One loss in Hydra's grammar: a name, or a dict of its name or path and its settings."""
    chosen, settings = _parts(loss)
    if callable(chosen):
        chosen = _path(chosen)
    if not isinstance(chosen, str) or not chosen.strip():
        raise ConfigError(f"loss={chosen!r}: a {type(chosen).__name__}; {FORMS}")
    if re.search(r"[\s,(){}\[\]=:]", chosen):
        raise ConfigError(f"loss={chosen}: no name of a loss; {FORMS}")
    for name, value in settings.items():
        setting(f"loss.{name}", value)  # refuses with its name
    if "." in chosen:
        sources.check(chosen)
        return word({TARGET: chosen, **settings})
    return word({chosen: settings}) if settings else word(chosen)


def alone(loss: Any) -> list[str]:
    """The overrides that choose one loss for one run."""
    from lossbench.config.overrides import expanded

    return expanded([f"loss={contender(loss)}"])


def path(loss: Any) -> str:
    """The name or dotted path of a loss without settings, by which this process finds it."""
    return _path(loss) if callable(loss) else str(loss)


def _parts(loss: Any) -> tuple[Any, Mapping[str, Any]]:
    if isinstance(loss, Mapping):
        if TARGET not in loss:
            raise ConfigError(f'loss={dict(loss)}: has no "{TARGET}"; {FORMS}')
        return loss[TARGET], {name: value for name, value in loss.items() if name != TARGET}
    return (loss[0], loss[1]) if _with_settings(loss) else (loss, {})


def _with_settings(loss: Any) -> bool:
    """Whether it is a pair of a loss and its settings."""
    return isinstance(loss, Sequence) and not isinstance(loss, str) and len(loss) == 2 and _settings(loss[1])


def _settings(value: Any) -> bool:
    return isinstance(value, Mapping) and TARGET not in value


def _path(loss: Any) -> str:
    """The name of a loss of the catalogue, the dotted path of what other processes can import, else one of `give`."""
    found = digest.importable(loss)
    if found:
        names = _names()
        return names.get(found, found)
    return give(loss, _name(loss), digest.of_code(loss))


@functools.cache
def _names() -> dict[str, str]:
    """The names of the losses of the catalogue whose path no other has, by path."""
    entries = catalogue.losses([schema.CONFIGS])
    every = [entry.target for entry in entries]
    return {entry.target: entry.name for entry in entries if every.count(entry.target) == 1}


def _name(loss: Any) -> str:
    while isinstance(loss, functools.partial):
        loss = loss.func
    named = getattr(loss, "__name__", None) or type(loss).__name__
    return re.sub(r"\W", "", str(named)) or "loss"  # <lambda>
