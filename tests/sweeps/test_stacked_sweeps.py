"""Sweeps of stacks and of worker processes: the records of single runs, and faults that stay where they arise."""

from __future__ import annotations

import math

import pytest
from recorded import artifacts, numbers, runs
from small import SMALL

from lossbench.core import machine
from lossbench.sweeps import planning, timing
from lossbench.sweeps.engines import processes
from lossbench.sweeps.planning import Schedule

SHORT = [*SMALL["regression"], "train.steps=40", "train.eval_every=20"]

FAULTY = """
from lossbench.core import card

def narrow(prediction, target, *, spoil):
    if spoil and prediction.std() > spoil:
        raise RuntimeError(f"predictions wider than {spoil}")
    return (prediction - target).abs().mean(-1)

largest = []

@card(task_types=("regression",))
def hungry(prediction, target, *, room=128):
    largest.append(len(prediction))
    if len(prediction) > room:
        raise MemoryError(f"{len(prediction)} examples in room for {room}")
    return (prediction - target).abs().mean(-1)
"""


@pytest.fixture
def faulty(here, monkeypatch):
    (here / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(__import__("sys").modules, "faulty", raising=False)


@pytest.fixture
def schedule(monkeypatch):
    """The schedule that the planner picks."""

    def picked(*schedule):
        monkeypatch.setattr(timing, "fastest", lambda runs, datasets: Schedule(*schedule))

    return picked


def by_name(store):
    return {(r.data.params["loss"], r.data.params["seed"], r.data.params["train.steps"]): r for r in runs(store)}


def close(one, other):
    assert one.keys() == other.keys()
    for name, points in one.items():
        assert [step for step, _ in points] == [step for step, _ in other[name]], name
        for (_, a), (_, b) in zip(points, other[name], strict=True):
            assert math.isclose(a, b, rel_tol=2e-3, abs_tol=1e-4), name


@pytest.mark.parametrize(
    ("dataset", "losses"), [("regression", "mse,huber"), ("imbalanced", "bce,hinge"), ("mnist", "cross_entropy,focal")]
)
def test_stacked_runs_leave_the_records_of_single_ones(dataset, losses, lossbench, store, schedule):
    words = [f"dataset={dataset}", *SMALL[dataset], "train.steps=24", "train.eval_every=8"]
    schedule(4)
    said = lossbench("-m", f"loss={losses}", "seed=range(2)", *words)
    assert said.code == 0, said.err
    stacked = by_name(store)
    assert {run.data.tags["lossbench.stack"] for run in stacked.values()} == {"4"}
    for (loss, seed, _), run in stacked.items():
        assert f"{loss} on {dataset}, seed {seed}: test" in said.out
        assert lossbench(f"loss={loss}", f"seed={seed}", *words).code == 0
        alone = next(r for r in runs(store) if r.data.tags["lossbench.stack"] == "1")
        close(numbers(store, run), numbers(store, alone))
        assert run.info.status == "FINISHED"
        assert artifacts(store, run) == artifacts(store, alone)
        assert run.data.params == alone.data.params
        for tag in ("lossbench.data", "lossbench.key", "lossbench.best_step", "lossbench.outcome", "mlflow.runColor"):
            assert run.data.tags[tag] == alone.data.tags[tag], tag
        store.client.delete_run(alone.info.run_id)


def test_one_that_fails_leaves_the_others_to_finish(lossbench, store, faulty, schedule):
    schedule(4)
    said = lossbench(
        "-m", "loss._target_=faulty.narrow", "+loss.spoil=0,0.3", "seed=range(2)", "optimizer.lr=1e-2", *SHORT
    )
    assert said.code == 1
    assert "predictions wider than 0.3" in said.err
    ended = {(r.data.params["loss.spoil"], r.info.status) for r in runs(store)}
    assert ended == {("0", "FINISHED"), ("0.3", "FAILED")}
    for run in runs(store):
        for name, points in numbers(store, run).items():
            steps = [step for step, _ in points]
            assert steps == sorted(set(steps)), name  # what was told before the stack was halved is told once
        if run.info.status == "FINISHED":
            assert [step for step, _ in numbers(store, run)["val/mae"]] == [20, 40]
    assert [run.info.status for run in runs(store, "comparison")] == ["FAILED"]


def test_a_stack_for_which_there_is_no_room_is_halved(lossbench, store, faulty, schedule):
    schedule(5)
    said = lossbench("-m", "loss._target_=faulty.hungry", "seed=range(5)", "train.batch_size=50", *SHORT)
    assert said.code == 0, said.err
    assert {run.info.status for run in runs(store)} == {"FINISHED"}
    import faulty as module

    assert max(module.largest) == 250
    assert len(runs(store)) == 5


def test_one_that_cannot_train_is_refused_before_any_does(lossbench, store):
    said = lossbench("-m", "loss=mse,mae", "train.batch_size=32,500", *SHORT)
    assert said.code == 2
    assert "train.batch_size=500" in said.err
    assert "nothing was trained" in said.err
    assert runs(store) == runs(store, "comparison") == []


def test_runs_that_diverge_leave_their_stack(lossbench, store, schedule):
    schedule(4)
    said = lossbench("-m", "optimizer=sgd", "optimizer.lr=1e-2,1e6", "seed=range(2)", *SHORT)
    assert said.code == 0
    assert "mse optimizer.lr=1000000.0 on regression, seed 0: diverged at step" in said.out
    assert "2 diverged" in said.out
    outcomes = [(r.data.params["optimizer.lr"], r.data.tags["lossbench.outcome"]) for r in runs(store)]
    assert sorted(outcomes) == [("0.01", "finished")] * 2 + [("1000000.0", "diverged")] * 2


@pytest.mark.slow
def test_worker_processes_leave_the_records_of_single_runs(lossbench, store, schedule):
    schedule(2, 1, 2)
    assert lossbench("-m", "loss=mse,mae", "seed=range(2)", *SHORT).code == 0
    in_workers = {key: numbers(store, run) for key, run in by_name(store).items()}
    assert len(in_workers) == 4
    assert lossbench("-m", "hydra/launcher=basic", "loss=mse,mae", "seed=range(2)", *SHORT).code == 0
    for key, run in by_name(store).items():
        close(in_workers[key], numbers(store, run))


def test_each_worker_sees_a_gpu_of_its_own(lossbench, here, monkeypatch, schedule):
    """There need be none: what CUDA_VISIBLE_DEVICES says to a worker is what its runs will use."""
    (here / "seen.py").write_text(
        "import os, pathlib\n"
        "def seen(prediction, target):\n"
        "    (pathlib.Path.cwd() / f\"gpu-{os.environ['CUDA_VISIBLE_DEVICES']}\").touch()\n"
        "    return (prediction - target).abs().mean(-1)\n"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(timing, "gpus", lambda run: ["7", "8"])
    schedule(1, 1, 2)
    words = ["-m", "loss._target_=seen.seen", "dataset=regression", "seed=range(4)", *SHORT]
    assert lossbench(*words).code == 0
    assert {path.name for path in here.glob("gpu-*")} == {"gpu-0", "gpu-7", "gpu-8"}  # this process tries it first


@pytest.mark.skipif(machine.cores() < 2, reason="one core")
def test_groups_side_by_side_give_the_numbers_of_groups_in_turn(lossbench, here, store, monkeypatch):
    grid = ["-m", "loss=mse,huber", "seed=0,1", "train.batch_size=16,20,24,28", "dataset=regression", *SHORT]
    assert lossbench(*grid).code == 0
    in_turn = {key: numbers(store, run) for key, run in by_key(store).items()}
    begun = []
    started = processes._started
    monkeypatch.setattr(processes, "_started", lambda gpu: begun.append(gpu) or started(gpu))
    monkeypatch.setattr(planning, "START_S", 0.0)
    assert lossbench(*grid, "experiment_name=side").code == 0
    assert len(begun) == machine.cores()
    beside = [run for run in runs(store) if run.data.params["experiment_name"] == "side"]
    assert len(beside) == len(in_turn) == 16
    for run in beside:
        close(in_turn[run.data.tags["lossbench.key"]], numbers(store, run))


def by_key(store):
    return {run.data.tags["lossbench.key"]: run for run in runs(store)}
