"""Equal tuning, whole: the same budget for every loss, validation alone until it is spent, and no luck kept."""

from __future__ import annotations

import json
import math
import signal
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest
from recorded import numbers, runs
from small import SMALL

from lossbench.core import Splits
from lossbench.runs import builders

SHORT = [*SMALL["regression"], "train.steps=40", "train.eval_every=20"]
FAIR = ["-m", "hydra/sweeper=fair"]
TUNED = "hydra.sweeper.at_defaults=false"  # without the runs that a search is compared with

LOSSES = """
import torch
from lossbench.core import card

@card(task_types=("regression",))
def squared(prediction, target):
    return (prediction - target).square().mean(-1)

@card(task_types=("regression",))
def tenfold(prediction, target):
    return 10 * squared(prediction, target)

@card(task_types=("regression",))
def faint(prediction, target):
    return (prediction - target).abs().mean(-1) / 1000

@card(task_types=("regression",))
def nothing(prediction, target):
    return 0 * prediction.sum(-1)

@card(task_types=("regression",))
def nought(prediction, target):
    return nothing(prediction, target)

class Learning(torch.nn.Module):
    card = squared.card

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def forward(self, prediction, target):
        return (prediction + self.shift - target).abs().mean(-1)
"""


@pytest.fixture
def theirs(here, monkeypatch):
    (here / "theirs.py").write_text(LOSSES)
    (here / "loss").mkdir()
    for name in ("squared", "tenfold", "faint", "nothing", "nought", "Learning"):
        (here / "loss" / f"{name}.yaml").write_text(f"_target_: theirs.{name}\n")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    return ["--config-dir", str(here)]


def trials(store):
    """The trials' records, by loss and number."""
    found = defaultdict(dict)
    for record in runs(store, "trial"):
        found[record.data.tags["loss"]][int(record.data.tags["lossbench.trial"])] = record
    return found


def spent(store):
    return {
        loss: sum(int(record.data.tags["lossbench.steps"]) for record in own.values())
        for loss, own in trials(store).items()
    }


def settings_of(record, *names):
    return {name: float(record.data.params[name]) for name in names}


def arms(store):
    return Counter((run.data.tags["lossbench.arm"], run.data.tags["loss"]) for run in runs(store))


def test_every_loss_gets_the_same_trials_then_fresh_seeds(lossbench, store, here):
    said = lossbench(*FAIR, "hydra.sweeper.trials=4", "hydra.sweeper.seeds=6", "loss=mse,huber", *SHORT)
    assert said.code == 0, said.err
    found = trials(store)
    assert {loss: sorted(own) for loss, own in found.items()} == {"mse": [0, 1, 2, 3], "huber": [0, 1, 2, 3]}
    assert spent(store) == {"mse": 160, "huber": 160}
    shared = ("optimizer.lr", "optimizer.weight_decay")
    for number in range(4):
        assert settings_of(found["mse"][number], *shared) == settings_of(found["huber"][number], *shared)
    assert len({record.data.params["loss.delta"] for record in found["huber"].values()}) == 4
    for record in runs(store, "trial"):
        assert record.info.status == "FINISHED"
        assert not [name for name in record.data.metrics if name.startswith("test")]
        assert math.isfinite(float(record.data.tags["lossbench.objective"]))
    assert arms(store) == {(arm, loss): 6 for arm in ("tuned", "default") for loss in ("mse", "huber")}
    searched = {record.data.tags["seed"] for record in runs(store, "trial")}
    assert not searched & {run.data.tags["seed"] for run in runs(store)}
    best = max(found["huber"].values(), key=lambda record: -float(record.data.tags["lossbench.objective"]))
    for run in runs(store):
        if run.data.tags["lossbench.arm"] == "tuned" and run.data.tags["loss"] == "huber":
            names = (*shared, "loss.delta")
            assert settings_of(run, *names) == settings_of(best, *names)
    assert "tuned against default settings" in said.out
    assert "Tuning" in (here / "report.html").read_text()
    (comparison,) = runs(store, "comparison")
    assert comparison.info.status == "FINISHED"
    told = [json.loads(v) for tag, v in comparison.data.tags.items() if tag.startswith("lossbench.search.")]
    assert {one["loss"]: one["budget"] for one in told} == {"mse": {"trials": 4}, "huber": {"trials": 4}}


