"""Leases: one process works on a record; whether it is alive, and how another takes the record over.

On the same machine the system is asked about the process; elsewhere its heartbeat, a tag, is watched.
"""

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
BEAT_S = 10  # between two heartbeats
WATCH_S = 35  # without a heartbeat, watched from another machine or container: the process is dead
STALE_S = 3600  # since the last heartbeat by either clock: dead without watching
CLAIM_S = 1.0  # to wait for rival claims on the same record; a tag is written much faster


def mine() -> str:
    """An identifier of this process that `alive` understands, with a random id of this claim."""
    pid = os.getpid()
    return json.dumps({"at": where(), "pid": pid, "started": started(pid), "claim": secrets.token_hex(4)})


def is_mine(process: str) -> bool:
    """Whether an identifier is of this process, whatever its claim."""
    return pid(process) == os.getpid() and _parsed(process) == _parsed(mine())


def pid(process: str) -> int:
    """The process id in an identifier; 0 where it has none."""
    parsed = _parsed(process)
    return parsed[1] if parsed else 0


def _parsed(process: str) -> tuple[str, int, str] | None:
    """Where a process runs, its process id and when it started; None for the format of an older lossbench."""
    try:
        fields = json.loads(process)
        return str(fields["at"]), int(fields["pid"]), str(fields["started"])
    except (ValueError, TypeError, KeyError):
        return None


def place(process: str) -> dict[str, str]:
    """Where the process of an identifier runs, its process id and when it started; empty where it has none."""
    parsed = _parsed(process)
    return dict(zip(("at", "id", "started"), map(str, parsed), strict=True)) if parsed else {}


def age_s(beat: str) -> int:
    """Seconds since a heartbeat, by this machine's clock."""
    return max(0, int(time.time() - float(beat or 0)))


def now() -> str:
    """The value of a heartbeat: seconds since 1970."""
    return f"{time.time():.0f}"


def alive(process: str, beat: Callable[[], str], say: Callable[[str], None]) -> bool:
    """Whether a process is alive: the system knows where it runs here, else its heartbeat is watched."""
    parsed = _parsed(process)
    if parsed is None:
        return False
    at, number, since = parsed
    if at == where():
        return started(number) == since
    first = beat()
    if not first or abs(time.time() - float(first)) > STALE_S:
        return False
    say(f"process {number} on another machine or container recorded this; waiting up to {WATCH_S} s for a sign of life")
    until = time.monotonic() + WATCH_S
    while time.monotonic() < until:
        time.sleep(min(1, WATCH_S))
        if beat() != first:
            return True
    return False


def take(client: MlflowClient, run_id: str, say: Callable[[str], None]) -> str | None:
    """Take a record over from a process that is gone: the identifier of the new lease.

    None where the process is alive, or where another was first. Each claimant writes a tag of its own, waits, and reads
    the tags: the smallest claim wins, unless somebody has won already. Two claimants that do not see each other's claim
    are so far apart in time that the later one sees who won.
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
        if attempt > 1:  # its process would have won by now
            _delete(client, run_id, min(rivals))
    _delete(client, run_id, claim)
    return None


def _delete(client: MlflowClient, run_id: str, tag: str) -> None:
    with contextlib.suppress(Exception):  # its claimant deleted it first
        client.delete_tag(run_id, tag)


class Heart:
    """Calls a function every BEAT_S seconds, sooner after an error, on its own thread, until stopped."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="heart", daemon=True).start()

    def stop(self) -> None:
        """End the calls."""
        self._stopped.set()

    def _run(self) -> None:
        seconds: float = BEAT_S
        while not self._stopped.wait(seconds):
            seconds = CLAIM_S
            with contextlib.suppress(Exception):  # a store that is away
                self._beat()
                seconds = BEAT_S


def keep(client: MlflowClient, recorder: Recorder, own: str) -> Heart:
    """Write heartbeats to a record until the heart is stopped.

    Where another process has taken the record over, since this one was silent for too long, this process exits at once.
    """

    def beat() -> None:
        run_id = recorder.run_id
        if not run_id:  # the store is away
            return
        if client.get_run(run_id).data.tags.get(PROCESS) != own:
            print(f"lossbench: another process has taken over run {run_id}, so this one ends", file=sys.stderr)
            os._exit(1)
        client.set_tag(run_id, BEAT, now())

    return Heart(beat)
