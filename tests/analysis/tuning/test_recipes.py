"""Chosen settings, ready for use: the file and the command train the same thing."""

from __future__ import annotations

import re
import shlex

import pytest
from analysis.made import searched
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import recipes

WORDS = [
    "dataset=regression", "loss=huber", "optimizer=adamw", "dataset.train=80", "dataset.validation=30", "train.steps=6",
    "dataset.test=30", "train.eval_every=3", "model.hidden=[8,4]", "dataset.outliers.fraction=0.5",
]  # fmt: skip
SETTINGS = {"optimizer.lr": 3.1e-05, "optimizer.weight_decay": 0.01, "loss.delta": 0.123456789}


def search(loss="huber", **changed):
    told = {"words": WORDS, "settings": SETTINGS, "space": {name: {} for name in SETTINGS}, "dataset": "regression"}
    return Search(**searched(loss, **{**told, **changed}))


def test_the_file_and_the_command_train_the_same(lossbench, here, store):
    folder = here / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "huber_tuned.yaml").write_text(recipes.experiment(search()), encoding="utf-8")
    python, module, program, *words = shlex.split(recipes.command(search()))
    assert (python, module, program) == ("python", "-m", "lossbench")
    assert lossbench("--config-dir", str(here / "mine"), "experiment=huber_tuned").code == 0
    assert lossbench(*words).code == 0
    one, other = store.find({"lossbench.kind": "run"})
    for settings in (one.data.params, other.data.params):
        assert {name: float(settings[name]) for name in SETTINGS} == SETTINGS
        assert settings["optimizer._target_"] == "torch.optim.AdamW"
        assert (settings["train.steps"], settings["loss"], settings["dataset"]) == ("6", "huber", "regression")
    assert one.data.params == other.data.params
    assert one.data.metrics["test/rmse"] == other.data.metrics["test/rmse"]


@pytest.mark.parametrize("value", [0.1, 1e-7, 3, True, None, "auto", "it's, so", [1, 2.5, "x"], ""])
def test_every_value_comes_back_from_the_command_and_the_file(value):
    made = search(words=["loss=a"], settings={"loss.p": value})
    *_, word = shlex.split(recipes.command(made))
    assert OverridesParser.create().parse_override(word).value() == value
    assert OmegaConf.create(recipes.experiment(made)).loss.p == value


def test_a_study_of_many_runs_becomes_one_run():
    made = OmegaConf.create(recipes.experiment(search(words=["experiment=outliers", "loss=mae", "hydra/launcher=x"])))
    assert made.defaults == ["outliers", {"override /loss": "mae"}, "_self_"]
    assert made.hydra == {"mode": "RUN"}


def test_names_are_safe_on_any_disk():
    name = recipes.name(search(loss="my/l oss|<x>"), "toy ratio=50 ../../etc")
    assert re.fullmatch(r"[\w.-]+", name)
    assert "/" not in name
