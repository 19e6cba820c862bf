"""Bad input: one to three lines that name the setting, exit code 2, nothing recorded."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import SMALL

BEFORE_TORCH = {
    "unknown loss": (["loss=focl", "dataset=imbalanced"], ["loss=focl", "nearest: focal"]),
    "unknown dataset": (["dataset=mist"], ["dataset=mist", "nearest: mnist"]),
    "unknown experiment": (["experiment=outlier"], ["experiment=outlier", "outliers"]),
    "loss that does not fit": (["loss=mse", "dataset=mnist"], ["loss=mse", "multiclass", "cross_entropy", "focal"]),
    "unknown key": (["loss=focal", "dataset=imbalanced", "loss.gama=1"], ["loss.gama=1", "nearest: loss.gamma"]),
    "unknown key, appended": (
        ["loss=focal", "dataset=imbalanced", "+loss.gama=1"],
        ["loss.gama", "takes alpha, gamma"],
    ),
    "unknown key of a fixed group": (["+train.epochs=3"], ["train.epochs", "steps"]),
    "unknown key at the top": (["+lr=1"], ["lr: no such setting", "optimizer"]),
    "neither verb nor setting": (["compre"], ["compre", "compare"]),
    "not a number": (["train.steps=many"], ["train.steps=many", "Integer"]),
    "negative learning rate": (["optimizer.lr=-1"], ["optimizer.lr=-1", "above 0"]),
    "learning rate not a number": (["optimizer.lr=nan"], ["optimizer.lr=nan", "above 0"]),
    "no steps": (["train.steps=0"], ["train.steps=0", "at least 1"]),
    "negative seed": (["seed=-1"], ["seed=-1", "0 or above"]),
    "unknown schedule": (["train.schedule=linear"], ["train.schedule=linear", "cosine"]),
    "unknown device": (["device=tpu"], ["device=tpu", "cuda"]),
    "prior of a regression": (["model.prior=auto"], ["model.prior=auto", "regression"]),
    "prior outside": (["dataset=imbalanced", "model.prior=1"], ["model.prior=1", "between 0 and 1"]),
    "foreign loss that is not there": (["loss._target_=nope.loss"], ["nope.loss", "no such module"]),
    "a number for a choice": (["loss=3"], ["loss=3", "a name"]),
    "quoting": (["loss=[a"], ["loss=[a", "quote"]),
    "file store": (["tracking.uri=./mlruns"], ["tracking.uri=./mlruns", "sqlite"]),
    "folder that is not there": (["tracking.uri=sqlite:////nowhere/x.db"], ["/nowhere", "does not exist"]),
    "database that is none": (["tracking.uri=sqlite:////proc/version"], ["/proc/version", "cannot be written"]),
    "one job of many": (["-m", "loss=mse,focal"], ["loss=focal", "regression", "nothing was trained"]),
    "seeds of compare": (["compare", "seeds=few"], ["seeds=few"]),
    "dataset of list": (["list", "dataset=mist"], ["dataset=mist", "mnist"]),
    "ui of an empty place": (["ui", "tracking.uri=sqlite:///none.db"], ["none.db", "nothing is recorded"]),
    "ui of an unknown run": (["ui", "0" * 32], ["0" * 32, "no such run"]),
    "nobody answers": (["tracking.uri=http://127.0.0.1:9"], ["127.0.0.1:9", "does not answer"]),
    "database does not answer": (["tracking.uri=postgresql://me:secret@127.0.0.1:9/x"], ["me:…@", "does not answer"]),
}

WITH_DATA = {
    "batch too large": (["train.batch_size=300", *SMALL["regression"]], ["train.batch_size=300", "200 examples"]),
    "outlier fraction": (["dataset.outliers.fraction=2"], ["dataset.outliers.fraction=2", "between 0 and 1"]),
    "too few features": (["dataset.features=3"], ["dataset.features=3", "at least 5"]),
    "label noise": (["dataset=mnist", "dataset.label_noise=1.5"], ["dataset.label_noise=1.5"]),
    "ratio": (["dataset=imbalanced", "dataset.ratio=0.5"], ["dataset.ratio=0.5", "at least 1"]),
    "splits too small for the ratio": (["dataset=imbalanced", "dataset.test=100"], ["dataset.test=100", "202"]),
    "cnn on vectors": (["model=cnn"], ["model=cnn", "wants images"]),
    "alpha with classes": (["dataset=mnist", "loss=focal", "loss.alpha=0.3", *SMALL["mnist"]], ["loss.alpha=0.3"]),
    "a loss by its short path": (["loss._target_=lossbench.losses.hinge"], ["hinge", "binary", "not regression"]),
    "optimizer refuses": (["optimizer.betas=[2,0.9]"], ["optimizer", "beta"]),
    "no idx files": (["dataset=mnist", "dataset.root=."], ["dataset.root=.", "train-images-idx3-ubyte"]),
    "no coco root": (["dataset=imbalanced", "dataset.source=coco"], ["dataset.root="]),
}


def refused(said, fragments):
    assert said.code == 2, said
    lines = said.err.strip().splitlines()
    assert 1 <= len(lines) <= 3, said.err
    assert "Traceback" not in said.err
    for fragment in fragments:
        assert fragment in said.err
    assert not said.out


@pytest.mark.parametrize("name", BEFORE_TORCH)
def test_settings(name, lossbench, store):
    words, fragments = BEFORE_TORCH[name]
    refused(lossbench(*words), fragments)
    assert not store.find({})


@pytest.mark.parametrize("name", WITH_DATA)
def test_data(name, lossbench, store):
    words, fragments = WITH_DATA[name]
    refused(lossbench(*words), fragments)
    assert not store.find({})


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["loss=focl"], ["loss=mse", "dataset=mnist"], ["optimizer.lr=-1"]]
)
def test_answers_without_torch_and_mlflow(words, here):
    spy = (
        "import sys, atexit; from lossbench.__main__ import main; sys.argv = ['lossbench', *sys.argv[1:]];"
        "atexit.register(lambda: print('LOADED', {'torch', 'mlflow'} & set(sys.modules)));"
        "main()"
    )
    said = subprocess.run([sys.executable, "-c", spy, *words], cwd=here, capture_output=True, text=True)
    assert said.stdout.strip().endswith("LOADED set()"), said


def test_server_that_accepts_and_stays_silent(lossbench):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        said = lossbench(f"tracking.uri=http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 10
    refused(said, ["does not answer", "timed out"])


def test_a_database_of_somebody_else(lossbench, here):
    (here / "other.db").write_text("not a database at all, " * 100)
    refused(lossbench("tracking.uri=sqlite:///other.db"), ["other.db", "not a database"])


def test_truncated_idx_file(lossbench, here, store):
    pixels = b"\x00\x00\x08\x03" + (5).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    labels = b"\x00\x00\x08\x01" + (5).to_bytes(4, "big") + bytes(5)
    for name in ("train", "t10k"):
        (here / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(pixels + bytes(100)))
        (here / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    refused(lossbench("dataset=mnist", "dataset.root=."), ["train-images-idx3-ubyte.gz", "truncated"])
    assert not store.find({})


FOREIGN = """
import torch

