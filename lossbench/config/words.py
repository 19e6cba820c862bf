"""Python values as words of a command line, in Hydra's grammar of overrides."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

from hydra.core.override_parser.types import QuotedString

from lossbench.core import ConfigError

PLAIN = re.compile(r"[A-Za-z_./][\w./-]*", re.ASCII)
"""Texts that the grammar reads as they stand, if they are none of these words."""
WORDS = ("null", "true", "false", "nan", "inf")


def word(value: Any) -> str:
    """A value in Hydra's grammar, which reads the same value from it.

    Raises: ConfigError for a value that is neither a text, a number, true, false, None, a path, nor a list or a dict.
    """
    value = value.item() if hasattr(value, "item") and not getattr(value, "shape", None) else value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else str(float(value))
    if isinstance(value, (str, QuotedString, PathLike)):
        return _text(value.text if isinstance(value, QuotedString) else fspath(value))
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_name(name)}:{word(one)}' for name, one in value.items())}}}"
    if isinstance(value, (list, tuple, range)):
        return f"[{','.join(map(word, value))}]"
    raise ConfigError(f"a {type(value).__name__}: no setting; texts, numbers, None, lists and dicts of these work")


def setting(name: str, value: Any) -> str:
    """The word that sets a setting. Raises: ConfigError, which names it, for a value that no setting can have."""
    try:
        return f"{name}={word(value)}"
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _text(text: str) -> str:
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)  # before a quote, backslashes are escapes
    last = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{last * chr(92)}'"


def _name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name.lower() in WORDS:
        raise ConfigError(f"{name!r}: no name of a setting; letters, digits and underscores work")
    return name
