"""What all tests share: a folder of one's own, a store that is already migrated, the command in this process or not."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # nets of a test are too small for two threads, and workers share cores

import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import interrupts
import pytest
from faults import server
from hydra import compose, initialize_config_dir
from small import SMALL

from lossbench import tracking
from lossbench.config import schema

interrupts.heed()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generated data are made once a session, in no one's home."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("LOSSBENCH_CACHE")
    os.environ["LOSSBENCH_CACHE"] = str(folder)
    yield folder
    os.environ.pop("LOSSBENCH_CACHE")
    if before:
        os.environ["LOSSBENCH_CACHE"] = before


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store; a copy of it saves each test the seconds that MLflow's migrations take."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.check_connection(f"sqlite:///{path}")
    tracking.Store(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a copy of the one file is a copy of all
    connection.close()
    return path


@pytest.fixture
def here(tmp_path: Path, cache: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a fresh default store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return tmp_path


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def lossbench(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """The command line in this process: what it said and its exit code."""
    from lossbench.cli.main import main

    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["lossbench", *words])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def process(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., server.Told]]:
    """The command line as a process of its own, which has its imports behind it; what still runs ends with the test."""
    begun: list[server.Told] = []

    def start(*words: str, watch_s: float | None = None) -> server.Told:
        out = tmp_path_factory.mktemp("said") / "said"
        begun.append(server.Told(server.forked(words, Path.cwd(), {}, out, watch_s=watch_s), out))
        return begun[-1]

    yield start
    for one in begun:
        one.command.signal(signal.SIGKILL, everyone=True)
        one.command.wait(30)


@pytest.fixture
def store(here: Path) -> tracking.Store:
    """The default store of `here`, to look at what was recorded."""
    return tracking.Store(f"sqlite:///{here}/mlflow.db")


@pytest.fixture
def configured(cache: Path) -> Callable[..., object]:
    """A composed configuration, as a run gets it."""
    schema.register()

    def make(dataset: str, *words: str) -> object:
        with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
            return compose("config", [f"dataset={dataset}", *SMALL[dataset], "experiment_name=test", *words])

    return make
