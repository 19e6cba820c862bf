"""The same comparison on this machine, on Ray and on Slurm: the same numbers, whatever is lost on the way."""

from __future__ import annotations

import json
import math
import signal
import time

import pytest
from recorded import numbers
from small import SMALL

pytestmark = pytest.mark.slow
GRID = ["loss=mse,huber", "seed=range(3)", "train.batch_size=16,20,24,28"]
WORDS = ["-m", *GRID, "dataset=regression", *SMALL["regression"], "train.steps=60", "train.eval_every=30"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.jobs=2"]


def by_key(store):
    found = {}
    for run in store.find({"lossbench.kind": "run"}):
        found.setdefault(run.data.tags["lossbench.key"], []).append(run)
    return found


def same_as_here(lossbench, store, count):
    """Every run was trained once, and again here it gives the same numbers to rounding."""
    there = by_key(store)
    assert len(there) == count
    assert all([run.info.status for run in found] == ["FINISHED"] for found in there.values())
    said = lossbench(*WORDS, "experiment_name=here")
    assert said.code == 0, said.err
    for key, found in by_key(store).items():
        one, other = (numbers(store, run) for run in found)
        assert one.keys() == other.keys(), key
        for name in one:
            for (step, a), (again, b) in zip(one[name], other[name], strict=True):
                assert step == again
                assert math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5), name


def until(true, seconds=90):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def finished(store):
    return sum(run.info.status == "FINISHED" for run in store.find({"lossbench.kind": "run"}))


@pytest.fixture
def on_ray(rays, monkeypatch):
    for name, value in rays.environment.items():
        monkeypatch.setenv(name, value)
    return ["hydra/launcher=ray", f"hydra.launcher.address={rays.address}"]


@pytest.fixture
def on_slurm(slurm, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    return SLURM


def test_ray_gives_the_numbers_of_this_machine_though_a_node_is_lost(process, lossbench, store, rays, on_ray):
    one = process(*WORDS, *on_ray)
    until(lambda: finished(store) >= 3)
    rays.kill(0)
    out, err = one.communicate(240)
    assert one.returncode == 0, out + err
    same_as_here(lossbench, store, 24)


def test_slurm_gives_the_numbers_of_this_machine_though_it_is_interrupted(process, lossbench, store, slurm, on_slurm):
    """Ctrl-C cancels the jobs; the same command goes on."""
    one = process(*WORDS, *on_slurm)
    until(lambda: finished(store) >= 2)
    one.send_signal(signal.SIGINT)
    out, err = one.communicate(60)
    assert one.returncode == 130, out + err
    assert not slurm("squeue", "--noheader").strip()
    again = process(*WORDS, *on_slurm)
    out, err = again.communicate(240)
    assert again.returncode == 0, out + err
    assert "continuing" in out
    same_as_here(lossbench, store, 24)


def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(process, store, on_slurm, slurm):
    """The limit is a minute, of which Slurm leaves it about half; the run needs more than that."""
    words = ["-m", "loss=mse", "seed=0,1", "dataset=regression", *SMALL["regression"], "train.steps=150000"]
    one = process(*words, "train.eval_every=50000", "train.record_every=50000", *on_slurm[:1], "hydra.launcher.jobs=1",
                  "hydra.launcher.timeout_min=1")  # fmt: skip
    until(lambda: slurm("squeue", "--noheader", "--format=%i").split(), 60)
    (job,) = {line.split("_")[0] for line in slurm("squeue", "--noheader", "--array", "--format=%i").split()}
    out, err = one.communicate(400)
    assert one.returncode == 0, out + err
    assert "Restarts=0" not in slurm("scontrol", "show", "job", "--oneliner", job)
    assert [run.info.status for found in by_key(store).values() for run in found] == ["FINISHED"] * 2
    steps = numbers(store, by_key(store).popitem()[1][0])["train/loss"]
    assert [step for step, _ in steps] == sorted({step for step, _ in steps})


def test_a_search_on_ray_that_is_interrupted_chooses_as_one_on_this_machine(process, lossbench, store, on_ray):
    """The losses search beside each other there; TPE makes each batch depend on all before it."""
    words = ["compare", "dataset=regression", "losses=mse,huber", "tune=14", "seeds=2", *SMALL["regression"]]
    words += ["train.steps=300", "hydra.sweeper.sampler=tpe", "hydra.sweeper.initial=4"]
    one = process(*words, *on_ray)
    until(lambda: sum(run.info.status == "FINISHED" for run in store.find({"lossbench.kind": "trial"})) >= 6)
    one.send_signal(signal.SIGINT)
    out, err = one.communicate(90)
    assert one.returncode == 130, out + err
    assert "RUNNING" not in {run.info.status for run in store.find({"lossbench.kind": "trial"})}
    again = process(*words, *on_ray)
    out, err = again.communicate(240)
    assert again.returncode == 0, out + err
    here = lossbench(*words, "hydra.sweeper.storage=sqlite:///other.db", "experiment_name=here")
    assert here.code == 0, here.err

    found = [chosen(record) for record in store.find({"lossbench.kind": "comparison"})]
    assert found[0] == found[1]
    assert set(found[0]) == {"mse", "huber"}


def chosen(record):
    """The best settings of each loss."""
    searches = [json.loads(value) for tag, value in record.data.tags.items() if tag.startswith("lossbench.search.")]
    return {one["loss"]: one["settings"] for one in searches}
