"""Searches that make no sense: two lines that name the setting, exit code 2, before any training and any record."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from small import SMALL

FAIR = ["-m", "hydra/sweeper=fair", *SMALL["regression"], "train.steps=20"]

SEARCHED = {
    "an inverted range": (["search.optimizer.lr=[0.1,0.01]"], ["search.optimizer.lr", "0.1 to 0.01", "inverted"]),
    "an empty range": (["search.optimizer.lr=[0.1,0.1]"], ["search.optimizer.lr", "0.1 to 0.1", "empty"]),
    "an inverted interval": (["optimizer.lr=interval(0.1,0.01)"], ["optimizer.lr", "0.1", "0.01"]),
    "an empty interval": (["optimizer.lr=interval(0.1,0.1)"], ["optimizer.lr", "0.1 to 0.1", "empty"]),
    "an interval without end": (["optimizer.lr=interval(0.1,inf)"], ["optimizer.lr", "inf", "finite"]),
    "a range of strings": (["search.optimizer.lr=[low,high]"], ["optimizer.lr", "low"]),
    "an interval of strings": (["optimizer.lr=interval(low,high)"], ["optimizer.lr", "low"]),
    "no list": (["search.optimizer.lr=high"], ["search.optimizer.lr=high", "two numbers"]),
    "one value": (["search.optimizer.lr=[0.1]"], ["search.optimizer.lr", "0.1", "nothing to search"]),
    "no value": (["search.optimizer.lr=[]"], ["search.optimizer.lr", "nothing to search"]),
    "a logarithm from 0": (["optimizer.lr=tag(log,interval(0,0.1))"], ["optimizer.lr", "0 to 0.1", "above 0"]),
    "learning rates below 0": (["search.optimizer.lr=[-1,-0.5]"], ["optimizer.lr=-", "above 0"]),
    "a number of layers": (["search.model.layers=[1,3]"], ["model.layers"]),
    "seeds": (["seed=interval(0,5)"], ["seed", "no part of a search", "range(10)"]),
    "searched seeds": (["+search.seed=[0,5]"], ["seed", "no part of a search", "range(10)"]),
    "seeds of the data": (["dataset.seed=0,1"], ["dataset.seed", "no part of a search"]),
    "seeds of the data, of a range": (["dataset.seed=interval(0,5)"], ["dataset.seed", "no part of a search"]),
    "the data": (["dataset.outliers.fraction=interval(0,0.5)"], ["dataset.outliers.fraction", "change the data"]),
    "the data, beside": (["+search.dataset.train=[100,200]"], ["dataset.train", "change the data"]),
    "the budget of a trial": (["train.steps=interval(10,20)"], ["train.steps"]),
    "where it is recorded": (["+search.tracking.uri=[a,b]"], ["tracking.uri", "no part of a search"]),
    "a parameter no loss has": (["loss=mse,mae", "+search.loss.gamma=[0,1]"], ["loss.gamma", "mse"]),
    "a parameter no loss has, an interval": (["loss=mse,mae", "loss.gamma=interval(0,1)"], ["loss.gamma", "mse, mae"]),
    "a parameter this loss lacks": (["loss=huber", "+search.loss.gamma=[0,1]"], ["loss.gamma", "huber", "loss.delta"]),
    "nothing left": (["optimizer.lr=0.1", "optimizer.weight_decay=0"], ["loss=mse", "nothing to search"]),
    "nothing": (["search.optimizer.lr=null", "search.optimizer.weight_decay=null"], ["loss=mse", "nothing to search"]),
    "seeds twice": (["seed=1,2,1"], ["seed=1,2,1", "different"]),
    "a negative seed": (["seed=0,-1"], ["seed=0,-1", "0 or above"]),
    "half a seed": (["seed=0.5"], ["seed=0.5", "whole number"]),
    "no seeds": (["seed=range(0)"], ["seed"]),
    "too large a batch": (["train.batch_size=300"], ["train.batch_size=300", "200 examples"]),
}

SWEEPER = {
    "no trials": (["trials=0"], ["hydra.sweeper.trials=0", "at least 1"]),
    "fewer trials than none": (["trials=-1"], ["hydra.sweeper.trials=-1", "at least 1"]),
    "half a trial": (["trials=1.5"], ["hydra.sweeper.trials=1.5", "whole"]),
    "trials of words": (["trials=few"], ["hydra.sweeper.trials=few", "whole"]),
    "trials of truth": (["trials=true"], ["hydra.sweeper.trials=", "whole"]),
    "steps below a trial": (["steps=19"], ["hydra.sweeper.steps=19", "20"]),
    "steps below a trial on its splits": (["steps=39", "splits=2"], ["hydra.sweeper.steps=39", "40"]),
    "steps below what tpe draws": (["steps=199", "sampler=tpe"], ["hydra.sweeper.steps=199", "10 trials", "200"]),
    "two budgets": (["steps=100", "seconds=10"], ["hydra.sweeper.steps=100", "seconds"]),
    "no seconds": (["seconds=0"], ["hydra.sweeper.seconds=0", "at least 1"]),
    "no batch": (["batch=0"], ["hydra.sweeper.batch=0", "at least 1"]),
    "a negative batch": (["batch=-2"], ["hydra.sweeper.batch=-2", "at least 1"]),
    "tpe that only draws": (["sampler=tpe", "trials=9"], ["hydra.sweeper.trials=9", "10", "initial"]),
    "no draws before tpe": (["sampler=tpe", "initial=0"], ["hydra.sweeper.initial=0", "at least 1"]),
    "unknown sampler": (["sampler=bayes"], ["hydra.sweeper.sampler=bayes", "random, quasi, tpe, grid"]),
    "halving into one": (["pruning=1"], ["hydra.sweeper.pruning=1", "2 or more"]),
    "halving by half": (["pruning=2.5"], ["hydra.sweeper.pruning=2.5", "2 or more"]),
    "no splits": (["splits=0"], ["hydra.sweeper.splits=0", "at least 1"]),
    "no seeds": (["seeds=0"], ["hydra.sweeper.seeds=0", "at least 1"]),
    "a seed below 0": (["seed=-1"], ["hydra.sweeper.seed=-1", "at least 0"]),
    "matched steps of Adam": (["matched=true"], ["hydra.sweeper.matched=true", "Adam", "optimizer=sgd"]),
    "a grid of steps": (["sampler=grid", "steps=100"], ["hydra.sweeper.steps=100", "grid"]),
    "a storage of nonsense": (["storage=nonsense"], ["hydra.sweeper.storage=nonsense", "sqlite:///"]),
    "a storage in no folder": (["storage=sqlite:////nowhere/x.db"], ["hydra.sweeper.storage=", "/nowhere"]),
    "a storage that is none": (["storage=sqlite:////proc/version"], ["hydra.sweeper.storage=", "/proc/version"]),
    "a server that does not answer": (
        ["storage=postgresql://me:secret@127.0.0.1:9/x"],
        ["hydra.sweeper.storage=", "me:…@", "does not answer"],
    ),
}

COMPARED = {
    "no trials": (["tune=0"], ["tune=0", "at least 1"]),
    "trials of words": (["tune=all"], ["tune=all", "at least 1"]),
    "no seeds": (["tune=2", "seeds=0"], ["seeds=0", "from 1 to"]),
}


def refused(said, fragments, store):
    assert said.code == 2, said
    assert 1 <= len(said.err.strip().splitlines()) <= 2, said.err
    assert "Traceback" not in said.err
    for fragment in fragments:
        assert fragment in said.err
    assert "secret" not in said.err
    assert not said.out
    assert not store.find({})


def tables(path):
    """The schema of a database and how many rows each table has."""
    with closing(sqlite3.connect(path)) as connection:
        schema = sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
        return [(name, sql, connection.execute(f"SELECT count(*) FROM '{name}'").fetchone()) for name, sql in schema]


@pytest.mark.parametrize("name", SEARCHED)
def test_what_is_searched(name, lossbench, store, here):
    words, fragments = SEARCHED[name]
    refused(lossbench(*FAIR, "hydra.sweeper.trials=2", "hydra.sweeper.seeds=1", *words), fragments, store)
    assert not begun(here)


@pytest.mark.parametrize("name", SWEEPER)
def test_settings_of_the_search(name, lossbench, store, here):
    words, fragments = SWEEPER[name]
    refused(lossbench(*FAIR, *(f"hydra.sweeper.{word}" for word in words)), fragments, store)
    assert not begun(here)


@pytest.mark.parametrize("name", COMPARED)
def test_compare(name, lossbench, store, here):
    words, fragments = COMPARED[name]
    refused(lossbench("compare", "losses=mse", *words, *SMALL["regression"]), fragments, store)
    assert not begun(here)


def begun(here):
    """Trials of the default storage, in whichever study."""
    if not (here / "tuning.db").exists():
        return 0
    with closing(sqlite3.connect(here / "tuning.db")) as connection:
        return connection.execute("SELECT count(*) FROM trials").fetchone()[0]


def test_a_grid_with_fewer_points_than_trials(lossbench, store, here):
    """Two choices twice are four points; ranges have as many as are wanted."""
    two = ["optimizer.lr=0.1,0.01", "optimizer.weight_decay=0,0.1", "hydra.sweeper.sampler=grid"]
    refused(lossbench(*FAIR, *two, "hydra.sweeper.trials=5"), ["hydra.sweeper.trials=5", "4 points"], store)
    assert not begun(here)


def test_the_database_of_mlflow_is_no_storage(lossbench, store, here):
    before = tables(here / "mlflow.db")
    assert before
    words = ["hydra.sweeper.storage=sqlite:///mlflow.db", "hydra.sweeper.trials=2"]
    refused(lossbench(*FAIR, *words), ["hydra.sweeper.storage=sqlite:///mlflow.db", "another program"], store)
    assert tables(here / "mlflow.db") == before


def test_a_file_that_is_no_database_is_no_storage(lossbench, store, here):
    (here / "notes.db").write_text("no database at all, " * 100)
    refused(lossbench(*FAIR, "hydra.sweeper.storage=sqlite:///notes.db"), ["hydra.sweeper.storage=", "notes.db"], store)
    assert (here / "notes.db").read_text() == "no database at all, " * 100


def test_a_search_of_a_single_run(lossbench, store, here):
    refused(lossbench("hydra/sweeper=fair", "loss=mse"), ["hydra/sweeper=fair", "add -m"], store)
    assert not begun(here)
