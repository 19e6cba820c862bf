"""The one thread that tells a store of what is to be recorded, in order, and what becomes of it in an outage."""

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
from lossbench.tracking.entries import Entry
from lossbench.tracking.outage import Away, away, reason
from lossbench.tracking.spool import Spool

LATE_S = 10.0  # without an answer, after which a store is away
LATE_FILES_S = 60.0  # the same while files go there
RETRY_S = 2.0
IDLE_S = 5.0  # after which the thread ends; the next entry starts one

Tell = Callable[..., str]


@dataclass
class Item:
    """An entry, or a call; what waits for it hears of it once it is recorded or safe in the spool."""

    entry: Entry | None
    call: Callable[[], Any] | None = None
    future: Future[Any] = field(default_factory=Future)
    spooled: bool = False
    tried: bool = False
    copied: str = ""  # the folder of which the spool took a copy while it was on its way


class Writer:
    """Tells a store of entries, in order. While it is away they wait in a spool, and in memory to be told from."""

    def __init__(self, tell: Tell, folder: Path, shown: str) -> None:
        self._tell = tell
        self._folder = folder
        self._shown = shown
        self._items: deque[Item] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._since = math.inf  # when the first item was begun
        self._spool: Spool | None = None  # while the store is away
        self._lost_at = 0.0
        self._refused: list[Exception] = []
        self.busy_s = 0.0  # processor time

    @property
    def away(self) -> bool:
        return self._spool is not None

    @property
    def waiting(self) -> list[Entry]:
        with self._changed:
            return [item.entry for item in self._items if item.entry is not None]

    def put(self, entry: Entry, *, first: bool = False) -> Future[Any]:
        """Tell the store of an entry after all others; or of one that stands before any other of its run, next.

        Raises: Away where more waits than may.
        """
        with self._changed:
            full = self._spool is not None and self._spool.bytes > spools.BOUND
            if full and (entry["do"] == "files" or entry.get("points")):
                raise Away(f"{self._shown} is away and {spools.BOUND >> 20} MiB wait for it in {self._folder}")
            return self._add(Item(entry), first=first)

    def later(self, call: Callable[[], Any]) -> Future[Any]:
        """Do a call after all that was put before it."""
        with self._changed:
            return self._add(Item(None, call))

    def _add(self, item: Item, *, first: bool = False) -> Future[Any]:
        self._items.insert(int(math.isfinite(self._since)) if first and not self.away else len(self._items), item)
        self._save()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="record", daemon=True)
            self._thread.start()
        self._changed.notify_all()
        return item.future

    def wait(self, future: Future[Any]) -> BaseException | None:
        """Until an entry is recorded or safe; the error of one that the store refuses."""
        while True:
            with contextlib.suppress(TimeoutError):
                return future.exception(timeout=0.2)
            self.watch()

    def watch(self) -> None:
        """Have entries wait in the spool from now on, if the store has not answered for too long."""
        with self._changed:
            if self.away or not math.isfinite(self._since) or not self._items:
                return
            entry = self._items[0].entry
            late = LATE_FILES_S if entry is not None and entry["do"] == "files" else LATE_S
            if time.monotonic() > self._since + late:
                self._lose(f"no answer for {late:.0f} s")

    def settled(self, seconds: float) -> bool:
        """Whether nothing waits any more, at the latest after so long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self.waiting and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.5))
                self.watch()
            return not self.waiting

    @property
    def place(self) -> Path | None:
        """The spool, if all that waits is in it."""
        safe = all(item.spooled for item in self._items if item.entry is not None)
        return self._spool.path if self._spool and safe else None

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._items, timeout=IDLE_S):
                    self._thread = None
                    return
                item, self._since = self._items[0], time.monotonic()
            since = time.thread_time()
            error = self._done(item)
            self.busy_s += time.thread_time() - since
            with self._changed:
                if error is None:
                    continue
                if self._spool is None:
                    self._lose(reason(error))
                self._since = math.inf
                self._changed.notify_all()
            time.sleep(RETRY_S)

    def _done(self, item: Item) -> Exception | None:
        """Do an item and take it off the queue; the error for which the store is to be tried again."""
        for last in (False, True):  # a connection that was lost while nobody used it is made again at once
            try:
                result = self._do(item)
            except Exception as error:
                if item.entry is None or not away(error):
                    self._off(item, error=error)
                    return None
                item.tried = True
                if last or self.away:
                    return error
            else:
                self._off(item, result=result)
                return None
        return None

    def _do(self, item: Item) -> Any:
        if item.call is not None:
            return item.call()
        assert item.entry is not None
        return self._tell(item.entry, again=item.tried or item.spooled)

    def _off(self, item: Item, *, result: Any = None, error: Exception | None = None) -> None:
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
                _remove(item.entry["folder"], item.copied)
            if self._spool is not None and not self.waiting:
                self._return(self._spool)
            self._changed.notify_all()

    def _lose(self, why: str) -> None:
        """The store is away: all that waits is kept in a spool from now on."""
        self._spool, self._lost_at = Spool.new(self._folder), time.monotonic()
        failed = self._save()
        kept = f"in memory, for {failed}" if failed else f"in {self._spool.path}"
        say(f"{self._shown} does not answer ({why}); training goes on, and what is to be recorded waits {kept}")

    def _return(self, spool: Spool) -> None:
        refused, self._refused, self._spool = self._refused, [], None
        kept = spool.end(keep=bool(refused))
        if refused:
            said = f"refuses {len(refused)} entries of what waited ({reason(refused[0])}); they are kept in {kept}"
        else:
            said = f"after {time.monotonic() - self._lost_at:.0f} s: all that waited is recorded"
        say(f"{self._shown} answers again, {said}")

    def _save(self) -> OSError | None:
        """Put into the spool what is not there yet, in order. What it does not take stays in memory, for this error."""
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
                    item.copied = str(before["folder"])
                    if item is not self._items[0] or not math.isfinite(self._since):
                        _remove(item.copied)
            if not item.future.done():
                item.future.set_result(None)
        return failed


def _remove(*folders: str) -> None:
    for folder in filter(None, folders):
        shutil.rmtree(folder, ignore_errors=True)


def say(line: str) -> None:
    """A line of news on standard error."""
    with contextlib.suppress(OSError, ValueError):  # who read it has gone
        print(f"lossbench: {line}", file=sys.stderr, flush=True)
