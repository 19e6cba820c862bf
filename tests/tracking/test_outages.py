"""Stores that go away while something is recorded: training goes on, and nothing is lost, doubled or left RUNNING."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.wires import Front
from recorded import artifacts, numbers, runs
from small import SMALL
from tracking.recording import POINTS, record

from lossbench import tracking
from lossbench.core import ConfigError
from lossbench.tracking import spool as spools
from lossbench.tracking import store as stores
from lossbench.tracking import writer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(writer, "LATE_S", 1.0)
    monkeypatch.setattr(writer, "RETRY_S", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int
    database: Path


@contextlib.contextmanager
def serving(port: int, database: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(database.parent / "kept")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(migrated, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(migrated.read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(port, folder / "mlflow.db") as process:
        yield Server(process, port, folder / "mlflow.db")


@pytest.fixture
def network(server, here) -> Iterator[tuple[Front, str]]:
    with contextlib.closing(Front(server.port)) as front:
        yield front, front.address


def check(store, experiment, names, points=POINTS):
    """Each of these runs is there once, whole, and ended."""
    (found,) = (e for e in store.client.search_experiments() if e.name == experiment)
    there = [r for r in store.client.search_runs([found.experiment_id]) if r.data.tags["lossbench.kind"] == "run"]
    assert sorted(run.info.run_name for run in there) == sorted(names)
    for run in there:
        assert run.info.status == "FINISHED"
        assert run.data.params == {"lr": "0.1"}
        assert run.data.tags["lossbench.outcome"] == "finished"
        assert [u.dataset.digest for u in run.inputs.dataset_inputs] == ["ab" * 18]
        assert artifacts(store, run) == {"note.txt"}
        assert [(p.step, p.value) for p in store.client.get_metric_history(run.info.run_id, "a")] == points


def spooled(cache: Path) -> list[Path]:
    return sorted((cache / "spool").glob("*/*"))


def test_a_server_that_is_away_for_a_while_misses_nothing(network, cache, capsys):
    told, uri = network
    store = tracking.Store(uri)
    first = store.start("away", "first", {"lossbench.kind": "run"})
    first.metrics(0, {"b": 1.0})
    first.send()
    told.down = True
    assert record(first) < 4
    second = store.start("away", "second", {"lossbench.kind": "run"})
    assert second.run_id == ""
    assert record(second) < 1
    assert spooled(cache)
    assert not store.settled(0.2)
    told.down = False
    assert store.settled(30)
    assert spooled(cache) == []
    assert second.run_id
    check(store, "away", ["first", "second"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3, lines
    assert "does not answer" in lines[0]
    assert "waiting up to" in lines[1] or "waiting up to" in lines[2]
    assert "all that waited is recorded" in lines[2] or "all that waited is recorded" in lines[1]


def test_what_a_killed_process_left_is_recorded_by_the_next(network, cache, capsys):
    told, uri = network
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from tracking.recording import record
from lossbench import tracking
from lossbench.tracking import writer
writer.LATE_S = 1.0
store = tracking.Store({uri!r})
begun = store.start("killed", "begun", {{"lossbench.kind": "run"}})
print("begun", flush=True); sys.stdin.readline()
record(begun)
record(store.start("killed", "new", {{"lossbench.kind": "run"}}))
print("spooled", flush=True); time.sleep(100)
"""
    words = [sys.executable, "-c", script]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    told.down = True
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "spooled\n"
    (path,) = (p for p in spooled(cache) if p.suffix == ".jsonl")
    assert list(spools.Spool.orphans(path.parent)) == []  # it is the process's that lives
    process.kill()
    process.communicate()
    with path.open("ab") as torn:
        torn.write(b'12345678 {"do": "ba')  # cut off in the middle of a line
    told.down = False
    check(tracking.Store(uri), "killed", ["begun", "new"])
    assert spooled(cache) == []
    assert "recorded what waited" in capsys.readouterr().err
    check(tracking.Store(uri), "killed", ["begun", "new"])


def test_lost_answers_leave_no_second_run(network):
    told, uri = network
    store = tracking.Store(uri)
    told.lose = ["/experiments/create", "/runs/create", "/runs/log-batch", "/runs/update", "/runs/log-inputs"]
    record(store.start("lost", "one", {"lossbench.kind": "run"}))
    assert store.settled(30)
    check(store, "lost", ["one"])
    (stray,) = (r for r in store.find({"lossbench.kind": "superseded"}))
    assert stray.info.status == "KILLED"


def test_a_server_that_fails_now_and_then_is_told_all_of_it_once(network):
    told, uri = network
    store = tracking.Store(uri)
    told.failing = 0.2
    for name in ("one", "two", "three"):
        record(store.start("failing", name, {"lossbench.kind": "run"}))
    told.failing = 0.0
    assert store.settled(30)
    check(store, "failing", ["one", "two", "three"])


def test_a_server_that_hangs_holds_nobody_up(server, here):
    process, port = server.process, server.port
    store = tracking.Store(f"http://127.0.0.1:{port}")
    begun = store.start("hung", "begun", {"lossbench.kind": "run"})
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        since = time.monotonic()
        record(begun)
        record(store.start("hung", "new", {"lossbench.kind": "run"}))
        assert time.monotonic() - since < 4
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    assert store.settled(60)
    check(store, "hung", ["begun", "new"])


