"""`lossbench verify`: measures truths one after another and reports which of them hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from lossbench import terminal
from lossbench.core import ConfigError
from lossbench.verification import TRUTHS
from lossbench.verification.claims import Finding, Losses, Picture, Truth, number


@dataclass(frozen=True)
class Outcome:
    """The measurements of a truth; `fault` is the error that ended them early, if any."""

    truth: Truth
    findings: Sequence[Finding]
    pictures: Sequence[Picture]
    seconds: float
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was measured to the end and all findings hold."""
        return not self.fault and bool(self.findings) and all(finding.holds for finding in self.findings)


def chosen(names: Sequence[str]) -> list[Truth]:
    """The truths with these names, or all of them. Raises: ConfigError for an unknown name."""
    known = {truth.name: truth for truth in TRUTHS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"verify: {unknown[0]}: no such truth\nthere are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def examined(truth: Truth, losses: Losses | None = None) -> Outcome:
    """Measure a truth; an error on the way is part of the outcome.

    On one thread, since steps are small: a second thread would mostly wait, and would change the order of sums.
    """
    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: list[Finding | Picture] = []
    fault = ""
    try:
        found.extend(truth.measure(losses or Losses()))
    except Exception as error:  # a faulty loss may raise anything
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        torch.set_num_threads(threads)
    findings = [one for one in found if isinstance(one, Finding)]
    pictures = [one for one in found if isinstance(one, Picture)]
    return Outcome(truth, findings, pictures, time.perf_counter() - start, fault)


def all_of(truths: Sequence[Truth]) -> Iterator[Outcome]:
    """Measure them one after another, with a progress bar on standard error where that is a terminal."""
    console = terminal.console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(truths))
        for truth in truths:
            progress.update(task, description=truth.title)
            yield examined(truth)
            progress.advance(task)


def table(outcomes: Sequence[Outcome]) -> Table:
    """A table with a row per finding, and one per error that ended a measurement."""
    view = Table(title="truths: what a correct harness shows", title_justify="left")
    for column in ("truth", "what", "expected", "measured", "interval", "verdict", "seconds"):
        right = column in ("expected", "measured", "interval", "seconds")
        view.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for outcome in outcomes:
        head = (f"{outcome.truth.number} {outcome.truth.name}", f"{outcome.seconds:.1f}")
        for finding in outcome.findings:
            view.add_row(head[0], *cells(finding), mark(finding.holds), head[1])
            head = ("", "")
        if not outcome.holds and (fault := outcome.fault or ("" if outcome.findings else "nothing was measured")):
            view.add_row(head[0], fault, "–", "–", "–", mark(False), head[1])
        view.add_section()
    return view


def cells(finding: Finding) -> tuple[str, str, str, str]:
    """The cells of a finding: what, expected, measured, interval."""
    interval = " … ".join(map(number, finding.interval)) if finding.interval else "–"
    return finding.what, finding.expectation, number(finding.measured), interval


def last_line(outcomes: Sequence[Outcome]) -> str:
    """A line that says how many truths hold, and which do not."""
    held = sum(outcome.holds for outcome in outcomes)
    failed = [outcome.truth.name for outcome in outcomes if not outcome.holds]
    findings = sum(len(outcome.findings) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    failures = f"; failed: {', '.join(failed)}" if failed else ""
    return f"{held} of {len(outcomes)} truths hold, {findings} numbers in {seconds:.0f} s{failures}"


def mark(holds: bool) -> Text:
    """The word "holds" or "fails", in colour."""
    return Text("holds", "green") if holds else Text("fails", "bold red")
