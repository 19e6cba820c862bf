"""Remarks of datasets on the data that they read, for the user."""

from __future__ import annotations

import sys
from functools import cache

_muted = False


def mute() -> None:
    """Print no remarks from now on: a worker process reads what its parent has read before."""
    global _muted
    _muted = True


@cache  # so that the runs of a sweep in one process print it once
def say(line: str) -> None:
    """Print a line to standard error, once in a process."""
    if not _muted:
        print(line, file=sys.stderr)