def test_what_cannot_wait_on_disk_waits_in_memory(network, cache, monkeypatch, capsys):
    told, uri = network
    monkeypatch.setenv("LOSSBENCH_CACHE", str(here := cache / "full"))
    here.mkdir()
    (here / "spool").write_text("no folder")
    store = tracking.Store(uri)
    recorder = store.start("memory", "one", {"lossbench.kind": "run"})
    told.down = True
    record(recorder)
    assert "in memory" in store.outage_message()
    told.down = False
    assert store.settled(30)
    check(store, "memory", ["one"])
    assert "waits in memory" in capsys.readouterr().err


def test_more_than_may_wait_ends_the_run(network, monkeypatch):
    told, uri = network
    monkeypatch.setattr(spools, "BOUND", 2000)
    store = tracking.Store(uri)
    recorder = store.start("bound", "one", {"lossbench.kind": "run"})
    told.down = True
    recorder.tags({"a": "x" * 3000})
    recorder.wait()
    with pytest.raises(tracking.Away, match="wait for it"):
        record(recorder)
    recorder.end_early("FAILED", {"lossbench.outcome": "error"})
    told.down = False
    assert store.settled(30)
    (run,) = (r for r in store.find({"lossbench.outcome": "error"}) if r.info.run_id == recorder.run_id)
    assert run.info.status == "FAILED"


def test_a_refusal_is_no_outage_and_is_kept(network, cache, capsys):
    told, uri = network
    store = tracking.Store(uri)
    gone = store.start("refused", "gone", {"lossbench.kind": "run"})
    stays = store.start("refused", "stays", {"lossbench.kind": "run"})
    told.down = True
    gone.tags({"a": 1})
    gone.wait()
    tracking.Store(uri.replace(uri, f"http://127.0.0.1:{told.target}")).client.delete_run(gone.run_id)
    record(stays)
    told.down = False
    assert store.settled(30)
    check(store, "refused", ["stays"])
    assert "refused 1 waiting entries" in capsys.readouterr().err
    (kept,) = (path for path in spooled(cache) if path.suffix == ".refused")
    kept.unlink()


def test_a_password_in_the_address_is_used_and_not_shown(network, monkeypatch, lossbench, capsys):
    told, uri = network
    told.only = "me:p@ss/w:rd"
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    asked = uri.replace("http://", "http://me:p%40ss%2Fw%3Ard@")
    words = ["train.steps=20", *SMALL["regression"], "experiment_name=secret", f"tracking.uri={asked}"]
    said = lossbench(*words)
    assert said.code == 0, said.err
    (run,) = (r for r in tracking.Store(asked).find({"lossbench.kind": "run"}) if "secret" in str(r.to_dictionary()))
    for text in (said.out, said.err, str(run.to_dictionary())):
        assert "p%40ss" not in text
        assert "p@ss" not in text
    told.only = "me:another"
    with pytest.raises(ConfigError, match=r"tracking\.uri=http://…@127.0.0.1:\d+: MLflow cannot use it: .*401"):
        tracking.Store(asked)


def test_a_comparison_whose_store_stays_away_goes_on_with_the_next_command(network, lossbench, monkeypatch):
    told, uri = network
    monkeypatch.setattr(stores, "PATIENCE_S", 1.0)
    words = ["-m", "loss=mse,mae", "seed=5,9", "experiment_name=stays", f"tracking.uri={uri}"]
    words += [*SMALL["regression"], "train.steps=400", "train.record_every=5", "train.eval_every=50"]

    def outage():
        while sum(path.endswith("/log-batch") for path in told.seen) < 5:
            time.sleep(0.01)
        told.down = True

    other = threading.Thread(target=outage)
    other.start()
    said = lossbench(*words)
    other.join()
    assert said.code == 1
    assert "is away; entries of" in said.err
    told.down = False
    monkeypatch.setattr(stores, "PATIENCE_S", 30.0)
    again = lossbench(*words)
    assert again.code == 0, again.err
    assert "continuing" in again.out
    store = tracking.Store(uri)
    (comparison,) = runs(store, "comparison")
    assert comparison.info.status == "FINISHED"
    found = store.find({"lossbench.kind": "run", "lossbench.comparison": comparison.data.tags["lossbench.comparison"]})
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len(found) == 4
    for run in found:
        assert [step for step, _ in numbers(store, run)["train/loss"]] == list(range(5, 401, 5))


def test_a_training_goes_on_while_its_server_is_killed_and_started_again(server, cache, lossbench, here):
    process, port = server.process, server.port
    uri = f"http://127.0.0.1:{port}"
    words = [*SMALL["regression"], "train.record_every=5", "train.eval_every=50", "train.steps=3000"]
    words += ["experiment_name=restarted"]
    assert lossbench(*words).code == 0
    (undisturbed,) = runs(local := tracking.Store(f"sqlite:///{here}/mlflow.db"))
    expected = numbers(local, undisturbed)
    watched = tracking.Store(f"sqlite:///{server.database}")

    def there():
        experiment = watched.client.get_experiment_by_name("restarted")
        return watched.client.search_runs([experiment.experiment_id]) if experiment else []

    with contextlib.ExitStack() as servers:

        def restart():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not any("val/mae" in run.data.metrics for run in there()):
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            while time.monotonic() < deadline and not list((cache / "spool").glob("*/*.jsonl")):
                time.sleep(0.05)
            servers.enter_context(serving(port, server.database))

        other = threading.Thread(target=restart)
        other.start()
        said = lossbench(*words, f"tracking.uri={uri}")
        other.join()
    assert said.code == 0, said.err
    assert "does not answer" in said.err
    (run,) = there()
    assert run.info.status == "FINISHED"
    assert numbers(watched, run) == expected
