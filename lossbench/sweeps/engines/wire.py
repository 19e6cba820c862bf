"""Stacks and their outcomes as plain data, between the process that leads a comparison and those that train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lossbench.config.schema import Names
from lossbench.config.settings import Settings
from lossbench.core import ConfigError
from lossbench.core.failures import MachineFault
from lossbench.runs.run import Run
from lossbench.sweeps.stacks import Board

Packed = tuple[str, tuple[Settings, Names, str, str, Sequence[str], int | None]]
"""The key of a run and the arguments of a Run."""

Send = Callable[[tuple[Any, ...]], None]
"""Sends a message, which `hear` understands, to the process that leads."""


def packed(stack: Sequence[Run]) -> list[Packed]:
    """Runs as data, from which another process makes them again."""
    return [
        (run.identity.key, (run.settings, run.names, run.comparison, run.swept, run.earlier.unfinished, run.place))
        for run in stack
    ]


def unpacked(stack: Sequence[Packed]) -> list[Run]:
    """Runs from what `packed` made of them. Raises: MachineFault where they would not be the same runs here."""
    runs = [Run(*arguments) for _, arguments in stack]
    for run, (key, _) in zip(runs, stack, strict=True):
        if run.identity.key != key:  # it covers the user's own modules and the stamps of files
            raise MachineFault(f"{run.label}: a file of the data, or a module of yours, differs where it is to train")
    return runs


class Wire:
    """The board of the process that leads, as one that trains sees it: each call becomes a message."""

    def __init__(self, stack: Sequence[Run], send: Send) -> None:
        self._stack, self._send = list(stack), send

    def advance(self, steps: int, diverged: int) -> None:
        """Count optimizer steps and replicas that diverged."""
        self._send(("advance", steps, diverged))

    def training(self, runs: int) -> None:
        """Add this many runs to those that train now."""
        self._send(("training", runs))

    def say(self, line: str) -> None:
        """Print a line, unless it was printed before."""
        self._send(("say", line))

    def ended(self, run: Run) -> None:
        """Pass on the result or the error of a run."""
        error: BaseException | None = None  # of a class that every process can unpickle
        if run.error is not None:
            default = ConfigError if isinstance(run.error, ConfigError) else RuntimeError
            error = {"killed": KeyboardInterrupt, "error": MachineFault}.get(run.outcome, default)(str(run.error))
        self._send(("ended", self._stack.index(run), run.result, error))


def hear(message: tuple[Any, ...], stack: Sequence[Run], board: Board) -> None:
    """Do what a Wire sent about this stack."""
    name, *values = message
    if name != "ended":
        getattr(board, name)(*values)
        return
    position, result, error = values
    run = stack[position]
    if run.result is None and run.error is None:
        run.result, run.error = result, error
        board.ended(run)
