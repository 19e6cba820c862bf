"""A report: everything that is said of a comparison, from MLflow alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lossbench.analysis import answer, fairness, tables, verdict
from lossbench.analysis import records as reading
from lossbench.analysis.fairness import Remark
from lossbench.analysis.records import Records
from lossbench.analysis.verdict import Verdict
from lossbench.core import BadInput

if TYPE_CHECKING:
    from mlflow import MlflowClient


PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """What the runs of a comparison or an experiment say: a verdict a dataset, its sentence, and how fair it was."""

    records: Records
    verdicts: list[Verdict]
    sentences: list[str]
    remarks: list[Remark]


def make(
    client: MlflowClient,
    asked: str | None = None,
    *,
    metric: str | None = None,
    baseline: str | None = None,
    allow_mixed: bool = False,
) -> Report:
    """The report on a comparison or an experiment of a store; on the newest comparison, where none is named.

    Raises: BadInput where there is none, no runs in it, no such yardstick or baseline, or runs that must not be mixed.
    """
    records = reading.read(client, asked)
    if records.runs.empty:
        raise BadInput(f"report {records.name}: holds no runs")
    if not allow_mixed:
        fairness.refuse_mixed(records)
    verdicts = [verdict.judge(part, metric=metric, baseline=baseline) for _, part in records.by_dataset()]
    return Report(records, verdicts, [answer.sentence(one) for one in verdicts], fairness.remarks(records))


def write(report: Report, client: MlflowClient, folder: Path) -> None:
    """The page and its tables: report.html, table.md, table.csv, table.tex, differences.csv, runs.csv."""
    from lossbench.analysis.page import page

    files = {
        PAGE: page(report, client),
        "table.md": tables.markdown(report.verdicts, report.sentences),
        "table.csv": tables.csv(report.verdicts),
        "table.tex": tables.latex(report.verdicts),
        "differences.csv": _differences(report).to_csv(index=False),
        "runs.csv": report.records.runs.drop(columns=["yardsticks", "probe"]).to_csv(index=False),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def _differences(report: Report) -> pd.DataFrame:
    """All pairs on every dataset."""
    return pd.concat(
        [v.differences.assign(dataset=v.dataset, yardstick=v.yardstick[0]) for v in report.verdicts], ignore_index=True
    )
