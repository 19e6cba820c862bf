"""A report as files: the page, the document for programs, and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lossbench.analysis import document, tables
from lossbench.analysis.page import page
from lossbench.analysis.report import Report
from lossbench.analysis.tuning import recipes
from lossbench.core import atomic_path

if TYPE_CHECKING:
    from mlflow import MlflowClient


PAGE = "report.html"


def write(report: Report, client: MlflowClient, folder: Path) -> None:
    """Write report.html, report.json, table.md, table.csv, table.tex, differences.csv and runs.csv into a folder.

    Where settings were searched, also trials.csv, tuning.csv, and a file per experiment in tuned/experiment.
    """
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
    """Write a page to a path, where it replaces an older one once it is complete. Raises: OSError."""
    if path.is_symlink() or (path.exists() and not path.is_file()):  # a terminal, say
        path.write_text(page, encoding="utf-8")
        return
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8")


def _tuned(report: Report) -> dict[str, str]:
    """The files on tuning: trials, what it changed, and the chosen settings as experiments."""
    if not report.tunings:
        return {}
    tunings = report.tunings.values()
    experiments = {
        f"tuned/experiment/{recipes.name(search, one.dataset)}.yaml": recipes.experiment(search)
        for one in tunings
        for search in one.searches
    }
    return {
        "trials.csv": tables.separated(pd.concat([one.trials for one in tunings], ignore_index=True)),
        "tuning.csv": tables.separated(tables.tuned(list(tunings))),
        **experiments,
    }


def _differences(report: Report) -> pd.DataFrame:
    """All pairs on every dataset."""
    return pd.concat(
        [v.differences.assign(dataset=v.dataset, metric=v.metric[0]) for v in report.verdicts], ignore_index=True
    )
