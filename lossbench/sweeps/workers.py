"""Stacks in worker processes of one thread each, for nets that leave cores idle; each process records its own runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any

from lossbench.core import ConfigError
from lossbench.core.failures import MachineFault
from lossbench.datasets import remarks
from lossbench.runs.run import Run
from lossbench.sweeps.one_at_a_time import Board, Datasets, take
from lossbench.terminal import encoding

POLL_S = 0.2


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    stack: list[Run] = field(default_factory=list)


def train(stacks: Sequence[Sequence[Run]], count: int, board: Board, stop: Any) -> None:
    """Train stacks in `count` processes. Where one dies, its unfinished runs end with it and another takes its place.

    Raises: KeyboardInterrupt once `stop()` is true and every worker has ended its runs.
    """
    waiting = [list(stack) for stack in stacks]
    workers: list[_Worker] = []
    stopped = False
    try:
        while waiting or workers:
            while waiting and not stopped and len(workers) < count:
                workers.append(_started())
                _hand(workers[-1], waiting)
            for ready in wait([worker.pipe for worker in workers], timeout=POLL_S):
                worker = next(worker for worker in workers if worker.pipe is ready)
                try:
                    _hear(worker, board)
                except EOFError:
                    workers.remove(worker)
                    _bury(worker, board, stopped=stopped)
                    continue
                if not worker.stack:
                    _hand(worker, [] if stopped else waiting)
            if stop() and not stopped:
                stopped = True
                for worker in workers:
                    worker.process.terminate()
            if stopped and not workers:
                raise KeyboardInterrupt
    finally:
        for worker in workers:
            worker.process.kill()


def _started() -> _Worker:
    context = get_context("spawn")
    here, there = context.Pipe()
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # libraries read it when they load
    process = context.Process(target=_work, args=(there,), daemon=True)
    with _no_script():
        process.start()
    del os.environ["OMP_NUM_THREADS"]
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads
    there.close()
    return _Worker(process, here)


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """Inside, a process that is spawned does not import the user's script, which may train as it is imported."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _hand(worker: _Worker, waiting: list[list[Run]]) -> None:
    """Send a worker the next stack, or an empty one, which ends it."""
    worker.stack = waiting.pop(0) if waiting else []
    with contextlib.suppress(BrokenPipeError):  # it died; the next read tells
        worker.pipe.send(
            [(run.cfg, run.names, run.comparison, run.swept, run.earlier.unfinished, run.place) for run in worker.stack]
        )


def _hear(worker: _Worker, board: Board) -> None:
    message, *values = worker.pipe.recv()
    if message == "ended":
        position, result, error = values
        run = worker.stack[position]
        run.result, run.error = result, error
        board.ended(run)
    elif message == "done":
        worker.stack = []
    else:
        getattr(board, message)(*values)


def _bury(worker: _Worker, board: Board, *, stopped: bool) -> None:
    """End the runs that a dead worker left behind, with the reason of its death."""
    worker.process.join()
    code = worker.process.exitcode or 0
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    left = [run for run in worker.stack if run.result is None and run.error is None]
    board.training(-len(left))
    for run in left:
        died: BaseException = MachineFault(f"worker process {worker.process.pid} ended by {reason} while it trained")
        run.abandon(KeyboardInterrupt() if stopped else died)
        board.ended(run)


def _work(pipe: Connection) -> None:
    """What a worker process runs: stacks until an empty one arrives, or until it is terminated."""
    import torch

    encoding.lenient()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.setpgrp()  # only the parent receives Ctrl-C from the terminal, and it stops its workers once
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(1)
    remarks.mute()
    datasets = Datasets()
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        while asked := pipe.recv():
            stack = [Run(*each) for each in asked]
            take(stack, datasets, _Wire(pipe, stack))
            pipe.send(("done",))


def _end_with_parent() -> None:
    """Exit when the parent process does, so that a resumed comparison meets no workers of the killed one."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _Wire:
    """The parent's board, as a worker process sees it: it sends each call through the pipe."""

    def __init__(self, pipe: Connection, stack: list[Run]) -> None:
        self._pipe, self._stack = pipe, stack

    def advance(self, steps: int, diverged: int) -> None:
        self._send("advance", steps, diverged)

    def training(self, runs: int) -> None:
        self._send("training", runs)

    def ended(self, run: Run) -> None:
        error: BaseException | None = None  # of a class that the parent can unpickle
        if run.error is not None:
            default = ConfigError if isinstance(run.error, ConfigError) else RuntimeError
            error = {"killed": KeyboardInterrupt, "error": MachineFault}.get(run.outcome, default)(str(run.error))
        self._send("ended", self._stack.index(run), run.result, error)

    def _send(self, *message: Any) -> None:
        try:
            self._pipe.send(message)
        except BrokenPipeError:
            raise KeyboardInterrupt from None  # nobody is left to train for
