"""Comparisons that add seeds until losses are decided, and what runs on one test split leave for that."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from recorded import artifacts, runs
from sklearn.metrics import accuracy_score
from small import SMALL

from lossbench.analysis import looks, records
from lossbench.analysis.population import Population, folded
from lossbench.sweeps import comparison

SHORT = [*SMALL["regression"], "train.steps=60", "train.eval_every=30"]


def seeds(store):
    """By loss, the seeds that it was run on."""
    found = {}
    for run in runs(store):
        found.setdefault(run.data.params["loss"], set()).add(int(run.data.params["seed"]))
    return found


def told(store):
    (comparison,) = runs(store, "comparison")
    return json.loads(comparison.data.tags["lossbench.looks"])


def test_losses_that_are_decided_leave_and_the_others_go_on(lossbench, store):
    """Of three losses, one is far worse and two are one loss: equal from the first look on, as the margin allows."""
    words = ["losses=mae,mae_again,high", "seeds=auto", "most=16", "margin=0.01", *SHORT]
    folder = _losses()
    said = lossbench("compare", "dataset=regression", "--config-dir", str(folder), *words)
    found = told(store)["regression"]
    assert [look["seeds"] for look in found] == [6, 10]
    plan = looks.looks(16, Population("fresh"))
    assert [look["level"] for look in found] == pytest.approx([look.level for look in plan[:2]])
    assert (found[0]["level"], set(found[0]["going"]), found[1]["going"]) == (0, set(seeds(store)), [])
    assert set(map(len, seeds(store).values())) == {10}
    assert "10 seeds" in said.out
    assert "looked at 2 times" in said.out
    again = lossbench("report", "--json")
    (dataset,) = json.loads(again.out)["datasets"]
    assert [look["seeds"] for look in dataset["looks"]] == [6, 10]
    assert dataset["margin"] == 0.01
    assert set(dataset["best"]) == {"mae", "mae_again"}
    assert "within 0.010" in dataset["sentence"]


def _losses():
    """A folder of losses: one that is mae by another name, and one of a quantile far above."""
    folder = Path("mine/loss")
    folder.mkdir(parents=True)
    (folder / "mae_again.yaml").write_text("_target_: lossbench.losses.regression.mae\n")
    (folder / "high.yaml").write_text("_target_: lossbench.losses.regression.pinball\ntau: 0.99\n")
    return folder.parent


def test_an_interrupted_comparison_looks_again_at_what_it_has_seen(lossbench, store, monkeypatch):
    words = ["compare", "dataset=regression", "losses=mse,mae", "seeds=auto", "most=16", *SHORT]
    read, stops = records.read, []

    def stopped(*asked):
        if len(runs(store)) == 20 and not stops:  # when it looks for the second time
            stops.append(signal.raise_signal(signal.SIGINT))
        return read(*asked)

    with monkeypatch.context() as patch:
        patch.setattr(records, "read", stopped)
        assert lossbench(*words).code == 130
    assert [run.info.status for run in runs(store, "comparison")] == ["KILLED"]
    assert comparison.RUNNING not in os.environ
    before = {run.info.run_id for run in runs(store)}
    lossbench(*words)
    assert {run.info.run_id for run in runs(store)} == before, "nothing was trained again"
    assert [one["seeds"] for one in told(store)["regression"]][:2] == [6, 10]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["seeds=auto", "most=5"], "most=5"),
        (["seeds=auto", "most=lots"], "most=lots"),
        (["most=20"], "most=20"),
        (["seeds=auto", "seed=3,4"], "seed"),
        (["seeds=auto", "tune=3"], "tune=3"),
        (["seeds=sometimes"], "seeds=sometimes"),
    ],
)
def test_what_cannot_be_is_refused(words, named, lossbench, store):
    said = lossbench("compare", "dataset=regression", "losses=mse,mae", *words, *SHORT)
    assert said.code == 2
    assert named in said.err
    assert not runs(store)


FIXED = ["dataset=mnist", *SMALL["mnist"], "dataset.seed=0", "train.steps=30", "train.eval_every=15"]


def test_runs_on_one_test_split_keep_what_is_known_of_its_examples(lossbench, store):
    lossbench("-m", "loss=focal", "seed=range(2)", *FIXED)
    found = runs(store)
    assert {run.data.tags["lossbench.variation"] for run in found} == {"fixed"}
    for run in found:
        left_out = json.loads(run.data.tags["lossbench.left_out"])
        accuracy = run.data.metrics["test/accuracy"]
        assert len(left_out["accuracy"]) == 20
        assert np.mean(left_out["accuracy"]) == pytest.approx(accuracy, abs=1e-6), "parts of equal size"
        assert np.std(left_out["accuracy"]) > 0
        kept = np.load(store.client.download_artifacts(run.info.run_id, "predictions.npz"))
        assert accuracy_score(kept["targets"], kept["outputs"].argmax(1)) == pytest.approx(accuracy)


def test_predictions_can_be_switched_off_and_seeds_that_split_anew_keep_none(lossbench, store):
    lossbench("loss=focal", "tracking.predictions=false", *FIXED)
    lossbench("loss=cross_entropy", *(word for word in FIXED if word != "dataset.seed=0"))
    off, split = sorted(runs(store), key=lambda run: run.info.start_time)
    assert "lossbench.left_out" in off.data.tags
    assert split.data.tags["lossbench.variation"] == "resplit"
    assert json.loads(split.data.tags["lossbench.sizes"])["candidates"] == 5000
    assert "lossbench.left_out" not in split.data.tags
    for run in (off, split):
        assert "predictions.npz" not in artifacts(store, run)


def test_folds_are_recorded_and_judged_as_such(lossbench, store):
    words = ["dataset=faces", *SMALL["faces"], "dataset.folds=3", "train.steps=4", "train.eval_every=4"]
    lossbench("-m", "loss=triplet,contrastive", "seed=range(6)", *words)
    assert {run.data.tags["lossbench.variation"] for run in runs(store)} == {"folds"}
    (dataset,) = json.loads(lossbench("report", "--json").out)["datasets"]
    assert (dataset["variation"], dataset["overlap"]) == ("folds", pytest.approx(folded(3, range(6))))
    assert "on new examples like these" in dataset["sentence"]