@dataclass(frozen=True)
class Guarded:
    """Splits whose test split is kept until all trials are told."""

    splits: Splits
    until: int

    def __getattr__(self, name):
        if name in ("test", "more"):
            with sqlite3.connect("tuning.db") as storage:
                (told,) = storage.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
            if told < self.until:
                raise AssertionError(f"{name} was read after {told} trials of {self.until}")
        return getattr(self.splits, name)

    def __iter__(self):
        yield from (("train", self.train), ("validation", self.validation), ("test", self.test), *self.more.items())


@pytest.mark.parametrize("more", [[], ["hydra.sweeper.pruning=3"], ["hydra.sweeper.splits=2"]])
def test_no_test_split_is_read_before_the_search_has_ended(more, lossbench, store, monkeypatch):
    made = builders.splits
    until = 6 if not more or "splits" in more[0] else 2
    monkeypatch.setattr(builders, "splits", lambda cfg: Guarded(made(cfg), until))
    said = lossbench(*FAIR, "hydra.sweeper.trials=3", "loss=mse,mae", "seed=0", TUNED, *more, *SHORT)
    assert said.code == 0, said.err
    assert all(run.data.tags["lossbench.outcome"] == "finished" for run in runs(store))
    if "splits" in "".join(more):
        assert Counter(r.data.tags["lossbench.trial"] for r in runs(store, "trial")) == {str(n): 4 for n in range(3)}


def test_a_loss_that_needs_its_own_rate_wins_once_it_is_tuned(theirs, lossbench, store):
    """Faint is the robust loss of the two, and moves a thousandth as far at the rate of the other."""
    said = lossbench(
        *theirs,
        *FAIR,
        "hydra.sweeper.trials=10",
        "loss=squared,faint",
        "seed=range(6)",
        "optimizer=sgd",
        "optimizer.weight_decay=0",
        "search.optimizer.lr=[1e-3,30]",
        "dataset.outliers.fraction=0.2",
        "dataset.outliers.scale=10",
        "train.steps=300",
        "train.eval_every=50",
    )
    assert said.code == 0, said.err
    assert "at default settings, squared is best; after tuning, faint is best" in " ".join(said.out.split())
    outcomes = Counter(record.data.tags["lossbench.outcome"] for record in runs(store, "trial"))
    assert outcomes["diverged"]  # counted, and never chosen
    assert sum(outcomes.values()) == 20


def test_where_no_setting_matters_nobody_wins(theirs, lossbench, store):
    said = lossbench(
        *theirs,
        *FAIR,
        TUNED,
        "hydra.sweeper.trials=3",
        "loss=nothing,nought",
        "seed=range(6)",
        "optimizer=sgd",
        "optimizer.weight_decay=0",
        *SHORT,
    )
    assert said.code == 0, said.err
    assert "indistinguishable" in said.out
    assert "is best" not in said.out
    (comparison,) = runs(store, "comparison")
    told = [json.loads(v) for tag, v in comparison.data.tags.items() if tag.startswith("lossbench.search.")]
    assert [one["chosen"] for one in told] == [0, 0]


def test_a_budget_of_steps_is_spent_to_the_last_one(lossbench, store):
    """Though some trials diverge and cost less, so that others have to be asked for."""
    words = ["optimizer=sgd", "search.optimizer.lr=[1e-2,1e4]", "optimizer.weight_decay=0"]
    said = lossbench(*FAIR, "hydra.sweeper.steps=190", "loss=mse,mae", "seed=0", TUNED, *words, *SHORT)
    assert said.code == 0, said.err
    outcomes = Counter(record.data.tags["lossbench.outcome"] for record in runs(store, "trial"))
    assert outcomes["diverged"]
    assert spent(store) == {"mse": 190, "mae": 190}
    assert all(record.info.status == "FINISHED" for record in runs(store, "trial"))


def test_a_budget_of_seconds_ends(lossbench, store):
    said = lossbench(*FAIR, "hydra.sweeper.seconds=1", TUNED, "loss=mse", "seed=0", *SHORT)
    assert said.code == 0, said.err
    took = sum(record.data.metrics["time/train_s"] for record in runs(store, "trial"))
    assert took >= 1
    assert arms(store) == {("tuned", "mse"): 1}


