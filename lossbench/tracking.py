"""Records to MLflow: a store that is known to work before training starts, and runs that survive what happens to them."""

from __future__ import annotations

import math
import os
import re
import socket
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lossbench.core import BadInput, Facts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its migrations are not the user's news

PATIENCE_S = 5  # that a server may take to answer
BATCH = 1000  # points MLflow takes in one call
PARAM_LENGTH = 6000


def resolve(uri: str) -> str:
    """The URI with a SQLite path made absolute, since MLflow would take it from wherever it runs.

    Raises: BadInput for a URI that no store of MLflow 3 can have.
    """
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    if "://" not in uri or uri.startswith("file:"):
        raise BadInput(f"tracking.uri={uri}: no store; sqlite:///mlflow.db, http://host:5000 or a database's URI works")
    return uri


def reach(uri: str) -> None:
    """Find out within seconds, and without importing MLflow, whether a store can be there.

    Raises: BadInput where a database file cannot be written, or a server does not answer.
    """
    if uri.startswith("sqlite:///"):
        return _writable(Path(uri.removeprefix("sqlite:///")))
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return _answers(uri)
    if parts.hostname:
        port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.partition("+")[0])
        if port is None:
            return None
        try:
            socket.create_connection((parts.hostname, port), timeout=PATIENCE_S).close()
        except OSError as error:
            raise BadInput(f"tracking.uri={shown(uri)}: does not answer: {error}") from error
    return None


def _writable(path: Path) -> None:
    if not path.parent.is_dir():
        raise BadInput(f"tracking.uri=sqlite:///{path}: the folder {path.parent} does not exist")
    try:
        with sqlite3.connect(path, timeout=PATIENCE_S) as connection:
            # WAL lets several processes write at once, 2.7 times as fast; it stays with the file
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.Error as error:
        raise BadInput(f"tracking.uri=sqlite:///{path}: cannot be written: {error}") from error
    finally:
        if "connection" in locals():
            connection.close()


def _answers(uri: str) -> None:
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        pass  # it answers, and MLflow will say what it thinks of us
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise BadInput(
            f"tracking.uri={shown(uri)}: the tracking server does not answer: {reason}\n"
            "start it (mlflow server), or leave tracking.uri out to record in sqlite:///mlflow.db here"
        ) from error


def shown(uri: str) -> str:
    """A URI as it may be printed: without its password."""
    return re.sub(r"(//[^:/@]+):[^@]+@", r"\1:…@", uri)


def ui_command(uri: str) -> str:
    """The one command that opens MLflow's UI on a store."""
    here = resolve("sqlite:///mlflow.db")
    return "python -m lossbench ui" + ("" if uri == here else f" tracking.uri={shown(uri)}")


def serve(uri: str, port: str) -> None:
    """Become MLflow's UI on a store: one worker and no job executor (0.6 GB rather than 3.6), on loopback."""
    print(f"http://127.0.0.1:{port}/?workflowType=machine_learning   (Ctrl-C ends it)", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    words = ["-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *words])


class Store:
    """An MLflow store, opened and migrated; its one writer thread keeps calls off the training thread."""

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        """Open a store at a resolved URI. Raises: BadInput where MLflow cannot use it."""
        from filelock import FileLock
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        self.uri = uri
        self._artifacts = artifacts
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="record")
        try:
            if not uri.startswith("sqlite:///"):
                self.client: MlflowClient = MlflowClient(uri)
                self.client.search_experiments(max_results=1)
                return
            # two processes that migrate one new file at once break it; later ones pass in a millisecond
            with FileLock(f"{uri.removeprefix('sqlite:///')}.lock", timeout=120):
                self.client = MlflowClient(uri)
                self.client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError) as error:
            lines = str(error).strip().splitlines()
            raise BadInput(f"tracking.uri={shown(uri)}: MLflow cannot use it: {lines[0]}") from error

    def experiment(self, name: str) -> str:
        """The id of an experiment, made if it is new. Raises: BadInput where one of that name was deleted."""
        from mlflow.exceptions import MlflowException

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
        return found.experiment_id

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> Recorder:
        """A new run, RUNNING until its recorder ends."""
        run = self.client.create_run(self.experiment(experiment), run_name=name, tags=dict(tags))
        return Recorder(self, run.info.run_id)

    def find(self, tags: Mapping[str, str]) -> list[Run]:
        """Runs that carry all these tags, in whichever experiment, the newest first."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        return list(self.client.search_runs(experiments, wanted, max_results=1000))

    def later(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Do a call on the writer thread, after all that were asked for before."""
        return self._writer.submit(call, *arguments)

    def _location(self, name: str) -> str | None:
        if self._artifacts is None and not self.uri.startswith("sqlite:///"):
            return None if self.uri.startswith("http") else str(Path("mlruns").absolute() / _file_name(name))
        if self._artifacts is None:
            return str(Path(self.uri.removeprefix("sqlite:///")).parent / "mlruns" / _file_name(name))
        base = self._artifacts if "://" in self._artifacts else str(Path(self._artifacts).absolute())
        return f"{base.rstrip('/')}/{_file_name(name)}"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", name)


class Recorder:
    """One run's record. Points gather here and go out in batches, in order, on the store's writer thread."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._points: list[Any] = []
        self._pending: list[Future[Any]] = []

    def params(self, values: Mapping[str, Any], facts: Facts) -> None:
        """The configuration, and the dataset as an input with our own digest."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, Param

        params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in values.items()]
        for start in range(0, len(params), 100):
            self._later(self._batch, [], params[start : start + 100], [])
        source = CodeDatasetSource({"source": facts.source, "licence": facts.licence, "sha256": facts.fingerprint})
        dataset = MetaDataset(source, name=facts.name, digest=facts.fingerprint[:36])
        self._later(self.store.client.log_inputs, self.run_id, [DatasetInput(dataset._to_mlflow_entity())])

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Points of one step; they leave with the next `flush`. A number that is not finite is never recorded."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points += [Metric(key, float(v), now, step) for key, v in values.items() if math.isfinite(v)]

    def flush(self) -> None:
        """Hand all points to the writer. Raises what earlier calls of the writer met."""
        points, self._points = self._points, []
        for start in range(0, len(points), BATCH):
            self._later(self._batch, points[start : start + BATCH], [], [])
        done = [future for future in self._pending if future.done()]
        self._pending = [future for future in self._pending if future not in done]
        for future in done:
            future.result()

    def tags(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self._later(self._batch, [], [], [RunTag(key, str(value)) for key, value in values.items()])

    @contextmanager
    def files(self) -> Iterator[Path]:
        """A folder whose contents become artifacts of the run."""
        with TemporaryDirectory(prefix="lossbench-") as folder:
            yield Path(folder)
            self.store.client.log_artifacts(self.run_id, folder)

    def end(self, status: str) -> None:
        """Send what is left and end the run as FINISHED, FAILED or KILLED."""
        self.flush()
        self._later(self.store.client.set_terminated, self.run_id, status)
        for future in self._pending:
            future.result()
        self._pending = []

    def _later(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._pending.append(self.store.later(call, *arguments))

    def _batch(self, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        self.store.client.log_batch(self.run_id, metrics, params, tags, synchronous=True)
