"""Tables of results: a run, a comparison, tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lossbench.core import Metric, Result
from lossbench.terminal.console import out

if TYPE_CHECKING:
    from lossbench.analysis.report import Report
    from lossbench.analysis.tuning.gains import Tuning
    from lossbench.analysis.verdict import Verdict


OPTIONAL_COLUMNS = ("gradient-matched", "rank", "p")  # of tuned against default settings, the first to go first
MAX_METRICS = 5  # in the table of a comparison; its report has all


def headline(result: Result) -> str:
    """The result of a run in one line."""
    if result.outcome in ("finished", "collapsed"):
        value = result.metrics.get("test", result.metrics["val"]).get(result.primary.name, math.nan)
        split = "test" if "test" in result.metrics else "validation"
        prefix = "" if result.outcome == "finished" else f"{result.outcome}: "
        return f"{prefix}{split} {result.primary.name} {result.primary.arrow} {value:.4f}"
    last = ", ".join(f"{name} {value:.4g}" for name, value in list(result.metrics.get("last", {}).items())[:3])
    return f"{result.outcome} at step {result.steps}; last finite values: {last or 'none'}"


def result(result: Result, metrics: Sequence[Metric], title: str) -> Table:
    """The metrics of one run, with a column per split."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    splits = [name for name in result.metrics if name != "val"]
    for name in splits:
        table.add_column({"test_last": "test, last step"}.get(name, name.replace("_", ", ", 1)), justify="right")
    table.add_column("")
    for metric in metrics:
        values = [result.metrics[split].get(metric.name) for split in splits]
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
    """The table of a comparison with as many metrics as fit the console: a truncated number is a wrong one."""
    for others in range(MAX_METRICS - 1, 0, -1):
        view = comparison(verdict, others)
        if Measurement.get(console, console.options.update(width=1000), view).maximum <= console.width:
            return view
    return comparison(verdict, 0)


def comparison(verdict: Verdict, others: int) -> Table:
    """One row per loss: finished runs, other outcomes, the deciding metric with its interval, and `others` more.

    References follow, set apart.
    """
    from lossbench.analysis.tables import REFERENCE, limits, spread

    first = verdict.metric
    more = [metric for metric in verdict.metrics if metric != first][:others]
    view = Table(title=f"{verdict.dataset}: test, mean ± SD over seeds", title_justify="left")
    view.add_column("loss", no_wrap=True)
    for title in ("runs", "no result", _heading(first), "95 % interval", *map(_heading, more)):
        view.add_column(title, justify="right")
    colours = dict(zip(verdict.leaderboard["loss"], verdict.leaderboard["colour"], strict=True))
    for _, row in verdict.leaderboard.iterrows():
        mark = " ★" if row["loss"] in verdict.starred else ""
        setting = f" {row['setting']}" if row["setting"] else ""
        view.add_row(
            Text.assemble(("■", colours[row["loss"]]), f" {row['loss']}{setting}{mark}"),
            str(row["n"]),
            str(row["outcomes"]),
            spread(row, first[0]),
            limits(row, first[0]),
            *(spread(row, name) for name, _, _ in more),
        )
    if len(verdict.references):
        view.add_section()
    for _, row in verdict.references.iterrows():
        means = (spread(row, name) for name, _, _ in (first, *more))
        view.add_row(f"{row['loss']}{REFERENCE}", str(row["n"]), "", next(means), "", *means, style="dim")
    return view


def report(report: Report, console: Console | None = None) -> None:
    """Print a table and a sentence per dataset, concerns, and the runs that are missing from the means."""
    from lossbench.analysis import references

    console = console or out()
    for verdict, sentence in zip(report.verdicts, report.sentences, strict=True):
        console.print(fitting(verdict, console))
        if of_references := references.sentence(verdict):
            console.print(of_references, style="dim")
        console.print(sentence, style="bold")
        if verdict.dataset in report.tunings:
            _tuning(report.tunings[verdict.dataset], console)
    for remark in report.remarks:
        if remark.concern:
            console.print(Text.assemble(("beware:", "yellow"), f" {remark.text}"))
        elif remark.about == "references":
            console.print(remark.text)
    outcomes = report.records.main.runs["outcome"].value_counts()
    missing = [f"{count} {outcome}" for outcome, count in outcomes.items() if outcome != "finished"]
    if missing:
        console.print(f"not in the means: {', '.join(missing)}")


def _tuning(tuning: Tuning, console: Console) -> None:
    """Print each loss tuned against default settings, and whether the answer changes."""
    view = gains(tuning, console)
    if view is not None:
        console.print(view)
    console.print(tuning.sentence, style="bold")


def gains(tuning: Tuning, console: Console) -> Table | None:
    """The table of tuned against default settings with as many columns as fit; None where either is missing."""
    from lossbench.analysis import tables

    rows = tables.gains(tuning)
    if rows.empty:
        return None
    for omitted in ((), OPTIONAL_COLUMNS[:1], OPTIONAL_COLUMNS[:2], OPTIONAL_COLUMNS):
        table = rows.drop(columns=list(omitted), errors="ignore")
        view = Table(title=f"{tuning.dataset}: tuned against default settings", title_justify="left")
        for column in table.columns:
            view.add_column(column, justify="left" if column == "loss" else "right", no_wrap=column == "loss")
        for row in table.itertuples(index=False):
            view.add_row(*row)
        if Measurement.get(console, console.options.update(width=1000), view).maximum <= console.width:
            break
    return view


def _heading(metric: tuple[str, str, str]) -> str:
    name, arrow, unit = metric
    return f"{name} {arrow}{f' [{unit}]' if unit else ''}"