def test_halving_lets_the_best_go_on_as_if_never_paused(lossbench, store, here, cache):
    left = set(cache.glob("checkpoints/*.pt"))
    words = ["hydra.sweeper.trials=6", "loss=mse,mae", "seed=0", TUNED, *SMALL["regression"], "train.steps=60"]
    assert lossbench(*FAIR, *words, "train.eval_every=10", "hydra.sweeper.pruning=3").code == 0
    pruned = trials(store)
    steps = {loss: sorted(int(r.data.tags["lossbench.steps"]) for r in own.values()) for loss, own in pruned.items()}
    assert steps == {"mse": [20, 20, 20, 20, 60, 60], "mae": [20, 20, 20, 20, 60, 60]}
    told = Counter(r.data.tags["lossbench.outcome"] for own in pruned.values() for r in own.values())
    assert told == {"pruned": 8, "finished": 4}
    (here / "tuning.db").unlink()
    assert lossbench(*FAIR, *words, "train.eval_every=10").code == 0
    whole = {}
    for record in runs(store, "trial"):
        whole.setdefault((record.data.tags["loss"], record.data.tags["lossbench.trial"]), []).append(record)
    for loss, own in pruned.items():
        for number, record in own.items():
            newest = max(whole[loss, str(number)], key=lambda one: one.info.start_time)
            assert newest.info.run_id != record.info.run_id
            full = numbers(store, newest)
            for name, points in numbers(store, record).items():
                assert points == [
                    (step, pytest.approx(value, rel=2e-3, abs=1e-4))
                    for step, value in full[name]
                    if step <= int(record.data.tags["lossbench.steps"])
                ]
    assert set(cache.glob("checkpoints/*.pt")) == left


def test_the_same_command_tops_a_search_up_in_the_store_that_has_its_trials(lossbench, store, here):
    words = ["loss=mse,mae", "seed=0", TUNED, *SHORT]
    assert lossbench(*FAIR, "hydra.sweeper.trials=2", *words).code == 0
    said = lossbench(*FAIR, "hydra.sweeper.trials=2", *words, f"tracking.uri=sqlite:///{here}/other.db")
    assert said.code == 2
    assert "not recorded in tracking.uri" in said.err
    assert len(said.err.splitlines()) == 2
    before = {record.info.run_id for record in runs(store, "trial")}
    assert lossbench(*FAIR, "hydra.sweeper.trials=2", *words).code == 0
    assert {record.info.run_id for record in runs(store, "trial")} == before
    said = lossbench(*FAIR, "hydra.sweeper.trials=5", *words)
    assert said.code == 0, said.err
    assert before < {record.info.run_id for record in runs(store, "trial")}
    assert {loss: sorted(own) for loss, own in trials(store).items()} == {"mse": [*range(5)], "mae": [*range(5)]}
    assert "5 trials" in said.out
    for comparison in runs(store, "comparison"):
        assert len([tag for tag in comparison.data.tags if tag.startswith("lossbench.search.")]) == 2


@pytest.mark.parametrize("sampler", ["quasi", "grid", "tpe"])
def test_other_samplers_are_as_fair_and_as_repeatable(sampler, lossbench, store, here):
    words = [*FAIR, f"hydra.sweeper.sampler={sampler}", "hydra.sweeper.trials=6", "hydra.sweeper.initial=3"]
    words += [TUNED]
    tried = []
    for _ in range(2):
        assert lossbench(*words, "hydra.sweeper.batch=2", "loss=mse,huber", "seed=0", *SHORT).code == 0
        newest = trials(store)
        assert {loss: sorted(own) for loss, own in newest.items()} == {"mse": [*range(6)], "huber": [*range(6)]}
        names = ("optimizer.lr", "optimizer.weight_decay")
        tried.append({(loss, n): settings_of(r, *names) for loss, own in newest.items() for n, r in own.items()})
        (here / "tuning.db").unlink()
        for record in runs(store, "trial"):
            store.client.delete_run(record.info.run_id)
    assert tried[0] == tried[1]
    assert len({str(one) for one in tried[0].values()}) >= 6


