"""tracking.artifacts decides what a run leaves as files, and nothing else of its record."""

from __future__ import annotations

import pytest
from recorded import artifacts, numbers, runs
from small import SMALL

import lossbench as api
from lossbench.core import ConfigError
from lossbench.sweeps import jobs

# one test split for all seeds, so that predictions are recorded
SHORT = [*SMALL["regression"], "dataset.seed=0", "train.steps=40", "train.eval_every=20"]
MODEL = {"config.yaml", "model.json", "model.safetensors"}
LEFT = {"none": set(), "weights": MODEL, "all": MODEL | {"pictures", "predictions.npz"}}


def test_a_run_leaves_what_is_asked_for_and_the_same_record(lossbench, store):
    records = {}
    for asked, left in LEFT.items():
        assert lossbench("dataset=regression", f"tracking.artifacts={asked}", *SHORT).code == 0
        run = max(runs(store), key=lambda run: run.info.start_time)
        assert artifacts(store, run) == left
        assert run.data.params.pop("tracking.artifacts") == asked
        records[asked] = run, numbers(store, run)
    keys = {run.data.tags["lossbench.key"] for run, _ in records.values()}
    assert len(keys) == 1
    assert len(records) == len(runs(store))
    expected, points = records["all"]
    for run, found in records.values():
        assert found == points
        assert run.data.params == expected.data.params
        assert run.data.tags.keys() == expected.data.tags.keys()


def test_a_run_without_weights_says_how_to_get_them(lossbench, store, here):
    assert lossbench("dataset=regression", "tracking.artifacts=none", *SHORT).code == 0
    (run,) = runs(store)
    (here / "rows.csv").write_text("x\n1\n", encoding="utf-8")
    said = lossbench("predict", run.info.run_id, "rows.csv")
    assert said.code == 2
    assert "left no weights" in said.err
    assert "tracking.artifacts=weights" in said.err
    assert len(said.err.strip().splitlines()) == 1
    found = api.load(run.info.run_id)
    assert found.metrics["test"]
    for part in ("model", "settings"):
        with pytest.raises(ConfigError, match=r"tracking\.artifacts=weights"):
            getattr(found, part)


def test_many_runs_leave_no_files_unless_they_are_asked_for(lossbench, store, here, monkeypatch):
    monkeypatch.setattr(jobs, "MOST", 3)
    grid = ["-m", "dataset=regression", "loss=mse,huber", "seed=1,2", *SHORT]
    said = lossbench(*grid)
    assert said.code == 0, said.err
    assert said.out.count("tracking.artifacts=all (or weights) keeps them") == 1
    assert [artifacts(store, run) for run in runs(store)] == [set()] * 4
    assert (here / "report.html").is_file()
    assert lossbench("report").code == 0
    said = lossbench(*grid, "tracking.artifacts=weights")
    assert "keeps them" not in said.out
    assert sorted(map(len, (artifacts(store, run) for run in runs(store)))) == [0, 0, 0, 0, 3, 3, 3, 3]
    assert len({run.data.tags["lossbench.key"] for run in runs(store)}) == 4


def test_few_runs_leave_all(lossbench, store):
    said = lossbench("-m", "dataset=regression", "loss=mse,huber", "seed=1", *SHORT)
    assert "keeps them" not in said.out
    assert [artifacts(store, run) for run in runs(store)] == [LEFT["all"]] * 2
