"""Errors in what the user gave."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


class ConfigError(Exception):
    """A setting or input of the user that cannot work: shown in one or two lines, exit code 2, no traceback."""


def require(name: str, value: Any, holds: Callable[[float], bool], what: str) -> None:
    """Check that a setting is a finite number for which `holds` is true; `what` describes the condition.

    Raises: ConfigError otherwise.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={value}: not a number; {what}") from None
    if not math.isfinite(number) or not holds(number):
        raise ConfigError(f"{name}={value}: has to be {what}")
