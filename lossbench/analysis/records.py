"""Records as tables: the runs of a comparison or of an experiment, read from MLflow alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench.core import BadInput

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
NEWEST = 5  # comparisons that are offered where an unknown one was asked for
SEED_LIKE = {"seed", "dataset.seed"}
NAMED = ("loss", "dataset", "model", "seed")
FAILED = ("diverged", "failed", "collapsed")  # what a loss is to blame for; whoever is killed was stopped by others

Yardsticks = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Records:
    """Runs, and where they were asked for.

    `runs` has a row a run, the oldest first: run_id, start, outcome, loss, dataset, model, seed, label, setting,
    colour, objective (the primary yardstick on validation at the selected step), yardsticks (name, arrow, unit; the
    primary first), data, code, source, error, step (at which it diverged), repeated, and its last metrics under
    their names. `label` is the loss and whatever else was varied for it, which is `setting`; runs whose data were set
    differently are on different datasets.
    `params` has the flattened configuration of each run, by run_id. `commands` are what was typed, the oldest first.
    """

    name: str
    runs: pd.DataFrame
    params: pd.DataFrame
    commands: list[str]

    @property
    def question(self) -> str:
        """What the study asked, if its runs say so with one voice."""
        asked = set(self.params["question"].dropna()) - {""} if "question" in self.params else set()
        return str(asked.pop()) if len(asked) == 1 else ""

    @property
    def yardsticks(self) -> Yardsticks:
        return self.runs["yardsticks"].iloc[0] if len(self.runs) else []

    def by_dataset(self) -> Iterator[tuple[str, Records]]:
        if len(self.runs):
            for dataset, rows in self.runs.groupby("dataset", sort=True):
                yield str(dataset), self.only(rows)

    def only(self, rows: pd.DataFrame) -> Records:
        return replace(self, runs=rows, params=self.params.loc[rows["run_id"]])


def read(client: MlflowClient, asked: str | None) -> Records:
    """All runs of a comparison (its name or its run's id) or of an experiment, whatever became of them.

    Of the newest comparison, where none is named.

    Raises: BadInput where the store has neither; it names the newest comparisons.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    comparisons = list(_search(client, experiments, {"lossbench.kind": "comparison"}))
    if asked is None and comparisons:
        asked = max(comparisons, key=lambda c: c.info.start_time).info.run_id
    chosen = [c for c in comparisons if asked in (c.info.run_id, c.data.tags.get("lossbench.comparison"))]
    if chosen:
        name = chosen[0].data.tags["lossbench.comparison"]
        found = _search(client, experiments, {"lossbench.kind": "run", "lossbench.comparison": name})
    else:
        experiment = client.get_experiment_by_name(asked) if asked else None
        if asked is None or experiment is None:
            raise BadInput(_unknown(asked, comparisons))
        name = asked
        chosen = [c for c in comparisons if c.info.experiment_id == experiment.experiment_id]
        found = _search(client, [experiment.experiment_id], {"lossbench.kind": "run"})
    runs = sorted(found, key=lambda run: run.info.start_time)
    commands = [c.data.tags.get("lossbench.command", "") for c in sorted(chosen, key=lambda c: c.info.start_time)]
    params = pd.DataFrame(
        [run.data.params for run in runs], index=pd.Index([r.info.run_id for r in runs], name="run_id")
    )
    return Records(name, _table(runs, params), params, [command for command in commands if command])


def _search(client: MlflowClient, experiments: list[str], tags: Mapping[str, str]) -> Iterator[Run]:
    wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    token = None
    while True:
        page = client.search_runs(experiments, wanted, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _unknown(asked: str | None, comparisons: list[Run]) -> str:
    newest = sorted(comparisons, key=lambda c: -c.info.start_time)[:NEWEST]
    if not newest:
        said = f"report {asked or ''}".strip()
        return f"{said}: this store holds no comparison yet; python -m lossbench compare dataset=regression makes one"
    lines = [
        f"  {c.data.tags['lossbench.comparison']}  ({datetime.fromtimestamp(c.info.start_time / 1000):%Y-%m-%d %H:%M})"
        for c in newest
    ]
    return "\n".join([f"report {asked}: no such comparison or experiment; the newest comparisons are", *lines])


def _table(found: list[Run], params: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame([_row(run) for run in found])
    if len(table):
        table["dataset"] = datasets(params, table)
        table["label"] = labels(params, table)
        table["seed"] = seeds(params, table)
        named = zip(table["label"], table["loss"], strict=True)
        table["setting"] = [label.removeprefix(loss).strip() for label, loss in named]
        # of runs that are the same but for when they ran, the newest that finished counts
        order = table.assign(done=table["outcome"] == "finished").sort_values(["done", "start"])
        table["repeated"] = order.duplicated(["dataset", "label", "seed"], keep="last").reindex(table.index)
        table.loc[table["seed"] == "", "repeated"] = False
    return table


def _row(run: Run) -> dict[str, Any]:
    tags = run.data.tags
    sources = {_source(entry.dataset.source) for entry in run.inputs.dataset_inputs} if run.inputs else set()
    return {
        "run_id": run.info.run_id,
        "start": run.info.start_time,
        "status": run.info.status,
        "outcome": tags.get("lossbench.outcome", run.info.status.lower()),
        "colour": tags.get("mlflow.runColor", "#666666"),
        "yardsticks": [tuple(entry) for entry in json.loads(tags.get("lossbench.yardsticks", "[]"))],
        "objective": _number(tags.get("lossbench.objective")),
        "step": _number(tags.get("lossbench.diverged_step")),
        "best_step": _number(tags.get("lossbench.best_step")),
        "error": tags.get("lossbench.error", ""),
        "data": tags.get("lossbench.data", ""),
        "code": tags.get("lossbench.code", ""),
        "probe": tags.get("lossbench.probe", ""),
        "parameters": _number(tags.get("lossbench.loss_parameters")),
        "source": "; ".join(sorted(sources)),
        **{name: tags.get(name, run.data.params.get(name, "")) for name in NAMED},
        **run.data.metrics,
    }


def _number(text: str | None) -> float:
    return float(text) if text else float("nan")


def _source(recorded: str) -> str:
    """Where data came from; a source that is not ours as it stands."""
    try:
        tags = json.loads(recorded).get("tags", {})
        return str(tags.get("source", recorded))
    except (json.JSONDecodeError, AttributeError):
        return recorded


def labels(params: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The loss of each run, with the settings that differ between runs of one loss and dataset, seeds aside.

    A setting of the data is none: runs on other data are runs on another dataset. Nor is what a run does not tell,
    which was killed before it could.
    """
    settings = [c for c in params if c not in SEED_LIKE | {"experiment_name", "question", "loss", "dataset"}]
    settings = [c for c in settings if not c.startswith(("tracking.", "dataset.")) and not c.endswith("_target_")]
    table = settings_of(params)[settings].assign(loss=list(runs["loss"]), dataset=list(runs["dataset"]))
    most = table.groupby(["loss", "dataset"])[settings].nunique().max()
    varied = [c for c in settings if most[c] > 1]
    return _told(table, "loss", varied)


def datasets(params: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The dataset of each run, with the settings of it that differ between runs, seeds aside."""
    settings = [c for c in params if c.startswith("dataset.") and c not in SEED_LIKE and not c.endswith("_target_")]
    return _told(settings_of(params)[settings].assign(dataset=list(runs["dataset"])), "dataset", settings)


def seeds(params: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The seed of each run; where runs of one seed had several seeds of the data, with that of the data."""
    if "dataset.seed" not in params:
        return list(runs["seed"])
    drawn = settings_of(params)["dataset.seed"].to_numpy()
    table = runs[["dataset", "seed"]].assign(data=drawn)
    several = table.groupby(["dataset", "seed"])["data"].nunique().groupby("dataset").max() > 1
    return [
        f"{row.seed}, data {row.data}" if several[row.dataset] and row.data == row.data else row.seed
        for row in table.itertuples()
    ]


def settings_of(params: pd.DataFrame) -> pd.DataFrame:
    """Settings, empty where a run has none of that name; missing for a run that was killed before it told any."""
    return params.fillna("").where(params.notna().any(axis=1), np.nan)


def _told(table: pd.DataFrame, by: str, settings: list[str]) -> list[str]:
    """The value of a column, with those settings that vary within it."""
    if not settings:
        return [str(value) for value in table[by]]
    several = table.groupby(by)[settings].nunique()
    made = []
    for _, row in table.iterrows():
        shown = [c for c in settings if several.loc[row[by], c] > 1 and row[c] == row[c]]
        made.append(" ".join([str(row[by]), *(f"{c.removeprefix(f'{by}.')}={row[c]}" for c in shown)]))
    return made
