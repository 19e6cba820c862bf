"""One run's record, as it grows."""

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

BATCH = 1000  # points MLflow takes in one call
PARAM_LENGTH = 6000


class Entries(Protocol):
    """What takes a record's entries, in order: a store."""

    @property
    def answers_may_be_lost(self) -> bool:
        """Whether an entry may be there although its answer did not come."""
        ...

    def put(self, entry: Entry) -> Future[Any]:
        """Hand an entry to the writer."""
        ...

    def wait(self, future: Future[Any]) -> BaseException | None:
        """What the writer met with an entry, once it is through with it."""
        ...

    def run(self, token: str) -> str:
        """The id that a run was given which was made under this token."""
        ...


class Recorder:
    """One run's record. Points gather here and go out in batches, in order, on the store's writer thread.

    What the store refuses is raised by a later call, and tried again by the next `send`: nothing is missing from a
    record that ends as FINISHED. While the store is away nothing is raised: what it is to take waits in a spool.
    """

    def __init__(self, store: Entries, run_id: str, token: str = "", latest: Mapping[str, int] | None = None) -> None:
        """Of a run that is there, or that is to be made under a token.

        `latest` are the last steps of which the record has something already, by metric.
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
        """The id that the store gave; empty while it is away and has given none."""
        self._run_id = self._run_id or self.store.run(self._token)
        return self._run_id

    @property
    def key(self) -> str:
        """What the run is known by: its id, else the token that it is to be made under."""
        return self.run_id or self._token

    def params(self, values: Mapping[str, Any]) -> None:
        """The configuration."""
        params = [(record_name(key), str(value)[:PARAM_LENGTH]) for key, value in values.items()]
        for start in range(0, len(params), 100):
            self._batch(params=params[start : start + 100])

    def data(self, info: DatasetInfo) -> None:
        """The dataset as an input with our own digest."""
        self._put(entries.inputs(self.key, info))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Points of one step; they leave with the next `send`. A number that is not finite is never recorded.

        Nor is a step behind one that has been: a training that starts again tells what it has told already.
        """
        now = entries.now()
        named = {record_name(key): float(value) for key, value in values.items() if math.isfinite(value)}
        new = {key: value for key, value in named.items() if step > self._latest.get(key, -1)}
        self._points += [(key, value, now, step) for key, value in new.items()]
        self._latest |= dict.fromkeys(new, step)

    def send(self) -> None:
        """Hand all points to the writer, and what failed before. Raises what earlier calls of the writer met."""
        failed, self._failed = self._failed, []
        for entry in failed:
            self._put(entry)
        points, self._points = self._points, []
        for start in range(0, len(points), BATCH):
            self._batch(points=points[start : start + BATCH])
        self._raise()

    def _raise(self, *, wait: bool = False) -> None:
        done = [(future, entry) for future, entry in self._pending if wait or future.done()]
        self._pending = [one for one in self._pending if one not in done]
        met = [(error, entry) for future, entry in done if (error := self.store.wait(future))]
        self._failed += [entry for _, entry in met]
        if met:
            raise met[0][0]

    @property
    def last_step(self) -> int:
        """The last step of which anything was recorded."""
        return max(self._latest.values(), default=0)

    def tags(self, values: Mapping[str, Any]) -> None:
        self._batch(tags=[(key, str(value)) for key, value in values.items()])

    @contextlib.contextmanager
    def files(self) -> Iterator[Path]:
        """A folder whose contents become artifacts of the run; it is the writer's from then on."""
        folder = mkdtemp(prefix="lossbench-")
        try:
            yield Path(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._put({"do": "files", "run": self.key, "folder": folder})

    def end(self, status: str) -> None:
        """Send what is left and end the run as FINISHED, FAILED or KILLED."""
        self.close(status)
        self.wait()

    def close(self, status: str) -> None:
        """As `end`, on the writer thread."""
        self.send()
        self._end(status)

    def end_early(self, status: str, tags: Mapping[str, Any]) -> None:
        """As `end`, of a run that went wrong: its end is written whatever else cannot be. Raises what it met."""
        with contextlib.suppress(Exception):  # which is tried once more
            self.wait()
        self.tags(tags)
        try:
            self.send()
        finally:
            self._end(status)
            self.wait()

    def safe(self, sent: Sequence[Future[Any]]) -> bool:
        """Whether all of what was sent is recorded, or kept while the store is away; it is waited for."""
        return not any(self.store.wait(future) for future in sent)

    @property
    def sent(self) -> list[Future[Any]]:
        """What is on its way."""
        return [future for future, _ in self._pending]

    def wait(self) -> None:
        """Until all is written, or kept while the store is away. Raises what the writer met."""
        self._raise(wait=True)

    def _end(self, status: str) -> None:
        token = self._token if self.store.answers_may_be_lost else ""
        self._put({"do": "end", "run": self.key, "status": status, "time": entries.now(), "token": token})

    def _batch(self, **what: Any) -> None:
        self._put({"do": "batch", "run": self.key, **what})

    def _put(self, entry: Entry) -> None:
        self._pending.append((self.store.put(entry), entry))
