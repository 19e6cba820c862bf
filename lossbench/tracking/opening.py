"""Opens a store: a client of a database or a server, and the place where new experiments keep their files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lossbench.config.redaction import clean, redacted
from lossbench.core import ConfigError
from lossbench.tracking import sqlite
from lossbench.tracking.address import bare, engine

if TYPE_CHECKING:
    from mlflow import MlflowClient

ONE_AT_A_TIME = {  # a lock that a connection holds until it ends
    "postgresql": "SELECT pg_advisory_lock(66903)",
    "mysql": "SELECT GET_LOCK('lossbench', 120)",
}


def client_of(uri: str) -> MlflowClient:
    """A client of a migrated store; a lock prevents two processes from migrating at once, which breaks a database."""
    from mlflow import MlflowClient
    from sqlalchemy import NullPool, create_engine, text

    if uri.startswith("http"):
        user = urlsplit(uri)
        if user.username is not None:  # not in the address, which libraries print
            os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(user.username)
            os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(user.password or "")
        client = MlflowClient(bare(uri))
        client.search_experiments(max_results=1)
        return client
    if uri.startswith("sqlite:///"):
        sqlite.prepare(Path(uri.removeprefix("sqlite:///")))
    # connected here first, since MLflow retries a wrong password for long
    with create_engine(engine(uri), poolclass=NullPool).connect() as connection:
        if lock := ONE_AT_A_TIME.get(connection.dialect.name):
            connection.execute(text(lock))
        client = MlflowClient(engine(uri))
        client.search_experiments(max_results=1)
    if uri.startswith("sqlite:///"):
        sqlite.hasten(client)
    return client


def check_location(location: str) -> None:
    """Raises: ConfigError for a location to which no run can save files."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    setting = f"tracking.location={redacted(location)}"
    if not location:
        raise ConfigError(f"{setting}: has to be a folder, an address or null")
    try:
        if "://" in location:
            get_artifact_repository(location)
        else:
            Path(location).mkdir(parents=True, exist_ok=True)
    except (MlflowException, ImportError) as error:
        raise ConfigError(
            f"{setting}: MLflow cannot use it: {clean(str(error).partition('. ')[0], location)}"
        ) from error
    except OSError as error:
        raise ConfigError(f"{setting}: cannot be written: {error.strerror}") from error


def place(name: str, uri: str, location: str | None) -> str | None:
    """Where a new experiment of this name stores its files; None where a server decides."""
    if location is None and not uri.startswith("sqlite:///"):
        return None if uri.startswith("http") else _folder(Path("mlruns").absolute() / _file_name(name))
    if location is None:
        return _folder(Path(uri.removeprefix("sqlite:///")).parent / "mlruns" / _file_name(name))
    if "://" in location:
        return f"{location.rstrip('/')}/{_file_name(name)}"
    return _folder(Path(location).absolute() / _file_name(name))


def _folder(path: Path) -> str:
    """A folder for MLflow: as an address where it contains #, ? or %, which MLflow would misread in a path."""
    return path.as_uri() if re.search(r"[#?%]", str(path)) else str(path)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", name)
