"""Results as tables: of a run, of a comparison, of tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lossbench.core import Metric, Result

if TYPE_CHECKING:
    from lossbench.analysis.report import Report
    from lossbench.analysis.tuning.gains import Tuning
    from lossbench.analysis.verdict import Verdict

from lossbench.terminal.console import out

SPARE = ("gradient-matched", "rank", "p")  # of tuned against default settings: what goes first where there is no room
SHOWN = 5  # metrics of a comparison; its report has all


def headline(result: Result) -> str:
    """How a run ended, in one line."""
    if result.outcome in ("finished", "collapsed"):
        value = result.metrics.get("test", result.metrics["val"]).get(result.primary.name, math.nan)
        split = "test" if "test" in result.metrics else "validation"
        told = "" if result.outcome == "finished" else f"{result.outcome}: "
        return f"{told}{split} {result.primary.name} {result.primary.arrow} {value:.4f}"
    last = ", ".join(f"{name} {value:.4g}" for name, value in list(result.metrics.get("last", {}).items())[:3])
    return f"{result.outcome} at step {result.steps}; last finite values: {last or 'none'}"


def result(result: Result, metrics: Sequence[Metric], title: str) -> Table:
    """The metrics of one run, a column a split."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    shown = [name for name in result.metrics if name != "val"]
    for name in shown:
        table.add_column({"test_last": "test, last step"}.get(name, name.replace("_", ", ", 1)), justify="right")
    table.add_column("")
    for metric in metrics:
        values = [result.metrics[split].get(metric.name) for split in shown]
        unit = f" [{metric.unit}]" if metric.unit else ""
        mark = " (primary)" if metric.name == result.primary.name else ""
        cells = ["–" if value is None else f"{value:.4f}" for value in values]
        table.add_row(
            f"{metric.name} {metric.arrow}",
            *cells,
            f"{metric.meaning}{unit}{mark}",
            style="bold" if mark else "",
        )
    return table


def fitting(verdict: Verdict, console: Console) -> Table:
    """The comparison with as many other metrics as the console has room for: a number cut short is a wrong one."""
    for others in range(SHOWN - 1, 0, -1):
        view = comparison(verdict, others)
        if Measurement.get(console, console.options.update(width=1000), view).maximum <= console.width:
            return view
    return comparison(verdict, 0)


def comparison(verdict: Verdict, most: int) -> Table:
    """A row a loss: finished runs, what became of others, the metric and its interval, and more metrics."""
    from lossbench.analysis.tables import limits, spread

    first = verdict.metric
    others = [metric for metric in verdict.metrics if metric != first][:most]
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
    """Each loss tuned against default settings, and what survives that."""
    view = gains(tuning, console)
    if view is not None:
        console.print(view)
    console.print(tuning.sentence, style="bold")


def gains(tuning: Tuning, console: Console) -> Table | None:
    """Tuned against default settings, in as many columns as the console has room for; None without both."""
    from lossbench.analysis import tables

    rows = tables.gains(tuning)
    if rows.empty:
        return None
    for left_out in ((), SPARE[:1], SPARE[:2], SPARE):
        shown = rows.drop(columns=list(left_out), errors="ignore")
        view = Table(title=f"{tuning.dataset}: tuned against default settings", title_justify="left")
        for column in shown.columns:
            view.add_column(column, justify="left" if column == "loss" else "right", no_wrap=column == "loss")
        for row in shown.itertuples(index=False):
            view.add_row(*row)
        if Measurement.get(console, console.options.update(width=1000), view).maximum <= console.width:
            break
    return view


def _heading(metric: tuple[str, str, str]) -> str:
    name, arrow, unit = metric
    return f"{name} {arrow}{f' [{unit}]' if unit else ''}"
