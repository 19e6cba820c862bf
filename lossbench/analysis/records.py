"""Records as tables: the runs of a comparison or of an experiment, read from MLflow alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from lossbench.analysis import looks, population
from lossbench.analysis.labels import datasets, labels, seeds
from lossbench.analysis.looks import Look
from lossbench.analysis.searches import BLAMED, Search, searches_of
from lossbench.analysis.short import short
from lossbench.core import ANY, ConfigError, Range
from lossbench.core.recorded_runs import recorded_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

GREY = "#666666"  # for runs without a colour
NEWEST = 5  # comparisons that the message about an unknown one lists
NAMED = ("loss", "dataset", "model", "seed")
FAILED = BLAMED  # outcomes that the loss is to blame for; killed and error are not, so such runs count as missing

ARMS = ("tuned", "", "default", "matched")  # a verdict is on the first of these that a dataset has

Metrics = list[tuple[str, str, str]]
Ranges = Mapping[str, Range]


@dataclass(frozen=True)
class Records:
    """The runs of a comparison or an experiment, as tables.

    `runs` has a row per run, the oldest first: run_id, start, outcome, loss, dataset, model, seed, label, setting,
    colour, objective (the primary metric on validation at the selected step), metrics (name, arrow, unit; the
    primary first), ranges (of the metrics, by name; none in older records), data, weights (hash of the initial
    ones), code, source, error, remarks, step (at which it diverged), repeated, and its last metrics under their names.
    `label` is the loss with the settings that were varied for it, which are `setting`; runs with different settings of
    their data are on different datasets.
    `references` has such rows for what no loss predicted on the same splits; they are never ranked or tested.
    `arm` is where a run of a tuned comparison has its settings from (tuned, default, matched; empty elsewhere), `study`
    the search that chose them. `params` has the flattened configuration of each run, by run_id. `commands` are the
    commands that were typed, the oldest first; `searches` the description of each study's search, `looks` the looks of
    a sequential comparison, by dataset.
    """

    name: str
    runs: pd.DataFrame
    params: pd.DataFrame
    commands: list[str]
    searches: dict[str, Search] = field(default_factory=dict)
    looks: dict[str, list[Look]] = field(default_factory=dict)
    references: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def question(self) -> str:
        """The question of the study, if its runs agree on it."""
        asked = set(self.params["question"].dropna()) - {""} if "question" in self.params else set()
        return str(asked.pop()) if len(asked) == 1 else ""

    @property
    def metrics(self) -> Metrics:
        """Name, arrow and unit of every metric, the primary first."""
        return next(filter(None, self.runs["metrics"]), []) if len(self.runs) else []

    @property
    def ranges(self) -> Ranges:
        """The range of each metric, by name."""
        return next(filter(None, self.runs["ranges"]), {}) if len(self.runs) else {}

    def by_dataset(self) -> Iterator[tuple[str, Records]]:
        """The records of each dataset, in alphabetical order."""
        if len(self.runs):
            for dataset, rows in self.runs.groupby("dataset", sort=True):
                yield str(dataset), self.only(rows)

    @property
    def main(self) -> Records:
        """The runs that a verdict is on: for each dataset the tuned ones, where it has any."""
        return self._of(ARMS)

    def arm(self, name: str) -> Records:
        """The runs of one arm: tuned, default or matched."""
        return self._of((name,))

    def _of(self, arms: tuple[str, ...]) -> Records:
        if self.runs.empty:
            return self
        place = self.runs["arm"].map({arm: place for place, arm in enumerate(arms)})
        first = place.groupby(self.runs["dataset"]).transform("min")
        return self.only(self.runs[place.notna() & (place == first)])

    def searched(self, dataset: str) -> list[Search]:
        """The searches on one dataset: those of its tuned runs, or where there are none yet, those with its name."""
        of = {study: set(rows["dataset"]) for study, rows in self.runs.groupby("study")} if len(self.runs) else {}
        return [
            search
            for study, search in self.searches.items()
            if dataset in of.get(study, {d for d in self.runs["dataset"] if d.split(" ")[0] == search.dataset})
        ]

    def only(self, rows: pd.DataFrame) -> Records:
        """The same records with these runs alone."""
        return replace(self, runs=rows, params=self.params.loc[rows["run_id"]])


def read(client: MlflowClient, asked: str | None) -> Records:
    """All runs of a comparison (by its name or its run's id) or of an experiment, with whatever outcome.

    Without a name, those of the newest comparison.

    Raises: ConfigError where the store has no such comparison or experiment; it names the newest comparisons.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    comparisons = list(recorded_runs(client, experiments, {"lossbench.kind": "comparison"}))
    if asked is None and comparisons:
        asked = max(comparisons, key=lambda c: c.info.start_time).info.run_id
    chosen = [c for c in comparisons if asked in (c.info.run_id, c.data.tags.get("lossbench.comparison"))]
    if chosen:
        name = chosen[0].data.tags["lossbench.comparison"]
        of = {"lossbench.comparison": name}
    else:
        experiment = client.get_experiment_by_name(asked) if asked else None
        if asked is None or experiment is None:
            raise ConfigError(_unknown(asked, comparisons))
        name = asked
        chosen = [c for c in comparisons if c.info.experiment_id == experiment.experiment_id]
        experiments, of = [experiment.experiment_id], {}
    runs, beside = (
        _each_once(recorded_runs(client, experiments, {"lossbench.kind": k, **of})) for k in ("run", "reference")
    )
    chosen.sort(key=lambda c: c.info.start_time)
    commands = [c.data.tags.get("lossbench.command", "") for c in chosen]
    params = _params(runs)
    searches = searches_of(chosen)
    names = short([*(row(run)["loss"] for run in runs), *(search.loss for search in searches.values())])
    table = _table(runs, params, names)
    searches = {study: replace(search, loss=names[search.loss]) for study, search in searches.items()}
    looked = [json.loads(c.data.tags["lossbench.looks"]) for c in chosen if "lossbench.looks" in c.data.tags]
    seen = {dataset: looks.read(recorded) for one in looked for dataset, recorded in one.items()}
    references = _references(beside, runs)
    return Records(name, table, params, [command for command in commands if command], searches, seen, references)


def _each_once(found: Iterable[Run]) -> list[Run]:
    """Runs, the oldest first, each once even if it was recorded twice."""
    by_token = {run.data.tags.get("lossbench.token", run.info.run_id): run for run in sorted(found, key=_recorded)}
    return _ordered(list(by_token.values()))


def _params(runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([run.data.params for run in runs], index=pd.Index([r.info.run_id for r in runs], name="run_id"))


def _references(found: Sequence[Run], runs: Sequence[Run]) -> pd.DataFrame:
    """The rows of references; with the runs, so that their datasets and seeds are called the same. The newest count."""
    if not found:
        return pd.DataFrame()
    together = [*runs, *found]
    table, params = pd.DataFrame([row(run) for run in together]), _params(together)
    table["dataset"] = datasets(params, table)
    table["seed"] = seeds(params, table)
    mine = table.iloc[len(runs) :]
    mine = mine.assign(label=mine["loss"], setting="", done=mine["outcome"] == "finished").sort_values(
        ["done", "start"]
    )
    return mine.drop_duplicates(["dataset", "loss", "seed"], keep="last").sort_index()


def _ordered(runs: list[Run]) -> list[Run]:
    """The oldest run first; those of a comparison as its command names them, whichever process began which first."""
    placed: dict[str, list[Run]] = {}
    for run in runs:
        if "lossbench.place" in run.data.tags:
            placed.setdefault(run.data.tags.get("lossbench.comparison", ""), []).append(run)
    begun = {name: min(run.info.start_time for run in members) for name, members in placed.items()}

    def order(run: Run) -> tuple[int, int, int]:
        tags, start = run.data.tags, run.info.start_time
        if "lossbench.place" not in tags:
            return start, 0, start
        return begun[tags.get("lossbench.comparison", "")], int(tags["lossbench.place"]), start

    return sorted(runs, key=order)


def _recorded(run: Run) -> int:
    return len(run.data.metrics) + len(run.data.tags)


def _unknown(asked: str | None, comparisons: list[Run]) -> str:
    newest = sorted(comparisons, key=lambda c: -c.info.start_time)[:NEWEST]
    if not newest:
        command = f"report {asked or ''}".strip()
        return (
            f"{command}: this store holds no comparison yet; python -m lossbench compare dataset=regression makes one"
        )
    lines = [
        f"  {c.data.tags['lossbench.comparison']}  ({datetime.fromtimestamp(c.info.start_time / 1000):%Y-%m-%d %H:%M})"
        for c in newest
    ]
    return "\n".join([f"report {asked}: no such comparison or experiment; the newest comparisons are", *lines])


def _table(found: list[Run], params: pd.DataFrame, names: Mapping[str, str] | None = None) -> pd.DataFrame:
    table = pd.DataFrame([row(run) for run in found])
    if len(table):
        table["loss"] = table["loss"].map(names or short(table["loss"]))
        table["dataset"] = datasets(params, table)
        for _, rows in table.groupby("arm"):  # settings differ from arm to arm by design
            table.loc[rows.index, "label"] = labels(params.loc[rows["run_id"]], rows)
        table["seed"] = seeds(params, table)
        named = zip(table["label"], table["loss"], strict=True)
        table["setting"] = [label.removeprefix(loss).strip() for label, loss in named]
        # of runs that differ only in their time, the newest finished one counts; of tuned runs, that of the newest
        # comparison, whose choice of settings is the latest
        begun = table.groupby("comparison")["start"].transform("min").where(table["arm"] != "", 0)
        same = table["label"].where(table["arm"] == "", table["loss"])
        order = table.assign(begun=begun, same=same, done=table["outcome"] == "finished")
        order = order.sort_values(["begun", "done", "start"])
        table["repeated"] = order.duplicated(["dataset", "arm", "same", "seed"], keep="last").reindex(table.index)
        table.loc[table["seed"] == "", "repeated"] = False
    return table


def row(run: Run) -> dict[str, Any]:
    """The row of `Records.runs` for one MLflow run, before labels."""
    tags = run.data.tags
    colour = tags.get("mlflow.runColor", "")
    sources = {_source(entry.dataset.source) for entry in run.inputs.dataset_inputs} if run.inputs else set()
    return {
        "run_id": run.info.run_id,
        "start": run.info.start_time,
        "status": run.info.status,
        "outcome": tags.get("lossbench.outcome", run.info.status.lower()),
        "colour": colour if re.fullmatch(r"#[0-9a-fA-F]{6}", colour) else GREY,  # users may set any text in MLflow
        "metrics": [tuple(entry) for entry in json.loads(tags.get("lossbench.metrics", "[]"))],
        "ranges": {name: _range(*ends) for name, ends in json.loads(tags.get("lossbench.ranges", "{}")).items()},
        "objective": number(tags.get("lossbench.objective")),
        "step": number(tags.get("lossbench.diverged_step")),
        "best_step": number(tags.get("lossbench.best_step")),
        "error": tags.get("lossbench.error", ""),
        "data": tags.get("lossbench.data", ""),
        "weights": tags.get("lossbench.weights", ""),
        "code": tags.get("lossbench.code", ""),
        "comparison": tags.get("lossbench.comparison", ""),
        "arm": tags.get("lossbench.arm", ""),
        "key": tags.get("lossbench.key", ""),
        "study": tags.get("lossbench.study", ""),
        "probe": tags.get("lossbench.probe", ""),
        "remarks": json.loads(tags.get("lossbench.remarks", "[]")),
        "parameters": number(tags.get("lossbench.loss_parameters")),
        "source": "; ".join(sorted(sources)),
        **population.read(tags, run.data.params),
        **{name: tags.get(name, run.data.params.get(name, "")) for name in NAMED},
        **run.data.metrics,
    }


def _range(low: float | None, high: float | None) -> Range:
    return ANY[0] if low is None else low, ANY[1] if high is None else high


def number(text: str | None) -> float:
    """A tag as a number; NaN where it is missing or empty."""
    return float(text) if text else float("nan")


def _source(recorded: str) -> str:
    """Where data came from, as lossbench recorded it; a foreign source unchanged."""
    try:
        tags = json.loads(recorded).get("tags", {})
        return str(tags.get("source", recorded))
    except (json.JSONDecodeError, AttributeError):
        return recorded
