"""Tables and runs with made-up numbers: a test says what matters to it, the rest is as a plain comparison has it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunData, RunInfo, RunInputs, RunTag

from lossbench.analysis import records as reading
from lossbench.analysis.searches import Search

YARDSTICKS = (("error", "↓", "mm"), ("score", "↑", ""))
EPOCH = 1_700_000_000_000  # ms, of `start` in a store
STATUS = {
    "finished": "FINISHED",
    "diverged": "FINISHED",
    "collapsed": "FINISHED",
    "failed": "FAILED",
    "error": "FAILED",
}


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

    def all_tags(self, metrics: Any = YARDSTICKS) -> dict[str, str]:
        tags = {
            "lossbench.kind": "run",
            "lossbench.metrics": json.dumps(metrics),
            "lossbench.code": "c0de",
            "lossbench.data": f"data {self.seed}",
            "lossbench.variation": "fresh",
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


def trial(loss: str, number: int, objective: float | None, outcome: str = "finished", **changed) -> Made:
    """A trial of the search for a loss; its keyword arguments are the searched parameters, and what a run has."""
    own = {name: changed.pop(name) for name in ("seed", "start", "dataset", "metrics", "study") if name in changed}
    steps, tags = changed.pop("steps", 100), changed.pop("tags", {})
    tags = {
        "lossbench.kind": "trial",
        "lossbench.study": own.pop("study", f"study-{loss}"),
        "lossbench.trial": str(number),
        "lossbench.steps": str(steps),
        **tags,
    }
    params = {name.replace("__", "."): str(value) for name, value in changed.items()}
    score = float("nan") if outcome == "diverged" else objective
    made = {"seed": 100_000, "metrics": {"time/train_s": 2.0}, **own}
    return Made(loss, outcome=outcome, objective=score, tags=tags, params=params, **made)


RATES = {"low": 1e-4, "high": 0.1, "log": True}


def searched(loss: str, **changed) -> dict[str, Any]:
    """What a comparison tells of the search for one loss."""
    told = {
        "study": f"study-{loss}",
        "loss": loss,
        "dataset": "toy",
        "sampler": "random",
        "budget": {"trials": 3},
        "splits": 1,
        "pruning": None,
        "space": {"optimizer.lr": RATES},
        "own": [],
        "chosen": 0,
        "settings": {"optimizer.lr": 0.01},
        "words": ["dataset=toy", f"loss={loss}"],
    }
    return told | changed


def tell(client, name: str, *searches: dict[str, Any], start: int = 0, experiment: str = "test") -> str:
    """A comparison's own run that tells of these searches; its id."""
    told = {f"lossbench.search.{search['study']}": json.dumps(search) for search in searches}
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": name, **told}
    return record(client, Made("", "", start=start, tags=tags), experiment=experiment)[0]


def arms(loss: str, study: str | None = None, **errors) -> list[Made]:
    """Final runs of a loss: an error a seed in each arm, None for one that diverged."""
    return [
        Made(
            loss,
            seed,
            error,
            "diverged" if error is None else "finished",
            objective=error,
            tags={"lossbench.arm": arm} | ({"lossbench.study": study or f"study-{loss}"} if arm == "tuned" else {}),
            params={"optimizer.lr": "0.01" if arm == "tuned" else "0.001"},
        )
        for arm, numbers in errors.items()
        for seed, error in enumerate(numbers)
    ]


def records(*runs: Made, metrics: Any = YARDSTICKS, searches: Any = ()) -> reading.Records:
    """These runs as they are read from a store, in this order unless `start` says otherwise."""
    found = sorted(entities(runs, metrics), key=lambda run: run.info.start_time)
    ids = pd.Index([run.info.run_id for run in found], name="run_id")
    params = pd.DataFrame([run.data.params for run in found], index=ids)
    told = {search["study"]: Search(**search) for search in searches}
    return reading.Records("test", reading._table(found, params), params, [], told)


def entities(runs: Any, metrics: Any = YARDSTICKS) -> list[Run]:
    """These runs as MLflow gives them."""
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
                    [RunTag(key, value) for key, value in made.all_tags(metrics).items()],
                ),
                RunInputs(inputs),
            )
        )
    return found


def record(client, *runs: Made, experiment: str = "test", comparison: str = "", metrics: Any = YARDSTICKS) -> list[str]:
    """These runs in a store, a second apart unless `start` says otherwise; their ids."""
    found = client.get_experiment_by_name(experiment)
    where = found.experiment_id if found else client.create_experiment(experiment)
    ids = []
    for number, made in enumerate(runs):
        tags = made.all_tags(metrics) | ({"lossbench.comparison": comparison} if comparison else {})
        start = EPOCH + (1000 * number if made.start is None else made.start)
        run_id = client.create_run(where, start, tags, run_name=f"{made.loss} seed={made.seed}").info.run_id
        points = [Metric(key, value, start, 100) for key, value in made.all_metrics().items()]
        client.log_batch(run_id, points, [Param(key, value) for key, value in made.all_params().items()])
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
