"""Remarks of datasets on the data that they read, for the user."""

from __future__ import annotations

import sys
from functools import cache


@cache  # so that the runs of a sweep in one process print it once
def say(line: str) -> None:
    """Print a line to standard error, once in a process."""
    print(line, file=sys.stderr)
