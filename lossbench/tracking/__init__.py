"""Records to MLflow: a store known to work before training starts, and runs that survive what happens to them."""

import os

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its migrations are not the user's news

from lossbench.tracking.address import page, reach, resolve, serve, shown, ui_command
from lossbench.tracking.recorder import Recorder
from lossbench.tracking.store import Store

__all__ = ["Recorder", "Store", "page", "reach", "resolve", "serve", "shown", "ui_command"]
