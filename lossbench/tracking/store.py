"""An MLflow store and its records."""

from __future__ import annotations

import atexit
import difflib
import hashlib
import logging
import math
import os
import secrets
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from lossbench.config.redaction import clean, redacted
from lossbench.core import TEMPORARY_CACHE, ConfigError, cache_folder
from lossbench.core.recorded_runs import recorded_runs
from lossbench.tracking import adopting, entries, views
from lossbench.tracking.entries import Entry, MlflowSink
from lossbench.tracking.opening import check_location, client_of, place
from lossbench.tracking.outage import Away, away, reason
from lossbench.tracking.recorder import Recorder
from lossbench.tracking.spool import Spool
from lossbench.tracking.writer import Writer, say

if TYPE_CHECKING:
    from mlflow.entities import Run


NAME = "lossbench.comparison"  # tag of runs and of the comparison that they belong to
SHARE = 0.01  # of training time that the writer, which shares its interpreter, may take
PATIENCE_S = 60.0  # how long to wait for a store that is away where nothing can continue without it
LOUD = ("mlflow.store.db.utils", "urllib3.connectionpool")  # they print every attempt during an outage

T = TypeVar("T")
_opened: weakref.WeakSet[Store] = weakref.WeakSet()


class Store:
    """An MLflow store, opened and migrated; its one writer thread keeps calls off the training thread."""

    def __init__(self, uri: str, location: str | None = None) -> None:
        """Open a store at a resolved URI, and record entries that wait for it from earlier processes.

        Raises: ConfigError where MLflow cannot use it.
        """
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        self.uri = uri
        self._files = location
        if location is not None:
            check_location(location)
        self._rested = 0.0
        self.before_start: list[Callable[[], object]] = []  # called before each new run is recorded
        self.late: set[str] = set()  # runs of earlier processes that this one recorded after an outage
        for name in LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self.client = client_of(uri)
        except (MlflowException, SQLAlchemyError, ModuleNotFoundError) as error:
            lines = str(error).strip().splitlines()
            raise ConfigError(f"tracking.uri={redacted(uri)}: MLflow cannot use it: {clean(lines[0], uri)}") from error
        self._folder = cache_folder() / "spool" / hashlib.sha256(redacted(uri).encode()).hexdigest()[:20]
        self._sink = MlflowSink(self.client)
        self._writer = Writer(self._sink.write, self._folder, redacted(uri))
        _opened.add(self)
        if fault := self._adopt():
            say(f"{redacted(uri)} does not answer ({reason(fault)}); entries in {self._folder} still wait")

    def experiment(self, name: str) -> str:
        """The id of an experiment, created if it is new. Raises: ConfigError where one of that name was deleted."""
        return self._sink.experiment(name, place(name, self.uri, self._files))

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> Recorder:
        """The recorder of a new run, RUNNING until the recorder ends it; during an outage it is created later."""
        for call in self.before_start:
            call()
        token = secrets.token_hex(16)
        created = self._writer.put(
            entries.create(token, experiment, place(experiment, self.uri, self._files), name, tags), first=True
        )
        if error := self._writer.wait(created):
            raise error
        return Recorder(self, self.run(token), token)

    def run(self, token: str) -> str:
        """The id of the run that was created under a token; empty while there is none."""
        return self._sink.runs.get(token, "")

    def resume(self, key: str) -> Recorder | None:
        """Set a run that its user or the machine ended to RUNNING again; None where it is gone or ended otherwise.

        `key` is its id, or the token of a run that was started during an outage. Its recorder ignores points that are
        recorded already, which training repeats after a kill.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = self._get_run(key)
            if run.info.status == "FINISHED" or run.data.tags.get("lossbench.outcome") == "failed":
                return None
            run_id = run.info.run_id
            for tag in {"lossbench.error", "lossbench.outcome"} & set(run.data.tags):
                self.client.delete_tag(run_id, tag)
            self.client.update_run(run_id, status="RUNNING")
            histories = {name: self.client.get_metric_history(run_id, name) for name in run.data.metrics}
        except MlflowException:
            return None
        return Recorder(self, run_id, latest={name: max(p.step for p in ps) for name, ps in histories.items()})

    def _get_run(self, key: str) -> Run:
        """The run of an id or a token. Raises: MlflowException where there is none."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(key)
        except MlflowException:
            if runs := self.find({entries.TOKEN: key}):
                return runs[0]
            raise

    def view(self, run_id: str, name: str, metrics: Sequence[tuple[str, str, str]], arm: str = "") -> None:
        """Save a view of a comparison, or of one of its arms, in the experiment of its run."""
        experiment = self.client.get_run(run_id).info.experiment_id
        self.client.set_experiment_tag(experiment, views.TAG + name, views.saved(name, metrics, arm))

    def path(self, name: str) -> str:
        """The path in MLflow's UI of a run (by id), a comparison (by name or its run's id) or an experiment.

        Raises: ConfigError, which gives the nearest names, where this store has none of these.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(name)
        except MlflowException:
            comparisons = {
                run.data.tags.get(NAME, ""): run for run in reversed(self.find({"lossbench.kind": "comparison"}))
            }
            experiments = {one.name: one.experiment_id for one in self.client.search_experiments()}
            if name not in comparisons and name in experiments:
                return f"experiments/{experiments[name]}/runs"
            if name not in comparisons:
                near = difflib.get_close_matches(name, [*experiments, *comparisons], n=3)
                hint = f"\nnearest: {', '.join(near)}" if near else ""
                message = f"ui: {name}: no such run, comparison or experiment in {redacted(self.uri)}{hint}"
                raise ConfigError(message) from None
            found = comparisons[name]
        experiment = self.client.get_experiment(found.info.experiment_id)
        own, kind = (found.data.tags.get(tag, "") for tag in (NAME, "lossbench.kind"))
        if kind == "comparison" and views.TAG + own in experiment.tags:
            return views.path(experiment.experiment_id, own)
        return f"experiments/{experiment.experiment_id}/runs/{found.info.run_id}"

    def find(self, tags: Mapping[str, str]) -> list[Run]:
        """The runs that have all these tags, in any experiment, the newest first.

        Raises: Away where the store does not answer for PATIENCE_S, or does not accept entries that wait for it.
        """
        return self.patiently(lambda: list(self._find(tags)))

    def patiently(self, call: Callable[[], T]) -> T:
        """The result of a call that can be repeated, once the store answers and has what waited for it.

        Raises: Away where the store does not answer for PATIENCE_S, or does not accept entries that wait for it.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if self._writer.away and not self.settled(deadline - time.monotonic()):
                raise Away(self.outage_message())
            try:
                return call()
            except Exception as error:
                if not away(error):
                    raise
                if time.monotonic() > deadline:
                    raise Away(f"{redacted(self.uri)} does not answer: {reason(error)}") from error
                time.sleep(1)

    def _find(self, tags: Mapping[str, str]) -> Iterator[Run]:
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return recorded_runs(self.client, experiments, tags)

    def flush(self, recorders: Sequence[Recorder]) -> None:
        """Send the points of these recorders, or leave it to a later call if the writer has used its share of time.

        A writer that needs c seconds of processor time rests for c / SHARE, about half a second for one run: what was
        evaluated before that survives even kill −9. Raises: the errors of entries that the store refused earlier.
        """
        self._writer.watch()
        if self._writer.away or time.monotonic() >= self._rested:
            self._rested = math.inf  # until the writer is done with these
            try:
                for recorder in recorders:
                    recorder.send()
            finally:  # other runs of this process still have points to send
                self.later(self._rest)

    def put(self, entry: Entry) -> Future[Any]:
        """Queue an entry for the writer thread, after all others. Raises: Away where the spool is full."""
        return self._writer.put(entry)

    def later(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue a call for the writer thread, after everything before it."""
        return self._writer.later(lambda: call(*arguments))

    def wait(self, future: Future[Any]) -> BaseException | None:
        """Wait until an entry is recorded, or in the spool; the error of one that was refused, else None."""
        return self._writer.wait(future)

    @property
    def answers_may_be_lost(self) -> bool:
        """Whether MLflow's client may repeat a call that has succeeded, without our knowing."""
        return self.uri.startswith("http")

    def settled(self, patience: float | None = None) -> bool:
        """Wait until all entries are recorded, those of earlier processes too; whether that is so.

        It gives up once no entry was recorded for `patience` seconds, by default PATIENCE_S.
        """
        seconds = PATIENCE_S if patience is None else patience
        deadline, announced, before = time.monotonic() + seconds, False, len(self._writer.waiting)
        while not self._writer.settled(min(1.0, deadline - time.monotonic())) or self._adopt():
            if (left := len(self._writer.waiting)) < before:
                deadline, before = time.monotonic() + seconds, left
            if time.monotonic() >= deadline:
                return False
            if not announced:
                say(f"waiting up to {seconds:.0f} s for {redacted(self.uri)}")
            announced = True
            time.sleep(0.1)
        return True

    @property
    def away(self) -> bool:
        """Whether the store is away, so that entries wait."""
        return self._writer.away

    def watch(self) -> None:
        """Notice an outage: the store has not answered for too long."""
        self._writer.watch()

    @property
    def has_waiting(self) -> bool:
        """Whether this process has entries that are not recorded yet."""
        return bool(self._writer.waiting)

    def outage_message(self) -> str:
        """How many runs have entries that wait, where these are, and how they get recorded."""
        runs = len({entry["run"] for entry in self._writer.waiting})
        spool_path = self._writer.spool_path
        message = f"{redacted(self.uri)} is away; entries of {runs} run{'s'[: runs != 1]} wait"
        if runs and spool_path is None:
            return f"{message} in memory, and are lost when this process ends"
        cache = os.environ.get(TEMPORARY_CACHE, "")
        setting = f" with LOSSBENCH_CACHE={cache}" if cache and self._folder.is_relative_to(cache) else ""
        return f"{message} in {spool_path or self._folder}; the next command on this store{setting} records them"

    def on_return(self, call: Callable[[], object]) -> None:
        """Have this called after each outage, before anything that waited is recorded."""
        self._writer.on_return.append(call)

    def adopt(self) -> None:
        """Record what waits from processes that are gone. Raises: Away."""

        def adopt() -> None:
            if fault := self._adopt():
                raise fault

        self.patiently(adopt)

    def _adopt(self) -> Exception | None:
        """Record the spools of processes that are gone; the error where the store is away again."""
        for spool in Spool.orphans(self._folder):
            try:
                self.late |= adopting.record(spool, self._sink, self.uri, self._find)
            except Exception as error:
                spool.release()
                if not away(error):
                    raise
                return error
        return None

    def _rest(self) -> None:
        """Let the writer rest until its processor time is SHARE of the time passed; called on its thread."""
        self._rested = time.monotonic() + self._writer.busy_s / SHARE
        self._writer.busy_s = 0.0


def settled() -> bool:
    """Wait for every store of this process; whether all their entries are recorded."""
    return not sum(not store.settled() for store in list(_opened))  # no `all`, which would not wait for each


@atexit.register
def _report_waiting() -> None:
    for store in list(_opened):
        if store.has_waiting:
            say(store.outage_message())
