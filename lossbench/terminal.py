"""What runs and comparisons look like in a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lossbench.core import Result, Yardstick

if TYPE_CHECKING:
    from lossbench.analysis.report import Report
    from lossbench.analysis.tuning.gains import Tuning
    from lossbench.analysis.verdict import Verdict
    from lossbench.catalogue import Entry
    from lossbench.families import Family

WIDE = 160  # columns of a table that goes to a file
SPARE = ("gradient-matched", "rank", "p")  # of tuned against untuned: what goes first where there is no room
SHOWN = 5  # yardsticks of a comparison; its report has all


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console to which text is text: brackets and colons in the names that others gave mean nothing."""
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def out() -> Console:
    """Standard output; a file gets the whole width rather than 80 columns."""
    plain = console()
    return plain if plain.is_terminal or os.environ.get("COLUMNS") else console(width=WIDE)


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


def headline(result: Result) -> str:
    """How a run ended, in one line."""
    if result.outcome in ("finished", "collapsed"):
        value = result.yardsticks.get("test", result.yardsticks["val"])[result.primary.name]
        split = "test" if "test" in result.yardsticks else "validation"
        told = "" if result.outcome == "finished" else f"{result.outcome}: "
        return f"{told}{split} {result.primary.name} {result.primary.arrow} {value:.4f}"
    last = ", ".join(f"{name} {value:.4g}" for name, value in list(result.yardsticks.get("last", {}).items())[:3])
    return f"{result.outcome} at step {result.steps}; last finite values: {last or 'none'}"


def result(result: Result, yardsticks: Sequence[Yardstick], title: str) -> Table:
    """The yardsticks of one run, a column a split."""
    table = Table(title=title, title_justify="left")
    table.add_column("yardstick")
    shown = [name for name in result.yardsticks if name != "val"]
    for name in shown:
        table.add_column({"test_last": "test, last step"}.get(name, name.replace("_", ", ", 1)), justify="right")
    table.add_column("")
    for yardstick in yardsticks:
        values = [result.yardsticks[split].get(yardstick.name) for split in shown]
        unit = f" [{yardstick.unit}]" if yardstick.unit else ""
        mark = " (primary)" if yardstick.name == result.primary.name else ""
        cells = ["–" if value is None else f"{value:.4f}" for value in values]
        table.add_row(
            f"{yardstick.name} {yardstick.arrow}",
            *cells,
            f"{yardstick.meaning}{unit}{mark}",
            style="bold" if mark else "",
        )
    return table


def fitting(verdict: Verdict, console: Console) -> Table:
    """The comparison with as many other yardsticks as the console has room for: a number cut short is a wrong one."""
    for others in range(SHOWN - 1, 0, -1):
        view = comparison(verdict, others)
        if Measurement.get(console, console.options.update(width=1000), view).maximum <= console.width:
            return view
    return comparison(verdict, 0)


def comparison(verdict: Verdict, most: int) -> Table:
    """A row a loss: finished runs, what became of others, the yardstick and its interval, and more yardsticks."""
    from lossbench.analysis.tables import limits, spread

    first = verdict.yardstick
    others = [yardstick for yardstick in verdict.yardsticks if yardstick != first][:most]
    view = Table(title=f"{verdict.dataset}: test, mean ± SD over seeds", title_justify="left")
    view.add_column("loss", no_wrap=True)
    for title in ("runs", "no result", _heading(first), "95 % interval", *map(_heading, others)):
        view.add_column(title, justify="right")
    hues = dict(zip(verdict.leaderboard["loss"], verdict.leaderboard["colour"], strict=True))
    for _, row in verdict.leaderboard.iterrows():
        mark = " ★" if row["loss"] in verdict.starred else ""
        setting = f" {row['setting']}" if row["setting"] else ""
        view.add_row(
            Text.assemble(("■", hues[row["loss"]]), f" {row['loss']}{setting}{mark}"),
            str(row["n"]),
            str(row["outcomes"]),
            spread(row, first[0]),
            limits(row, first[0]),
            *(spread(row, name) for name, _, _ in others),
        )
    return view


