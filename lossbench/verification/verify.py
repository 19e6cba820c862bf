"""`lossbench verify`: measure truths one after another, and say which of them hold."""

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
    """What was measured of a truth; `fault` is what kept it from being measured to the end."""

    truth: Truth
    findings: Sequence[Finding]
    pictures: Sequence[Picture]
    seconds: float
    fault: str = ""

    @property
    def holds(self) -> bool:
        return not self.fault and bool(self.findings) and all(finding.holds for finding in self.findings)


def chosen(names: Sequence[str]) -> list[Truth]:
    """The truths of these names, all where there is none. Raises: ConfigError for a name that none has."""
    known = {truth.name: truth for truth in TRUTHS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"verify: {unknown[0]}: no such truth\nthere are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def examined(truth: Truth, losses: Losses | None = None) -> Outcome:
    """A truth, measured; what goes wrong on the way is part of the outcome.

    On one thread, since steps are small: a second one waits most of its time, and rounds sums in another order.
    """
    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: list[Finding | Picture] = []
    fault = ""
    try:
        found.extend(truth.measure(losses or Losses()))
    except Exception as error:  # whatever a loss does that is not as it should be
        fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        torch.set_num_threads(threads)
    findings = [one for one in found if isinstance(one, Finding)]
    pictures = [one for one in found if isinstance(one, Picture)]
    return Outcome(truth, findings, pictures, time.perf_counter() - start, fault)


def all_of(truths: Sequence[Truth]) -> Iterator[Outcome]:
    """One after another, with a bar on standard error where that is a terminal."""
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
    """A row a finding, and one for what kept a truth from being measured."""
    shown = Table(title="truths: what a correct harness shows", title_justify="left")
    for column in ("truth", "what", "expected", "measured", "interval", "verdict", "seconds"):
        right = column in ("expected", "measured", "interval", "seconds")
        shown.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for outcome in outcomes:
        head = (f"{outcome.truth.number} {outcome.truth.name}", f"{outcome.seconds:.1f}")
        for finding in outcome.findings:
            shown.add_row(head[0], *cells(finding), mark(finding.holds), head[1])
            head = ("", "")
        if not outcome.holds and (fault := outcome.fault or ("" if outcome.findings else "nothing was measured")):
            shown.add_row(head[0], fault, "–", "–", "–", mark(False), head[1])
        shown.add_section()
    return shown


def cells(finding: Finding) -> tuple[str, str, str, str]:
    """What, expected, measured, interval."""
    interval = " … ".join(map(number, finding.interval)) if finding.interval else "–"
    return finding.what, finding.asked, number(finding.measured), interval


def last_line(outcomes: Sequence[Outcome]) -> str:
    held = sum(outcome.holds for outcome in outcomes)
    failed = [outcome.truth.name for outcome in outcomes if not outcome.holds]
    findings = sum(len(outcome.findings) for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    told = f"; not so: {', '.join(failed)}" if failed else ""
    return f"{held} of {len(outcomes)} truths hold, {findings} numbers in {seconds:.0f} s{told}"


def mark(holds: bool) -> Text:
    return Text("holds", "green") if holds else Text("fails", "bold red")
