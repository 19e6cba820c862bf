"""A report: everything that is said of a comparison, from MLflow alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lossbench.analysis import answer, document, fairness, tables, verdict
from lossbench.analysis import records as reading
from lossbench.analysis.across import Across, across
from lossbench.analysis.fairness import Remark
from lossbench.analysis.records import Records
from lossbench.analysis.tuning import gains, recipes, remarks
from lossbench.analysis.tuning.gains import Tuning
from lossbench.analysis.verdict import Verdict
from lossbench.core import ConfigError, whole

if TYPE_CHECKING:
    from mlflow import MlflowClient


PAGE = "report.html"


@dataclass(frozen=True)
class Report:
    """What the runs of a comparison or an experiment say: a verdict a dataset, its sentence, and how fair it was.

    `tunings` has, by dataset, what the searches say that chose the settings of these runs.
    """

    records: Records
    verdicts: list[Verdict]
    sentences: list[str]
    remarks: list[Remark]
    tunings: dict[str, Tuning] = field(default_factory=dict)

    @cached_property
    def across(self) -> Across | None:
        """What the datasets say together, where at least two have two losses in common."""
        return across(self.verdicts)


def make(
    client: MlflowClient,
    asked: str | None = None,
    *,
    primary: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
    allow_mixed: bool = False,
) -> Report:
    """The report on a comparison or an experiment of a store; on the newest comparison, where none is named.

    Raises: ConfigError where there is none, no runs in it, no such metric or baseline, or runs that must not be mixed.
    """
    records = reading.read(client, asked)
    if records.runs.empty:
        raise ConfigError(f"report {records.name}: holds no runs")
    if not allow_mixed:
        fairness.refuse_mixed(records)
    parts = [part for _, part in records.main.by_dataset()]
    built = [part for part in parts if part.metrics] or parts  # of the others a remark tells
    verdicts = [verdict.judge(part, primary=primary, baseline=baseline, margin=margin) for part in built]
    tuned = gains.tunings(client, records, primary)
    said = [*fairness.remarks(records.main), *(r for one in tuned.values() for r in remarks.remarks(one))]
    said.sort(key=lambda remark: not remark.concern)
    return Report(records, verdicts, [answer.sentence(one) for one in verdicts], said, tuned)


def write(report: Report, client: MlflowClient, folder: Path) -> None:
    """The page, the same for programs, and tables: report.html, report.json, table.md, table.csv, table.tex,
    differences.csv, runs.csv.

    Where settings were searched, also trials.csv, tuning.csv, and a file an experiment in tuned/experiment.
    """
    from lossbench.analysis.page import page

    files = {
        PAGE: page(report, client),
        "report.json": document.text(report),
        "table.md": tables.markdown(report.verdicts, report.sentences, report.tunings),
        "table.csv": tables.csv(report.verdicts),
        "table.tex": tables.latex(report.verdicts),
        "differences.csv": tables.separated(_differences(report)),
        "runs.csv": tables.separated(report.records.runs.drop(columns=["metrics", "ranges", "probe", "remarks"])),
        **_tuned(report),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def save(page: str, path: Path) -> None:
    """Write a page to a path, in place of an older one once it is whole. Raises: OSError."""
    if path.is_symlink() or (path.exists() and not path.is_file()):  # a terminal, say
        path.write_text(page, encoding="utf-8")
        return
    with whole(path) as part:
        part.write_text(page, encoding="utf-8")


def _tuned(report: Report) -> dict[str, str]:
    """Trials, what tuning changed, and chosen settings as experiments."""
    if not report.tunings:
        return {}
    made = report.tunings.values()
    experiments = {
        f"tuned/experiment/{recipes.name(search, one.dataset)}.yaml": recipes.experiment(search)
        for one in made
        for search in one.searches
    }
    return {
        "trials.csv": tables.separated(pd.concat([one.trials for one in made], ignore_index=True)),
        "tuning.csv": tables.separated(tables.tuned(list(made))),
        **experiments,
    }


def _differences(report: Report) -> pd.DataFrame:
    """All pairs on every dataset."""
    return pd.concat(
        [v.differences.assign(dataset=v.dataset, metric=v.metric[0]) for v in report.verdicts], ignore_index=True
    )
