"""The server of docker/compose.yaml, as it is written there, on a real PostgreSQL; and PostgreSQL without a server."""

from __future__ import annotations

import http.client
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from faults import server as forks
from searched import found
from small import SMALL

from lossbench import tracking
from lossbench.tracking import writer

COMPOSE = Path(__file__).resolve().parent.parent.parent / "docker/compose.yaml"
PASSWORD = "p@ss:w/o%r d"  # would break a URI that it were pasted into
SECRET = quote(PASSWORD, safe="")
STEPS = ["train.steps=40", "train.record_every=1", "train.eval_every=10"]
COMPARISON = ["-m", "loss=mse,huber", "seed=range(2)", "dataset=regression", *STEPS, *SMALL["regression"]]

pytestmark = pytest.mark.slow


@contextmanager
def running(words: list[str], end: int, **options) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended by its id whatever happens; what it said is shown where a test fails."""
    process = subprocess.Popen(words, **options)
    try:
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(true, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args} does not answer"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Cluster:
    programs: Path
    folder: str
    port: int
    other: dict  # who it is, where that is not us

    def new(self, name: str, template: str = "template0") -> str:
        """An empty database, or a copy of another one; its URI, with the password."""
        words = [self.programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "-T", template]
        subprocess.run([*words, name], check=True, env=os.environ | {"PGPASSWORD": PASSWORD})
        return f"postgresql+psycopg2://mlflow:{SECRET}@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        words = [self.programs / "postgres", "-D", f"{self.folder}/data", "-h", "127.0.0.1", "-p", str(self.port)]
        options = {"stderr": subprocess.DEVNULL, **self.other}
        with running([*words, "-k", "", "-F"], signal.SIGINT, **options) as process:
            ready = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            until(lambda: subprocess.run(ready).returncode == 0, process)
            yield process


@contextmanager
def made() -> Iterator[Cluster]:
    """A PostgreSQL of our own, on loopback and without a socket file."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    programs = (found[-1] if found else Path(str(on_path))).resolve().parent
    with tempfile.TemporaryDirectory(prefix="lossbench-postgresql-") as folder:  # pytest's own are closed to others
        secret = Path(folder, "password")
        secret.write_text(PASSWORD, encoding="utf-8")
        other = {}
        if os.geteuid() == 0:  # whom PostgreSQL refuses
            nobody = pwd.getpwnam("nobody")
            other = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (folder, secret):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        words = [programs / "initdb", "-D", f"{folder}/data", "-U", "mlflow", "-A", "scram-sha-256"]
        words += [f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(words, check=True, capture_output=True, **other)
        yield Cluster(programs, folder, free_port(), other)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with made() as one, one.serving():
        yield one


def written(port: int, database: Cluster, artifacts: Path) -> tuple[list[str], dict[str, str]]:
    """The server's command and environment as compose.yaml has them, but for where things are."""

    def filled(text: str) -> str:
        given = {"POSTGRES_PASSWORD": PASSWORD}
        return re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda found: given.get(found[1], found[2]), text)

    service = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["mlflow"]
    command = " ".join(map(filled, [*service["entrypoint"], *service["command"]]))
    for there, here in (
        ("@database/", f"@127.0.0.1:{database.port}/"),
        ("destination=/artifacts", f"destination={artifacts}"),
        ("--host=0.0.0.0", "--host=127.0.0.1"),
        ("--port=5000", f"--port={port}"),
    ):
        assert there in command
        command = command.replace(there, here)
    return [sys.executable, "-m", *command.split()], {k: filled(v) for k, v in service["environment"].items()}


@pytest.fixture(scope="module")
def server(cluster, tmp_path_factory) -> Iterator[str]:
    """MLflow's server, as in compose.yaml, on an empty database; its address."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    cluster.new("mlflow")
    command, environment = written(port, cluster, folder / "artifacts")
    options = {"cwd": folder, "env": os.environ | environment, "stdout": subprocess.DEVNULL}
    with running(command, signal.SIGTERM, **options) as process:
        until(lambda: status(port, "/health") == 200, process)
        yield f"http://127.0.0.1:{port}"
    assert {path.name for path in folder.iterdir()} <= {"artifacts"}  # all else is in the database


def status(port: int, path: str, body: str | None = None, **headers: str) -> int | None:
    """What a server answers to a question, or to a body that is posted; None where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def called(folder: Path, *words: str) -> str:
    """The command line as a process of its own; what it printed."""
    ran = forks.Told(forks.forked(words, folder, {}, folder / "said"), folder / "said")
    said = "".join(ran.communicate(timeout=300))
    assert ran.returncode == 0, said
    return said


