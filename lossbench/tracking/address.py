"""Addresses of stores, and checks that a store can be reached, without importing MLflow."""

from __future__ import annotations

import base64
import os
import re
import socket
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from lossbench.config.redaction import redacted
from lossbench.core import ConfigError, machine

NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "lustre", "beegfs", "gpfs", "ceph", "glusterfs", "panfs", "orangefs",
    "fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse",
}  # fmt: skip
"""File systems of several machines, on which SQLite's locks and shared memory do not work."""

PATIENCE_S = 5  # how long a server may take to answer
ALIVE = "connect_timeout=10&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=20000"


def resolve(uri: str) -> str:
    """The URI as MLflow needs it: SQLite with an absolute path, PostgreSQL with a driver that is installed.

    Raises: ConfigError for a URI that MLflow 3 does not accept.
    """
    if uri.startswith(("postgresql://", "postgres://")):
        return f"postgresql+{_driver()}://{uri.partition('://')[2]}"
    if uri in ("sqlite:", "sqlite:/", "sqlite://") or uri.endswith(":memory:"):
        raise ConfigError(f"tracking.uri={uri}: is in memory and ends with this process; sqlite:///mlflow.db is a file")
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    if "://" not in uri or uri.startswith("file:"):
        raise ConfigError(
            f"tracking.uri={redacted(uri)}: no store; sqlite:///mlflow.db, http://host:5000 or a database's URI works"
        )
    return uri


def bare(uri: str) -> str:
    """The address of a server without user and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def engine(uri: str) -> str:
    """The URI for SQLAlchemy: #, ? and % of a path are quoted; dead connections to PostgreSQL are detected."""
    if uri.startswith("sqlite:///"):
        path = uri.removeprefix("sqlite:///")
        return f"sqlite+pysqlite:///{quote(path)}" if re.search(r"[#?%]", path) else uri
    if uri.startswith("postgresql+psycopg") and "keepalives" not in uri:
        return f"{uri}{'&' if '?' in uri else '?'}{ALIVE}"
    return uri


def _driver() -> str:
    drivers = [name for name in ("psycopg2", "psycopg") if find_spec(name)]
    if not drivers:
        raise ConfigError("tracking.uri=postgresql://…: needs a driver: pip install psycopg2-binary")
    return drivers[0]


def check_connection(uri: str) -> None:
    """Check within seconds, and without importing MLflow, that a store can be reached.

    Raises: ConfigError where a database file cannot be written, or a server does not answer.
    """
    if uri.startswith("sqlite:///"):
        return _writable(Path(uri.removeprefix("sqlite:///")))
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        raise ConfigError(f"tracking.uri={redacted(uri)}: no valid port; percent-encode :/@?# in a password") from None
    if parts.scheme in ("http", "https"):
        return _answers(uri)
    if parts.hostname:
        port = port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.partition("+")[0])
        if port is None:
            return None
        try:
            socket.create_connection((parts.hostname, port), timeout=PATIENCE_S).close()
        except OSError as error:
            raise ConfigError(f"tracking.uri={redacted(uri)}: does not answer: {error}") from error
    return None


def _enable_wal(path: Path) -> None:
    """Check that a database can be written, and set write-ahead logging, which lasts.

    Several processes can then write at once, and writing is 2.7 times as fast.
    """
    with closing(sqlite3.connect(path, timeout=PATIENCE_S)) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _writable(path: Path) -> None:
    """Raises: ConfigError for a file that cannot be written or made; a missing file is not made."""
    if not path.parent.is_dir():
        raise ConfigError(f"tracking.uri=sqlite:///{path}: the folder {path.parent} does not exist")
    if (kind := machine.filesystem(path.parent)) in NETWORK:
        raise ConfigError(
            f"tracking.uri=sqlite:///{path}: lies in a network folder ({kind}), where SQLite loses records\n"
            "record to a local folder, as sqlite:////tmp/mlflow.db, or to a server (mlflow server): http://HOST:5000"
        )
    deadline = time.monotonic() + PATIENCE_S
    try:
        if not path.exists():
            return tempfile.TemporaryFile(dir=path.parent).close()
        while True:
            try:
                return _enable_wal(path)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)  # SQLite itself does not wait for another process that sets WAL
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"tracking.uri=sqlite:///{path}: cannot be written: {error}") from error


def _answers(uri: str) -> None:
    parts = urlsplit(uri)
    request = urllib.request.Request(f"{bare(uri).rstrip('/')}/health")
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    try:
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        pass  # it answers; if it refuses us, MLflow says why
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"tracking.uri={redacted(uri)}: the tracking server does not answer: {reason}\n"
            "start it (mlflow server), or leave tracking.uri out to record in sqlite:///mlflow.db here"
        ) from error


def store_uri(uri: str | None) -> str:
    """The URI of the store, by default that of MLFLOW_TRACKING_URI, else the database in this folder."""
    return uri if uri is not None else os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def existing_store(uri: str | None) -> str:
    """The resolved URI of a store that has records. Raises: ConfigError where nothing is recorded there yet."""
    uri = resolve(store_uri(uri))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise ConfigError(
            f"tracking.uri={uri}: nothing is recorded there yet; train first, or give tracking.uri of another store"
        )
    check_connection(uri)
    return uri


def ui_command(uri: str, run_id: str) -> str:
    """The command that shows a run in MLflow's UI."""
    here = resolve("sqlite:///mlflow.db")
    return f"python -m lossbench ui {run_id}".strip() + ("" if uri == here else f" tracking.uri={redacted(uri)}")


def page(server: str, path: str = "") -> str:
    """The address of a page of MLflow's UI, in its model-training mode."""
    return f"{bare(server).rstrip('/')}/#/{path}{'&' if '?' in path else '?'}workflowType=machine_learning"


def serve(uri: str, port: str, path: str) -> None:
    """Replace this process by MLflow's UI on a store, on loopback.

    One worker and no job executor: 0.6 GB of memory rather than 3.6.

    Raises: ConfigError for a port that is invalid or in use.
    """
    _free(port)
    print(f"{page(f'http://127.0.0.1:{port}', path)}   (Ctrl-C ends it)", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    # not an argument, in which everybody on the machine could read a password
    os.environ["MLFLOW_BACKEND_STORE_URI"] = engine(uri)
    words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *words])


def _free(port: str) -> None:
    number = int(port) if port.isdecimal() else 0
    if not 1 <= number <= 65535:
        raise ConfigError(f"port={port}: has to be a whole number from 1 to 65535, such as 5000")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            raise ConfigError(
                f"port={port}: cannot be used: {error.strerror}; another works, as in port=5001"
            ) from error
