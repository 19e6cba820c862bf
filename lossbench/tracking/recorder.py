"""The recorder of one run."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

from lossbench.core import DatasetInfo, record_name
from lossbench.tracking import entries
from lossbench.tracking.entries import Entry

PARAM_LENGTH = 6000


class Entries(Protocol):
    """A store, as a recorder sees it: it writes entries in order."""

    @property
    def answers_may_be_lost(self) -> bool:
        """Whether an entry may be written although no answer came."""
        ...

    def put(self, entry: Entry) -> Future[Any]:
        """Queue an entry for the writer thread."""
        ...

    def wait(self, future: Future[Any]) -> BaseException | None:
        """Wait until an entry is written or safe; the error of one that was refused, else None."""
        ...

    def run(self, token: str) -> str:
        """The id of the run that was created under a token; empty while there is none."""
        ...


class Recorder:
    """Records one run. Points are collected here and sent in batches, in order, on the store's writer thread.

    What the store refuses is raised by a later call, and tried again by the next `send`: nothing is missing from a
    record that ends as FINISHED. While the store is away nothing is raised: entries wait in a spool.
    """

    def __init__(self, store: Entries, run_id: str, token: str = "", latest: Mapping[str, int] | None = None) -> None:
        """`run_id` of a run that exists, or `token` of one that is to be created.

        `latest` is the last recorded step of each metric.
        """
        self.store = store
        self._run_id = run_id
        self._token = token
        self._points: list[tuple[str, float, int, int]] = []
        self._pending: list[tuple[Future[Any], Entry]] = []
        self._failed: list[Entry] = []
        self._latest = dict(latest or {})

    @property
    def run_id(self) -> str:
        """The run's id; empty while the store is away and has not created the run."""
        self._run_id = self._run_id or self.store.run(self._token)
        return self._run_id

    @property
    def key(self) -> str:
        """The run's id, or its token while there is no id."""
        return self.run_id or self._token

    def params(self, values: Mapping[str, Any]) -> None:
        """Record the configuration; long values are cut."""
        params = [(record_name(key), str(value)[:PARAM_LENGTH]) for key, value in values.items()]
        for start in range(0, len(params), entries.PAIRS):
            self._batch(params=params[start : start + entries.PAIRS])

    def data(self, info: DatasetInfo) -> None:
        """Record the dataset as an input of the run, with its fingerprint as digest."""
        self._put(entries.inputs(self.key, info))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record the metrics of one step, with the next `send`. A number that is not finite is never recorded.

        Nor is a step at or before the last recorded one: a training that resumes repeats steps.
        """
        now = entries.now()
        named = {record_name(key): float(value) for key, value in values.items() if math.isfinite(value)}
        new = {key: value for key, value in named.items() if step > self._latest.get(key, -1)}
        self._points += [(key, value, now, step) for key, value in new.items()]
        self._latest |= dict.fromkeys(new, step)

    def send(self) -> None:
        """Queue all points, and entries that failed before. Raises: the errors of entries queued earlier."""
        failed, self._failed = self._failed, []
        for entry in failed:
            self._put(entry)
        points, self._points = self._points, []
        for start in range(0, len(points), entries.POINTS):
            self._batch(points=points[start : start + entries.POINTS])
        self._raise()

    def _raise(self, *, wait: bool = False) -> None:
        done = [(future, entry) for future, entry in self._pending if wait or future.done()]
        self._pending = [one for one in self._pending if one not in done]
        errors = [(error, entry) for future, entry in done if (error := self.store.wait(future))]
        self._failed += [entry for _, entry in errors]
        if errors:
            raise errors[0][0]

    @property
    def last_step(self) -> int:
        """The last step at which any metric was recorded."""
        return max(self._latest.values(), default=0)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self._batch(tags=[(key, str(value)) for key, value in values.items()])

    @contextlib.contextmanager
    def files(self) -> Iterator[Path]:
        """A folder whose contents become artifacts of the run on exit; the writer then owns the folder."""
        folder = mkdtemp(prefix="lossbench-")
        try:
            yield Path(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._put({"do": "files", "run": self.key, "folder": folder})

    def end(self, status: str) -> None:
        """Send the remaining points, end the run as FINISHED, FAILED or KILLED, and wait until that is written."""
        self.close(status)
        self.wait()

    def close(self, status: str) -> None:
        """As `end`, without waiting."""
        self.send()
        self._end(status)

    def end_early(self, status: str, tags: Mapping[str, Any]) -> None:
        """As `end`, for a run that went wrong: the end is written even if other entries fail. Raises: their errors."""
        with contextlib.suppress(Exception):  # what failed is tried once more
            self.wait()
        self.tags(tags)
        try:
            self.send()
        finally:
            self._end(status)
            self.wait()

    def safe(self, sent: Sequence[Future[Any]]) -> bool:
        """Wait for these entries; whether all are recorded, or in the spool while the store is away."""
        return not any(self.store.wait(future) for future in sent)

    @property
    def sent(self) -> list[Future[Any]]:
        """The entries that are queued."""
        return [future for future, _ in self._pending]

    def wait(self) -> None:
        """Wait until all is written, or in the spool while the store is away. Raises: the writer's errors."""
        self._raise(wait=True)

    def _end(self, status: str) -> None:
        token = self._token if self.store.answers_may_be_lost else ""
        self._put({"do": "end", "run": self.key, "status": status, "time": entries.now(), "token": token})

    def _batch(self, **values: Any) -> None:
        self._put({"do": "batch", "run": self.key, **values})

    def _put(self, entry: Entry) -> None:
        self._pending.append((self.store.put(entry), entry))
