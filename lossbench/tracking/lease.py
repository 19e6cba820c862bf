"""Who is at work on a record: one process, which can be asked where it runs, and says elsewhere that it lives."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossbench.core.machine import started, where

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from lossbench.tracking.recorder import Recorder

PROCESS, BEAT, CLAIM = "lossbench.process", "lossbench.beat", "lossbench.claim."
BEAT_S = 10  # between two signs of life
WATCH_S = 35  # without one, watched from another machine or container: it does not live
STALE_S = 3600  # since the last one by whichever clock: not worth watching
CLAIM_S = 1.0  # in which whoever else claims the same record is seen; a tag is written much faster


def mine() -> str:
    """This process, as `alive` can ask about it, with a mark of this very claim."""
    pid = os.getpid()
    return json.dumps({"at": where(), "pid": pid, "started": started(pid), "claim": secrets.token_hex(4)})


def is_mine(process: str) -> bool:
    return pid(process) == os.getpid() and _parsed(process) == _parsed(mine())


def pid(process: str) -> int:
    told = _parsed(process)
    return told[1] if told else 0


def _parsed(process: str) -> tuple[str, int, str] | None:
    """Where a process runs, its number there and when it started; None of one that an older lossbench wrote."""
    try:
        told = json.loads(process)
        return str(told["at"]), int(told["pid"]), str(told["started"])
    except (ValueError, TypeError, KeyError):
        return None


def now() -> str:
    return f"{time.time():.0f}"


def alive(process: str, beat: Callable[[], str], say: Callable[[str], None]) -> bool:
    """Whether the process goes on: asked of the system where it runs here, else seen by its heart, which is watched."""
    told = _parsed(process)
    if told is None:
        return False
    at, number, since = told
    if at == where():
        return started(number) == since
    first = beat()
    if not first or abs(time.time() - float(first)) > STALE_S:
        return False
    say(f"process {number} of another machine or container was at this; waiting up to {WATCH_S} s for a sign of life")
    until = time.monotonic() + WATCH_S
    while time.monotonic() < until:
        time.sleep(min(1, WATCH_S))
        if beat() != first:
            return True
    return False


def take(client: MlflowClient, run_id: str, say: Callable[[str], None]) -> str | None:
    """Take a record over from a process that is gone; None where that goes on, or where another was first.

    Who claims writes a tag of its own, waits, and looks: the least of the claims that are there wins, unless somebody
    has won by then. Two that do not see each other's claims are so far apart that the later sees who won.
    """
    found = client.get_run(run_id)
    before = found.data.tags.get(PROCESS, "")
    if found.info.status == "RUNNING":

        def beat() -> str:
            return client.get_run(run_id).data.tags.get(BEAT, "")

        if alive(before, beat, say):
            return None
    own = mine()
    claim = CLAIM + json.loads(own)["claim"]
    client.set_tag(run_id, claim, before or "nobody")
    for attempt in range(6):
        time.sleep(CLAIM_S)
        tags = client.get_run(run_id).data.tags
        if tags.get(PROCESS, "") != before:
            break
        rivals = [name for name in tags if name.startswith(CLAIM)]
        if min(rivals) == claim:
            client.set_tag(run_id, PROCESS, own)
            client.set_tag(run_id, BEAT, now())
            for name in rivals:
                _delete(client, run_id, name)
            return own
        if attempt > 1:  # it would have won by now
            _delete(client, run_id, min(rivals))
    _delete(client, run_id, claim)
    return None


def _delete(client: MlflowClient, run_id: str, tag: str) -> None:
    with contextlib.suppress(Exception):  # who claimed it was quicker
        client.delete_tag(run_id, tag)


class Heart:
    """Calls a function every few seconds, on a thread of its own, until it is stopped."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stopped = threading.Event()
        threading.Thread(target=self._go_on, name="heart", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _go_on(self) -> None:
        while not self._stopped.wait(BEAT_S):
            with contextlib.suppress(Exception):  # a store that is away
                self._beat()


def keep(client: MlflowClient, recorder: Recorder, own: str) -> Heart:
    """Show that this process is at a record, until the heart is stopped.

    Where another has taken it over meanwhile, since this one was still for too long, this process ends at once.
    """

    def beat() -> None:
        run_id = recorder.run_id
        if not run_id:  # its store is away
            return
        if client.get_run(run_id).data.tags.get(PROCESS) != own:
            print(f"lossbench: another process has taken over run {run_id}, so this one ends", file=sys.stderr)
            os._exit(1)
        client.set_tag(run_id, BEAT, now())

    return Heart(beat)
