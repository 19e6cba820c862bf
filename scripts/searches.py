"""The overhead of a search beside training and evaluation: `python scripts/searches.py WORD…`, a command line's words.

Prints the share of its time spent on choosing settings, composing and reading back, and the share spent on records.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

WORDS = ("-m", "hydra/sweeper=fair", "loss=mse,mae,huber", "dataset=regression")


def share() -> tuple[float, float]:
    """The shares of the time of sixty small trials that the search itself and records take, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, __file__, *WORDS, "hydra.sweeper.at_defaults=false", "hydra.sweeper.seeds=1"],
            cwd=folder,
            env=os.environ | {"LOSSBENCH_CACHE": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    own, records = run.stdout.split()[-2:]
    return float(own), float(records)


def main() -> None:
    """Run a command and print the overhead of its searches."""
    from lossbench.cli.main import main
    from lossbench.runs import training
    from lossbench.runs.run import Run
    from lossbench.sweeps import timing
    from lossbench.sweeps.tuning.searching import Searching

    spent: Counter[str] = Counter()

    def timed(owner: Any, name: str, what: str) -> None:
        call: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **more: Any) -> Any:
            since = time.perf_counter()
            try:
                return call(*arguments, **more)
            finally:
                spent[what] += time.perf_counter() - since

        setattr(owner, name, measured)

    timed(training, "fit", "training")
    timed(Run, "build", "training")
    timed(timing, "fastest", "training")  # it trains a few steps of each schedule
    timed(Run, "start", "records")
    timed(training, "_finish", "records")
    spend = Searching.spend

    def searched(self: Searching, *arguments: Any) -> None:
        spent.clear()
        since = time.perf_counter()
        spend(self, *arguments)
        whole = time.perf_counter() - since
        own = whole - spent["training"] - spent["records"]
        shares.extend((own / whole, spent["records"] / whole))

    shares: list[float] = []
    Searching.spend = searched  # type: ignore[method-assign]
    with contextlib.suppress(SystemExit):
        main()
    print(*shares)


if __name__ == "__main__":
    main()