def wrong_shape(prediction, target):
    return (prediction - target).abs()

def detached(prediction, target):
    return (prediction - target).abs().mean(-1).detach()

def raises(prediction, target):
    raise ValueError("I want ±1 targets")

def wants_more(prediction, target, weights):
    return prediction.mean(-1)

def nan_data(*, seed):
    from lossbench.core import Split
    from lossbench.datasets import assemble
    x = torch.zeros(9, 2)
    x[3, 1] = x[7, 0] = torch.nan
    split = Split(x, torch.zeros(9, 1))
    return assemble(split, split, split, name="mine", kind="regression", source="here", licence="mine")

def wild_labels(*, seed):
    from lossbench.core import Split
    from lossbench.datasets import assemble
    split = Split(torch.zeros(9, 2), torch.arange(9))
    return assemble(split, split, split, name="mine", kind="multiclass", classes=("a", "b"), source="", licence="")
"""


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["loss._target_=foreign.wrong_shape"], ["[64, 1]", "terms are [64]"]),
        (["loss._target_=foreign.detached"], ["no gradient"]),
        (["loss._target_=foreign.raises"], ["ValueError", "±1"]),
        (["loss._target_=foreign.wants_more"], ["TypeError", "weights"]),
        (["loss._target_=foreign.missing"], ["foreign.missing", "cannot be imported"]),
        (["--config-dir=mine", "dataset=holes"], ["inputs of train", "rows 3, 7"]),
        (["--config-dir=mine", "dataset=wild"], ["labels [2, 3, 4, 5, 6] of train", "0 … 1"]),
    ],
)
def test_what_the_user_brings(words, fragments, lossbench, here: Path, monkeypatch, store):
    (here / "foreign.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    (here / "mine" / "dataset").mkdir(parents=True)
    header = "# @package _global_\ndefaults:\n  - override /model: mlp\n  - override /loss: {}\ndataset:\n"
    body = "  _target_: foreign.{}\n  kind: {}\n  seed: ${{seed}}\ntrain:\n  steps: 5\n  batch_size: 4\n"
    (here / "mine/dataset/holes.yaml").write_text(header.format("mse") + body.format("nan_data", "regression"))
    (here / "mine/dataset/wild.yaml").write_text(
        header.format("cross_entropy") + body.format("wild_labels", "multiclass")
    )
    refused(lossbench(*words), fragments)
    assert not store.find({})
