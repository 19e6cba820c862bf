"""Data from Python: the words that choose them, and the table that is given."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import lossbench as door
from lossbench.api import inputs
from lossbench.core import given

X, Y = np.arange(6.0).reshape(3, 2), np.array([0, 1, 0])
FRAME = pd.DataFrame({"age": [1.0, 2.0, 3.0], "outcome": ["a", "b", "a"]}, index=[7, 8, 9])


def read(words):
    """The table that words give, and its other settings."""
    settings = dict(word.split("=", 1) for word in words)
    assert settings.pop("dataset") == "table"
    return given(settings.pop("dataset.path")), settings


@pytest.mark.parametrize("path", ["my data.csv", Path("my data.csv")])
def test_a_path(path):
    words = inputs.words(path, None, None, {"target": "outcome, 1", "group_on": ["a", "b"], "positive": None})
    assert words == [
        *("dataset=table", "dataset.path='my data.csv'", "dataset.target='outcome, 1'"),
        *("dataset.group_on=[a,b]", "dataset.positive=null"),
    ]


def test_the_target_may_come_second():
    assert inputs.words("my.csv", "outcome", None, {})[1:] == ["dataset.path=my.csv", "dataset.target=outcome"]


def test_a_table_in_memory_is_given_as_a_copy():
    frame = FRAME.copy()
    words = inputs.words(frame, None, None, {"target": "outcome"})
    frame.loc[7, "age"] = 100.0
    table, settings = read(words)
    pd.testing.assert_frame_equal(table, FRAME)
    assert settings == {"dataset.name": "data", "dataset.target": "outcome"}
    assert inputs.words(frame, None, None, {})[1] != words[1]
    assert inputs.words(FRAME.copy(), None, None, {"target": "outcome"}) == words


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, Y),
        (X.tolist(), Y.tolist()),
        (torch.tensor(X), torch.tensor(Y)),
        (torch.tensor(X, requires_grad=True), Y),
        (pd.DataFrame(X, columns=["x0", "x1"]), pd.Series(Y)),
        (pd.DataFrame(X, columns=["x0", "x1"]), pd.Series(Y, name="target")),
        (X, pd.DataFrame({"target": Y})),
    ],
)
def test_inputs_and_targets(x, y):
    table, settings = read(inputs.words(x, y, None, {}))
    assert list(table.columns) == ["x0", "x1", "target"]
    assert np.array_equal(table[["x0", "x1"]].to_numpy(), X)
    assert np.array_equal(table["target"].to_numpy(), Y)
    assert settings == {"dataset.name": "data", "dataset.target": "target"}


def test_several_targets_and_a_name():
    table, settings = read(inputs.words(X, np.c_[Y, Y], None, {"name": "mine"}))
    assert list(table.columns) == ["x0", "x1", "target0", "target1"]
    assert settings == {"dataset.name": "mine", "dataset.target": "[target0,target1]"}


def test_rows_are_matched_by_position_and_never_across_indexes():
    table, _ = read(inputs.words(FRAME[["age"]], Y, None, {}))
    assert table["target"].tolist() == [0, 1, 0]
    with pytest.raises(door.ConfigError, match="its index is not that of the inputs"):
        inputs.words(FRAME[["age"]], pd.Series(Y, index=[9, 8, 7]), None, {})


@pytest.mark.parametrize(
    ("data", "y", "dataset", "settings", "said"),
    [
        (None, None, None, {}, "there are no data"),
        (None, Y, "regression", {}, "there are no data"),
        (X, Y, "regression", {}, "dataset=regression: data are given too"),
        ("my.csv", Y, None, {}, "inputs are a file, and targets an array"),
        (X, Y[:2], None, {}, "y: 2 rows, and the inputs have 3"),
        (FRAME, pd.Series([1, 2, 3], name="age", index=FRAME.index), None, {}, "age has the name of an input"),
        (X, Y, None, {"target": "x0"}, "target=x0: targets are given too"),
        (np.zeros((2, 3, 4)), Y, None, {}, r"of shape \[2, 3, 4\]; a path, a DataFrame"),
        (object(), None, None, {}, "the data: a object"),
        ([[1], [1, 2]], None, None, {}, "the data: rows of different lengths"),
        (pd.DataFrame(X, columns=["a", "a"]), None, None, {}, "a: the name of two columns"),
    ],
)
def test_what_is_no_data(data, y, dataset, settings, said):
    with pytest.raises(door.ConfigError, match=said):
        inputs.words(data, y, dataset, settings)
