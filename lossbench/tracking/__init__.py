"""Recording to MLflow: a store is checked before training starts, and records survive outages and kills."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # the user need not read of its migrations
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # the default of 7 retries for 400 s without a word
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from lossbench.tracking.address import (
    check_connection,
    existing_store,
    page,
    resolve,
    serve,
    store_uri,
    ui_command,
)
from lossbench.tracking.outage import Away, away
from lossbench.tracking.recorder import Recorder
from lossbench.tracking.store import Store, settled

__all__ = [
    "Away",
    "Recorder",
    "Store",
    "away",
    "check_connection",
    "existing_store",
    "page",
    "resolve",
    "serve",
    "settled",
    "store_uri",
    "ui_command",
]
