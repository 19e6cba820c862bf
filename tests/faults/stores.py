"""Where the commands of a campaign record: a file, a small disk, a server, a database, each as real as can be."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from random import Random
from typing import Any

from faults.wires import Front, Wire

MIGRATED = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
LARGE = "size=200m"  # the disk, once there is room
READY_S = 90


@dataclass(frozen=True)
class Place:
    """A folder to call a command in, the words that say where it records, and where that can be read.

    `way` leads to the store, where something can happen to it; `mend` ends whatever has happened.
    """

    folder: Path
    words: tuple[str, ...]
    uri: str
    artifacts: Path | None = None
    way: Wire | Front | None = None
    mend: Callable[[], None] = lambda: None


@cache
def missing(place: str) -> str:
    """Why there can be no such place on this machine; empty where there can."""
    if place == "disk":
        with tempfile.TemporaryDirectory() as folder:
            if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode:
                return "no disk can be mounted"
            subprocess.run(["umount", folder], check=True)
    if place == "postgresql" and not _programs():
        return "PostgreSQL is not installed"
    return ""


class Stores:
    """Servers and prepared databases, each made once, when something first needs it; closing ends them."""

    def __init__(self, base: Path) -> None:
        self._base, self._stack, self._lock = base, ExitStack(), threading.Lock()

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def place(self, name: str, folder: Path, random: Random) -> Iterator[Place]:
        """A place of a kind, below a folder of the trial's own."""
        here = folder / "here"
        here.mkdir(parents=True)
        with getattr(self, f"_{name}")(here, random) as place:
            yield place

    @contextmanager
    def _sqlite(self, here: Path, random: Random) -> Iterator[Place]:
        shutil.copy(self._made("migrated"), here / "mlflow.db")
        yield Place(here, (), f"sqlite:///{here}/mlflow.db")

    @contextmanager
    def _nothing(self, here: Path, random: Random) -> Iterator[Place]:
        yield Place(here, (), f"sqlite:///{here}/mlflow.db")

    @contextmanager
    def _disk(self, here: Path, random: Random) -> Iterator[Place]:
        size = random.randrange(1_000, 5_000)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", here], check=True)

        def mend() -> None:
            subprocess.run(["mount", "-o", f"remount,{LARGE}", here], check=True)

        try:
            if random.random() < 0.5:
                shutil.copy(self._made("migrated"), here / "mlflow.db")
            yield Place(here, (), f"sqlite:///{here}/mlflow.db", mend=mend)
        finally:
            shutil.copytree(here, here.with_name("was"), symlinks=True)
            subprocess.run(["umount", "--lazy", here], check=True)

    @contextmanager
    def _server(self, here: Path, random: Random) -> Iterator[Place]:
        with self._served_by(Wire, here, random) as place:
            yield place

    @contextmanager
    def _faulty_server(self, here: Path, random: Random) -> Iterator[Place]:
        with self._served_by(Front, here, random) as place:
            yield place

    @contextmanager
    def _served_by(self, kind: type[Wire] | type[Front], here: Path, random: Random) -> Iterator[Place]:
        port, uri, artifacts = self._made("served")
        with closing(kind(port, random)) as way:
            yield Place(here, (f"tracking.uri=http://127.0.0.1:{way.port}",), uri, artifacts, way, way.mend)

    @contextmanager
    def _postgresql(self, here: Path, random: Random) -> Iterator[Place]:
        port, name = self._made("cluster"), f"trial{random.getrandbits(60)}"
        with self._lock:
            subprocess.run([*_client("createdb", port), "-T", "migrated", name], check=True)
        uri = "postgresql+psycopg2://mlflow@127.0.0.1:{}/" + name
        with closing(Wire(port, random)) as wire:
            yield Place(here, (f"tracking.uri={uri.format(wire.port)}",), uri.format(port), None, wire, wire.mend)
        subprocess.run([*_client("dropdb", port), "--force", name], check=False)

    def _made(self, what: str) -> Any:
        with self._lock:
            return getattr(self, what)

    @cached_property
    def migrated(self) -> Path:
        """An empty store; a copy saves the seconds of its migrations."""
        path = self._base / "migrated.db"
        _python("-c", MIGRATED, f"sqlite:///{path}")
        return path

    @cached_property
    def served(self) -> tuple[int, str, Path]:
        """The port of MLflow's server, the database behind it, and where it keeps files."""
        port, folder = _free_port(), self._base / "server"
        folder.mkdir()
        uri = f"sqlite:///{folder}/mlflow.db"
        words = ["-m", "mlflow", "server", "--backend-store-uri", uri, "--artifacts-destination", str(folder / "files")]
        words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        with (folder / "log").open("w") as log:
            environment = os.environ | QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            options = {"stdout": log, "stderr": log, "env": environment, "cwd": folder, "start_new_session": True}
            server = self._running([sys.executable, *words], signal.SIGTERM, **options)
        _until(lambda: _answers(port), server)
        return port, uri, folder / "files"

    @cached_property
    def cluster(self) -> int:
        """The port of a PostgreSQL of our own, on loopback, that has an empty store to copy."""
        folder, port, other = Path(tempfile.mkdtemp(prefix="lossbench-faults-")), _free_port(), {}
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if os.geteuid() == 0:  # whom PostgreSQL refuses
            nobody = pwd.getpwnam("nobody")
            other = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        data, programs = folder / "data", _programs()
        words = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "mlflow",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        subprocess.run(words, check=True, capture_output=True, **other)
        words = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
        server = self._running(words, signal.SIGINT, stderr=subprocess.DEVNULL, start_new_session=True, **other)
        _until(lambda: subprocess.run([*_client("pg_isready", port), "-q"], check=False).returncode == 0, server)
        subprocess.run([*_client("createdb", port), "migrated"], check=True)
        _python("-c", MIGRATED, f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/migrated")
        return port

    def _running(self, words: list[Any], end: int, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, **options)

        def ended() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            process.wait(30)

        self._stack.callback(ended)
        return process


def _python(*words: str) -> None:
    subprocess.run([sys.executable, *words], env=os.environ | QUIET, check=True, capture_output=True)


def _programs() -> Path | None:
    """Where PostgreSQL's programs are."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return (found[-1] if found else Path(on_path).resolve()).parent if found or on_path else None


def _client(program: str, port: int) -> list[str]:
    return [str(_programs() / program), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        return True
    return False


def _until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while not true():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} does not answer, exit code {process.returncode}")
        time.sleep(0.1)
