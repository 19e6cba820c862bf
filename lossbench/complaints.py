"""Hydra's and OmegaConf's errors in a line or two that name the setting, what it was and what would work."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lossbench.core import BadInput


def complaint(error: BaseException, arguments: list[str], keys: Callable[[], list[str]]) -> str | None:
    """What to tell the user, or None where the error is no fault in what was asked for.

    `arguments` are the command line's; `keys` finds the settings that exist, from which the nearest is offered.
    """
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return missing(group, name, error.options or [])
    if isinstance(error, OverrideParseException):
        why = error.message.splitlines()[0]
        return f"{error.override}: not understood: {why}\nquote it for the shell; a list is 'key=[1,2]'"
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        number = next((a for a in arguments if re.fullmatch(r"\w+=[-+\d.naif]+", a)), "a group")
        return f"{number}: a group takes a name, not a number"
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    text = f"{error}\n{error.__cause__ or ''}"
    if found := re.match(r"Error merging override (\S+)", text):
        return f"{found[1]}: {_first(str(error.__cause__ or error))}"
    if found := re.search(r"Could not override '([^']+)'", text):
        return _unknown_or_mistyped(found[1], text, arguments, keys)
    if found := re.search(r"full_key: (\S+)", text):
        return f"{_asked(found[1], arguments)}: {_first(text)}"
    return _first(text)


def missing(group: str, name: str, options: Sequence[str]) -> str:
    """A choice that a group does not have, with the nearest that it has."""
    kind = group.rpartition("/")[2]
    near = difflib.get_close_matches(name, options, n=3)
    hint = f"nearest: {', '.join(near)}; " if near else ""
    return f"{group}={name}: no such {kind}\n{hint}there are {', '.join(sorted(options))}"


def _unknown_or_mistyped(key: str, text: str, arguments: list[str], keys: Callable[[], list[str]]) -> str:
    if "is not in struct" in text or "not in '" in text:
        known = keys()
        near = difflib.get_close_matches(key, known, n=3) or [k for k in known if k.endswith(f".{key}")]
        siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
        offer = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(siblings or known)}"
        return f"{_asked(key, arguments)}: no such setting\n{offer}"
    return f"{_asked(key, arguments)}: {_first(text.partition(chr(10))[2] or text)}"


def _asked(key: str, arguments: list[str]) -> str:
    return next((a for a in arguments if a.lstrip("+~").partition("=")[0] == key), key)


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), text)
