"""Metrics over steps, of many runs at once: MLflow's client asks for one metric of one run at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient

POINTS = 100  # read per curve: as many as a screen shows
RUNS = 500  # per query
SERVED = 25_000  # points that a server returns at once; it drops the others silently
ASKED = 100  # runs that a server accepts per request
BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"  # not a documented interface of MLflow


def histories(client: MlflowClient, run_ids: Sequence[str], metric: str, points: int = POINTS) -> pd.DataFrame:
    """One metric over the steps of many runs: run_id, step, value, by run and step.

    Where runs have more than `points` steps, that many are read, evenly spaced, including the first and the last.
    """
    store = client._tracking_client.store
    read = _stored if hasattr(store, "engine") else _served
    rows = list(read(store, list(run_ids), metric, points)) if len(run_ids) else []
    table = pd.DataFrame(rows, columns=["run_id", "step", "value"])
    table = table.drop_duplicates(["run_id", "step"], keep="last").sort_values(["run_id", "step"], ignore_index=True)
    return table[table["step"].isin(thinned(sorted(set(table["step"])), points))]


def thinned(steps: Sequence[int], points: int) -> list[int]:
    """At most `points` of these steps, evenly spaced, including the first and the last."""
    if len(steps) <= points:
        return list(steps)
    return sorted({steps[round(place * (len(steps) - 1) / (points - 1))] for place in range(points)})


def _stored(store: Any, run_ids: list[str], metric: str, points: int) -> Iterator[tuple[str, int, float]]:
    """Read from a database, through its index on run, metric and step."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import select

    parts = [run_ids[start : start + RUNS] for start in range(0, len(run_ids), RUNS)]
    wanted = [(SqlMetric.run_uuid.in_(part), SqlMetric.key == metric, SqlMetric.is_nan.is_(False)) for part in parts]
    with store.engine.connect() as connection:
        there: set[int] = set()
        for those in wanted:
            there |= set(connection.execute(select(SqlMetric.step).where(*those).distinct()).scalars())
        some = () if len(there) <= points else (SqlMetric.step.in_(thinned(sorted(there), points)),)
        for those in wanted:
            query: Any = select(SqlMetric.run_uuid, SqlMetric.step, SqlMetric.value).where(*those, *some)
            yield from map(tuple, connection.execute(query.order_by(SqlMetric.timestamp)).all())


def _served(store: Any, run_ids: list[str], metric: str, points: int) -> Iterator[tuple[str, int, float]]:
    """Read from a tracking server, as its UI does; a request is halved where its answer was cut off."""
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    waiting = [run_ids[start : start + ASKED] for start in range(0, len(run_ids), ASKED)]
    while waiting:
        some = waiting.pop()
        question = {"run_id": some, "metric_key": metric, "max_results": SERVED}
        answer = verify_rest_response(http_request(store.get_host_creds(), BULK, "GET", params=question), BULK).json()[
            "metrics"
        ]
        if len(answer) < SERVED:
            yield from ((point["run_id"], point["step"], point["value"]) for point in answer)
        elif len(some) == 1:
            yield from ((some[0], point.step, point.value) for point in store.get_metric_history(some[0], metric))
        else:
            waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