def compared(folder: Path, uri: str) -> str:
    """Log a comparison of four runs, the first of its store; its name."""
    said = called(folder, *COMPARISON, f"tracking.uri={uri}")
    assert SECRET not in said
    (found,) = tracking.Store(uri).find({"lossbench.kind": "comparison"})
    return found.data.tags["lossbench.comparison"]


def check(uri: str, comparison: str) -> None:
    """All that was logged is there: four runs that ended well, every point of them, and their comparison."""
    store = tracking.Store(uri)
    runs = store.find({"lossbench.kind": "run", "lossbench.comparison": comparison})
    asked = sorted(itertools.product(("huber", "mse"), ("0", "1")))
    assert sorted((run.data.tags["loss"], run.data.tags["seed"]) for run in runs) == asked
    for run in runs:
        assert run.info.status == "FINISHED"
        assert {"test/mae", "test/rmse"} <= set(run.data.metrics)
        for name, every in (("train/loss", 1), ("val/mae", 10)):
            steps = [point.step for point in store.client.get_metric_history(run.info.run_id, name)]
            assert steps == list(range(every, 41, every)), name
        assert {file.path for file in store.client.list_artifacts(run.info.run_id)} >= {"config.yaml"}
    (found,) = store.find({"lossbench.kind": "comparison", "lossbench.comparison": comparison})
    assert found.info.status == "FINISHED"
    table = Path(store.client.download_artifacts(found.info.run_id, "table.md")).read_text(encoding="utf-8")
    assert "mse" in table
    assert "huber" in table
    for run in (*runs, found):
        assert SECRET not in str(run.to_dictionary())


@pytest.fixture(scope="module")
def comparison(server, cache, tmp_path_factory) -> str:
    """The name of a comparison that was logged to the server."""
    return compared(tmp_path_factory.mktemp("trainer"), server)


def test_a_comparison_on_the_server(server, comparison):
    check(server, comparison)


def test_report_is_read_from_the_server(server, comparison, tmp_path):
    called(tmp_path, "report", comparison, f"tracking.uri={server}")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "mse" in report
    assert "huber" in report


def test_the_server_answers_under_its_own_names_only(server):
    port, path = int(server.rpartition(":")[2]), "/api/2.0/mlflow/experiments/get?experiment_id=0"
    for host in ("mlflow:5000", "127.0.0.1:5000", "localhost:80"):
        assert status(port, path, Host=host) == 200, host
    assert status(port, path, Host="elsewhere.example") == 403


def test_pages_of_other_sites_cannot_use_the_server(server):
    port, path, body = int(server.rpartition(":")[2]), "/ajax-api/2.0/mlflow/experiments/search", '{"max_results": 1}'
    assert status(port, path, body, Origin="http://127.0.0.1:5000") == 200  # its own UI
    assert status(port, path, body, Origin="http://elsewhere.example") == 403


def test_a_comparison_without_a_server(cluster, cache, tmp_path):
    uri = cluster.new("direct")
    check(uri, compared(tmp_path, uri))
    assert (tmp_path / "mlruns/regression").is_dir()


def test_studies_have_a_database_of_their_own(cluster, lossbench, store):
    uri = cluster.new("studies")
    words = ["-m", "hydra/sweeper=fair", "loss=mse", "seed=0", "hydra.sweeper.at_defaults=false", *STEPS]
    words += [*SMALL["regression"], f"hydra.sweeper.storage={uri}"]
    for trials in (2, 3):
        said = lossbench(*words, f"hydra.sweeper.trials={trials}")
        assert said.code == 0, said.err
        found = store.find({"lossbench.kind": "trial"})
        assert sorted(run.data.tags["lossbench.trial"] for run in found) == [str(n) for n in range(trials)]
    (run, *_) = store.find({"lossbench.kind": "run"})
    assert SECRET not in run.data.tags["lossbench.command"]
    refused = lossbench(*words, f"tracking.uri={cluster.new('both')}", f"hydra.sweeper.storage={uri}x")
    assert refused.code == 2
    assert SECRET not in refused.err


@pytest.fixture(scope="module")
def shared(cluster) -> str:
    """The name of a database that several came to first: an empty store, of which nobody holds a connection."""
    uri = cluster.new("shared")
    words = [sys.executable, "-c", "import sys; from lossbench import tracking; tracking.Store(sys.argv[1])", uri]
    first = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=180)[1] for process in first]
    assert [process.returncode for process in first] == [0, 0, 0], said
    return "shared"


def test_several_come_first_to_an_empty_database(cluster, shared):
    store = tracking.Store(cluster.new("another", template=shared))
    store.start("test", "run", {"lossbench.kind": "run"}).end("FINISHED")
    (run,) = store.find({"lossbench.kind": "run"})
    assert run.info.status == "FINISHED"


