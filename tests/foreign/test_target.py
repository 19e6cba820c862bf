"""A `_target_` on the command line stands for a file of its own: what it replaces leaves nothing behind."""

import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from small import SMALL

from lossbench.analysis.records import read
from lossbench.analysis.short import short
from lossbench.config import checks, overrides, schema
from lossbench.core import ConfigError
from lossbench.runs import builders

SHORT = (*SMALL["regression"], "train.steps=4")
LIB = """import torch
class DiceLoss(torch.nn.Module):
    def forward(self, prediction, target):
        return ({}).mean(-1)
"""
FOREIGN = """import torch
def power(prediction, target, *, k=2.0):
    return (prediction - target).abs().pow(k).mean(-1)
def twice(prediction, target, *, base):
    return 2 * base(prediction, target)
def made(*, seed=0, examples=30):
    pass
def fixed():
    pass
class Net:
    def __init__(self, inputs, outputs, generator, width=3):
        pass
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    (tmp_path / "lib_a.py").write_text(LIB.format("(prediction - target).square()"))
    (tmp_path / "lib_b.py").write_text(LIB.format("(prediction - target).abs()"))
    (tmp_path / "brought.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("lib_a", "lib_b", "brought"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def left(group, *words):
    """What remains of a group under these words of a command line."""
    schema.register()
    words = overrides.free(words)
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        cfg = compose("config", words)
    overrides.replace(cfg, words)
    return OmegaConf.to_container(cfg[group], resolve=False)


LEFT = {
    "a loss": (
        ["dataset=boxes", "loss._target_=torch.nn.functional.smooth_l1_loss"],
        {"_target_": "torch.nn.functional.smooth_l1_loss"},
    ),
    "a loss, and a file that is replaced": (["loss=huber", "loss._target_=x.y"], {"_target_": "x.y"}),
    "a setting that the file has": (
        ["loss=huber", "loss.delta=2", "loss._target_=x.y"],
        {"delta": 2, "_target_": "x.y"},
    ),
    "a setting that it does not have": (["loss._target_=x.y", "loss.k=2"], {"_target_": "x.y", "k": 2}),
    "a setting with +, which the file has": (
        ["loss=huber", "loss._target_=x.y", "+loss.delta=2"],
        {"_target_": "x.y", "delta": 2},
    ),
    "what is inside": (
        ["loss._target_=x.y", "+loss.base._target_=x.z", "loss.base.k=1"],
        {"_target_": "x.y", "base": {"_target_": "x.z", "k": 1}},
    ),
    "a model, whose prior is ours": (["model._target_=x.Net"], {"_target_": "x.Net", "prior": None}),
    "an optimizer": (
        ["dataset=boxes", "optimizer._target_=torch.optim.RMSprop", "optimizer.alpha=.9"],
        {"_target_": "torch.optim.RMSprop", "alpha": 0.9},
    ),
    "a dataset, whose kind is ours": (
        ["dataset._target_=brought.fixed"],
        {"_target_": "brought.fixed", "task_type": "regression"},
    ),
    "a dataset with a seed, which follows the run's": (
        ["dataset._target_=brought.made", "dataset.examples=9"],
        {"_target_": "brought.made", "task_type": "regression", "seed": "${seed}", "examples": 9},
    ),
}


@pytest.mark.parametrize(("words", "expected"), LEFT.values(), ids=LEFT)
def test_only_what_the_command_line_gives_remains(words, expected, foreign):
    group = next(word.partition("._")[0] for word in words if "._target_=" in word).lstrip("+")
    assert left(group, *words) == expected


def test_what_is_inside_a_group_is_replaced_alike():
    noise = left("dataset", "dataset.noise._target_=x.Noise", "dataset.noise.scale=2")["noise"]
    assert noise == {"_target_": "x.Noise", "scale": 2}
    assert "outliers" in left("dataset", "dataset.noise._target_=x.Noise")


def test_two_classes_of_one_name_are_two_rows(lossbench, store, foreign):
    said = lossbench("-m", "loss._target_=lib_a.DiceLoss,lib_b.DiceLoss", "loss=huber", "seed=0,1", *SHORT)
    assert said.code == 0, said.err
    runs = read(store.client, None).runs
    assert set(runs["loss"]) == {"lib_a.DiceLoss", "lib_b.DiceLoss"}
    assert list(runs["label"]) == list(runs["loss"])
    assert not runs["repeated"].any()
    for run in store.find({"lossbench.kind": "run"}):
        assert run.data.tags["loss"] == run.data.params["loss"] == run.data.params["loss._target_"]
        assert "loss.delta" not in run.data.params


def test_a_search_compares_them_too(lossbench, store, foreign):
    words = ["-m", "hydra/sweeper=fair", "loss._target_=lib_a.DiceLoss,brought.power", "loss.k=interval(1,2)"]
    words += ["hydra.sweeper.trials=1", "hydra.sweeper.at_defaults=false", "seed=0", *SHORT]
    said = lossbench(*words)
    assert said.code == 2
    assert "loss.k" in said.err
    said = lossbench(*(word for word in words if not word.startswith("loss.k")))
    assert said.code == 0, said.err
    assert set(read(store.client, None).runs["loss"]) == {"DiceLoss", "power"}


def test_names_are_as_short_as_tells_them_apart():
    names = ["mse", "lib.losses.Dice", "other.Dice", "lib.Focal", "a.x.Both", "a.y.Both", "mine.mse"]
    expected = ["mse", "lib.Dice", "other.Dice", "Focal", "a.x.Both", "a.y.Both", "mine.mse"]
    assert list(short(names).values()) == expected
    assert short(["lib.losses.Dice"]) == {"lib.losses.Dice": "Dice"}


def test_what_is_nested_in_the_settings_of_a_function_is_made(foreign):
    import torch

    nested = {"_target_": "brought.twice", "base": {"_target_": "torch.nn.L1Loss", "reduction": "sum"}}
    made = builders.loss(OmegaConf.create(nested), "regression")
    assert made(torch.ones(3, 1), torch.zeros(3, 1)).item() == 6


def test_a_setting_is_swept_for_the_losses_that_have_it(lossbench, store):
    said = lossbench("-m", "loss=mse,huber", "loss.delta=0.5,2", "seed=0", *SHORT)
    assert said.code == 0, said.err
    assert "loss.delta: not of mse" in said.out
    found = [
        (run.data.tags["loss"], run.data.params.get("loss.delta")) for run in store.find({"lossbench.kind": "run"})
    ]
    assert sorted(found, key=str) == [("huber", "0.5"), ("huber", "2"), ("mse", None)]


def test_a_setting_that_none_of_them_has_is_refused_with_the_nearest(lossbench):
    said = lossbench("-m", "loss=mse,huber", "loss.delt=0.5,2", "seed=0", *SHORT)
    assert said.code == 2
    assert "loss.delt" in said.err
    assert "nearest: loss.delta" in said.err


def test_a_search_gives_a_setting_to_the_losses_that_have_it(lossbench, store):
    fair = ("hydra/sweeper=fair", "hydra.sweeper.trials=1", "hydra.sweeper.at_defaults=false")
    said = lossbench("-m", *fair, "loss=mse,huber", "loss.delta=0.5", "seed=0", *SHORT)
    assert said.code == 0, said.err
    runs = store.find({"lossbench.kind": "run"})
    assert {run.data.tags["loss"]: run.data.params.get("loss.delta") for run in runs} == {"mse": None, "huber": "0.5"}


def test_the_signature_behind_a_package_is_read():
    """So that a setting it does not take is refused before anything is imported."""
    cfg = left("loss", "loss._target_=lossbench.losses.huber", "loss.delat=2")
    with pytest.raises(ConfigError, match=r"loss\.delat.*takes delta"):
        checks._keys("loss", OmegaConf.create(cfg), set())
