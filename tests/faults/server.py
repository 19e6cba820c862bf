"""The command line without its imports: a process that has loaded all of it forks one for each command.

What runs is a process of its own, with its own working directory, environment, output and session, and real signals
end it. Only the seconds of imports are not there; commands that are to be hit in those are `started`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOADED = (  # in this order
    "torch",
    "lossbench.core.vision",  # before anything that imports torchvision
    "lossbench.cli.commands",
    "lossbench.runs.training",
    "lossbench.analysis.report",
    "lossbench.sweeps.launch",
    "lossbench.sweeps.tuning.sweep",
    "hydra_plugins.lossbench_plugins.sweeper",
    "hydra.main",
    "hydra._internal.hydra",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.data.meta_dataset",
    "mlflow.data.code_dataset_source",
    "matplotlib.pyplot",
    "optuna",
    "pandas",
    "plotly.graph_objects",
    "plotly.subplots",
    "psycopg2",
    "sklearn.metrics",
    "torchmetrics",
    "torch.func",
)
os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads there: several trials share the cores
_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(list(LOADED))


@dataclass(frozen=True)
class Command:
    """A command line that runs, in a session of its own."""

    process: Any
    began: float

    def wait(self, seconds: float) -> int | None:
        """Its exit code, negative where a signal ended it; None while it runs."""
        if isinstance(self.process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            return self.process.returncode
        self.process.join(seconds)
        return self.process.exitcode

    def signal(self, number: int, *, everyone: bool = False) -> None:
        """Send a signal to it, or to all that it started, too; one that has ended hears nothing."""
        for one in self.everyone() if everyone else [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)

    def everyone(self) -> list[int]:
        """The processes of its session, whoever their parents are now."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(ValueError, ProcessLookupError):
                if os.getsid(int(entry.name)) == self.process.pid:
                    found.append(int(entry.name))
        return found

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began


@dataclass(frozen=True)
class Told:
    """A forked command and what it says, as `subprocess.Popen` has them."""

    command: Command
    out: Path

    @property
    def returncode(self) -> int | None:
        return self.command.wait(0)

    def send_signal(self, number: int) -> None:
        self.command.signal(number)

    def kill(self) -> None:
        self.command.signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it said on standard output and error, once it has ended.

        Raises: subprocess.TimeoutExpired where it does not end.
        """
        if self.command.wait(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.out), timeout)
        out, err = (Path(f"{self.out}.{ending}").read_text(encoding="utf-8") for ending in ("out", "err"))
        return out, err


def forked(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    out: Path,
    eager: bool = False,
    watch_s: float | None = None,
) -> Command:
    """`python -m lossbench WORDS…` in a folder, from a process that has its imports behind it.

    An `eager` one trains in worker processes whenever that is measured to be faster, however short it takes.
    `watch_s` is after which silence it gives up another, so that a test need not wait for as long as a user does.
    """
    around = os.environ | environment  # as they are now, not when the first one forked
    process = _forking.Process(target=_become, args=(list(words), str(folder), around, str(out), eager, watch_s))
    began = time.monotonic()
    process.start()
    return Command(process, began)


def started(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], out: Path, before: Sequence[str] = ()
) -> Command:
    """`python -m lossbench WORDS…` from nothing, with words before it that start it elsewhere."""
    began = time.monotonic()
    with Path(f"{out}.out").open("ab") as told, Path(f"{out}.err").open("ab") as error:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "lossbench", *words],
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=error,
            start_new_session=True,
        )
    return Command(process, began)


def _become(
    words: list[str], folder: str, environment: dict[str, str], out: str, eager: bool, watch_s: float | None
) -> None:
    """In the new process: what a shell sets before it executes a program, then the program."""
    from lossbench.sweeps import planning
    from lossbench.tracking import lease

    os.setsid()
    for ending, number in ((".out", 1), (".err", 2)):
        file = os.open(out + ending, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = words
    if eager:
        planning.START_S = 0.0
    if watch_s is not None:
        lease.WATCH_S, lease.BEAT_S = watch_s, watch_s / 4
    runpy.run_module("lossbench", run_name="__main__", alter_sys=True)
