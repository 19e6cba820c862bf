"""Records as tables: the runs of a comparison, read from MLflow alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = 1000
SEED_LIKE = {"seed", "dataset.seed"}


@dataclass(frozen=True)
class Records:
    """The runs of one comparison.

    `runs` has a row a run: run_id, loss, dataset, model, seed, outcome, colour, label, start, and each test metric
    as `test/…`. `label` is the loss and whatever else was varied for it. `yardsticks` are [name, arrow, unit], the
    primary first.
    """

    runs: pd.DataFrame
    yardsticks: list[tuple[str, str, str]]

    def by_dataset(self) -> Iterator[tuple[str, Records]]:
        if self.runs.empty:
            return
        for dataset, rows in self.runs.groupby("dataset", sort=True):
            yield str(dataset), replace(self, runs=rows, yardsticks=rows["yardsticks"].iloc[0])


def read(client: MlflowClient, comparison: str) -> Records:
    """All runs of a comparison, whatever became of them, wherever in the store they are."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    wanted = f"tags.`lossbench.comparison` = '{comparison}' and tags.`lossbench.kind` = 'run'"
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs(experiments, wanted, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    found.sort(key=lambda run: run.info.start_time)
    rows = [
        {
            "run_id": run.info.run_id,
            "start": run.info.start_time,
            "status": run.info.status,
            "outcome": run.data.tags.get("lossbench.outcome", run.info.status.lower()),
            "colour": run.data.tags.get("mlflow.runColor", "#666666"),
            "yardsticks": [tuple(entry) for entry in json.loads(run.data.tags["lossbench.yardsticks"])],
            **{name: run.data.tags.get(name, "") for name in ("loss", "dataset", "model", "seed")},
            **{k: v for k, v in run.data.metrics.items() if k.startswith(("test", "time/", "memory/"))},
        }
        for run in found
    ]
    table = pd.DataFrame(rows)
    if len(table):
        table["label"] = _labels([run.data.params for run in found])
    return Records(table, table["yardsticks"].iloc[0] if len(table) else [])


def histories(client: MlflowClient, runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric over the steps of many runs: run_id, step, value."""
    points = [
        (run_id, point.step, point.value)
        for run_id in runs["run_id"]
        for point in client.get_metric_history(run_id, metric)
    ]
    return pd.DataFrame(points, columns=["run_id", "step", "value"])


def _labels(params: list[dict[str, str]]) -> list[str]:
    """The loss of each run, with the settings that differ between runs of one loss and dataset, seeds aside."""
    table = pd.DataFrame(params).fillna("")
    settings = [c for c in table.columns if c not in SEED_LIKE | {"loss", "dataset", "experiment_name"}]
    settings = [c for c in settings if not c.startswith("tracking.") and not c.endswith("_target_")]
    groups = table.groupby(["loss", "dataset"])[settings].nunique().max()
    varied = [c for c in settings if groups[c] > 1]
    several = table.groupby("loss")[varied].nunique() if varied else None
    labels = []
    for _, row in table.iterrows():
        shown = [
            f"{c.removeprefix('loss.')}={row[c]}"
            for c in varied
            if several is not None and several.loc[row["loss"], c] > 1
        ]
        labels.append(" ".join([str(row["loss"]), *shown]))
    return labels
