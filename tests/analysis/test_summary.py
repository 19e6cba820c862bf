"""From runs to a table: nothing is dropped, and a mean is a mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lossbench.analysis.records import _labels
from lossbench.analysis.stats import summarise
from lossbench.analysis.tables import cell, markdown


def runs(**outcomes):
    """A row a run: for each loss a list of (value, outcome)."""
    return pd.DataFrame(
        [
            {"label": loss, "colour": "#000", "seed": str(seed), "test/a": value, "outcome": outcome}
            for loss, made in outcomes.items()
            for seed, (value, outcome) in enumerate(made)
        ]
    )


def test_mean_and_sample_standard_deviation():
    values = [0.5, 0.75, 1.5]
    table = summarise(runs(mse=[(v, "finished") for v in values]), ["test/a"], higher_is_better=True)
    assert table["test/a"][0] == pytest.approx(np.mean(values))
    assert table["test/a sd"][0] == pytest.approx(np.std(values, ddof=1))
    assert cell(table.iloc[0], "a") == "0.9167 ± 0.5204"


@pytest.mark.parametrize(("higher", "first"), [(True, "b"), (False, "a")])
def test_the_best_mean_comes_first_and_failures_last(higher, first):
    table = summarise(
        runs(a=[(1.0, "finished")], b=[(2.0, "finished")], c=[(np.nan, "diverged")] * 2),
        ["test/a"],
        higher_is_better=higher,
    )
    assert table["label"][0] == first
    assert table["label"][2] == "c"
    assert list(table["failures"]) == [0, 0, 2]
    assert list(table["n"]) == [1, 1, 0]


@pytest.mark.parametrize("outcome", ["diverged", "failed", "killed", "running", "collapsed"])
def test_a_run_that_did_not_finish_is_counted_and_not_averaged(outcome):
    table = summarise(runs(a=[(1.0, "finished"), (100.0, outcome)]), ["test/a"], higher_is_better=True)
    assert (table["n"][0], table["failures"][0], table["test/a"][0]) == (1, 1, 1.0)


def test_labels_name_what_varies_within_a_loss():
    common = {"dataset": "d", "optimizer.lr": "0.1", "train.steps": "5"}
    made = [
        {**common, "loss": "mse", "seed": "0", "dataset.seed": "0"},
        {**common, "loss": "mse", "seed": "1", "dataset.seed": "1"},
        {**common, "loss": "huber", "loss.delta": "1", "seed": "0", "dataset.seed": "0"},
        {**common, "loss": "huber", "loss.delta": "2", "seed": "0", "dataset.seed": "0"},
    ]
    assert _labels(made) == ["mse", "mse", "huber delta=1", "huber delta=2"]


def test_markdown_has_a_row_a_loss():
    table = summarise(runs(a=[(1.0, "finished")], b=[(2.0, "finished")]), ["test/a"], higher_is_better=False)
    lines = markdown(table, [("a", "↓", "")], "toy").splitlines()
    assert lines[2].count("|") == lines[3].count("|") == lines[4].count("|")
    assert lines[4].startswith("| a | 1 | 0 | 1.0000 |")
