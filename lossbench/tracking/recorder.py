"""One run's record, as it grows."""

from __future__ import annotations

import math
import re
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


def metric_name(name: str) -> str:
    """A name that MLflow takes for a metric: whatever else a file may be called becomes an underscore."""
    return re.sub(r"[^\w.: -]", "_", name)


class Recorder:
    """One run's record. Points gather here and go out in batches, in order, on the store's writer thread."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._points: list[Any] = []
        self._pending: list[Future[Any]] = []
        self._latest: dict[str, int] = {}

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
        """Points of one step; they leave with the next `send`. A number that is not finite is never recorded.

        Nor is a step behind one that has been: a training that starts again tells what it has told already.
        """
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = {key: float(v) for key, v in values.items() if math.isfinite(v) and step > self._latest.get(key, -1)}
        self._points += [Metric(key, value, now, step) for key, value in new.items()]
        self._latest |= dict.fromkeys(new, step)

    def send(self) -> None:
        """Hand all points to the writer. Raises what earlier calls of the writer met."""
        points, self._points = self._points, []
        for start in range(0, len(points), BATCH):
            self._later(self._batch, points[start : start + BATCH], [], [])
        self._raise()

    def _raise(self, *, wait: bool = False) -> None:
        done = [future for future in self._pending if wait or future.done()]
        self._pending = [future for future in self._pending if future not in done]
        for future in done:
            future.result()

    @property
    def last_step(self) -> int:
        """The last step of which anything was recorded."""
        return max(self._latest.values(), default=0)

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
        self.close(status)
        self.wait()

    def close(self, status: str) -> None:
        """As `end`, on the writer thread."""
        self.send()
        self._later(self.store.client.set_terminated, self.run_id, status)

    def wait(self) -> None:
        """Until all is written. Raises what the writer met."""
        self._raise(wait=True)

    def _later(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._pending.append(self.store.later(call, *arguments))

    def _batch(self, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        self.store.client.log_batch(self.run_id, metrics, params, tags, synchronous=True)