def report(made: Report) -> None:
    """Print a table and a sentence a dataset, what to think twice about, and what is missing from the means."""
    console = out()
    for verdict, sentence in zip(made.verdicts, made.sentences, strict=True):
        console.print(fitting(verdict, console))
        console.print(sentence, style="bold")
        if verdict.dataset in made.tunings:
            _tuning(made.tunings[verdict.dataset], console)
    for remark in made.remarks:
        if remark.concern:
            console.print(Text.assemble(("beware:", "yellow"), f" {remark.text}"))
    outcomes = made.records.main.runs["outcome"].value_counts()
    missing = [f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "finished"]
    if missing:
        console.print(f"not in the means: {', '.join(missing)}")


def _tuning(tuning: Tuning, console: Console) -> None:
    """Each loss tuned against untuned, and what survives that."""
    view = gains(tuning, console)
    if view is not None:
        console.print(view)
    console.print(tuning.sentence, style="bold")


def gains(tuning: Tuning, console: Console) -> Table | None:
    """Tuned against untuned, with as many columns as the console has room for; None where nothing is untuned."""
    from lossbench.analysis import tables

    rows = tables.gains(tuning)
    if rows.empty:
        return None
    for left_out in ((), SPARE[:1], SPARE[:2], SPARE):
        shown = rows.drop(columns=list(left_out), errors="ignore")
        view = Table(title=f"{tuning.dataset}: tuned against untuned", title_justify="left")
        for column in shown.columns:
            view.add_column(column, justify="left" if column == "loss" else "right", no_wrap=column == "loss")
        for row in shown.itertuples(index=False):
            view.add_row(*row)
        if Measurement.get(console, console.options.update(width=1000), view).maximum <= console.width:
            break
    return view


def _heading(yardstick: tuple[str, str, str]) -> str:
    name, arrow, unit = yardstick
    return f"{name} {arrow}{f' [{unit}]' if unit else ''}"


def catalogue(families: Sequence[Family], title: str) -> Group:
    """A table a family: each loss with what it fits, its parameters and their ranges, equation, when and when not."""
    return Group(Text(title, "italic"), *(part for family in families for part in _family(family)))


def _family(family: Family) -> Iterator[RenderableType]:
    yield Text(f"\n{family.title}", "bold reverse")
    if family.members:
        table = Table(show_lines=True, show_header=False, expand=True)
        for ratio in (3, 5, 7):
            table.add_column(overflow="fold", ratio=ratio)
        for entry in family.members:
            table.add_row(*_loss(entry))
        yield table
    if family.guests:
        names = ", ".join(f"{guest.name} ({guest.family})" for guest in family.guests)
        yield Text(f"{'also fit' if family.members else 'fit'}: {names}")


def _loss(entry: Entry) -> tuple[Text, Text, Text]:
    """The cells of a loss: name and parameters; what it is; when to use it, and when to beware."""
    said, search = entry.described.sections, entry.described.card.get("search", {})
    ranges = {name: f" ({low:g}\u00a0…\u00a0{high:g})" for name, (low, high, *_) in search.items()}
    shown = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in entry.parameters.items()}
    settings = "".join(f"\n{name}={value}{ranges.get(name, '')}" for name, value in shown.items())
    fits = [kind for kind in entry.kinds if kind != entry.family]
    return (
        Text.assemble((entry.name, "bold"), (f" \n{', '.join(fits)}" if fits else "", "dim"), settings),
        Text.assemble(entry.described.meaning, "\n", (entry.described.equation, "cyan")),
        Text.assemble(
            *(("use it when: ", "green"), said.get("Use it when", "–"), "\n"),
            *(("beware: ", "yellow"), said.get("Beware", "–")),
        ),
    )
