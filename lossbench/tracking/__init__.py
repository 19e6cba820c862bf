"""Records to MLflow: a store known to work before training starts, and runs that survive what happens to them."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its migrations are not the user's news
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 have it try for 400 s before anybody hears of it
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from lossbench.tracking.address import check_connection, page, resolve, serve, ui_command
from lossbench.tracking.outage import Away, away
from lossbench.tracking.recorder import Recorder
from lossbench.tracking.store import Store, settled

__all__ = ["Away", "Recorder", "Store", "away", "check_connection", "page", "resolve", "serve", "settled", "ui_command"]
