"""Losses, nets, figures and machines that fail: every run is in the table, and no fault is the wrong one's."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from recorded import artifacts, runs
from small import SMALL
from sqlalchemy.exc import OperationalError

from lossbench.config import task_types
from lossbench.core import ConfigError, Pictures, failures
from lossbench.runs.run import Run
from lossbench.sweeps import timing
from lossbench.sweeps.planning import Schedule
from lossbench.tasks.pictures import confusion_matrix

SHORT = [*SMALL["regression"], "train.steps=20", "train.eval_every=10"]

BROUGHT = """
import errno, os, signal, sqlite3
from contextlib import closing
from pathlib import Path
from torch import nn
from lossbench.core import card, stream

def seed_of(generator):
    return next(seed for seed in range(100) if stream(seed, "loss").initial_seed() == generator.initial_seed())

@card(task_types=("regression",), needs=("generator",))
def fussy(prediction, target, *, generator):
    if seed_of(generator) in (1, 3):
        raise RuntimeError("this loss does not like its seed")
    return (prediction - target).abs().mean(-1)

@card(task_types=("regression",), needs=("generator",))
def losing(prediction, target, *, generator):
    asked.append(1)
    if seed_of(generator) == 0 and len(asked) > 12 and not Path("away").exists():
        Path("away").touch()
        with closing(sqlite3.connect("mlflow.db", timeout=20)) as database:
            database.execute("ALTER TABLE metrics RENAME TO elsewhere")
    if seed_of(generator) == 1 and not Path("back").exists():
        Path("back").touch()
        with closing(sqlite3.connect("mlflow.db", timeout=20)) as database:
            database.execute("ALTER TABLE elsewhere RENAME TO metrics")
    return (prediction - target).abs().mean(-1)

asked = []

@card(task_types=("regression",), batch=True)
def in_the_middle(prediction, target, *, what="memory"):
    asked.append(1)
    if len(asked) > 15:
        raise {"memory": MemoryError(), "disk": OSError(errno.ENOSPC, "No space left"), "own": ValueError("bad")}[what]
    return (prediction - target).abs().mean(-1)

@card(task_types=("regression",), batch=True)
def fatal(prediction, target):
    once = Path("once")
    asked.append(1)
    if len(asked) > 15 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return (prediction - target).abs().mean(-1)

class Fussy(nn.Module):
    def __init__(self, inputs, outputs, generator):
        super().__init__()
        if Path("built").exists():
            raise OSError("weights.pt is not what it was")
        self.head = nn.Linear(inputs[0], outputs)

    def forward(self, x):
        return self.head(x)
