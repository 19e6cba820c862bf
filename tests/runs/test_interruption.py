"""Runs and comparisons that are stopped, killed or started twice: what they leave, and how they go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from faults import server
from recorded import numbers, runs
from small import SMALL

from lossbench import tracking
from lossbench.config import run_key
from lossbench.runs.signals import Stop, interruptible

SHORT = ["train.steps=40", "train.eval_every=20"]


def wait_for(store, metric, least=1):
    """The run that is going on, once it has so many points of a metric."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for run in runs(store):
            if len(store.client.get_metric_history(run.info.run_id, metric)) >= least:
                return run
        time.sleep(0.1)
    raise AssertionError(f"no {metric} within a minute")


def test_what_was_evaluated_survives(process, store):
    started = process("train.steps=1000000", "train.eval_every=100", "train.record_every=50")
    run = wait_for(store, "val/mae", 3)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    run = store.client.get_run(run.info.run_id)
    assert run.info.status == "KILLED"
    steps = [point.step for point in store.client.get_metric_history(run.info.run_id, "val/mae")]
    assert steps == [100 * (k + 1) for k in range(len(steps))]
    assert len(steps) >= 3
    assert started.returncode == 130
    assert run.data.tags["lossbench.outcome"] == "killed"
    assert "Traceback" not in err


PACED = """
import os, time
from pathlib import Path
from lossbench.core import card

asked = []

@card(task_types=("regression",))
def held(prediction, target, *, after=0, kept=True):
    '''The absolute error. It waits, after so many calls and once something is kept, until it may go on.'''
    asked.append(1)
    there = not kept or any(Path(os.environ["LOSSBENCH_CACHE"], "checkpoints").glob("*.pt"))
    if len(asked) > after and there and not Path("go").exists():
        Path("waits").touch()
        while not Path("go").exists():
            time.sleep(0.005)
    return (prediction - target).abs().mean(-1)
"""
HELD = [
    "loss._target_=paced.held",
    "+loss.after=300",
    "optimizer=adamw",
    "train.schedule=cosine",
    "train.steps=600",
    "train.eval_every=30",
    "train.record_every=7",
    "train.checkpoint_s=0.01",
    *SMALL["regression"],
]


@pytest.fixture
def paced(here, monkeypatch):
    """Losses that wait, in a folder whose checkpoints are its own."""
    (here / "paced.py").write_text(PACED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "paced", raising=False)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(here / "cache"))
    return here


