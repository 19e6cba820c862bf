"""Consoles on standard output and standard error, without markup."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.util import find_spec

from rich.console import Console

WIDE = 160  # columns of output to a file
_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Inside, if `silent`, consoles of this thread print nothing and no progress is displayed."""
    before = _QUIET.set(silent)
    try:
        yield
    finally:
        _QUIET.reset(before)


def console(*, stderr: bool = False, width: int | None = None, widgets: bool = False) -> Console:
    """A console without markup: brackets and colons in names of the user have no meaning.

    The kernel of a notebook gets plain text, or where it has `widgets` and they are wanted, these.
    """
    notebook = Console().is_jupyter  # which forces colours, so that rich would take it for a terminal
    return Console(
        stderr=stderr,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        quiet=_QUIET.get(),
        force_terminal=False if notebook else None,
        force_jupyter=notebook and widgets and find_spec("ipywidgets") is not None,
    )


def out() -> Console:
    """The console on standard output; a file gets WIDE rather than 80 columns."""
    plain = console()
    return plain if plain.is_terminal or os.environ.get("COLUMNS") else console(width=WIDE)
