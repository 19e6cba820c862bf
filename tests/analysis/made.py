"""Tables and runs with made-up numbers: a test says what matters to it, the rest is as a plain comparison has it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunData, RunInfo, RunInputs, RunTag

from lossbench.analysis import records as reading

YARDSTICKS = (("error", "↓", "mm"), ("score", "↑", ""))
EPOCH = 1_700_000_000_000  # ms, of `start` in a store
STATUS = {"finished": "FINISHED", "diverged": "FINISHED", "collapsed": "FINISHED", "failed": "FAILED"}


def table(values, losses=None, seeds=None):
    """A row a seed, a column a loss."""
    values = np.asarray(values, dtype=float)
    rows = pd.Index(seeds or [str(seed) for seed in range(len(values))], name="seed")
    return pd.DataFrame(
        values, index=rows, columns=pd.Index(losses or list("abcdefghijkl"[: values.shape[1]]), name="loss")
    )


@dataclass
class Made:
    """One run; `tags`, `params` and `metrics` are beside, or instead of, what every run has."""

    loss: str
    seed: int | str
    error: float | None = None
    outcome: str = "finished"
    dataset: str = "toy"
    objective: float | None = None
    start: int | None = None
    tags: dict[str, str | None] = field(default_factory=dict)
    params: dict[str, str] | None = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    source: str = ""

    def all_tags(self, yardsticks: Any = YARDSTICKS) -> dict[str, str]:
        tags = {
            "lossbench.kind": "run",
            "lossbench.yardsticks": json.dumps(yardsticks),
            "lossbench.code": "c0de",
            "lossbench.data": f"data {self.seed}",
            "mlflow.runColor": "#336699",
            "loss": self.loss,
            "dataset": self.dataset,
            "model": "mlp",
            "seed": str(self.seed),
            "lossbench.outcome": None if self.outcome == "running" else self.outcome,
            "lossbench.objective": None if self.objective is None else str(self.objective),
            **self.tags,
        }
        return {key: value for key, value in tags.items() if value is not None}

    def all_params(self) -> dict[str, str]:
        if self.params is None:  # its process was killed before it wrote them
            return {}
        common = {"loss": self.loss, "dataset": self.dataset, "model": "mlp", "optimizer": "adam"}
        seeds = {"seed": str(self.seed), "dataset.seed": str(self.seed)}
        return {**common, **seeds, "train.steps": "100", "experiment_name": "test", **self.params}

    def all_metrics(self) -> dict[str, float]:
        return ({} if self.error is None else {"test/error": self.error}) | self.metrics

    @property
    def status(self) -> str:
        return STATUS.get(self.outcome, self.outcome.upper())


def records(*runs: Made, yardsticks: Any = YARDSTICKS) -> reading.Records:
    """These runs as they are read from a store, in this order unless `start` says otherwise."""
    found = []
    for number, made in enumerate(runs):
        start = number if made.start is None else made.start
        source = json.dumps({"tags": {"source": made.source}}) if made.source else ""
        inputs = [DatasetInput(Dataset(made.dataset, "digest", "code", source))] if source else []
        found.append(
            Run(
                RunInfo(f"run{number}", "0", "me", made.status, start, start, "active"),
                RunData(
                    [Metric(key, value, 0, 0) for key, value in made.all_metrics().items()],
                    [Param(key, value) for key, value in made.all_params().items()],
                    [RunTag(key, value) for key, value in made.all_tags(yardsticks).items()],
                ),
                RunInputs(inputs),
            )
        )
    found.sort(key=lambda run: run.info.start_time)
    ids = pd.Index([run.info.run_id for run in found], name="run_id")
    params = pd.DataFrame([run.data.params for run in found], index=ids)
    return reading.Records("test", reading._table(found, params), params, [])


def record(
    client, *runs: Made, experiment: str = "test", comparison: str = "", yardsticks: Any = YARDSTICKS
) -> list[str]:
    """These runs in a store, a second apart unless `start` says otherwise; their ids."""
    found = client.get_experiment_by_name(experiment)
    where = found.experiment_id if found else client.create_experiment(experiment)
    ids = []
    for number, made in enumerate(runs):
        tags = made.all_tags(yardsticks) | ({"lossbench.comparison": comparison} if comparison else {})
        start = EPOCH + (1000 * number if made.start is None else made.start)
        run_id = client.create_run(where, start, tags, run_name=f"{made.loss} seed={made.seed}").info.run_id
        metrics = [Metric(key, value, start, 100) for key, value in made.all_metrics().items()]
        client.log_batch(run_id, metrics, [Param(key, value) for key, value in made.all_params().items()])
        if made.status != "RUNNING":
            client.set_terminated(run_id, made.status, start + 500)
        ids.append(run_id)
    return ids


def compared(**errors) -> reading.Records:
    """A finished run a number, the losses in turn on each seed; None for one that diverged."""
    seeds = range(max(map(len, errors.values())))
    return records(
        *(
            Made(loss, seed, numbers[seed], "diverged" if numbers[seed] is None else "finished")
            for seed in seeds
            for loss, numbers in errors.items()
            if seed < len(numbers)
        )
    )