def test_an_outage_loses_nothing_and_holds_nobody_up(cache, migrated, monkeypatch, capsys):
    monkeypatch.setattr(writer, "LATE_S", 1.0)
    points = [(step, 1 / step) for step in range(1, 301)]
    with made() as one:
        with one.serving() as process:
            store = tracking.Store(one.new("outage"))
            recorders = [store.start("outage", "begun", {})]
            recorders[0].metrics(1, {"a": 1.0})
            recorders[0].send()
            recorders[0].wait()
            family = [process.pid, *map(int, children(process.pid))]
            for pid in family:
                os.kill(pid, signal.SIGSTOP)  # it hangs, then it is gone
            since = time.monotonic()
            for step, value in points[1:150]:
                recorders[0].metrics(step, {"a": value})
                store.flush(recorders)
            recorders[0].wait()
            assert time.monotonic() - since < 3
            for pid in family:
                os.kill(pid, signal.SIGCONT)
        recorders.append(store.start("outage", "new", {}))
        for step, value in points:
            recorders[0].metrics(step, {"a": value})
            recorders[1].metrics(step, {"a": value})
            store.flush(recorders)
        for recorder in recorders:
            with recorder.files() as folder:
                (folder / "note.txt").write_text("hello")
            recorder.params({"lr": 0.1})
            recorder.end("FINISHED")
        assert recorders[1].run_id == ""
        assert not store.settled(0)
        with one.serving():
            assert store.settled(60)
            for recorder in recorders:
                run = store.client.get_run(recorder.run_id)
                assert run.info.status == "FINISHED"
                assert run.data.params == {"lr": "0.1"}
                history = store.client.get_metric_history(recorder.run_id, "a")
                assert [(point.step, point.value) for point in history] == points
                assert [file.path for file in store.client.list_artifacts(recorder.run_id)] == ["note.txt"]
            assert len(store.client.search_runs([store.experiment("outage")])) == 2
            told = [[point.key, point.value, point.timestamp, point.step] for point in history]
            store.put({"do": "batch", "run": recorders[1].run_id, "points": told})  # as after a lost answer
            assert store.settled(10)
            assert store.client.get_metric_history(recorders[1].run_id, "a") == history
            store.client._tracking_client.store.engine.dispose()
    assert SECRET not in capsys.readouterr().err


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


WAYS = {
    "a run": ["loss=mse", "hydra.output_subdir=.hydra"],
    "a sweep": ["-m", "loss=mse,huber", "hydra.sweep.dir=named"],
    "by Hydra's launcher": ["-m", "hydra/launcher=basic", "loss=mse", "hydra.output_subdir=.hydra"],
    "a search": ["-m", "hydra/sweeper=fair", "loss=mse", "hydra.sweeper.trials=1", "hydra.sweeper.storage={uri}"],
}


@pytest.mark.parametrize("given", ["encoded", "with spaces", "by the environment", "in a file"])
def test_nothing_that_is_left_has_the_password(given, cluster, shared, here, lossbench, tmp_path, monkeypatch):
    """Neither records, nor databases to the last byte, nor files of Hydra's, nor what was said."""
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    uri = cluster.new(given.replace(" ", "_"), template=shared).replace("%20", " " if given == "with spaces" else "%20")
    studies = cluster.new(f"studies_{given.replace(' ', '_')}")
    words = [f"tracking.uri={uri}"] if given in ("encoded", "with spaces") else []
    if given == "by the environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    if given == "in a file":
        file = tmp_path.parent / f"{tmp_path.name} of mine" / "tracking/mine.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(f"uri: {uri}\nartifacts: null\n", encoding="utf-8")
        words = [f"--config-dir={file.parent.parent}", "tracking=mine"]
    for way, own in WAYS.items():
        if given == "in a file":
            own = [word for word in own if "output_subdir" not in word]  # Hydra copies what a file has
        said = lossbench(*(word.format(uri=studies) for word in own), *words, *STEPS, *SMALL["regression"], "seed=0")
        assert said.code == 0, f"{way}: {said}"
        assert SECRET not in said.out + said.err
        assert PASSWORD not in said.out + said.err
    (here / "copies").mkdir()
    for name in (uri, studies):
        command = [cluster.programs / "pg_dump", "-h", "127.0.0.1", "-p", str(cluster.port), "-U", "mlflow"]
        command += ["-f", here / "copies" / name.rpartition("/")[2], name.rpartition("/")[2]]
        subprocess.run(command, check=True, env=os.environ | {"PGPASSWORD": PASSWORD})
    assert "mlflow.runColor" in (here / "copies" / uri.rpartition("/")[2]).read_text(encoding="utf-8")
    assert (here / "report.html").exists()
    assert not found(PASSWORD, here)
