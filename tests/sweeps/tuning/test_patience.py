"""Searches whose trials pause, and stop early: what a search does is what its whole trials say that it should."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter

import pytest
from recorded import numbers, runs
from small import SMALL

from lossbench.terminal import progress

TRIALS, SPLITS, STEPS, EVERY, PATIENCE, ETA = 6, 2, 90, 5, 1, 2
RUNGS = (20, 45)
FAIR = ["-m", "hydra/sweeper=fair", f"hydra.sweeper.trials={TRIALS}", "hydra.sweeper.at_defaults=false"]
WORDS = [*FAIR, "hydra.sweeper.seed=2", "loss=mse", "seed=0", *SMALL["regression"], "search.optimizer.lr=[1e-3,3e-1]"]
WORDS += [
    f"hydra.sweeper.splits={SPLITS}",
    f"train.steps={STEPS}",
    f"train.eval_every={EVERY}",
    f"train.patience={PATIENCE}",
]


def by_trial(store, name):
    """The records of each trial's runs, by number and seed; `name` is the search's number, in order of time."""
    found = {}
    for record in sorted(runs(store, "trial"), key=lambda record: record.info.start_time):
        found.setdefault(record.data.tags["lossbench.study"], []).append(record)
    return {
        (int(record.data.tags["lossbench.trial"]), record.data.tags["seed"]): record
        for record in found[list(found)[name]]
    }


def curve(store, record):
    return sorted(numbers(store, record)["val/mae"])


def simulated(curves, seeds):
    """Outcome and steps of every trial, from the evaluations of runs that were never paused."""

    def at(number, until):
        """The steps that its runs have made then, and its score."""
        parts = [[point for point in curves[number, seed] if point[0] <= until] for seed in seeds]
        return [part[-1][0] for part in parts], sum(min(v for _, v in part) for part in parts) / len(parts)

    def over(number, until):
        return all(curves[number, seed][-1][0] <= until for seed in seeds)

    going, ended = list(range(TRIALS)), {}
    for rung, until in enumerate(RUNGS):
        ended |= {number: ("finished", at(number, until)[0]) for number in going if over(number, until)}
        finished = [number for number, (outcome, _) in ended.items() if outcome == "finished"]
        going = [number for number in going if number not in ended]
        best = sorted([*finished, *going], key=lambda number: at(number, until)[1])[
            : math.ceil(TRIALS / ETA ** (rung + 1))
        ]
        ended |= {number: ("pruned", at(number, until)[0]) for number in going if number not in best}
        going = [number for number in going if number in best]
    return ended | {number: ("finished", at(number, STEPS)[0]) for number in going}


@pytest.fixture
def shown(monkeypatch):
    """The steps that a board expects, and those that it shows as made."""
    counts = Counter()

    class Board(progress.Board):
        def expect(self, runs, steps):
            counts["expected"] += steps
            super().expect(runs, steps)

        def advance(self, steps, diverged=0):
            counts["made"] += steps
            super().advance(steps, diverged)

    monkeypatch.setattr("lossbench.terminal.progress.Board", Board)
    return counts


def test_a_search_prunes_around_trials_that_stop(lossbench, store, here, shown):
    """Also where one run of a trial has stopped while the other pauses."""
    said = lossbench(*WORDS)
    assert said.code == 0, said.err
    assert shown["made"] == shown["expected"] > 0
    whole = by_trial(store, 0)
    curves = {key: curve(store, record) for key, record in whole.items()}
    seeds = sorted({seed for _, seed in curves})
    assert len(seeds) == SPLITS
    for key, record in whole.items():
        assert record.data.tags["lossbench.outcome"] == "finished"
        assert int(record.data.tags["lossbench.steps"]) == curves[key][-1][0]
    shown.clear()
    (here / "tuning.db").unlink()
    said = lossbench(*WORDS, f"hydra.sweeper.pruning={ETA}")
    assert said.code == 0, said.err
    assert shown["made"] == shown["expected"] > 0
    found = by_trial(store, 1)
    expected = simulated(curves, seeds)
    steps = {number: [int(found[number, seed].data.tags["lossbench.steps"]) for seed in seeds] for number in expected}
    assert steps == {number: made for number, (_, made) in expected.items()}
    for (number, seed), record in found.items():  # a run that has stopped is finished, whatever becomes of its trial
        whole_run = record.data.tags["lossbench.steps"] == whole[number, seed].data.tags["lossbench.steps"]
        assert record.data.tags["lossbench.outcome"] == ("finished" if whole_run else expected[number][0])
    assert all(record.info.status == "FINISHED" for record in found.values())
    early = [number for number, (outcome, made) in expected.items() if outcome == "finished" and max(made) <= RUNGS[0]]
    assert len(early) == 2  # of the three that the first pause leaves
    assert Counter(outcome for outcome, _ in expected.values()) == {"finished": 3, "pruned": 3}
    assert [made for outcome, made in expected.values() if outcome == "pruned" and len(set(made)) > 1]
    states = dict(sqlite3.connect("tuning.db").execute("SELECT number, state FROM trials"))
    assert states == {n: "COMPLETE" if outcome == "finished" else "PRUNED" for n, (outcome, _) in expected.items()}
