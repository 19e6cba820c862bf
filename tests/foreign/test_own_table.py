"""A table that nobody here made, as a function of somebody's own splits it: one sample, split again by every seed."""

from __future__ import annotations

import json

import pytest
from recorded import runs

TABLE = """
import torch
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from lossbench.core import Split
from lossbench.datasets import assemble

def diabetes(*, seed):
    x, y = load_diabetes(return_X_y=True)
    rest_x, test_x, rest_y, test_y = train_test_split(x, y[:, None] / 100, test_size=0.2, random_state=seed)
    train_x, held_x, train_y, held_y = train_test_split(rest_x, rest_y, test_size=0.25, random_state=seed)
    scaler = StandardScaler().fit(train_x)
    parts = [(train_x, train_y), (held_x, held_y), (test_x, test_y)]
    splits = [Split(torch.tensor(scaler.transform(a)).float(), torch.tensor(b).float()) for a, b in parts]
    return assemble(*splits, name="diabetes", task_type="regression", source="scikit-learn", licence="BSD")
"""
ROWS, TEST = 442, 89
SHORT = ["train.steps=20", "train.eval_every=10", "model.hidden=[8]", "train.batch_size=32"]


@pytest.fixture
def table(here, monkeypatch):
    (here / "table.py").write_text(TABLE)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(__import__("sys").modules, "table", raising=False)
    return ["-m", "loss=mse,mae", "dataset._target_=table.diabetes", *SHORT]


def judged(lossbench):
    told = json.loads(lossbench("report", "--json").out)
    (dataset,) = told["datasets"]
    return dataset, [remark["text"] for remark in told["remarks"] if remark["about"] == "sampling"]


def test_it_is_taken_for_one_sample_that_is_split_again_unless_it_says_otherwise(table, lossbench, store):
    said = lossbench(*table, "seed=range(6)")
    assert said.code == 0, said.err
    dataset, remarks = judged(lossbench)
    assert (dataset["variation"], dataset["overlap"]) == ("resplit", TEST / (ROWS - TEST))
    assert "on new examples like these" in dataset["sentence"]
    assert any("does not say where its examples come from" in text for text in remarks)


def test_one_split_for_all_seeds_is_a_fixed_test_set(table, lossbench, store):
    assert lossbench(*table, "seed=range(6)", "dataset.seed=0").code == 0
    dataset, remarks = judged(lossbench)
    assert (dataset["variation"], remarks) == ("fixed", [])
    assert "like those of this test set" in dataset["sentence"]


def test_other_splits_under_one_seed_of_the_runs_are_no_fixed_test_set(table, lossbench, store):
    assert lossbench(*table, "seed=0", "dataset.seed=range(6)").code == 0
    assert {run.data.tags["lossbench.variation"] for run in runs(store)} == {"fixed"}, "one run cannot know"
    dataset, remarks = judged(lossbench)
    assert (dataset["variation"], dataset["overlap"]) == ("resplit", TEST / (ROWS - TEST))
    assert {row["n"] for row in dataset["differences"]} == {6}
    assert any("varies independently" in text for text in remarks)
