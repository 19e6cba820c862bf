"""Runs that stop early: their record is that of a run that was to make no more steps."""

from __future__ import annotations

from collections import Counter

import pytest
from recorded import numbers, runs
from small import SMALL

from lossbench.config import run_key
from lossbench.terminal import progress

STEPS = 400
WORDS = ["loss=huber", *SMALL["regression"], "train.eval_every=5", "optimizer.lr=0.01"]
PATIENT = [*WORDS, f"train.steps={STEPS}", "train.patience=2"]


def end_of(record):
    return int(record.data.tags["lossbench.steps"])


def assert_same(store, record, other, **tolerance):
    found, expected = numbers(store, record), numbers(store, other)
    assert found.keys() == expected.keys()
    for name, points in found.items():
        assert [step for step, _ in points] == [step for step, _ in expected[name]], name
        values = [value for _, value in expected[name]]
        assert [value for _, value in points] == pytest.approx(values, **tolerance), name


@pytest.fixture
def shown(monkeypatch):
    """The steps that a bar shows as made."""
    counts = Counter()
    before = progress.Bar.advance

    def advance(self, steps, diverged):
        counts["made"] += steps
        before(self, steps, diverged)

    monkeypatch.setattr(progress.Bar, "advance", advance)
    return counts


def test_a_run_that_stops_early_is_one_of_so_many_steps(lossbench, store, shown):
    said = lossbench(*PATIENT)
    assert said.code == 0, said.err
    assert shown["made"] == STEPS
    (early,) = runs(store)
    assert early.data.tags["lossbench.outcome"] == "finished"
    assert early.info.status == "FINISHED"
    end, best = end_of(early), int(early.data.tags["lossbench.best_step"])
    assert best + 10 == end < STEPS
    history = numbers(store, early)
    assert history["val/mae"][-1][0] == history["test_last/mae"][0][0] == end
    assert history["test/mae"][0][0] == best
    assert lossbench(*WORDS, f"train.steps={end}").code == 0
    (other,) = (record for record in runs(store) if record.info.run_id != early.info.run_id)
    assert_same(store, early, other, rel=0, abs=0)


def test_a_comparison_stops_each_run_as_it_stops_alone(lossbench, store):
    said = lossbench("-m", *PATIENT, "seed=0,1,2")
    assert said.code == 0, said.err
    together = {record.data.tags["seed"]: record for record in runs(store)}
    assert len({end_of(record) for record in together.values()}) > 1
    for seed, record in together.items():
        assert lossbench(*PATIENT, f"seed={seed}").code == 0
        known = {one.info.run_id for one in together.values()}
        alone = max(
            (one for one in runs(store) if one.info.run_id not in known and one.data.tags["seed"] == seed),
            key=lambda one: one.info.start_time,
        )
        assert_same(store, record, alone, rel=2e-3, abs=1e-4)


def test_patience_is_a_setting_of_a_run(configured):
    keys = [run_key.key(configured("regression", *words)) for words in ([], ["train.patience=3"], ["train.patience=4"])]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("patience", ["0", "-1"])
def test_patience_below_one(patience, lossbench):
    said = lossbench(f"train.patience={patience}")
    assert said.code == 2
    assert said.err == f"lossbench: train.patience={patience}: has to be at least 1, or null\n"


def test_patience_is_not_searched(lossbench):
    said = lossbench("-m", "hydra/sweeper=fair", "loss=mse", "train.patience=interval(1,9)")
    assert said.code == 2
    assert "train.patience: is no part of a search" in said.err
