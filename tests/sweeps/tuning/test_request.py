"""Requests: what several values, ranges and single values of a command line each ask of a fair comparison."""

from __future__ import annotations

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path

from lossbench.config import schema
from lossbench.core import ConfigError
from lossbench.sweeps.tuning import request
from lossbench.sweeps.tuning.space import Choices, Range


@pytest.fixture(scope="module")
def loader():
    schema.register()
    return ConfigLoaderImpl(create_config_search_path(str(schema.CONFIGS)))


@pytest.fixture
def read(loader):
    return lambda *words, seeds=10: request.read(loader, words, seeds)


def test_nothing_asked_is_the_usual_loss_on_so_many_seeds(read):
    assert read(seeds=3) == request.Request([[]], [[]], [0, 1, 2], {}, set())


def test_losses_are_what_is_compared(read):
    found = read("loss=mse,huber", "dataset=regression")
    assert found.losses == [["loss=mse"], ["loss=huber"]]
    assert found.comparisons == [["dataset=regression"]]
    assert read("loss=mse").losses == [["loss=mse"]]


@pytest.mark.parametrize(
    ("word", "seeds"),
    [
        ("seed=4", [4]),
        ("seed=4,2", [4, 2]),
        ("seed=range(3)", [0, 1, 2]),
        ("seed=range(10,20,5)", [10, 15]),
        ("+seed=1,2", [1, 2]),
    ],
)
def test_seeds_are_those_of_the_final_runs(word, seeds, read):
    found = read(word)
    assert found.seeds == seeds
    assert (found.comparisons, found.asked, found.fixed) == ([[]], {}, set())


@pytest.mark.parametrize(
    "word", ["seed=1,1", "seed=-1", "seed=0,-1", "seed=0.5", "seed=a", "seed=[0,1]", "seed=range(0)"]
)
def test_seeds_that_are_none(word, read):
    with pytest.raises(ConfigError, match=r"seed=.*different whole numbers") as refused:
        read(word)
    assert word in str(refused.value)


@pytest.mark.parametrize("word", ["seed=interval(0,9)", "dataset.seed=1,2", "dataset.seed=interval(0,9)"])
def test_seeds_are_not_searched(word, read):
    with pytest.raises(ConfigError, match="no part of a search"):
        read(word)


def test_several_values_of_data_model_or_training_are_comparisons_of_their_own(read):
    found = read("dataset.ratio=10,50", "model.hidden=[8],[16]", "train.steps=100", "optimizer=adam,sgd")
    assert len(found.comparisons) == 8
    assert {word for one in found.comparisons for word in one} == {
        "dataset.ratio=10",
        "dataset.ratio=50",
        "model.hidden=[8]",
        "model.hidden=[16]",
        "train.steps=100",
        "optimizer=adam",
        "optimizer=sgd",
    }
    assert len({tuple(one) for one in found.comparisons}) == 8
    assert not found.asked


def test_several_values_of_a_loss_or_an_optimizer_are_choices_of_its_search(read):
    found = read("loss=focal", "loss.gamma=0,1,2", "optimizer.momentum=0.5,0.9", "loss.kind='a b',c")
    assert found.asked == {
        "loss.gamma": Choices((0, 1, 2)),
        "optimizer.momentum": Choices((0.5, 0.9)),
        "loss.kind": Choices(("a b", "c")),
    }
    assert found.comparisons == [[]]
    assert not found.fixed


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optimizer.lr=interval(1e-3,1e-1)", Range(1e-3, 1e-1, True)),
        ("optimizer.lr=interval(1,2)", Range(1.0, 2.0, False)),
        ("optimizer.lr=tag(log,interval(1,2))", Range(1.0, 2.0, True)),
        ("+optimizer.lr=interval(1,2)", Range(1.0, 2.0, False)),
        ("optimizer.lr=choice(1,2)", Choices((1, 2))),
        ("optimizer.lr=range(1,4)", Choices((1, 2, 3))),
        ("optimizer.lr=true,null", Choices((True, None))),
    ],
)
def test_an_interval_is_a_range(word, expected, read):
    assert read(word).asked == {"optimizer.lr": expected}


def test_single_values_are_fixed(read):
    found = read("optimizer.lr=0.1", "+loss.delta=2", "dataset=mnist", "~loss.epsilon")
    assert found.fixed == {"optimizer.lr", "loss.delta", "dataset", "loss.epsilon"}
    assert found.comparisons == [["optimizer.lr=0.1", "+loss.delta=2", "dataset=mnist", "~loss.epsilon"]]


def test_the_last_word_on_a_setting_holds(read):
    """The command line comes after what a study's file sweeps."""
    found = read(
        "optimizer.lr=interval(1,2)", "loss=mse,mae", "seed=range(5)", "optimizer.lr=0.1", "loss=huber", "seed=3"
    )
    assert (found.asked, found.losses, found.seeds) == ({}, [["loss=huber"]], [3])
    assert found.comparisons == [["optimizer.lr=0.1"]]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lr=interval(2,1)", "inverted"),
        ("optimizer.lr=interval(1,1)", "empty"),
        ("optimizer.lr=tag(log,interval(0,1))", "above 0"),
        ("loss.gamma=1,1", "nothing to search"),
        ("dataset.ratio=interval(1,9)", "change the data"),
        ("experiment_name=interval(1,9)", "no part"),
    ],
)
def test_what_cannot_be_searched(word, said, read):
    with pytest.raises(ConfigError, match=said) as refused:
        read(word)
    assert str(refused.value).startswith(word.partition("=")[0])


def test_the_order_of_words_changes_nothing_but_the_order(read):
    words = ["dataset.ratio=10,50", "loss.gamma=interval(0,5)", "optimizer.lr=0.1", "seed=1,2", "loss=bce,focal"]
    one, other = read(*words), read(*reversed(words))
    assert (one.asked, one.fixed, one.losses, one.seeds) == (other.asked, other.fixed, other.losses, other.seeds)
    assert {frozenset(c) for c in one.comparisons} == {frozenset(c) for c in other.comparisons}
