"""What is refused, and how: errors of the user, said in a line or two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


class ConfigError(Exception):
    """Something the user gave that cannot work: said in a line or two, exit code 2, no traceback."""


def require(name: str, value: Any, holds: Callable[[float], bool], what: str) -> None:
    """Raises: ConfigError for a setting that is no finite number for which this holds; `what` says it in words."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={value}: not a number; {what}") from None
    if not math.isfinite(number) or not holds(number):
        raise ConfigError(f"{name}={value}: has to be {what}")
