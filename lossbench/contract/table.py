"""What `check` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossbench.contract.checking import CheckResult, Fit
from lossbench.contract.clauses import Finding, Verdict

ANSWERS = {Fit.PASSES: "bold green", Fit.TRAINS: "bold yellow", Fit.UNFIT: "bold red"}
COLOURS = {Verdict.KEPT: "green", Verdict.BROKEN: "bold red", Verdict.NOT_ASKED: "dim"}


def show(result: CheckResult, console: Console) -> None:
    """Print a row for each clause and, below, a line for each that is broken: how to fix it."""
    table = Table(title=f"{result.name}: the contract of a loss", title_justify="left")
    for column in ("clause", "what it requires", "verdict", "what was seen"):
        table.add_column(column, overflow="fold")
    fixes = []
    for clause, verdict, seen, fix in rows(result):
        table.add_row(clause[0], clause[1], Text(verdict.value, COLOURS[verdict]), seen)
        if verdict is Verdict.BROKEN:
            fixes.append(Text.assemble((clause[0], "bold"), f": {fix}"))
    console.print(table)
    console.print(f"tried on {result.chosen}")
    if fixes:
        for line in [Text("how to fix it", "bold red"), *fixes]:
            console.print(line)
    same = len(set(result.answers.values())) == 1
    for task_type, answer in list(result.answers.items())[: 1 if same else None]:
        console.print(Text(str(answer) if same else f"{task_type}: {answer}", ANSWERS[answer.fit]))


def rows(result: CheckResult) -> Iterator[tuple[tuple[str, str], Verdict, str, str]]:
    """Each clause over all task types: broken if it is broken on one of them, else kept if it is kept on one.

    A row is (name, title), verdict, what was seen, how to fix it.
    """
    several = len(result.findings) > 1
    for same in zip(*result.findings.values(), strict=True):
        task_types = dict(zip(result.findings, same, strict=True))
        worst = _worst(same)
        task_type = next(task_type for task_type, finding in task_types.items() if finding is worst)
        apart = several and len({finding.seen for finding in same}) > 1
        clause = worst.clause.name, worst.clause.title
        yield clause, worst.verdict, f"{task_type}: {worst.seen}" if apart else worst.seen, worst.fix
    for finding in result.of_file:
        yield (finding.clause.name, finding.clause.title), finding.verdict, finding.seen, finding.fix


def _worst(findings: Sequence[Finding]) -> Finding:
    order = (Verdict.BROKEN, Verdict.KEPT, Verdict.NOT_ASKED)
    return min(findings, key=lambda finding: order.index(finding.verdict))