"""


@pytest.fixture
def brought(here, monkeypatch):
    (here / "brought.py").write_text(BROUGHT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "brought", raising=False)
    return here


@pytest.fixture
def schedule(monkeypatch):
    """The schedule that the planner picks."""

    def picked(*schedule):
        monkeypatch.setattr(timing, "fastest", lambda runs, datasets: Schedule(*schedule))

    return picked


def outcomes(store):
    return sorted((r.data.tags["loss"], r.info.status, r.data.tags["lossbench.outcome"]) for r in runs(store))


def test_a_loss_that_raises_for_some_seeds_has_a_record_of_each(lossbench, store, brought, schedule):
    """It was shown as of fewer runs, none of which failed, and best."""
    schedule(1)
    (brought / "mine" / "loss").mkdir(parents=True)
    (brought / "mine" / "loss" / "fussy.yaml").write_text("_target_: brought.fussy\n", encoding="utf-8")
    said = lossbench("--config-dir", "mine", *SHORT, "loss=fussy", "seed=1")
    assert (said.code, runs(store)) == (2, [])  # alone it is refused, and not recorded
    said = lossbench("--config-dir", "mine", "-m", *SHORT, "loss=mse,fussy", "seed=0,1")
    assert said.code == 2  # as of whatever a loss refuses, once the others have been trained and are told
    assert outcomes(store) == [
        ("fussy", "FAILED", "failed"),
        ("fussy", "FINISHED", "finished"),
        ("mse", "FINISHED", "finished"),
        ("mse", "FINISHED", "finished"),
    ]
    assert "1 failed" in said.out
    (failed,) = [run for run in runs(store) if run.info.status == "FAILED"]
    assert "does not like its seed" in failed.data.tags["lossbench.error"]
    assert (failed.data.params["loss"], failed.data.params["seed"]) == ("fussy", "1")


def test_alone_a_user_s_mistake_leaves_no_record_and_a_fault_does(lossbench, store, brought):
    words = ["model=mlp", "model._target_=brought.Fussy", "~model.hidden", *SHORT]
    assert lossbench("loss._target_=brought.nothing", *SHORT).code == 2
    assert runs(store) == []
    (brought / "built").touch()
    said = lossbench(*words)
    assert said.code == 1, said.err
    (run,) = runs(store)
    assert (run.info.status, run.data.tags["lossbench.outcome"]) == ("FAILED", "failed")
    assert "weights.pt" in run.data.tags["lossbench.error"]


@pytest.mark.parametrize(("what", "outcome"), [("memory", "error"), ("disk", "error"), ("own", "failed")])
def test_the_machine_s_faults_are_not_the_loss_s(what, outcome, lossbench, store, brought):
    assert lossbench("loss._target_=brought.in_the_middle", f"+loss.what={what}", *SHORT).code == 1
    (run,) = runs(store)
    assert (run.info.status, run.data.tags["lossbench.outcome"]) == ("FAILED", outcome)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyboardInterrupt(), "killed"),
        (MemoryError(), "error"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "error"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), "error"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"), "error"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "error"),
        (RuntimeError("CUDA error: device-side assert triggered"), "failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "error"),
        (OSError(errno.EIO, "Input/output error"), "error"),
        (FileNotFoundError(errno.ENOENT, "weights.pt"), "failed"),
        (ConnectionRefusedError(), "error"),
        (MlflowException("lost"), "error"),
        (OperationalError("insert", {}, Exception("locked")), "error"),
        (sqlite3.OperationalError("disk I/O error"), "error"),
        (BrokenProcessPool("dead"), "error"),
        (failures.MachineFault("worker process 7 ended by SIGKILL"), "error"),
        (caused(ConfigError("loss: failed on the first batch"), MemoryError()), "error"),
        (caused(RuntimeError("loss"), ValueError("mine")), "failed"),
        (caused(met := ValueError("mine"), caused(RuntimeError("loss"), met)), "failed"),
        (RuntimeError("shapes do not match"), "failed"),
        (ZeroDivisionError(), "failed"),
        (AssertionError(), "failed"),
    ],
)
def test_whose_fault_an_error_is(error, outcome):
    assert failures.outcome(error) == outcome


def test_torch_itself_says_what_no_memory_is_called_here():
    with pytest.raises(RuntimeError) as met:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failures.outcome(met.value) == "error"


@pytest.mark.slow
def test_a_dead_worker_is_missing_and_the_same_command_trains_its_runs_again(lossbench, store, brought, schedule):
    schedule(1, 1, 2)
    words = ["-m", "loss._target_=brought.fatal", "seed=range(3)", *SHORT]
    said = lossbench(*words)
    assert said.code == 1
    assert "worker process" in said.err
    assert "SIGKILL" in said.err
    assert said.out.count("error: worker process") == 1
    assert [outcome for *_, outcome in outcomes(store)] == ["error", "finished", "finished"]
    (dead,) = [run for run in runs(store) if run.info.status == "FAILED"]
    assert "SIGKILL" in dead.data.tags["lossbench.error"]
    assert "the machine, not the loss, ended" in said.out
    schedule(1)  # however it goes on
    said = lossbench(*words)
    assert said.code == 0, said.err
    assert "continuing" in said.out
    assert [r.data.tags["lossbench.outcome"] for r in runs(store)] == ["finished"] * 3


def test_a_worker_that_died_before_it_opened_a_record_leaves_one(configured, store, here):
    from lossbench.config.schema import Names

    one = Run(configured("regression"), Names("regression", "mlp", "mse", "adam"), "some comparison")
    one.abandon(failures.MachineFault("worker process 7 ended by SIGSEGV"))
    (run,) = runs(store)
    assert (run.info.status, run.data.tags["lossbench.outcome"]) == ("FAILED", "error")
    assert run.data.tags["lossbench.comparison"] == "some comparison"
    assert one.outcome == "error"


RAISING = """
from dataclasses import dataclass
from lossbench.core import Pictures
from lossbench.tasks.regression import Regression

class Drawn(Regression):
    def pictures(self, seen):
        good = super().pictures(seen)
        (name,) = good
        return Pictures({"broken": lambda: 1 / 0, name: lambda: good[name]})

class Undrawn(Regression):
    def pictures(self, seen):
        raise ValueError("no pictures today")
