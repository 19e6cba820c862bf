"""Entries: the plain data that records consist of, which can wait in a file, and how they are written to a store.

Writing an entry twice changes nothing: points and tags are the same, and a run is identified by its token.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lossbench.core import ConfigError, DatasetInfo

if TYPE_CHECKING:
    from mlflow import MlflowClient

TOKEN = "lossbench.token"  # tag that finds a run again if the answer to its creation was lost
POINTS, PAIRS = 1000, 100  # of a batch: points, params and tags together; params or tags
Entry: TypeAlias = dict[str, Any]
"""`do`: create, batch, inputs, files or end; `run`: the id of a run, or its token until that is known; arguments."""


def create(token: str, experiment: str, artifacts: str | None, name: str, tags: Mapping[str, str]) -> Entry:
    """The entry that creates a run under a token; `artifacts` is the artifact location of a new experiment."""
    arguments = {"experiment": experiment, "artifacts": artifacts, "name": name, "tags": {**tags, TOKEN: token}}
    return {"do": "create", "run": token, **arguments, "time": now()}


def inputs(run: str, info: DatasetInfo) -> Entry:
    """The entry that records the dataset of a run, with its fingerprint as digest."""
    source = {"source": info.source, "licence": info.licence, "sha256": info.fingerprint}
    return {"do": "inputs", "run": run, "name": info.name, "digest": info.fingerprint[:36], "source": source}


def joined(one: Entry, other: Entry) -> Entry | None:
    """Two batches of a run as one, of which MLflow accepts so much at once; None where they cannot be one."""
    points = [*one.get("points", ()), *other.get("points", ())]
    params, tags = dict(one.get("params", ())), dict(one.get("tags", ()))
    if any(params.get(name, value) != value for name, value in other.get("params", ())):
        return None  # which MLflow refuses, as it should
    params |= dict(other.get("params", ()))
    tags |= dict(other.get("tags", ()))
    if len(points) + len(params) + len(tags) > POINTS or len(params) > PAIRS or len(tags) > PAIRS:
        return None
    return {**one, "points": points, "params": list(params.items()), "tags": list(tags.items())}


def now() -> int:
    """The time in milliseconds since 1970, as MLflow counts it."""
    return int(time.time() * 1000)


def supersede(client: MlflowClient, run_id: str) -> None:
    """Mark a record as superseded by another of the same run, so that it no longer counts."""
    client.set_tag(run_id, "lossbench.kind", "superseded")
    client.set_terminated(run_id, "KILLED")


class MlflowSink:
    """Writes entries to a store, and holds the ids of the runs that they created."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self.experiments: dict[str, str] = {}  # ids by name
        self.runs: dict[str, str] = {}  # ids by token

    def write(self, entry: Entry, *, again: bool) -> str:
        """Write an entry and return the id of its run. `again`: an earlier attempt may have succeeded unheard."""
        token = str(entry["run"])
        if entry["do"] == "create":
            self.runs[token] = self._create(entry, again=again)
            return self.runs[token]
        run = self.runs.get(token, token)
        getattr(self, f"_{entry['do']}")(run, entry)
        return run

    def experiment(self, name: str, artifacts: str | None) -> str:
        """The id of an experiment, created if it is new. Raises: ConfigError where one of that name was deleted."""
        from mlflow.exceptions import MlflowException

        if name in self.experiments:
            return self.experiments[name]
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location=artifacts)
            except MlflowException:  # another process was quicker, or the answer was lost
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise ConfigError(
                f"experiment_name={name}: was deleted in this store; restore it "
                f"(mlflow experiments restore -x {found.experiment_id}) or choose another name"
            )
        return self.experiments.setdefault(name, found.experiment_id)

    def _create(self, entry: Entry, *, again: bool) -> str:
        experiment = self.experiment(entry["experiment"], entry["artifacts"])
        if again and (run_ids := self._run_ids(entry["run"], [experiment])):
            return run_ids[0]
        run = self.client.create_run(experiment, entry["time"], entry["tags"], entry["name"])
        return run.info.run_id

    def _run_ids(self, token: str, experiments: list[str]) -> list[str]:
        found = self.client.search_runs(experiments, f"tags.`{TOKEN}` = '{token}'")
        return sorted(run.info.run_id for run in found)

    def _batch(self, run: str, entry: Entry) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in entry.get("points", ())]
        params = [Param(*pair) for pair in entry.get("params", ())]
        tags = [RunTag(*pair) for pair in entry.get("tags", ())]
        self.client.log_batch(run, metrics, params, tags, synchronous=True)

    def _inputs(self, run: str, entry: Entry) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput

        dataset: Any = MetaDataset(  # type: ignore[abstract]
            CodeDatasetSource(entry["source"]), name=entry["name"], digest=entry["digest"]
        )
        for last in (False, True):
            try:
                return self.client.log_inputs(run, [DatasetInput(dataset._to_mlflow_entity())])
            except (
                Exception
            ) as error:  # MLflow looks for the dataset, then adds it: another process may add it in between
                if last or "IntegrityError" not in str(error):
                    raise

    def _files(self, run: str, entry: Entry) -> None:
        if not Path(entry["folder"]).is_dir():
            raise RuntimeError(f"the files of run {run} are gone from {entry['folder']}")
        self.client.log_artifacts(run, entry["folder"])

    def _end(self, run: str, entry: Entry) -> None:
        self.client.set_terminated(run, entry["status"], entry["time"])
        if token := entry.get("token"):
            self._supersede(token, run)

    def _supersede(self, token: str, run: str) -> None:
        """Mark the duplicates that a server created for requests whose answers were lost."""
        experiment = self.client.get_run(run).info.experiment_id
        for stray in self._run_ids(token, [experiment]):
            if stray != run:
                supersede(self.client, stray)
