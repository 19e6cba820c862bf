"""The one thread that writes entries to a store, in order, and keeps them safe during an outage."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossbench.tracking import spool as spools
from lossbench.tracking.entries import Entry, joined
from lossbench.tracking.outage import Away, away, reason
from lossbench.tracking.spool import Spool

LATE_S = 10.0  # without an answer: the store is away
LATE_FILES_S = 60.0  # the same while files are uploaded
RETRY_S = 2.0
IDLE_S = 5.0  # after which the thread ends; the next entry starts one

Write = Callable[..., str]


@dataclass
class Item:
    """An entry or a call; its future is done once it is recorded, or safe in the spool."""

    entry: Entry | None
    call: Callable[[], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    parts: list[Entry] = field(default_factory=list)  # the entries that were joined to this one
    spooled: bool = False
    tried: bool = False
    original: str = ""  # the folder that the spool copied while it was being uploaded


class Writer:
    """Writes entries to a store, in order. During an outage they wait in memory, with a copy in a spool."""

    def __init__(self, write: Write, folder: Path, label: str) -> None:
        """`write` writes one entry, `folder` is for spools, `label` names the store in messages."""
        self._write = write
        self._folder = folder
        self._label = label
        self._items: deque[Item] = deque()
        self._batches: dict[str, Item] = {}  # by run: one that waits, which later entries of the run may join
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._since = math.inf  # when the first item was begun
        self._spool: Spool | None = None  # while the store is away
        self._lost_at = 0.0
        self._refused: list[Exception] = []
        self._returned = True  # whether `on_return` was called since the last outage began
        self.on_return: list[Callable[[], object]] = []  # called after an outage, before the first item
        self.busy_s = 0.0  # processor time

    @property
    def away(self) -> bool:
        """Whether the store is away."""
        return self._spool is not None

    @property
    def waiting(self) -> list[Entry]:
        """The entries that are not written yet."""
        with self._changed:
            return [item.entry for item in self._items if item.entry is not None]

    def put(self, entry: Entry, *, first: bool = False) -> Future[Any]:
        """Queue an entry after all others; with `first`, for an entry that creates a run, before them.

        Raises: Away where the spool is full.
        """
        with self._changed:
            full = self._spool is not None and self._spool.bytes > spools.BOUND
            if full and (entry["do"] == "files" or entry.get("points")):
                raise Away(f"{self._label} is away and {spools.BOUND >> 20} MiB wait for it in {self._folder}")
            return self._joined(entry) or self._add(Item(entry), first=first)

    def _joined(self, entry: Entry) -> Future[Any] | None:
        """Add an entry to one of the same run that still waits, if nothing stands against it: fewer calls of MLflow."""
        run = entry["run"]
        if entry["do"] in ("create", "end"):
            self._batches.pop(run, None)
        if entry["do"] != "batch" or self._spool is not None:
            return None
        waiting = self._batches.get(run)
        if waiting is None or waiting.entry is None or (together := joined(waiting.entry, entry)) is None:
            return None
        waiting.parts = [*(waiting.parts or [waiting.entry]), entry]
        waiting.entry = together
        return waiting.future

    def later(self, call: Callable[[], Any]) -> Future[Any]:
        """Queue a call after everything before it."""
        with self._changed:
            return self._add(Item(None, call))

    def _add(self, item: Item, *, first: bool = False) -> Future[Any]:
        self._items.insert(int(math.isfinite(self._since)) if first and not self.away else len(self._items), item)
        if item.entry is not None and item.entry["do"] == "batch":
            self._batches[item.entry["run"]] = item
        self._save()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="record", daemon=True)
            self._thread.start()
        self._changed.notify_all()
        return item.future

    def wait(self, future: Future[Any]) -> BaseException | None:
        """Wait until an entry is recorded or safe; the error of one that the store refuses, else None."""
        while True:
            with contextlib.suppress(TimeoutError):
                return future.exception(timeout=0.2)
            self.watch()

    def watch(self) -> None:
        """Begin a spool if the store has not answered for too long."""
        with self._changed:
            if self.away or not math.isfinite(self._since) or not self._items:
                return
            entry = self._items[0].entry
            late = LATE_FILES_S if entry is not None and entry["do"] == "files" else LATE_S
            if time.monotonic() > self._since + late:
                self._begin_outage(f"no answer for {late:.0f} s")

    def settled(self, seconds: float) -> bool:
        """Wait up to so many seconds until every entry is written; whether that is so."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self.waiting and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.5))
                self.watch()
            return not self.waiting

    @property
    def spool_path(self) -> Path | None:
        """The spool's file, if it holds every entry that waits; else None."""
        safe = all(item.spooled for item in self._items if item.entry is not None)
        return self._spool.path if self._spool and safe else None

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._items, timeout=IDLE_S):
                    self._thread = None
                    return
                item, self._since = self._items[0], time.monotonic()
                if item.entry is not None and self._batches.get(item.entry["run"]) is item:
                    del self._batches[item.entry["run"]]
            since = time.thread_time()
            error = self._process(item)
            self.busy_s += time.thread_time() - since
            with self._changed:
                if error is None:
                    continue
                if self._spool is None:
                    self._begin_outage(reason(error))
                self._since = math.inf
                self._changed.notify_all()
            time.sleep(RETRY_S)

    def _process(self, item: Item) -> Exception | None:
        """Do an item and take it off the queue; the error after which the item is to be tried again."""
        for last in (False, True):  # the second attempt replaces a connection that was lost while idle
            try:
                result = self._do(item)
            except Exception as error:
                if item.entry is None or not away(error):
                    self._finish(item, error=error)
                    return None
                item.tried = True
                if last or self.away:
                    return error
            else:
                self._finish(item, result=result)
                return None
        return None

    def _do(self, item: Item) -> Any:
        if not self._returned:
            for call in self.on_return:
                try:
                    call()
                except Exception as error:
                    if away(error):
                        raise  # any other error is not one of the entry that follows
            self._returned = True
        if item.call is not None:
            return item.call()
        assert item.entry is not None
        again = item.tried or item.spooled
        try:
            return self._write(item.entry, again=again)
        except Exception as error:
            if away(error) or not item.parts:
                raise
        return self._apart(item.parts, again=again)

    def _apart(self, parts: list[Entry], *, again: bool) -> str:
        """Write the parts of an entry one by one, so that one that is refused spoils no other. Raises: its error."""
        written, refused = "", None
        for part in parts:
            try:
                written = self._write(part, again=again)
            except Exception as error:
                if away(error):
                    raise
                refused = error
        if refused is not None:
            raise refused
        return written

    def _finish(self, item: Item, *, result: Any = None, error: Exception | None = None) -> None:
        with self._changed:
            self._items.popleft()
            self._since = math.inf
            if error is None and not item.future.done():
                item.future.set_result(result)
            elif error is not None and not item.future.done():
                item.future.set_exception(error)
            elif error is not None:
                self._refused.append(error)
            if error is None and item.entry is not None and item.entry["do"] == "files":
                _remove(item.entry["folder"], item.original)
            if self._spool is not None and not self.waiting:
                self._end_outage(self._spool)
            self._changed.notify_all()

    def _begin_outage(self, cause: str) -> None:
        """Begin a spool with all entries that wait."""
        self._spool, self._lost_at, self._returned = Spool.new(self._folder), time.monotonic(), False
        failed = self._save()
        place = f"in memory ({failed})" if failed else f"in {self._spool.path}"
        say(f"{self._label} does not answer ({cause}); training goes on, and what is not recorded yet waits {place}")

    def _end_outage(self, spool: Spool) -> None:
        refused, self._refused, self._spool = self._refused, [], None
        refused_path = spool.end(keep=bool(refused))
        if refused:
            news = f"but refused {len(refused)} waiting entries ({reason(refused[0])}); they are in {refused_path}"
        else:
            news = f"after {time.monotonic() - self._lost_at:.0f} s: all that waited is recorded"
        say(f"{self._label} answers again, {news}")

    def _save(self) -> OSError | None:
        """Add the new entries to the spool, in order; on an error, which is returned, the rest stays in memory."""
        if self._spool is None:
            return None
        failed = None
        for item in self._items:
            if item.entry is None or item.spooled:
                continue
            if failed is None:
                before = item.entry
                try:
                    item.entry, item.spooled = self._spool.add(before), True
                except OSError as error:
                    failed = error
                if item.entry is not before and before["do"] == "files":
                    item.original = str(before["folder"])
                    if item is not self._items[0] or not math.isfinite(self._since):
                        _remove(item.original)
            if not item.future.done():
                item.future.set_result(None)
        return failed


def _remove(*folders: str) -> None:
    for folder in filter(None, folders):
        shutil.rmtree(folder, ignore_errors=True)


def say(line: str) -> None:
    """Print a line to standard error."""
    with contextlib.suppress(OSError, ValueError):  # standard error is closed
        print(f"lossbench: {line}", file=sys.stderr, flush=True)