"""


@pytest.mark.parametrize(
    ("task", "remark", "drawn"),
    [
        ("Drawn", "the picture broken could not be drawn: ZeroDivisionError", {"prediction_against_truth.png"}),
        ("Undrawn", "the pictures could not be drawn: ValueError: no pictures today", set()),
    ],
)
def test_a_figure_that_raises_costs_itself_only(task, remark, drawn, lossbench, store, here, monkeypatch):
    """It cost the run, and its weights."""

    (here / "raising.py").write_text(RAISING, encoding="utf-8")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setitem(task_types.TASKS, "regression", f"raising.{task}")
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    said = lossbench("-m", "loss=mse", "seed=0,1", *SHORT)
    assert said.code == 0, said.err
    for run in runs(store):
        assert run.data.tags["lossbench.outcome"] == "finished"
        assert "test/mae" in run.data.metrics
        assert "model.safetensors" in artifacts(store, run)
        assert artifacts(store, run, "pictures") == drawn
        (told,) = json.loads(run.data.tags["lossbench.remarks"])
        assert told.startswith(remark)
    assert f"{remark[0].upper()}{remark[1:]}" in (here / "report.html").read_text(encoding="utf-8")


def test_weights_outlive_a_metric_that_raises(lossbench, store, here, monkeypatch):

    (here / "raising.py").write_text(
        "from lossbench.tasks.regression import Regression\n"
        "class Unread(Regression):\n    def report(self, *_):\n        raise ValueError('unread')\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setitem(task_types.TASKS, "regression", "raising.Unread")
    monkeypatch.delitem(sys.modules, "raising", raising=False)
    assert lossbench(*SHORT).code == 1
    (run,) = runs(store)
    assert run.data.tags["lossbench.outcome"] == "failed"
    assert "model.safetensors" in artifacts(store, run)


def test_pictures_are_drawn_each_on_its_own():
    drawn = Pictures({"a": lambda: 1 / 0, "b": lambda: "figure"})
    assert list(drawn) == ["a", "b"]
    assert drawn["b"] == "figure"
    with pytest.raises(ZeroDivisionError):
        drawn["a"]


@pytest.mark.parametrize(("n", "texts"), [(3, 9), (20, 400), (21, 0), (100, 0)])
def test_a_confusion_matrix_of_many_classes_writes_no_numbers(n, texts, tmp_path):
    y = np.arange(3 * n) % n
    figure = confusion_matrix(y, y, [f"class {k}" for k in range(n)])
    (axes,) = figure.axes
    assert len(axes.texts) == texts
    labels = axes.get_xticklabels()
    assert len(labels) <= 20
    for place, label in zip(axes.get_xticks(), labels, strict=True):
        assert label.get_text() == f"class {place}"
    figure.savefig(tmp_path / "matrix.png")


def test_a_record_ends_whatever_its_writer_met(store):
    recorder = store.start("test", "run", {})
    recorder.params({"a": 1})
    recorder.params({"a": 2})  # MLflow forbids changing a param, also the second time
    with pytest.raises(Exception, match="Changing param"):
        recorder.end_early("FAILED", {"lossbench.outcome": "error"})
    run = store.client.get_run(recorder.run_id)
    assert (run.info.status, run.data.tags["lossbench.outcome"]) == ("FAILED", "error")


def test_a_store_that_is_lost_for_a_while_is_no_fault_of_a_loss(lossbench, store, brought, schedule):
    """While one run trains the store loses its metrics; the next one finds them again."""
    schedule(1)
    said = lossbench("-m", "loss._target_=brought.losing", "seed=0,1", *SHORT)
    assert said.code == 0
    assert "does not answer" in said.err
    assert "all that waited is recorded" in said.err
    ended = {r.data.tags["seed"]: (r.info.status, r.data.tags["lossbench.outcome"]) for r in runs(store)}
    assert ended == {"0": ("FINISHED", "finished"), "1": ("FINISHED", "finished")}
    first, second = (store.client.get_metric_history(run.info.run_id, "train/loss") for run in runs(store))
    assert [point.step for point in first] == [point.step for point in second]


def test_memory_is_of_a_run_that_trained_alone(lossbench, store, here):
    """It was the highest that the process had ever held: here 300 MB that were let go of before the training."""
    held = np.ones(300 * 2**17)
    peak = held.nbytes / 2**20
    with open("/proc/self/status", encoding="utf-8") as status:  # noqa: PTH123
        most = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    del held
    assert lossbench(*SHORT).code == 0
    (run,) = runs(store)
    assert 0 < run.data.metrics["memory/peak_mb"] < most - peak / 2
    assert lossbench("-m", "loss=mse,mae", *SHORT).code == 0
    assert [("memory/peak_mb" in r.data.metrics) for r in runs(store)].count(True) == 1


def test_a_report_that_could_not_be_written_is_no_success(lossbench, store, here, monkeypatch):
    """The folder for temporary files goes while runs train, as its disk may fill: the report needs the most of it."""
    from lossbench.analysis import files

    temporary, write = here / "temporary", files.write

    def gone(*arguments):
        shutil.rmtree(temporary)
        return write(*arguments)

    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(files, "write", gone)
    said = lossbench("-m", "loss=mse", "seed=0,1", *SHORT)
    assert said.code == 1
    assert "the report failed" in said.out
    temporary.mkdir()
    monkeypatch.setattr(files, "write", write)
    again = lossbench("-m", "loss=mse", "seed=0,1", *SHORT)
    assert again.code == 0
    assert "continuing" in again.out
    assert [run.info.status for run in runs(store)] == ["FINISHED"] * 2
