"""Hydra's and OmegaConf's errors in a line or two that name the setting, its value and what would work."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lossbench.config import redaction
from lossbench.core import ConfigError
from lossbench.core.failures import MACHINE


class Carried(BaseException):
    """Carries an error past Hydra, which would print overrides before it or turn it into a warning."""


def error_message(error: BaseException, arguments: list[str], keys: Callable[[], list[str]]) -> str | None:
    """The message for the user, or None where the error is not one of configuration.

    `arguments` are the command line's; `keys` finds the settings that exist, from which the nearest is offered.
    """
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return missing(group, name, error.options or [])
    if found := re.search(r"Ambiguous value for argument '([^']+)'|Sweep parameters? '([^']+)' require", str(error)):
        return _several(found[1] or found[2])
    if isinstance(error, OverrideParseException):
        if redaction.redacted(error.override) != error.override:  # the reason may repeat a part of a password
            return (
                f"{redaction.redacted(error.override)}: not understood\nquote it for the shell, and once more for Hydra"
            )
        reason = error.message.splitlines()[0]
        return f"{error.override}: not understood: {reason}\nquote it for the shell; a list is 'key=[1,2]'"
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        number = next((a for a in arguments if re.fullmatch(r"\w+=[-+\d.naif]+", a)), "a group")
        return f"{number}: a group takes a name, not a number"
    if isinstance(error, ValueError) and (
        found := re.search(r"--resolve flag|Only one of --|one subcommand", str(error))
    ):
        return _first(str(error))
    if isinstance(error, OSError) and not isinstance(error, HydraException) and error.errno not in MACHINE:
        return _file(error, arguments)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    text = f"{error}\n{error.__cause__ or ''}"
    if found := re.match(r"Error merging override (\S+)", text):
        return f"{found[1]}: {_first(str(error.__cause__ or error))}"
    if found := re.search(r"Could not delete from config. '([^']+)' does not exist", text):
        return _unknown_or_mistyped(found[1], "is not in struct", arguments, keys)
    if found := re.search(r"Could not override '([^']+)'", text):
        return _unknown_or_mistyped(found[1], text, arguments, keys)
    if found := re.search(r"full_key: (\S+)", text):
        return f"{_asked(found[1], arguments)}: {_first(text)}"
    return _first(text)


def missing(group: str, name: str, options: Sequence[str]) -> str:
    """The message for a choice that a group does not have, with the nearest that it has."""
    part = group.rpartition("/")[2]
    spelt = name.lower().replace("-", "_")
    near = difflib.get_close_matches(spelt, options, n=3)
    near = near or sorted(one for one in options if spelt and (spelt in one or one in spelt))[:3]
    if group in ("loss", "model", "optimizer") and re.fullmatch(r"\w+(\.\w+)+", name):
        return f"{group}={name}: no such {part}; what is importable is {group}._target_={name}"
    everything = "--help" if "/" in group or group in ("train", "tracking") else "list"
    hint = f"nearest: {', '.join(near)}; " if near else ""
    if group == "dataset" and not near:
        hint = "a file of your own: dataset=table dataset.path=FILE dataset.target=COLUMN; "
    return f"{group}={name}: no such {part}\n{hint}python -m lossbench {everything} shows all"


def stray(words: Sequence[str], groups: Sequence[str], verbs: Sequence[str], chosen_by: Callable[[str], str]) -> str:
    """The message for words that are neither settings nor options; `chosen_by` finds the setting for a word."""
    first, *others = [word for word in words if word.strip("=")] or ["="]
    group, colon, choice = first.partition(":")
    if colon and group in groups:
        return f"{first}: say {group}={choice}"
    if first in groups and others:
        return f"{first} {others[0]}: say {first}={others[0].lstrip('=')}"
    if first in groups:
        return f"{first}: say {first}=…; python -m lossbench list shows what there is"
    if choice := chosen_by(first):
        return f"{first}: say {choice}"
    if first in ("train", "run", "fit"):
        return f"{first}: training needs no verb; say python -m lossbench loss=… dataset=…"
    near = difflib.get_close_matches(first, verbs, n=1)
    hint = f"; nearest: {near[0]}" if near else ""
    return f"{first}: neither a verb ({', '.join(verbs)}) nor a setting (key=value){hint}"


def _file(error: OSError, arguments: list[str]) -> str | None:
    """The message for a setting that names a file that cannot be used, if one does."""
    if error.errno == errno.ENAMETOOLONG:
        word = max(arguments, key=len, default="")
        return f"{word[:40]}…: too long for the name of a file"
    path = Path(str(error.filename)).absolute()
    for word in arguments:
        asked = Path(word.partition("=")[2] or "/").absolute()
        if path == asked or (path in asked.parents and not path.exists()):
            return f"{word}: {error.strerror}: {error.filename}; another place may do"
    return None


def _several(word: str) -> str:
    key, _, value = word.partition("=")
    short = {"loss": f"losses={value}"}.get(key, f"'{word}'" if "(" in word else word)
    return f"{word}: several values make a comparison: add -m, or say python -m lossbench compare {short}"


def _unknown_or_mistyped(key: str, text: str, arguments: list[str], keys: Callable[[], list[str]]) -> str:
    if "is not in struct" in text or "not in '" in text:
        known = keys()
        near = difflib.get_close_matches(key, known, n=3) or [k for k in known if k.endswith(f".{key}")]
        siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
        offer = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(siblings)}"
        if not near and not siblings:
            offer = "python -m lossbench --help shows all"
        return f"{_asked(key, arguments)}: no such setting\n{offer}"
    return f"{_asked(key, arguments)}: {_first(text.partition(chr(10))[2] or text)}"


def _asked(key: str, arguments: list[str]) -> str:
    return next((a for a in arguments if a.lstrip("+~").partition("=")[0] == key), key)


TYPES = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def _first(text: str) -> str:
    if found := re.search(r"Value '.*' of type '.*' could not be converted to (\w+)", text):
        return f"wants {TYPES.get(found[1], found[1])}"
    return next((line.strip() for line in text.splitlines() if line.strip()), text)
