"""What this process prints, wherever it goes: a pipe, a log, a terminal of another encoding than UTF-8."""

from __future__ import annotations

import io
import sys


def lenient() -> None:
    """Have what an encoding lacks come out as a ?: a result is worth more than the box around it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
