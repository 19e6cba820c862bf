"""What a dataset says aloud of the data that it was given."""

from __future__ import annotations

import sys
from functools import cache


@cache  # within one process, so that the runs of a sweep say it once
def say(line: str) -> None:
    """Print a line to standard error, once in a process."""
    print(line, file=sys.stderr)
