"""What `check` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossbench.contract.checking import Checked, Fit
from lossbench.contract.clauses import Finding, Verdict

ANSWERS = {Fit.KEEPS: "bold green", Fit.TRAINS: "bold yellow", Fit.UNFIT: "bold red"}
COLOURS = {Verdict.KEPT: "green", Verdict.BROKEN: "bold red", Verdict.NOT_ASKED: "dim"}


def show(checked: Checked, console: Console) -> None:
    """A row a clause; below, what is broken and how to mend it, a line each."""
    table = Table(title=f"{checked.name}: the contract of a loss", title_justify="left")
    for column in ("clause", "what it demands", "verdict", "what was seen"):
        table.add_column(column, overflow="fold")
    mends = []
    for clause, verdict, seen, mend in rows(checked):
        table.add_row(clause[0], clause[1], Text(verdict.value, COLOURS[verdict]), seen)
        if verdict is Verdict.BROKEN:
            mends.append(Text.assemble((clause[0], "bold"), f": {mend}"))
    console.print(table)
    console.print(f"tried on {checked.chosen}")
    if mends:
        for line in [Text("to mend", "bold red"), *mends]:
            console.print(line)
    same = len(set(checked.answers.values())) == 1
    for task_type, answer in list(checked.answers.items())[: 1 if same else None]:
        console.print(Text(str(answer) if same else f"{task_type}: {answer}", ANSWERS[answer.fit]))


def rows(checked: Checked) -> Iterator[tuple[tuple[str, str], Verdict, str, str]]:
    """A clause over all task types: broken where one of them breaks it, kept where one keeps it."""
    several = len(checked.findings) > 1
    for same in zip(*checked.findings.values(), strict=True):
        task_types = dict(zip(checked.findings, same, strict=True))
        worst = _worst(same)
        task_type = next(task_type for task_type, finding in task_types.items() if finding is worst)
        apart = several and len({finding.seen for finding in same}) > 1
        clause = worst.clause.name, worst.clause.title
        yield clause, worst.verdict, f"{task_type}: {worst.seen}" if apart else worst.seen, worst.mend
    for finding in checked.of_file:
        yield (finding.clause.name, finding.clause.title), finding.verdict, finding.seen, finding.mend


def _worst(findings: Sequence[Finding]) -> Finding:
    order = (Verdict.BROKEN, Verdict.KEPT, Verdict.NOT_ASKED)
    return min(findings, key=lambda finding: order.index(finding.verdict))
