"""Tables, for scripts/bench.py: a run against a loop by hand, stacks against turns, reading and the memory it takes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import stacks
import torch
from pyarrow import csv, parquet
from torch.nn import functional as F

from lossbench.engine import fit
from lossbench.runs.experiment import Experiment

NUMBERS, CATEGORIES = 14, 6
LOSSES, SEEDS = ("bce", "focal", "brier"), range(10)
MEASURED = """
import json, resource, sys, time
from lossbench.datasets.table import table
from lossbench.datasets.tables import reading
start = time.perf_counter()
reading.read(sys.argv[1])
read = time.perf_counter() - start
splits = table(seed=0, path=sys.argv[1], target="y")
print(json.dumps({"read_s": read, "split_s": time.perf_counter() - start - read, "rows": len(splits.train)}))
if sys.argv[2:]:
    from lossbench.cli.main import main
    sys.argv[1:] = ["dataset=table", f"dataset.path={sys.argv[1]}", "dataset.target=y", "loss=bce", *sys.argv[2:]]
    main()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_gb": peak / 1e6, "whole_s": time.perf_counter() - start}))
"""


def written(path: Path, rows: int) -> Path:
    """A table of 20 columns and a target of two classes, as CSV or Parquet, a million rows at a time."""
    schema = None
    writer = None
    for start in range(0, rows, 1_000_000):
        table = _made(min(1_000_000, rows - start), start)
        if writer is None:
            schema = table.schema
            writer = csv.CSVWriter(path, schema) if path.suffix == ".csv" else parquet.ParquetWriter(path, schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return path


def _made(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    numbers = {f"x{n}": random.standard_normal(rows).round(4) for n in range(NUMBERS)}
    categories = {f"c{n}": random.integers(0, 5 + 3 * n, rows) for n in range(CATEGORIES)}
    score = numbers["x0"] + numbers["x1"] * numbers["x2"] + (categories["c0"] > 2) + random.logistic(size=rows)
    texts = {name: np.char.add("level ", codes.astype(str)) for name, codes in categories.items()}
    return pa.table({**numbers, **texts, "y": np.where(score > 0, "yes", "no")})


def words(path: Path) -> list[str]:
    """The settings of a run on such a table."""
    return ["dataset=table", f"dataset.path={path}", "dataset.target=y", "dataset.task_type=binary"]


def by_hand(path: Path, steps: int) -> Callable[[], float]:
    """Milliseconds of a step by hand: the same net, batches drawn from tensors in memory, Adam; nothing evaluated."""
    experiment = Experiment(stacks.composed(*words(path), "loss=bce"))
    train, size = experiment.splits.train, experiment.plan.batch_size

    def run() -> float:
        model = copy.deepcopy(experiment.nets.model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        start = time.perf_counter()
        order, place = torch.randperm(len(train)), 0
        for _ in range(steps):
            if place + size > len(order):
                order, place = torch.randperm(len(train)), 0
            index = order[place : place + size]
            place += size
            logits = model(train.inputs[index]).squeeze(-1)
            mean_loss = F.binary_cross_entropy_with_logits(logits, train.targets[index].float())
            optimizer.zero_grad()
            mean_loss.backward()
            optimizer.step()
        return 1000 * (time.perf_counter() - start) / steps

    return run


def ours(path: Path, steps: int) -> Callable[[], float]:
    """Milliseconds of a step of lossbench, validation included in as far as it is evaluated."""
    cfg = stacks.composed(*words(path), "loss=bce", f"train.steps={steps}", f"train.eval_every={steps}")

    def run() -> float:
        experiment = Experiment(cfg)
        start = time.perf_counter()
        fit([experiment.replica(stacks.nowhere)], experiment.plan)
        return 1000 * (time.perf_counter() - start) / steps

    return run


def thirty(path: Path, *more: str) -> list[Experiment]:
    """Three losses on ten seeds."""
    return [
        Experiment(stacks.composed(*words(path), f"loss={loss}", f"seed={seed}", *more))
        for loss in LOSSES
        for seed in SEEDS
    ]


def turns(path: Path, *more: str) -> Callable[[], float]:
    """Seconds of training thirty runs one after another on one thread, not recorded."""
    return _trained(path, 1, together=False, more=more)


def stacked(path: Path, threads: int, *more: str) -> Callable[[], float]:
    """The same as one stack, on this many threads."""
    return _trained(path, threads, together=True, more=more)


def _trained(path: Path, threads: int, *, together: bool, more: tuple[str, ...]) -> Callable[[], float]:
    def run() -> float:
        experiments, before = thirty(path, *more), torch.get_num_threads()
        replicas = [experiment.replica(stacks.nowhere) for experiment in experiments]
        torch.set_num_threads(threads)
        start = time.perf_counter()
        for some in [replicas] if together else [[one] for one in replicas]:
            fit(some, experiments[0].plan)
        torch.set_num_threads(before)
        return time.perf_counter() - start

    return run


def measured(path: Path, *more: str) -> dict[str, float]:
    """Seconds of reading and of splitting a table in a process of its own, and its peak of memory; then of a run."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), *more], capture_output=True, text=True, check=True, cwd=path.parent
    )
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found
