"""Stacks in worker processes of one thread each, for nets that leave cores idle; each process records its own runs.

Not loky's pool: where one of its processes dies, loky ends all others and their stacks with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any

from lossbench.core.failures import MachineFault
from lossbench.datasets import remarks
from lossbench.runs.run import Run
from lossbench.sweeps import planning, timing
from lossbench.sweeps.engines.wire import Wire, hear, packed, unpacked
from lossbench.sweeps.stacks import Board, Datasets, Waiting, take
from lossbench.terminal import encoding

POLL_S = 0.2
DONE = ("done",)


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    gpu: str
    stack: list[Run] = field(default_factory=list)


def train(
    waiting: Waiting, count: int, board: Board, stop: Any, gpus: Sequence[str] = (), *, groups: bool = False
) -> None:
    """Train stacks in `count` processes. Where one dies, its unfinished runs end with it and another takes its place.

    With `groups`, what waits are runs that may share stacks, for each of which a process chooses the fastest.
    Each process sees one of these GPUs, by the names that CUDA_VISIBLE_DEVICES takes, or all without them.

    Raises: KeyboardInterrupt once `stop()` is true and every worker has ended its runs.
    """
    workers: list[_Worker] = []
    stopped = False
    try:
        while waiting or workers:
            while waiting and not stopped and len(workers) < count:
                free = [gpu for gpu in gpus if gpu not in {worker.gpu for worker in workers}]
                workers.append(_started(free[0] if free else ""))
                _hand(workers[-1], waiting.next(), count if groups else 0)
            for ready in wait([worker.pipe for worker in workers], timeout=POLL_S):
                worker = next(worker for worker in workers if worker.pipe is ready)
                try:
                    _hear(worker, board)
                except EOFError:
                    workers.remove(worker)
                    _bury(worker, board, stopped=stopped)
                    continue
                if not worker.stack:
                    _hand(worker, [] if stopped else waiting.next(), count if groups else 0)
            if stop() and not stopped:
                stopped = True
                for worker in workers:
                    worker.process.terminate()
            if stopped and not workers:
                raise KeyboardInterrupt
    finally:
        for worker in workers:
            worker.process.kill()


def _started(gpu: str) -> _Worker:
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there,), daemon=True)
    settings = {"OMP_NUM_THREADS": "1", **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
    with _no_script(), _environment(settings):  # which libraries read when they load
        process.start()
    there.close()
    return _Worker(process, here, gpu)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """Inside, a process that is spawned does not import the user's script, which may train as it is imported."""
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _hand(worker: _Worker, stack: list[Run], beside: int) -> None:
    """Send a worker a stack; or runs to make stacks of, as one of `beside` processes; an empty list ends it."""
    worker.stack = stack
    with contextlib.suppress(BrokenPipeError):  # it died; the next read tells
        worker.pipe.send((packed(stack), beside))


def _hear(worker: _Worker, board: Board) -> None:
    message = worker.pipe.recv()
    if message == DONE:
        worker.stack = []
    else:
        hear(message, worker.stack, board)


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
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # which Slurm sends to all processes of a job
    torch.set_num_threads(1)
    remarks.mute()
    datasets = Datasets()
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError):
        while (asked := pipe.recv())[0]:
            runs = unpacked(asked[0])
            wire = Wire(runs, partial(_send, pipe))
            beside = asked[1]
            size = timing.on_workers(runs, datasets, 1, 1, beside).size if beside else len(runs)
            for stack in planning.parts(runs, size):
                take(stack, datasets, wire)
            _send(pipe, DONE)


def _send(pipe: Connection, message: tuple[Any, ...]) -> None:
    try:
        pipe.send(message)
    except BrokenPipeError:
        raise KeyboardInterrupt from None  # nobody is left to train for


def _end_with_parent() -> None:
    """Exit when the parent process does, so that a resumed comparison meets no workers of the killed one."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
