"""Output to a pipe, a log or a terminal whose encoding is not UTF-8."""

from __future__ import annotations

import io
import sys


def lenient() -> None:
    """Print ? for characters that the encoding lacks, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