def test_equal_steps_undo_a_factor(theirs, lossbench, store):
    """Ten times the squared error, at a tenth of the rate, is the squared error."""
    said = lossbench(
        *theirs,
        *FAIR,
        "hydra.sweeper.trials=1",
        "hydra.sweeper.matched=true",
        "loss=squared,tenfold",
        "seed=range(2)",
        "optimizer=sgd",
        "optimizer.lr=interval(1e-3,1e-2)",
        *SHORT,
    )
    assert said.code == 0, said.err
    by = {(run.data.tags["lossbench.arm"], run.data.tags["loss"], run.data.tags["seed"]): run for run in runs(store)}
    assert arms(store)["matched", "tenfold"] == 2
    assert ("matched", "squared") not in arms(store)
    for seed in "01":
        one, other = by["default", "squared", seed], by["matched", "tenfold", seed]
        assert float(other.data.params["optimizer.lr"]) == pytest.approx(0.001, rel=1e-3)
        assert other.data.metrics["test/mae"] == pytest.approx(one.data.metrics["test/mae"], rel=1e-3)
        assert by["default", "tenfold", seed].data.metrics["test/mae"] != pytest.approx(
            one.data.metrics["test/mae"], rel=0.01
        )


def test_whichever_launcher_trains(lossbench, store):
    words = ["hydra/launcher=basic", "hydra.sweeper.trials=2", "loss=mse,mae", "seed=0"]
    said = lossbench(*FAIR, *words, *SHORT)
    assert said.code == 0, said.err
    assert spent(store) == {"mse": 80, "mae": 80}
    assert arms(store) == {(arm, loss): 1 for arm in ("tuned", "default") for loss in ("mse", "mae")}
    assert [run.info.status for run in runs(store, "comparison")] == ["FINISHED"]


def test_compare_tunes_when_asked(lossbench, store):
    said = lossbench("compare", "losses=mse,mae", "seeds=2", "tune=2", *SHORT)
    assert said.code == 0, said.err
    assert spent(store) == {"mse": 80, "mae": 80}
    assert {run.data.tags["seed"] for run in runs(store)} == {"0", "1"}


def test_each_of_several_datasets_has_its_own_searches(lossbench, store):
    said = lossbench(
        *FAIR, "hydra.sweeper.trials=2", "loss=mse,mae", "seed=0", "dataset.outliers.fraction=0,0.2", *SHORT
    )
    assert said.code == 0, said.err
    studies = Counter(record.data.tags["lossbench.study"] for record in runs(store, "trial"))
    assert sorted(studies.values()) == [2, 2, 2, 2]


def wait(ready):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError("nothing happened within ninety seconds")


def test_a_search_that_was_killed_ends_as_if_it_had_not(theirs, process, lossbench, store, here):
    """Trials of a loss that learns take turns, so that some have ended when the others are stopped."""
    words = [*theirs, *FAIR, "hydra.sweeper.trials=6", "loss=Learning", "seed=0", TUNED]
    words += [*SMALL["regression"], "train.steps=600", "train.eval_every=300"]
    started = process(*words)
    wait(lambda: sum(record.info.status == "FINISHED" for record in runs(store, "trial")) >= 2)
    started.send_signal(signal.SIGKILL)
    started.communicate(timeout=60)
    before = {record.info.run_id for record in runs(store, "trial") if record.info.status == "FINISHED"}
    assert 2 <= len(before) < 6
    again = lossbench(*words)
    assert again.code == 0, again.err
    found = trials(store)["Learning"]
    assert sorted(found) == [*range(6)]
    assert len(runs(store, "trial")) == 6
    assert before <= {record.info.run_id for record in found.values()}
    assert all(record.info.status == "FINISHED" for record in found.values())
    with sqlite3.connect("tuning.db") as storage:
        assert storage.execute("SELECT state, COUNT(*) FROM trials GROUP BY state").fetchall() == [("COMPLETE", 6)]
    (here / "tuning.db").unlink()
    for record in runs(store, "trial"):
        store.client.delete_run(record.info.run_id)
    assert lossbench(*words).code == 0
    for number, record in trials(store)["Learning"].items():
        assert record.data.params == found[number].data.params
        assert numbers(store, record) == numbers(store, found[number])