def waits(folder, started):
    """Until the loss of a command waits."""
    deadline = time.monotonic() + 60
    while not (folder / "waits").exists():
        assert time.monotonic() < deadline
        assert started.returncode is None, started.communicate(1)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, migrated, cache):
    """Every point of the run that nobody stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(migrated, folder / "mlflow.db")
    (folder / "paced.py").write_text(PACED, encoding="utf-8")
    (folder / "go").touch()
    assert server.forked(HELD, folder, {}, folder / "said").wait(120) == 0
    there = tracking.Store(f"sqlite:///{folder}/mlflow.db")
    (run,) = runs(there)
    return numbers(there, run)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_bit(number, process, lossbench, store, undisturbed, paced):
    """Stopped or killed and called again is one run, with the points of a run that nobody stopped."""
    started = process(*HELD)
    waits(paced, started)
    (run,) = runs(store)
    started.send_signal(number)
    (paced / "go").touch()
    started.communicate(timeout=60)
    told = store.client.get_run(run.info.run_id)
    assert told.info.status == ("RUNNING" if number == signal.SIGKILL else "KILLED")
    before = max(p.step for p in store.client.get_metric_history(run.info.run_id, "train/loss"))
    again = lossbench(*HELD)
    assert again.code == 0
    (resumed,) = runs(store)
    assert resumed.info.run_id == run.info.run_id
    assert resumed.info.status == "FINISHED"
    assert resumed.data.tags["lossbench.outcome"] == "finished"
    assert numbers(store, resumed) == undisturbed
    assert 0 < before < 600  # a kill may lose what the writer had not sent yet
    assert not runs(store, "superseded")


def test_a_run_that_was_killed_before_it_was_kept_is_given_up(process, lossbench, store, paced):
    words = ["loss._target_=paced.held", "+loss.after=60", "+loss.kept=false", *SHORT, *SMALL["regression"]]
    words += ["train.steps=100"]
    started = process(*words, "train.checkpoint_s=1000")
    waits(paced, started)
    started.kill()
    started.communicate(timeout=60)
    (paced / "go").touch()
    assert lossbench(*words).code == 0
    (given_up,) = runs(store, "superseded")
    assert given_up.info.status == "KILLED"
    (run,) = runs(store)
    assert run.info.status == "FINISHED"


def test_a_broken_checkpoint_is_said_and_the_run_starts_again(process, lossbench, store, undisturbed, paced):
    started = process(*HELD)
    waits(paced, started)
    started.kill()
    started.communicate(timeout=60)
    (paced / "go").touch()
    (kept,) = (paced / "cache/checkpoints").glob("*.pt")
    whole = bytearray(kept.read_bytes())
    whole[len(whole) // 2] ^= 1
    kept.write_bytes(whole)
    said = lossbench(*HELD)
    assert said.code == 0
    assert "broken" in said.out
    (run,) = runs(store)
    assert numbers(store, run) == undisturbed
    assert not kept.exists()


@pytest.mark.parametrize("after_s", [0.5, 1.5, 2.5])
def test_a_stop_while_the_program_starts_leaves_at_once(after_s, here, store):
    words = ["-m", "train.steps=100000", "loss=mse,mae", *SMALL["regression"]]
    command = [sys.executable, "-m", "lossbench", *words]  # with all its imports before it
    started = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after_s)
    assert not runs(store, "comparison")
    since = time.monotonic()
    started.send_signal(signal.SIGTERM)
    _, err = started.communicate(timeout=30)
    assert time.monotonic() - since < 5
    assert started.returncode in (130, -signal.SIGTERM)
    assert "Traceback" not in err


def test_an_interrupted_comparison_goes_on_with_the_same_records(process, store, paced):
    (paced / "mine/loss").mkdir(parents=True)
    # more calls than the short runs make, and fewer than the long ones
    (paced / "mine/loss/held.yaml").write_text("_target_: paced.held\nafter: 200\nkept: false\n", encoding="utf-8")
    words = ["-m", "--config-dir=mine", "train.steps=30,600", "loss=held,mae", "seed=range(2)", "train.eval_every=15"]
    words += SMALL["regression"]
    started = process(*words)
    waits(paced, started)
    done = [r for r in runs(store) if r.info.status == "FINISHED"]
    assert len(done) == 4
    begun = {r.info.run_id for r in runs(store)}
    started.send_signal(signal.SIGINT)
    (paced / "go").touch()
    started.communicate(timeout=60)
    (comparison,) = runs(store, "comparison")
    assert comparison.info.status == "KILLED"
    out, err = process(*words).communicate(timeout=120)
    assert "continuing" in out, err
    (comparison,) = runs(store, "comparison")
    assert comparison.info.status == "FINISHED"
    found = runs(store)
    assert len(found) == 8
    assert {r.info.status for r in found + runs(store, "superseded")} <= {"FINISHED", "KILLED"}
    assert {r.info.run_id for r in done} <= {r.info.run_id for r in found}
    assert {(r.data.tags["loss"], r.data.tags["seed"], r.data.params["train.steps"]) for r in found} == {
        (loss, seed, steps) for loss in ("held", "mae") for seed in "01" for steps in ("30", "600")
    }
    assert {r.info.run_id for r in found} == begun


def turned_into_another_error():
    """As Python does with an interrupt while a class is made, and a font that is being read."""
    with Stop(), interruptible():
        signal.raise_signal(signal.SIGINT)  # the first asks
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error


def wrong_by_itself():
    with interruptible():
        raise RuntimeError("nobody asked")


def test_an_interrupt_that_a_library_turns_into_another_error_stays_one():
    with pytest.raises(KeyboardInterrupt) as met:
        turned_into_another_error()
    assert isinstance(met.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError):
        wrong_by_itself()


def test_a_comparison_that_is_stopped_at_its_report_has_only_that_left_to_do(lossbench, store, monkeypatch):
    from lossbench.analysis import report

    words = ["-m", "loss=mse,mae", *SHORT, *SMALL["regression"]]

    def stopped(*asked, **how):
        signal.raise_signal(signal.SIGTERM)
        return made(*asked, **how)

    made = report.make
    with monkeypatch.context() as patched:
        patched.setattr(report, "make", stopped)
        assert lossbench(*words).code == 130
    before = {run.info.run_id for run in runs(store)}
    assert lossbench(*words).code == 0
    assert {run.info.run_id for run in runs(store)} == before
    (comparison,) = runs(store, "comparison")
    assert comparison.info.status == "FINISHED"


def test_two_processes_open_one_new_store_at_once(process, here):
    (here / "mlflow.db").unlink()
    both = [process(*SHORT, f"seed={seed}") for seed in range(2)]
    ended = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], ended
    assert len(runs(tracking.Store(f"sqlite:///{here}/mlflow.db"))) == 2


def test_a_comparison_that_is_going_on_is_nobody_elses(process, store):
    words = ["-m", "loss=mse,mae", "train.steps=100000", *SMALL["regression"]]
    one = process(*words)
    wait_for(store, "val/mae")
    other = process(*words)
    deadline = time.monotonic() + 60
    while len(found := runs(store, "comparison")) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    for each in (one, other):
        each.send_signal(signal.SIGTERM)
        each.communicate(timeout=60)
    assert len(found) == 2
    assert not runs(store, "superseded")


def test_a_stop_in_the_last_step_is_not_lost():
    stop = Stop()
    stop.__enter__()
    signal.raise_signal(signal.SIGINT)
    assert stop()
    with pytest.raises(KeyboardInterrupt):
        stop.__exit__(None, None, None)


def test_another_loss_under_the_same_name_is_another_run(configured, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = set()
    for factor in (1, 2):
        (tmp_path / "edited.py").write_text(f"def mine(p, t):\n    return {factor} * (p - t).abs().mean(-1)\n")
        keys.add(run_key.key(configured("regression", "loss._target_=edited.mine")))
    assert len(keys) == 2
    assert run_key.key(configured("regression")) == run_key.key(configured("regression"))


def test_a_stop_between_two_trainings_reaches_the_next():
    outer, inner = Stop(), Stop()
    outer.__enter__()
    signal.raise_signal(signal.SIGINT)
    inner.__enter__()
    assert inner()
    with pytest.raises(KeyboardInterrupt):
        inner.__exit__(None, None, None)
    with pytest.raises(KeyboardInterrupt):
        outer.__exit__(None, None, None)


LATE = """
import atexit, os, signal, sys, time
from lossbench.cli.main import console
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(5)))
sys.argv = ["lossbench", "--version"]
console()
"""


def test_a_stop_while_the_program_ends_changes_neither_its_exit_code_nor_what_it_said():
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, env=buffered)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("lossbench ")
