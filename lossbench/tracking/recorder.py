"""One run's record, as it grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lossbench.core import Facts

if TYPE_CHECKING:
    from lossbench.tracking.store import Store

BATCH = 1000  # points MLflow takes in one call
PARAM_LENGTH = 6000
SHARE = 0.01  # of the time that the writer may take from training, with which it shares the interpreter


class Recorder:
    """One run's record. Points gather here and go out in batches, in order, on the store's writer thread."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._points: list[Any] = []
        self._pending: list[Future[Any]] = []
        self._busy_s = 0.0
        self._rested = 0.0

    def params(self, values: Mapping[str, Any], facts: Facts) -> None:
        """The configuration, and the dataset as an input with our own digest."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, Param

        params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in values.items()]
        for start in range(0, len(params), 100):
            self._later(self._batch, [], params[start : start + 100], [])
        source = CodeDatasetSource({"source": facts.source, "licence": facts.licence, "sha256": facts.fingerprint})
        dataset: Any = MetaDataset(  # type: ignore[abstract]
            source, name=facts.name, digest=facts.fingerprint[:36]
        )
        self._later(self.store.client.log_inputs, self.run_id, [DatasetInput(dataset._to_mlflow_entity())])

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Points of one step; they leave with the next `flush`. A number that is not finite is never recorded."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._points += [Metric(key, float(v), now, step) for key, v in values.items() if math.isfinite(v)]

    def flush(self) -> None:
        """Hand all points to the writer, unless it has just had its share of the time; then the next call does.

        A writer that needs c seconds of processor time rests for c / SHARE, about half a second: what was
        evaluated before that survives even kill −9. Raises what earlier calls of the writer met.
        """
        if time.monotonic() >= self._rested:
            self._rested = math.inf  # until the writer has been there
            self._send()
        self._raise()

    def _send(self) -> None:
        points, self._points = self._points, []
        for start in range(0, len(points), BATCH):
            self._later(self._batch, points[start : start + BATCH], [], [])
        self._later(self._rest)

    def _raise(self, *, wait: bool = False) -> None:
        done = [future for future in self._pending if wait or future.done()]
        self._pending = [future for future in self._pending if future not in done]
        for future in done:
            future.result()

    def _rest(self) -> None:
        """On the writer thread: no points before its share of the time has passed."""
        self._rested = time.monotonic() + self._busy_s / SHARE
        self._busy_s = 0.0

    def tags(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self._later(self._batch, [], [], [RunTag(key, str(value)) for key, value in values.items()])

    @contextmanager
    def files(self) -> Iterator[Path]:
        """A folder whose contents become artifacts of the run."""
        with TemporaryDirectory(prefix="lossbench-") as folder:
            yield Path(folder)
            self.store.client.log_artifacts(self.run_id, folder)

    def end(self, status: str) -> None:
        """Send what is left and end the run as FINISHED, FAILED or KILLED."""
        self._send()
        self._later(self.store.client.set_terminated, self.run_id, status)
        self._raise(wait=True)

    def _later(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._pending.append(self.store.later(call, *arguments))

    def _batch(self, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        since = time.thread_time()
        self.store.client.log_batch(self.run_id, metrics, params, tags, synchronous=True)
        self._busy_s += time.thread_time() - since
