"""An MLflow store, opened once a process."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from lossbench.core import BadInput
from lossbench.tracking import views
from lossbench.tracking.address import shown
from lossbench.tracking.recorder import Recorder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


PAGE = 1000  # runs of an answer
SHARE = 0.01  # of the time that the writer may take from training, with which it shares the interpreter


class Store:
    """An MLflow store, opened and migrated; its one writer thread keeps calls off the training thread."""

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        """Open a store at a resolved URI. Raises: BadInput where MLflow cannot use it."""
        from filelock import FileLock
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.exc import SQLAlchemyError

        self.uri = uri
        self._artifacts = artifacts
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._experiments: dict[str, str] = {}  # ids by name
        self._busy_s = 0.0  # processor time that the writer took since it last rested
        self._rested = 0.0
        try:
            if uri.startswith("http"):
                self.client: MlflowClient = MlflowClient(uri)
                self.client.search_experiments(max_results=1)
                return
            create_engine(uri, poolclass=NullPool).connect().close()  # MLflow tries a wrong password for a minute
            # two processes that migrate one new database at once break it; later ones pass in a millisecond
            name = hashlib.sha256(uri.encode()).hexdigest()[:20]
            with FileLock(Path(gettempdir()) / f"lossbench-{name}.lock", timeout=120, mode=0o666):
                self.client = MlflowClient(uri)
                self.client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError, ModuleNotFoundError) as error:
            lines = str(error).strip().splitlines()
            raise BadInput(f"tracking.uri={shown(uri)}: MLflow cannot use it: {lines[0]}") from error

    def experiment(self, name: str) -> str:
        """The id of an experiment, made if it is new. Raises: BadInput where one of that name was deleted."""
        from mlflow.exceptions import MlflowException

        if name in self._experiments:
            return self._experiments[name]
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location=self._location(name))
            except MlflowException:  # another process was quicker
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise BadInput(
                f"experiment_name={name}: was deleted in this store; restore it "
                f"(mlflow experiments restore -x {found.experiment_id}) or choose another name"
            )
        return self._experiments.setdefault(name, found.experiment_id)

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> Recorder:
        """A new run, RUNNING until its recorder ends."""
        run = self.client.create_run(self.experiment(experiment), run_name=name, tags=dict(tags))
        return Recorder(self, run.info.run_id)

    def resume(self, run_id: str) -> Recorder | None:
        """A run that was killed, RUNNING again; None where it is gone or has ended otherwise."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
            if run.info.status != "KILLED":
                return None
            if "lossbench.error" in run.data.tags:
                self.client.delete_tag(run_id, "lossbench.error")
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException:
            return None
        return Recorder(self, run_id)

    def view(self, run_id: str, name: str, yardsticks: Sequence[tuple[str, str, str]], arm: str = "") -> None:
        """Leave a saved view of a comparison, or of one arm of it, in the experiment of its run."""
        experiment = self.client.get_run(run_id).info.experiment_id
        self.client.set_experiment_tag(experiment, views.TAG + name, views.saved(name, yardsticks, arm))

    def path(self, asked: str) -> str:
        """Where a run, by its id, or a comparison, by its name or its run's id, is in MLflow's UI.

        Raises: BadInput where this store has neither.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(asked)
        except MlflowException:
            named = [run for run in self.find({"lossbench.kind": "comparison"}) if _name(run) == asked]
            if not named:
                raise BadInput(f"ui: {asked}: no such run or comparison in {shown(self.uri)}") from None
            found = named[0]
        experiment = self.client.get_experiment(found.info.experiment_id)
        if found.data.tags.get("lossbench.kind") == "comparison" and views.TAG + _name(found) in experiment.tags:
            return views.path(experiment.experiment_id, _name(found))
        return f"experiments/{experiment.experiment_id}/runs/{found.info.run_id}"

    def find(self, tags: Mapping[str, str]) -> list[Run]:
        """Runs that carry all these tags, in whichever experiment, the newest first."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        page = self.client.search_runs(experiments, wanted, max_results=PAGE)
        found = list(page)
        while page.token:
            page = self.client.search_runs(experiments, wanted, max_results=PAGE, page_token=page.token)
            found += page
        return found

    def flush(self, recorders: Sequence[Recorder]) -> None:
        """Send what these recorders hold, unless the writer has just had its share of the time; then a later call does.

        A writer that needs c seconds of processor time rests for c / SHARE, about half a second for one run: what
        was evaluated before that survives even kill −9. Raises what earlier calls of the writer met.
        """
        if time.monotonic() >= self._rested:
            self._rested = math.inf  # until the writer has been there
            try:
                for recorder in recorders:
                    recorder.send()
            finally:  # other runs of this process are still to be written
                self.later(self._rest)

    def later(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do a call on the writer thread, after all that were asked for before."""
        return self._writer.submit(self._timed, call, *arguments)

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        since = time.thread_time()
        try:
            return call(*arguments)
        finally:
            self._busy_s += time.thread_time() - since

    def _rest(self) -> None:
        """On the writer thread: no points before its share of the time has passed."""
        self._rested = time.monotonic() + self._busy_s / SHARE
        self._busy_s = 0.0

    def _location(self, name: str) -> str | None:
        if self._artifacts is None and not self.uri.startswith("sqlite:///"):
            return None if self.uri.startswith("http") else str(Path("mlruns").absolute() / _file_name(name))
        if self._artifacts is None:
            return str(Path(self.uri.removeprefix("sqlite:///")).parent / "mlruns" / _file_name(name))
        base = self._artifacts if "://" in self._artifacts else str(Path(self._artifacts).absolute())
        return f"{base.rstrip('/')}/{_file_name(name)}"


def _name(run: Run) -> str:
    return run.data.tags.get("lossbench.comparison", "")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", name)
