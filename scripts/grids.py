"""What composing a grid takes: `python scripts/grids.py RUNS` prints the seconds and the MB until its first training.

The grid has two losses and half as many seeds as runs; the process ends before it trains.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from typing import Any, NoReturn

FEWEST = 2  # runs of a grid that takes what any grid does: libraries, the data, the store


def a_job(runs: int) -> tuple[float, float]:
    """Milliseconds and KB that each job of a grid takes to compose, beside what a grid of two takes."""
    (seconds, mb), (seconds_of_few, mb_of_few) = _measured(runs), _measured(FEWEST)
    more = runs - FEWEST
    return 1e3 * (seconds - seconds_of_few) / more, 1e3 * (mb - mb_of_few) / more


def _measured(runs: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, __file__, str(runs)],
            cwd=folder,
            env=os.environ | {"LOSSBENCH_CACHE": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    seconds, mb = run.stdout.split()[-2:]
    return float(seconds), float(mb)


def main() -> None:
    """Compose a grid and print what it took."""
    for library in ("torch", "mlflow", "sklearn.utils", "scipy.stats"):  # loading takes seconds, and not always as many
        import_module(library)
    from lossbench.cli.main import main
    from lossbench.sweeps import own, timing

    discrete, since = own.discrete, 0.0

    def begins(*asked: Any) -> None:
        nonlocal since
        since = time.perf_counter()
        discrete(*asked)

    def trains(*asked: Any) -> NoReturn:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(time.perf_counter() - since, peak, flush=True)
        os._exit(0)

    own.discrete, timing.fastest = begins, trains
    sys.argv = ["lossbench", "-m", "loss=mse,huber", "dataset=regression", f"seed=range({int(sys.argv[1]) // 2})"]
    main()


if __name__ == "__main__":
    main()
