"""Made-up records for timing reports: a store of runs as training would have left them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from lossbench import tracking

LOSSES = 10


def fill(store: tracking.Store, runs: int, numbers: int, steps: int) -> str:
    """Record a comparison of ten losses with this many runs, metrics per run and steps per metric, and return its name.

    Points go into the database in one statement per run: a million points through MLflow take a quarter of an hour.
    """
    from mlflow.entities import Metric, Param
    from mlflow.store.tracking.dbmodels.models import SqlMetric

    name = f"made-up-{runs}"
    store.start("made-up", f"comparison {name}", {"lossbench.kind": "comparison", "lossbench.comparison": name})
    metrics = json.dumps([[f"y{number}", "↓", ""] for number in range(numbers - 2)])
    rng = np.random.default_rng(0)
    engine: Any = store.client._tracking_client.store.engine
    for number in range(runs):
        loss, seed = f"loss_{number % LOSSES}", str(number // LOSSES)
        names = {"loss": loss, "dataset": "made-up", "model": "mlp", "seed": seed}
        tags = {
            "lossbench.kind": "run",
            "lossbench.comparison": name,
            "lossbench.outcome": "finished",
            "lossbench.metrics": metrics,
            "mlflow.runColor": f"#{37 * (number % LOSSES) % 256:02x}6080",
            **names,
        }
        run_id = store.start("made-up", loss, tags).run_id
        last = [(f"test/y{y}", number % LOSSES + rng.standard_normal()) for y in range(numbers - 2)]
        points = [Metric(key, float(value), 0, steps) for key, value in [*last, ("time/step_ms", 1.0)]]
        latest = [Metric(key, 1.0, 0, 0) for key in _curves(numbers)]  # MLflow's own list of each run's metrics
        store.client.log_batch(run_id, [*points, *latest], [Param(key, value) for key, value in names.items()])
        rows = [
            {"key": key, "value": float(value), "timestamp": step, "step": step, "run_uuid": run_id, "is_nan": False}
            for key in _curves(numbers)
            for step, value in enumerate(number % LOSSES + rng.standard_normal(steps - 1), start=1)
        ]
        with engine.begin() as connection:
            connection.execute(SqlMetric.__table__.insert(), rows)
        store.client.set_terminated(run_id)
    return name


def _curves(numbers: int) -> Iterator[str]:
    yield "train/loss"
    yield "train/grad_norm"
    yield from (f"val/y{number}" for number in range(numbers - 2))


def seconds(store: tracking.Store, name: str) -> tuple[float, int]:
    """How long the whole report of a comparison takes, and how many bytes its page has."""
    from lossbench.analysis import report
    from lossbench.analysis.page import page

    since = time.perf_counter()
    text = page(report.make(store.client, name), store.client)
    return time.perf_counter() - since, len(text.encode())
