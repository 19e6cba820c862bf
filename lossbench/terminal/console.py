"""Consoles on standard output and standard error, without markup."""

from __future__ import annotations

import os

from rich.console import Console

WIDE = 160  # columns of output to a file


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console without markup: brackets and colons in names of the user have no meaning."""
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def out() -> Console:
    """The console on standard output; a file gets WIDE rather than 80 columns."""
    plain = console()
    return plain if plain.is_terminal or os.environ.get("COLUMNS") else console(width=WIDE)
