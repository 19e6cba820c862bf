"""A folder of one's own configurations, wherever --config-dir stands: its data, models and losses are first-class."""

from __future__ import annotations

import sys

import pytest
from recorded import runs

MINE = """
import torch
from lossbench.core import Split, card
from lossbench.datasets import assemble

def points(*, seed, task_type="plain"):
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(seed))
    y = (x.sum(1, keepdim=True) > 0).float() if task_type == "binary" else x.sum(1, keepdim=True)
    parts = [Split(x[k], y[k]) for k in torch.arange(90).split(30)]
    return assemble(*parts, name="points", task_type="regression", source=f"here, {task_type}", licence="mine")

@card(task_types=("regression",))
def cubic(prediction, target):
    return (prediction - target).abs().pow(3).mean(-1)

@card(task_types=("binary",))
def of_classes(prediction, target):
    return (prediction - target).square().mean(-1)

def without_a_card(prediction, target):
    return (prediction - target).abs().mean(-1)

def of_another_kind(prediction, target):
    return prediction[:, target]

class Net(torch.nn.Module):
    def __init__(self, inputs, outputs, generator):
        super().__init__()
        self.head = torch.nn.Linear(inputs[0], outputs)
        with torch.no_grad():
            self.head.weight.normal_(generator=generator)
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(x)
"""
FILES = {
    "dataset/points.yaml": "# @package _global_\ndefaults:\n  - override /model: net\n  - override /loss: cubic\n"
    "dataset:\n  _target_: first_class.points\n  task_type: regression\n  seed: ${seed}\n"
    "train:\n  steps: 2\n  batch_size: 8\n",
    "dataset/fewer.yaml": "# @package _global_\ndefaults:\n  - points\ntrain:\n  batch_size: 4\n",
    "model/net.yaml": "_target_: first_class.Net\n",
    "loss/cubic.yaml": "_target_: first_class.cubic\n",
    "loss/of_classes.yaml": "_target_: first_class.of_classes\n",
    "loss/without_a_card.yaml": "_target_: first_class.without_a_card\n",
    "loss/of_another_kind.yaml": "_target_: first_class.of_another_kind\n",
}
FOLDER = ["--config-dir", "mine"]


@pytest.fixture
def mine(here, monkeypatch):
    (here / "first_class.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "first_class", raising=False)
    for name, text in FILES.items():
        (here / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "mine" / name).write_text(text)
    return here / "mine"


def test_compare_trains_every_loss_that_fits_and_leaves_out_what_cannot_train(mine, lossbench, store):
    said = lossbench("compare", *FOLDER, "dataset=points", "seeds=1")
    assert said.code == 0, said
    trained = {run.data.tags["loss"] for run in runs(store)}
    assert {"cubic", "without_a_card", "mse", "huber"} <= trained
    assert not {"of_classes", "of_another_kind", "bce"} & trained
    (line,) = [line for line in said.out.splitlines() if line.startswith("left out:")]
    assert "of_another_kind" in line
    for run in runs(store):
        assert {"test_loss/cubic", "test_loss/without_a_card"} <= set(run.data.metrics)


def test_the_folder_stands_anywhere_in_the_line(mine, lossbench, store):
    words = ["compare", "dataset=points", "losses=cubi,mse", "seeds=1"]
    for place in range(4):
        said = lossbench(*words[:place], *FOLDER, *words[place:])
        assert (said.code, "nearest: cubic" in said.err) == (2, True), (place, said)  # known to it alone
    assert lossbench(*words[:2], *FOLDER, "losses=cubic,mse", *words[3:]).code == 0
    assert {run.data.tags["loss"] for run in runs(store)} == {"cubic", "mse"}


def test_settings_may_follow_the_folder(mine, lossbench, store):
    said = lossbench("loss=cubic", "--config-dir=mine", "dataset=points", "-m", "seed=0,1")
    assert said.code == 0, said
    assert len(runs(store)) == 2


def test_a_fair_search_over_a_loss_of_the_folder(mine, lossbench, store):
    said = lossbench("compare", "dataset=points", "losses=cubic,mse", "tune=1", "seed=0", *FOLDER)
    assert said.code == 0, said
    assert {run.data.tags["loss"] for run in runs(store, "trial")} == {"cubic", "mse"}


def test_a_fair_search_leaves_out_what_cannot_train(mine, lossbench, store):
    words = ["-m", "hydra/sweeper=fair", "hydra.sweeper.trials=1", "hydra.launcher.leave_out=true", *FOLDER]
    said = lossbench(*words, "dataset=points", "loss=cubic,of_another_kind", "seed=0")
    assert said.code == 0, said
    assert "left out: of_another_kind" in said.out
    assert {run.data.tags["loss"] for run in runs(store)} == {"cubic"}


def test_losses_that_were_asked_for_are_not_left_out(mine, lossbench, store):
    said = lossbench("compare", "dataset=points", "losses=cubic,of_another_kind", *FOLDER)
    assert said.code == 2
    assert "of_another_kind" in said.err
    assert not store.find({})


def test_list_has_what_the_folder_holds(mine, lossbench):
    everything = lossbench("list", *FOLDER).out
    for name in ("cubic", "without_a_card", "points", "net"):
        assert name in everything
    for dataset in ("points", "fewer"):  # whose file says its kind by another one
        fitting = lossbench("list", f"dataset={dataset}", *FOLDER).out
        assert "cubic" in fitting
        assert "of_classes" not in fitting
        assert lossbench(*FOLDER, "list", f"dataset={dataset}").out == fitting


def test_check_by_the_name_of_the_folder(mine, lossbench):
    said = lossbench("check", "cubic", *FOLDER)
    assert said.code == 0, said
    assert "cubic" in said.out


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["compare", "dataset=pints"], ["dataset=pints", "points"]),
        (["list", "dataset=pints"], ["dataset=pints", "points"]),
        (["dataset=points", "loss=cubi"], ["loss=cubi", "cubic"]),
        (["dataset=points", "model=nett"], ["model=nett", "net"]),
        (["dataset=points", "model.wide=3"], ["model.wide=3"]),
        (["check", "cubi"], ["loss=cubi", "cubic"]),
        (["compare", "points"], ["dataset=points"]),
        (["loss=of_classes", "dataset=points"], ["of_classes", "regression", "cubic"]),
    ],
)
def test_what_is_wrong_offers_the_names_of_the_folder(words, fragments, mine, lossbench):
    for placed in ([*words, *FOLDER], [*FOLDER, *words]):
        said = lossbench(*placed)
        assert said.code == 2, said
        assert len(said.err.strip().splitlines()) <= 2
        for fragment in fragments:
            assert fragment in said.err


@pytest.mark.parametrize("verb", [[], ["compare"], ["list"], ["check", "mse"]])
@pytest.mark.parametrize("folder", ["nowhere", "theirs"])
def test_a_folder_that_is_not_read_is_refused(verb, folder, mine, lossbench, here):
    """Hydra takes our file where both folders have one of a name, and says nothing."""
    (here / "theirs/loss").mkdir(parents=True)
    (here / "theirs/loss/huber.yaml").write_text("_target_: first_class.cubic\n")
    said = lossbench(*verb, "--config-dir", folder)
    assert said.code == 2, said
    assert f"--config-dir {folder}" in said.err
    if folder == "theirs":
        assert "loss/huber.yaml" in said.err


def test_a_function_that_takes_kind_gets_it(mine, lossbench, store):
    assert lossbench("dataset=points", "loss=cubic", *FOLDER).code == 0
    (run,) = runs(store)
    assert "here, regression" in run.inputs.dataset_inputs[0].dataset.source
