"""Creation of SQLite stores in one piece; MLflow itself takes one to three seconds, table by table."""

from __future__ import annotations

import glob
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from lossbench.core import ConfigError
from lossbench.tracking.address import engine
from lossbench.tracking.writer import say

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCKED_S = 120  # how long another process may take to create a store
STILL_S = 3.0  # without a change: no process is creating it
NON_EMPTY = {"alembic_version", "experiments", "workspaces"}  # tables in which a new store has rows
DEFAULT = 0  # the id of the experiment that a new store has


def prepare(path: Path) -> None:
    """Create a store where there is none, or only an incomplete one without any run.

    It is created beside its path and then moved there, so that a kill leaves no incomplete store.

    Raises: ConfigError where it cannot be created.
    """
    try:
        if path.exists() and _holds_runs(path):
            return
        lock = path.with_name(f".{path.name}.lock")
        with FileLock(lock, timeout=LOCKED_S):
            if not path.exists():
                _create(path)
            elif _cut_off(path):
                say(f"{path} was left incomplete and without a run; it is created again")
                _create(path)
            lock.unlink(missing_ok=True)  # a process that still waits for it finds the store
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"tracking.uri=sqlite:///{path}: cannot be made: {error}") from error


def hasten(client: MlflowClient) -> None:
    """Let a client write without waiting for the disk each time: a kill loses nothing, the loss of power seconds.

    With write-ahead logging, the database stays whole in either case.
    """
    from sqlalchemy import event

    engine = client._tracking_client.store.engine

    def set_up(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous=normal")

    event.listen(engine, "connect", set_up)
    engine.dispose()  # connections that were opened before


def _holds_runs(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        return "runs" in _tables(connection) and _rows(connection, "runs")


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _rows(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None


def _all(connection: sqlite3.Connection, table: str, tables: Sequence[str]) -> list[tuple[Any, ...]]:
    return connection.execute(f'SELECT * FROM "{table}"').fetchall() if table in tables else []


def _cut_off(path: Path) -> bool:
    """Whether a store is incomplete and empty, and no process is creating it, MLflow itself included.

    A store whose version this MLflow does not know belongs to another MLflow, and is not cut off.
    """
    from alembic.script import ScriptDirectory
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    head, revisions = scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
    before, since = None, time.monotonic()
    while time.monotonic() < since + STILL_S:
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            tables = _tables(connection)
            filled = sorted(table for table in tables if _rows(connection, table))
            versions = [row[0] for row in _all(connection, "alembic_version", filled)]
            others = [row for row in _all(connection, "experiments", filled) if row[0] != DEFAULT]
            connection.execute(
                "PRAGMA wal_checkpoint(TRUNCATE)"
            )  # or its WAL file would be taken for that of its successor
        foreign = {table for table in tables - set(Base.metadata.tables) if "alembic_" not in table}
        if head in versions or set(versions) - revisions or set(filled) - NON_EMPTY or others or foreign:
            return False
        now = (tables, versions)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.1)
    return True


def _create(path: Path) -> None:
    from mlflow import MlflowClient

    part = path.with_name(
        f".{path.name}.{secrets.token_hex(4)}.part"
    )  # MLflow keeps the connection to a name it has seen
    try:
        client = MlflowClient(engine(f"sqlite:///{part}"))
        client.search_experiments(max_results=1)
        client._tracking_client.store.engine.dispose()
        with closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode=wal")  # several processes write at once, 2.7 times as fast
        part.replace(path)
    finally:
        for leftover in path.parent.glob(f"{glob.escape(f'.{path.name}.')}*.part*"):  # of killed processes, too
            leftover.unlink(missing_ok=True)
