"""What makes a result on a table look too good: columns that tell the target, rows that are in two splits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.core import Split
from lossbench.datasets.tables.splitting import Rows
from lossbench.datasets.tables.targets import Target

REPEATED = 200_000  # rows, at most, that are compared
SHARE = 0.01  # of test rows that may equal training rows by chance
PROBED = 2000  # rows in which a leak is looked for
LEAST = 6  # rows, from which a tree is grown
RIGHT = 0.999  # share that is right, or R², from which a column tells the target


def repeated(train: Split, test: Split) -> list[str]:
    """A remark on test rows that are in the training split, too."""
    if len(train) + len(test) > REPEATED:
        return []
    trained, tested = (
        [row.tobytes() for row in torch.cat([s.inputs, s.targets.reshape(len(s), -1).float()], 1).numpy()]
        for s in (train, test)
    )
    known = set(trained)
    count = sum(row in known for row in tested)
    if count <= SHARE * len(test):
        return []
    return [
        f"{count:,} of {len(test):,} test rows equal a training row; if they are the same case, "
        "dataset.group_on= keeps them together"
    ]


def leaks(inputs: Tensor, names: Sequence[str], target: Target, rows: Rows) -> list[str]:
    """A remark on each column that tells the target alone; `inputs` are those of these rows."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:PROBED]
    seen = inputs[torch.from_numpy(chosen)].numpy()
    return [
        f"{column} tells {target.names[0]} alone; if it is known only afterwards, leave it out: "
        f"dataset.drop=['{column}']"
        for column in _telling_alone(seen, names, replace(target, values=target.values[rows[chosen]]))
    ]


def _telling_alone(inputs: NDArray[np.float32], names: Sequence[str], target: Target) -> list[str]:
    """The columns that tell the target alone: a small tree on such a column is right on rows that it did not see."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    values = target.values if target.classes else target.values[:, 0]
    half = len(inputs) // 2
    if half < LEAST:
        return []
    found = []
    if target.classes and np.bincount(values[half:].astype(np.int64)).max() / (len(values) - half) > RIGHT:
        return []  # one class is nearly all, and every column would seem to tell
    for place in _most_telling(inputs, values, bool(target.classes)):
        tree = (
            DecisionTreeClassifier(max_leaf_nodes=2 * len(target.classes), random_state=0)
            if target.classes
            else DecisionTreeRegressor(max_leaf_nodes=128, random_state=0)
        )
        column = inputs[:, place : place + 1]
        tree.fit(column[:half], values[:half])
        if tree.score(column[half:], values[half:]) > RIGHT:
            found.append(names[place])
    return list(dict.fromkeys(found))


def _most_telling(
    inputs: NDArray[np.float32], values: NDArray[Any], classes: bool, most: int = 20
) -> NDArray[np.int64]:
    """The places of the columns that tell the most of the target, by an F test of each."""
    from sklearn.feature_selection import f_classif, f_regression

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that are constant in these rows
        scores, _ = (f_classif if classes else f_regression)(inputs.astype(float), values)
    return np.argsort(-np.nan_to_num(scores, nan=0.0, posinf=np.inf))[:most]
