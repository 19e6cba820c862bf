"""Comparisons that are submitted go on without us; they are looked at, and cancelled, by their names."""

from __future__ import annotations

import re
import signal
import time

import pytest
from small import SMALL

pytestmark = pytest.mark.slow
SHORT = ["dataset=regression", "losses=mse,huber", "seeds=3", *SMALL["regression"], "train.steps=40"]
LONG = [*SHORT, "train.steps=20000000", "train.checkpoint_s=2"]


@pytest.fixture(params=["here", "slurm", "ray"])
def launcher(request, monkeypatch):
    """The words of a launcher, with its cluster in the environment."""
    if request.param == "here":
        return []
    cluster = request.getfixturevalue({"slurm": "slurm", "ray": "ray_jobs"}[request.param])
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    if request.param == "ray":
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", cluster.jobs)
        return ["hydra/launcher=ray"]
    return ["hydra/launcher=slurm", "hydra.launcher.jobs=1"]


def submitted(lossbench, *words):
    said = lossbench("submit", *words)
    assert said.code == 0, said.err
    return re.match(r"submitted (\S+)", said.out)[1]


def until(lossbench, name, words, seconds=120):
    """Wait until the status has one of these words."""
    deadline = time.monotonic() + seconds
    while True:
        said = lossbench("status", name)
        assert said.code == 0, said.err
        if any(word in said.out for word in words):
            return said.out
        assert time.monotonic() < deadline, said.out
        assert "killed" not in said.out, said.out
        time.sleep(0.5)


def test_a_submitted_comparison_finishes_and_reports(lossbench, launcher):
    name = submitted(lossbench, *SHORT, *launcher)
    assert "6 of 6 runs have ended: 6 finished" in until(lossbench, name, [f"{name}: finished"])
    said = lossbench("report", name)
    assert said.code == 0
    assert "huber" in said.out
    assert lossbench("cancel", name).code == 2


def test_a_cancelled_comparison_ends_with_what_it_has(lossbench, store, launcher):
    """Also where it ignores Ctrl-C, as what a shell starts in the background does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        name = submitted(lossbench, *LONG, *launcher)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lossbench, name, ["training"])
    said = lossbench("cancel", name)
    assert said.code == 0, said.err
    assert name in said.out
    found = store.find({"lossbench.comparison": name})
    assert {run.info.status for run in found} == {"KILLED"}
