"""Progress of a run and of a sweep, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from lossbench.terminal.console import console, out

REFRESH_S = 0.2


class Bar:
    """Progress of one run, on standard error; silent where that is not a terminal."""

    def __init__(self, progress: Progress, label: str, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=steps, news="")
        self._news: dict[str, str] = {}

    def advance(self, steps: int, diverged: int) -> None:
        """So many more steps are done; one run does not display how many replicas have diverged."""
        losses = [text for name, text in self._news.items() if name.startswith("train/")]
        primary = [text for name, text in self._news.items() if name.startswith("val/")][:1]
        self._progress.update(self._task, advance=steps, news="  ".join(losses + primary))

    def news(self, run: object, values: Mapping[str, float]) -> None:
        """The latest values of the run; its losses and its primary metric are displayed beside the bar."""
        for name, value in values.items():
            if (name.startswith("train/") and name.endswith("/loss")) or name.startswith("val/"):
                self._news[name] = f"{name} {value:.4g}"


class Board:
    """Progress of a sweep: the steps of all its runs, and how many runs are waiting, training and ended."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._runs = self._steps = 0
        self._training = 0
        self._diverged = 0  # runs that have diverged while the rest of their stack continues
        self._ended: dict[str, int] = {}
        self._printed: set[str] = set()
        self._task = progress.add_task("", total=0, news="")

    def expect(self, runs: int, steps: int) -> None:
        """Add so many runs and steps to the total."""
        self._runs, self._steps = self._runs + runs, self._steps + steps
        self._progress.update(self._task, total=self._steps)
        self._show()

    def news(self, text: str) -> None:
        """Display what the sweep is doing beside the bar."""
        self._progress.update(self._task, news=text)

    def say(self, line: str) -> None:
        """Print a line to standard output, unless it was printed before."""
        if line not in self._printed:
            self._printed.add(line)
            out().print(line)

    def advance(self, steps: int, diverged: int = 0) -> None:
        """So many more steps are done, and so many more runs have diverged."""
        self._progress.update(self._task, advance=steps)
        if diverged:
            self._diverged += diverged
            self._show()

    def training(self, runs: int) -> None:
        """Change the number of training runs by `runs`."""
        self._training += runs
        self._show()

    def ended(self, label: str, outcome: str, headline: str) -> None:
        """Count a run that has ended, and print its result."""
        self.count(outcome)
        out().print(f"{label}: {headline}")

    def count(self, outcome: str, runs: int = 1) -> None:
        """Count so many runs that have ended."""
        self._ended[outcome] = self._ended.get(outcome, 0) + runs
        self._diverged -= outcome == "diverged" and self._diverged > 0
        self._show()

    def _show(self) -> None:
        done = sum(self._ended.values())
        ended = {**self._ended, "diverged": self._ended.get("diverged", 0) + self._diverged}
        training = max(0, self._training - self._diverged)
        counts = {"training": training, **ended, "waiting": self._runs - done - self._training}
        summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        self._progress.update(self._task, description=f"{self._runs} runs: {summary}")


@contextmanager
def bar(label: str, steps: int) -> Iterator[Bar]:
    """Display the progress of a run while entered."""
    with _progress(MofNCompleteColumn()) as progress:
        yield Bar(progress, label, steps)


@contextmanager
def board() -> Iterator[Board]:
    """Display the progress of a sweep while entered."""
    with _progress(TaskProgressColumn()) as progress:
        yield Board(progress)


class _InTurn(Progress):
    """Progress in a notebook, refreshed between steps: a thread that refreshes swallows lines printed meanwhile."""

    _shown = 0.0

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task, and display it if the last time is a while ago."""
        super().update(task_id, **changes)
        if (now := time.monotonic()) > self._shown + REFRESH_S:
            self._shown = now
            self.refresh()


def _progress(count: ProgressColumn) -> Progress:
    stderr = console(stderr=True, widgets=True)
    kind = _InTurn if stderr.is_jupyter else Progress
    return kind(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        count,
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}", markup=False),
        console=stderr,
        auto_refresh=not stderr.is_jupyter,
        transient=True,
        disable=stderr.quiet or not (stderr.is_terminal or stderr.is_jupyter),
        redirect_stdout=sys.stdout.isatty(),  # lines for a file still go to the file
    )
