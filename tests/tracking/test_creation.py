"""A SQLite store is made whole or not at all, wherever its making is cut off and whatever its folder is called."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
from contextlib import closing

import pytest
from recorded import artifacts, runs
from small import SMALL

from lossbench import tracking
from lossbench.core import ConfigError
from lossbench.tracking import sqlite


def killed(call, statement):
    """Make a call in a process that is killed with −9 before it executes so many statements of SQL."""
    pid = os.fork()
    if pid:
        return os.WTERMSIG(os.waitpid(pid, 0)[1])
    try:
        from sqlalchemy import Engine, event

        left = [statement]

        @event.listens_for(Engine, "before_cursor_execute")
        def count(*words):
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        os.close(2)
        call()
    finally:
        os._exit(0)


def mlflows_own(path):
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()


def usable(path):
    store = tracking.Store(f"sqlite:///{path}")
    store.start("test", "run", {"lossbench.kind": "run"}).end("FINISHED")
    assert [run.info.status for run in runs(store)] == ["FINISHED"]
    assert {other.name for other in path.parent.iterdir()} <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}


def test_a_creation_that_is_killed_leaves_no_half_store(tmp_path, cache):
    path = tmp_path / "new.db"
    for statement in (1, 30, 300):
        assert killed(lambda: tracking.Store(f"sqlite:///{path}"), statement) == signal.SIGKILL
        assert not path.exists()
    usable(path)


@pytest.mark.parametrize("statement", [30, 300])
def test_a_half_made_store_is_made_again(tmp_path, cache, statement, monkeypatch, capsys):
    monkeypatch.setattr(sqlite, "STILL_S", 0.2)
    path = tmp_path / "half.db"
    assert killed(lambda: mlflows_own(path), statement) == signal.SIGKILL
    tracking.check_connection(f"sqlite:///{path}")
    usable(path)
    assert "left incomplete and without a run" in capsys.readouterr().err


def test_a_store_that_holds_anything_is_never_replaced(tmp_path, cache, migrated, monkeypatch):
    monkeypatch.setattr(sqlite, "STILL_S", 0.1)
    path = tmp_path / "old.db"
    shutil.copy(migrated, path)
    store = tracking.Store(f"sqlite:///{path}")
    store.client.create_registered_model("mine")
    for change in ("UPDATE alembic_version SET version_num = 'other'", "DELETE FROM alembic_version"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        with contextlib.suppress(ConfigError):  # as MLflow finds it
            tracking.Store(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT name FROM registered_models").fetchall() == [("mine",)]


def test_another_programs_empty_tables_stay(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(sqlite, "STILL_S", 0.1)
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (it INTEGER)")
    usable(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM theirs").fetchone() == (0,)


def test_to_ask_whether_a_store_can_be_made_makes_nothing(tmp_path):
    tracking.check_connection(f"sqlite:///{tmp_path}/new.db")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_is_said_and_leaves_nothing(small_disk, cache):
    uri = f"sqlite:///{small_disk}/mlflow.db"
    tracking.check_connection(uri)
    with pytest.raises(ConfigError, match="full"):
        tracking.Store(uri)
    assert [path.name for path in small_disk.iterdir()] in ([], [".mlflow.db.lock"])
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    usable(small_disk / "mlflow.db")


def test_a_folder_may_have_the_signs_of_addresses(lossbench, tmp_path, monkeypatch):
    (folder := tmp_path / "a#b?c%20d e").mkdir()
    monkeypatch.chdir(folder)
    assert lossbench("train.steps=20", *SMALL["regression"]).code == 0
    store = tracking.Store(tracking.resolve("sqlite:///mlflow.db"))
    (run,) = runs(store)
    assert artifacts(store, run) >= {"config.yaml", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} >= {"mlflow.db", "mlruns"}
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "mlflow.db"}
    assert lossbench("ui", "nothing").code == 2
