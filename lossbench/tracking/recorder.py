"""One run's record, as it grows."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lossbench.core import Facts, record_name

if TYPE_CHECKING:
    from lossbench.tracking.store import Store

BATCH = 1000  # points MLflow takes in one call
PARAM_LENGTH = 6000


Asked = tuple[Callable[..., Any], tuple[Any, ...]]
"""A call of the client, and what with."""


class Recorder:
    """One run's record. Points gather here and go out in batches, in order, on the store's writer thread.

    A call that fails is raised by a later one, and made again by the next `send`: nothing is missing from a record
    that ends as FINISHED.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self._points: list[Any] = []
        self._pending: list[tuple[Future[Any], Asked]] = []
        self._failed: list[Asked] = []
        self._latest: dict[str, int] = {}

    def params(self, values: Mapping[str, Any]) -> None:
        """The configuration."""
        from mlflow.entities import Param

        params = [Param(record_name(key), str(value)[:PARAM_LENGTH]) for key, value in values.items()]
        for start in range(0, len(params), 100):
            self._later(self._batch, [], params[start : start + 100], [])

    def data(self, facts: Facts) -> None:
        """The dataset as an input with our own digest."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput

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
        named = {record_name(key): float(value) for key, value in values.items() if math.isfinite(value)}
        new = {key: value for key, value in named.items() if step > self._latest.get(key, -1)}
        self._points += [Metric(key, value, now, step) for key, value in new.items()]
        self._latest |= dict.fromkeys(new, step)

    def send(self) -> None:
        """Hand all points to the writer, and what failed before. Raises what earlier calls of the writer met."""
        failed, self._failed = self._failed, []
        for call, arguments in failed:
            self._later(call, *arguments)
        points, self._points = self._points, []
        for start in range(0, len(points), BATCH):
            self._later(self._batch, points[start : start + BATCH], [], [])
        self._raise()

    def _raise(self, *, wait: bool = False) -> None:
        done = [(future, asked) for future, asked in self._pending if wait or future.done()]
        self._pending = [one for one in self._pending if one not in done]
        met = [(error, asked) for future, asked in done if (error := future.exception())]
        self._failed += [asked for _, asked in met]
        if met:
            raise met[0][0]

    @property
    def last_step(self) -> int:
        """The last step of which anything was recorded."""
        return max(self._latest.values(), default=0)

    def tags(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self._later(self._batch, [], [], [RunTag(key, str(value)) for key, value in values.items()])

    @contextlib.contextmanager
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

    def end_early(self, status: str, tags: Mapping[str, Any]) -> None:
        """As `end`, of a run that went wrong: its end is written whatever else cannot be. Raises what it met."""
        with contextlib.suppress(Exception):  # which is tried once more
            self.wait()
        self.tags(tags)
        try:
            self.send()
        finally:
            self._later(self.store.client.set_terminated, self.run_id, status)
            self.wait()

    def wait(self) -> None:
        """Until all is written. Raises what the writer met."""
        self._raise(wait=True)

    def _later(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._pending.append((self.store.later(call, *arguments), (call, arguments)))

    def _batch(self, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        self.store.client.log_batch(self.run_id, metrics, params, tags, synchronous=True)
