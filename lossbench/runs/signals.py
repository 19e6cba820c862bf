"""Signals that end this process: at once while nothing is recorded, later between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STOPPED = 130  # the exit code after an interrupt
PATIENCE_S = 60  # before a forced exit: an interrupt within an import can leave a lock held for ever

_recording = False
_interrupts = 0  # KeyboardInterrupts raised here
_forced_exit: threading.Timer | None = None


def exit_on_signals() -> None:
    """From now on, exit at once on a signal, until `recording` is called.

    A KeyboardInterrupt could be raised within an import, whose lock other threads would then wait for.
    """
    for number in _signals():
        signal.signal(number, _ask)


def recording() -> None:
    """From now on, raise KeyboardInterrupt on a signal."""
    global _recording
    _recording = True


def exit_with(code: int) -> None:
    """From now on, exit at once with this code on a signal: everything is recorded and printed."""
    for number in _signals():
        signal.signal(number, lambda number, frame: os._exit(code))


def cancel_forced_exit() -> None:
    """Cancel the forced exit: the KeyboardInterrupt has reached `main`."""
    if _forced_exit is not None:
        _forced_exit.cancel()


def _ask(number: int, frame: FrameType | None) -> None:
    global _forced_exit, _interrupts
    _hang_up(number)
    if not _recording:
        _exit("stopped before anything was recorded")
    if _forced_exit is None:
        _forced_exit = threading.Timer(
            PATIENCE_S, _exit, ["stopped; the same command completes the records that are left open"]
        )
        _forced_exit.daemon = True
        _forced_exit.start()
    _interrupts += 1
    raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, an interrupt that a library turns into another error, as imports and fonts do, is an interrupt again.

    Else a picture would be missing, or a loss blamed, for a Ctrl-C. Raises: KeyboardInterrupt.
    """
    before = _interrupts
    try:
        yield
    except Exception as error:
        if _interrupts > before:
            raise KeyboardInterrupt from error
        raise


def _exit(message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{message}\n".encode())
    os._exit(STOPPED)


def _hang_up(number: int) -> None:
    """After SIGHUP, send output to the null device: writing to a closed terminal would raise during cleanup."""
    if number != getattr(signal, "SIGHUP", None):
        return
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            if os.isatty(stream):
                os.dup2(null, stream)


def _signals() -> list[signal.Signals]:
    """The signals to handle: not those that the parent process ignores, as nohup does; none outside the main thread.

    Nor those whose handler was not set from Python, which could not be restored.
    """
    main = threading.current_thread() is threading.main_thread()
    return [number for number in SIGNALS if main and signal.getsignal(number) not in (signal.SIG_IGN, None)]


class Stop:
    """While entered, Ctrl-C, SIGTERM and SIGHUP request a stop after the current step; a second one interrupts at once.

    A nested Stop inherits the request of the outer one: a signal to a sweep does not interrupt runs that write their
    records, and the next training stops before its first step. In another thread, where no signal arrives, it follows
    the one that the main thread is in.
    """

    def __init__(self) -> None:
        self._requested = False
        self._followed: Stop | None = None

    def __call__(self) -> bool:
        return self._requested or (self._followed is not None and self._followed())

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._ask) for number in _signals()}
        if threading.current_thread() is not threading.main_thread():
            outer = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
            self._followed = outer if isinstance(outer, Stop) else None
        inherited = [getattr(handler, "__self__", None) for handler in self._before.values()]
        self._requested = any(isinstance(stop, Stop) and stop() for stop in inherited)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self() and error[0] is None:  # requested in the last step, after which nothing checked
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        global _interrupts
        _hang_up(number)
        if self._requested:
            _interrupts += 1
            raise KeyboardInterrupt
        self._requested = True
