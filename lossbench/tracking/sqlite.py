"""SQLite stores that are whole or not there: MLflow makes one in a second or three, table by table."""

from __future__ import annotations

import glob
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from lossbench.core import ConfigError
from lossbench.tracking.address import engine
from lossbench.tracking.writer import say

LOCKED_S = 120  # that another process may take to make one
STILL_S = 3.0  # without a change, after which nobody is making it
GIVEN = {"alembic_version", "experiments", "workspaces"}  # tables in which a new store has rows
DEFAULT = 0  # the experiment that it has


def prepare(path: Path) -> None:
    """Make a store, whole, where there is none, and in place of one whose making was cut off before it held anything.

    It is made beside its place and moved there, so that a kill leaves no half of it. Raises: ConfigError.
    """
    try:
        if path.exists() and _holds_runs(path):
            return
        lock = path.with_name(f".{path.name}.lock")
        with FileLock(lock, timeout=LOCKED_S):
            if not path.exists():
                _make(path)
            elif _cut_off(path):
                say(f"{path} was left half made and without a run; it is made again")
                _make(path)
            lock.unlink(missing_ok=True)  # who still waits for it finds a whole store
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"tracking.uri=sqlite:///{path}: cannot be made: {error}") from error


def _holds_runs(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        return "runs" in _tables(connection) and _rows(connection, "runs")


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _rows(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() is not None


def _all(connection: sqlite3.Connection, table: str, there: Sequence[str]) -> list[tuple[Any, ...]]:
    return connection.execute(f'SELECT * FROM "{table}"').fetchall() if table in there else []


def _cut_off(path: Path) -> bool:
    """Whether a store is no whole one and holds nothing, and nobody is at it, not even MLflow itself.

    One whose version this MLflow does not know is of another MLflow, whatever it holds.
    """
    from alembic.script import ScriptDirectory
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    whole, on_the_way = scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
    before, since = None, time.monotonic()
    while time.monotonic() < since + STILL_S:
        with closing(sqlite3.connect(path, timeout=20)) as connection:
            tables = _tables(connection)
            there = sorted(table for table in tables if _rows(connection, table))
            versions = [row[0] for row in _all(connection, "alembic_version", there)]
            named = [row for row in _all(connection, "experiments", there) if row[0] != DEFAULT]
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # nothing beside it may be taken for its successor's
        others = {table for table in tables - set(Base.metadata.tables) if "alembic_" not in table}
        if whole in versions or set(versions) - on_the_way or set(there) - GIVEN or named or others:
            return False
        now = (tables, versions)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.1)
    return True


def _make(path: Path) -> None:
    from mlflow import MlflowClient

    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # of one name MLflow would keep a connection
    try:
        client = MlflowClient(engine(f"sqlite:///{part}"))
        client.search_experiments(max_results=1)
        client._tracking_client.store.engine.dispose()
        with closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode=wal")  # several processes write at once, 2.7 times as fast
        part.replace(path)
    finally:
        for left in path.parent.glob(f"{glob.escape(f'.{path.name}.')}*.part*"):  # of killed processes, too
            left.unlink(missing_ok=True)
