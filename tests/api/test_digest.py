"""Digests: the same for what computes the same, another for what does not, random for what cannot be read."""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lossbench.api import digest
from lossbench.losses import focal

SOURCE = """
import torch
POWER = {power}
def helper(x):
    return x * {factor}
def my_loss(prediction, target, *, k={k}):
    scaled = [helper(value) for value in (prediction - target,)]
    return scaled[0].abs().pow(POWER).mean(-1) {more}
"""


def cell(power=1.5, factor=2, k=1.0, more=""):
    """A function of a notebook whose cells say this."""
    space = {"__name__": "__main__"}
    exec(SOURCE.format(power=power, factor=factor, k=k, more=more), space)
    return space["my_loss"]


def closed(value):
    def own(prediction, target):
        return (prediction - target).abs().mean(-1) * value

    return own


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))
        self.power = 2

    def forward(self, prediction, target):
        return ((prediction - target).abs() ** self.power * self.weight).mean(-1)


Weighted.__module__ = "__main__"


@dataclass(frozen=True)
class Scaled:
    scale: float = 1.0

    def __call__(self, prediction, target):
        return self.scale * (prediction - target).abs().mean(-1)


Scaled.__module__ = "__main__"


def made_again():
    module = Weighted([1.0, 2.0])
    module.power = 3
    return module


SAME = [
    (cell, cell),
    (lambda: closed(1), lambda: closed(1)),
    (lambda: functools.partial(closed(1), 3), lambda: functools.partial(closed(1), 3)),
    (lambda: Weighted([1.0, 2.0]), lambda: Weighted([1.0, 2.0])),
    (lambda: Scaled(2.0), lambda: Scaled(2.0)),
    (lambda: nn.CrossEntropyLoss(torch.ones(2)), lambda: nn.CrossEntropyLoss(torch.ones(2))),
    (lambda: closed({"a", "b", "c"}), lambda: closed({"c", "b", "a"})),
]
OTHER = [
    (cell, lambda: cell(more="* 2")),
    (cell, lambda: cell(k=2.0)),
    (cell, lambda: cell(k=1)),
    (cell, lambda: cell(factor=3)),  # of a function that it calls
    (cell, lambda: cell(power=2)),  # a global that it reads
    (lambda: closed(1), lambda: closed(2)),
    (lambda: closed(True), lambda: closed(1)),
    (lambda: closed([1, [2]]), lambda: closed([[1], 2])),
    (lambda: closed(cell()), lambda: closed(cell(factor=3))),
    (lambda: closed(np.zeros(2)), lambda: closed(np.zeros((2, 1)))),
    (lambda: closed(torch.zeros(2)), lambda: closed(torch.zeros(2, dtype=torch.float64))),
    (lambda: functools.partial(closed(1), 3), lambda: functools.partial(closed(1), k=3)),
    (lambda: Weighted([1.0, 2.0]), lambda: Weighted([1.0, 3.0])),
    (lambda: Weighted([1.0, 2.0]), made_again),
    (lambda: Scaled(2.0), lambda: Scaled(3.0)),
    (lambda: nn.HuberLoss(delta=1.0), lambda: nn.HuberLoss(delta=2.0)),
    (lambda: nn.L1Loss(), lambda: nn.MSELoss()),
    (lambda: Scaled, lambda: Weighted),
    (lambda: Scaled(2.0).__call__, lambda: Scaled(3.0).__call__),
]


@pytest.mark.parametrize(("one", "again"), SAME)
def test_the_same_thing_made_again_has_the_same_digest(one, again):
    first, second = one(), again()
    assert digest.of_code(first) == digest.of_code(second) == digest.of_code(first)
    assert digest.of_code(first).startswith("d")
    assert digest.of_code(first).isalnum()


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_computes_something_else_has_another_digest(one, other):
    first, second = one(), other()
    assert digest.of_code(first) != digest.of_code(second)
    assert digest.of_code(first) == digest.of_code(first)  # so that it is not merely random


@pytest.mark.parametrize("hidden", [iter([1]), torch.Generator(), np.array([object()]), np.random.default_rng(0)])
def test_what_cannot_be_read_never_has_an_old_digest(hidden):
    thing = closed(hidden)
    assert digest.of_code(thing) != digest.of_code(thing)


def test_a_function_that_calls_itself_ends():
    def own(prediction, target):
        return own(target, prediction)

    assert digest.of_code(own) == digest.of_code(own)


def test_importable_is_what_another_process_finds_at_its_path():
    assert digest.importable(focal) == "lossbench.losses.imbalance.focal"
    assert digest.importable(nn.MSELoss) == "torch.nn.modules.loss.MSELoss"
    assert digest.importable(nn.functional.mse_loss) == "torch.nn.functional.mse_loss"
    for own in (cell(), closed(1), Scaled, nn.MSELoss(), functools.partial(focal), lambda prediction, target: 0):
        assert not digest.importable(own)


def table(**changed):
    columns = {"age": [1.0, 2.0, None], "sex": ["f", "m", None], "mixed": pd.Series([1, "1", None], dtype=object)}
    return pd.DataFrame(columns | changed)


@pytest.mark.parametrize(
    "other",
    [
        table(age=[1.0, 2.0, 3.0]),
        table(age=pd.Series([1.0, 2.0, None], dtype="float32")),
        table(mixed=pd.Series(["1", "1", None], dtype=object)),
        table(sex=["f", "m", "m"]),
        table(sex=pd.Categorical(["f", "m", None])),
        table().iloc[::-1],
        table().rename(columns={"age": "years"}),
        table()[["sex", "age", "mixed"]],
    ],
)
def test_another_table_has_another_digest(other):
    assert digest.of_table(table()) == digest.of_table(table().set_index(pd.Index([7, 8, 9])))
    assert digest.of_table(other) != digest.of_table(table())


def test_the_order_of_categories_counts():
    one, other = (pd.DataFrame({"a": pd.Categorical(["x"], categories=order)}) for order in (["x", "y"], ["y", "x"]))
    assert digest.of_table(one) != digest.of_table(other)
