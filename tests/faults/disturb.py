"""What happens to a command: when, and what."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from faults.server import Command
from faults.stores import Place

POLL_S = 0.002
AIMED_S = 0.15  # after what was waited for
SHARE = 0.2  # of what a store that fails now and then is asked
SHORT_S, LONG_S = 15.0, 45.0  # of outages: within what clients retry, and beyond


@dataclass(frozen=True)
class Moment:
    """So many seconds after a command began, or after a file of a pattern first appeared or changed."""

    after_s: float
    sight: str = ""

    def reached(self, command: Command, folder: Path) -> bool:
        """Wait for it; False where the command ended first."""
        before = self._seen(folder)
        while self.sight and self._seen(folder) == before:
            if command.wait(POLL_S) is not None:
                return False
        until = (time.monotonic() if self.sight else command.began) + self.after_s
        return command.wait(max(0.0, until - time.monotonic())) is None

    def _seen(self, folder: Path) -> dict[Path, int]:
        try:
            return {path: path.stat().st_mtime_ns for path in folder.glob(self.sight)} if self.sight else {}
        except FileNotFoundError:  # while it was looked at
            return {}

    def __str__(self) -> str:
        return f"{self.after_s:.3f} s" + (f" after {self.sight}" if self.sight else "")


@dataclass(frozen=True)
class Disturbance:
    """What is done to a running command, or `before` it starts to the way to its store; `host` calls it again."""

    act: Callable[[Command, Place, Random], None] = lambda command, place, random: None
    before: Callable[[Any], None] | None = None
    host: str = "here"


def _sent(number: int, *, everyone: bool = False) -> Disturbance:
    return Disturbance(lambda command, place, random: command.signal(number, everyone=everyone))


def _paused(command: Command, place: Place, random: Random) -> None:
    command.signal(signal.SIGSTOP, everyone=True)
    time.sleep(random.uniform(0.1, 2.0))
    command.signal(signal.SIGCONT, everyone=True)


def _twice(command: Command, place: Place, random: Random) -> None:
    """The second one before the first has had its way."""
    command.signal(signal.SIGINT)
    time.sleep(random.uniform(0.0, 0.3))
    command.signal(signal.SIGINT)


def _out(how: str, seconds: float) -> Disturbance:
    """The way to the store is cut or hangs for some seconds, or until the command ends, which needs it no longer."""

    def act(command: Command, place: Place, random: Random) -> None:
        getattr(place.way, how)()
        command.wait(seconds)
        place.mend()

    return Disturbance(act)


def _faulty(what: str) -> Disturbance:
    return Disturbance(before=lambda way: setattr(way, what, SHARE))


SIGNALS = {
    "KILL": _sent(signal.SIGKILL),
    "INT": _sent(signal.SIGINT),
    "TERM": _sent(signal.SIGTERM),
    "HUP": _sent(signal.SIGHUP),
    "KILL to all": _sent(signal.SIGKILL, everyone=True),
    "INT twice": Disturbance(_twice),
    "STOP, CONT": Disturbance(_paused),
}
OUTAGES = {
    f"{how} {seconds:.0f} s": _out(call, seconds)
    for seconds in (SHORT_S, LONG_S)
    for how, call in (("away", "cut"), ("hung", "hang"))
}
ERRORS = {"500s": _faulty("failing"), "answers lost": _faulty("lossy")}
LOSSES = {"answers lost": _faulty("lossy")}
FULL = {"full": Disturbance(before=lambda way: None)}
CONTAINERS = {
    f"killed, {name} host name": Disturbance(SIGNALS["KILL to all"].act, host=host)
    for name, host in (("same", "here"), ("other", "there"))
}
