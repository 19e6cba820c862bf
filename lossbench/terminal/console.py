"""The console: standard output and standard error, where text is text."""

from __future__ import annotations

import os

from rich.console import Console

WIDE = 160  # columns of a table that goes to a file


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console to which text is text: brackets and colons in the names that others gave mean nothing."""
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def out() -> Console:
    """Standard output; a file gets the whole width rather than 80 columns."""
    plain = console()
    return plain if plain.is_terminal or os.environ.get("COLUMNS") else console(width=WIDE)
