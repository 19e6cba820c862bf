"""Signals that ask this process to end: at once while nothing is recorded, then between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STOPPED = 130  # the exit code of who was interrupted
PATIENCE_S = 60  # an interrupt that meets a lock of imports may wait for ever

_recording = False
_ending: threading.Timer | None = None


def heard() -> None:
    """From here on the signals that ask for an end leave at once, until `recording` says that there is what to keep.

    An interrupt at any line would be raised inside imports, too, whose locks other threads then wait for.
    """
    for number in _listened():
        signal.signal(number, _ask)


def recording() -> None:
    """From here on they raise KeyboardInterrupt."""
    global _recording
    _recording = True


def over(code: int) -> None:
    """From here on they leave at once with this exit code: all is recorded, and said."""
    for number in _listened():
        signal.signal(number, lambda number, frame: os._exit(code))


def ended() -> None:
    """The interrupt has come through."""
    if _ending is not None:
        _ending.cancel()


def _ask(number: int, frame: FrameType | None) -> None:
    global _ending
    _hang_up(number)
    if not _recording:
        _leave("stopped before anything was recorded")
    if _ending is None:
        _ending = threading.Timer(PATIENCE_S, _leave, ["stopped; the same command ends what is left open"])
        _ending.daemon = True
        _ending.start()
    raise KeyboardInterrupt


def _leave(said: str) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{said}\n".encode())
    os._exit(STOPPED)


def _hang_up(number: int) -> None:
    """What is printed to a terminal that is gone goes nowhere, rather than end what has to be ended in order."""
    if number != getattr(signal, "SIGHUP", None):
        return
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            if os.isatty(stream):
                os.dup2(nowhere, stream)


def _listened() -> list[signal.Signals]:
    """Not those that who started this process wants ignored, as nohup does; elsewhere Python takes no signals."""
    here = threading.current_thread() is threading.main_thread()
    return [number for number in ASKING if here and signal.getsignal(number) is not signal.SIG_IGN]


class Stop:
    """While entered, Ctrl-C, SIGTERM and SIGHUP ask for an end after the current step; a second does not wait for it.

    One inside another starts asked where the outer one was: a sweep's spares its runs' records an interrupt at any
    line, and the next training ends before its first step.
    """

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._ask) for number in _listened()}
        outer = [getattr(handler, "__self__", None) for handler in self._before.values()]
        self._asked = any(isinstance(stop, Stop) and stop() for stop in outer)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._asked and error[0] is None:  # in the last step, after which nobody asked
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        _hang_up(number)
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
