"""Progress of a run and of a sweep, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from lossbench.terminal.console import console, out


class Bar:
    """Progress of one run, on standard error; silent where that is no terminal."""

    def __init__(self, progress: Progress, label: str, steps: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=steps, news="")
        self._news: dict[str, str] = {}

    def advance(self, steps: int, diverged: int) -> None:
        losses = [told for name, told in self._news.items() if name.startswith("train/")]
        shown = losses + [told for name, told in self._news.items() if name.startswith("val/")][:1]  # the primary
        self._progress.update(self._task, advance=steps, news="  ".join(shown))

    def news(self, run: object, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if (name.startswith("train/") and name.endswith("/loss")) or name.startswith("val/"):
                self._news[name] = f"{name} {value:.4g}"


class Board:
    """Progress of a sweep: steps of all its runs, and how many of these wait, train and have ended."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._runs = self._steps = 0
        self._training = 0
        self._left = 0  # that have diverged while the others of their stack go on
        self._ended: dict[str, int] = {}
        self._said: set[str] = set()
        self._task = progress.add_task("", total=0, news="")

    def expect(self, runs: int, steps: int) -> None:
        """So many runs and steps more are to come."""
        self._runs, self._steps = self._runs + runs, self._steps + steps
        self._progress.update(self._task, total=self._steps)
        self._show()

    def news(self, text: str) -> None:
        """What the sweep is at, beside the bar."""
        self._progress.update(self._task, news=text)

    def say(self, line: str) -> None:
        """A line of its own, once."""
        if line not in self._said:
            self._said.add(line)
            out().print(line)

    def advance(self, steps: int, diverged: int = 0) -> None:
        self._progress.update(self._task, advance=steps)
        if diverged:
            self._left += diverged
            self._show()

    def training(self, runs: int) -> None:
        """So many runs more are training; fewer, below 0."""
        self._training += runs
        self._show()

    def ended(self, label: str, outcome: str, headline: str) -> None:
        """One run has ended: its line."""
        self.count(outcome)
        out().print(f"{label}: {headline}")

    def count(self, outcome: str, runs: int = 1) -> None:
        """So many runs have ended."""
        self._ended[outcome] = self._ended.get(outcome, 0) + runs
        self._left -= outcome == "diverged" and self._left > 0
        self._show()

    def _show(self) -> None:
        done = sum(self._ended.values())
        ended = {**self._ended, "diverged": self._ended.get("diverged", 0) + self._left}
        training = max(0, self._training - self._left)
        counts = {"training": training, **ended, "waiting": self._runs - done - self._training}
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        self._progress.update(self._task, description=f"{self._runs} runs: {told}")


@contextmanager
def bar(label: str, steps: int) -> Iterator[Bar]:
    with _progress(MofNCompleteColumn()) as progress:
        yield Bar(progress, label, steps)


@contextmanager
def board() -> Iterator[Board]:
    with _progress(TaskProgressColumn()) as progress:
        yield Board(progress)


def _progress(count: ProgressColumn) -> Progress:
    shown = console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        count,
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}", markup=False),
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # lines that go to a file go there
    )
