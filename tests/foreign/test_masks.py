"""Masks as annotators and converters write them: each file tells what is object, or is refused with its name."""

import numpy as np
import pytest
from PIL import Image

from lossbench.core import ConfigError
from lossbench.datasets import masks
from lossbench.datasets.segmentation import segmentation

SIDE = 64
COUNT = 6


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))


def truth(k):
    """A rectangle and a pixel-wide border at the top, where an annotator was not sure."""
    drawn = np.zeros((SIDE, SIDE), bool)
    drawn[10 + k : 30 + k, 5:40] = True
    return drawn


BORDER = np.zeros((SIDE, SIDE), bool)
BORDER[:2] = True


def folder(root, *saves, image=None, suffix="png", image_suffix="png", size=(SIDE, SIDE), count=COUNT):
    """Images of which the object is bright; the k-th mask is saved by the k-th of `saves`, round and round."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k in range(count):
        pixels = np.where(truth(k)[: size[1], : size[0]], 220, 10 * k).astype(np.uint8)
        path = root / "images" / f"{k}.{image_suffix}"
        image(pixels, path) if image else Image.fromarray(pixels).save(path)
        saves[k % len(saves)](truth(k)[: size[1], : size[0]], root / "masks" / f"{k}.{suffix}")
    return root


def read(root, side=SIDE):
    images, drawn = masks.read(str(root), masks.paths(str(root)), side)
    return images.numpy(), drawn.numpy()


def refusal(root, **settings):
    with pytest.raises(ConfigError) as refused:
        read(root, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def objects(root):
    return read(root)[1] == 1


TRUE = np.stack([truth(k) for k in range(COUNT)])


def grey(value, *, of=np.uint8, rest=0, border=None):
    def save(drawn, path):
        values = np.where(drawn, of(value), of(rest))
        Image.fromarray(values if border is None else np.where(BORDER, of(border), values)).save(path)

    return save


def palette(*colours, index=1, border=None, **how):
    def save(drawn, path):
        indices = np.where(drawn, index, 0) if border is None else np.where(BORDER, border, np.where(drawn, index, 0))
        image = Image.fromarray(indices.astype(np.uint8), "L")
        image.putpalette([channel for colour in colours for channel in colour])
        image.save(path, **how)

    return save


def layer(colour, ground=(0, 0, 0, 0), mode="RGBA"):
    def save(drawn, path):
        pixels = np.where(drawn[..., None], np.uint8(colour), np.uint8(ground))
        Image.fromarray(pixels, "RGBA").convert(mode).save(path)

    return save


def colours(*named):
    """The first is of the ground, the others of stripes of the object."""

    def save(drawn, path):
        stripe = 1 + np.add.outer(np.zeros(SIDE, int), np.arange(SIDE) // 8 % (len(named) - 1))
        Image.fromarray(np.uint8(named)[np.where(drawn, stripe, 0)]).save(path)

    return save


def soft(drawn, path):
    """Edges as a resize leaves them."""
    Image.fromarray(np.uint8(drawn * 255)).resize((256, 256)).resize((SIDE, SIDE), Image.Resampling.BOX).save(path)


def labels(*values, of=np.uint8):
    """Stripes of several labels."""

    def save(drawn, path):
        stripe = np.add.outer(np.zeros(SIDE, int), np.arange(SIDE) // 8 % len(values))
        Image.fromarray(np.where(drawn, of(values)[stripe], of(0))).save(path)

    return save


def float_(drawn, path):
    Image.fromarray(drawn.astype(np.float32)).save(path)


BLACK, WHITE, RED, DIM = (0, 0, 0), (255, 255, 255), (255, 0, 0), (64, 0, 0)


@pytest.mark.parametrize(
    ("saves", "suffix"),
    [
        pytest.param([grey(255), grey(1)], "png", id="0/255 beside 0/1"),
        pytest.param([grey(3), grey(130), grey(255)], "png", id="three annotators"),
        pytest.param([labels(1, 2, 7)], "png", id="labels"),
        pytest.param([labels(1, 2, 7), grey(255)], "png", id="labels beside 0/255"),
        pytest.param([labels(26001, 26002, 33001, of=np.uint16)], "png", id="instances in 16 bits"),
        pytest.param([grey(65535, of=np.uint16), grey(1, of=np.uint16)], "png", id="16 bits"),
        pytest.param([float_], "tif", id="float"),
        pytest.param([grey(255)], "jpg", id="JPEG"),
        pytest.param([soft], "png", id="soft edges"),
        pytest.param([layer((255, 255, 255, 255))], "png", id="white brush on nothing"),
        pytest.param([layer((0, 0, 0, 255), (255, 255, 255, 0))], "png", id="black brush on nothing"),
        pytest.param([layer((200, 30, 30, 100))], "png", id="half-transparent brush"),
        pytest.param([layer((255, 255, 255, 255), mode="LA")], "png", id="grey brush on nothing"),
        pytest.param([layer((255, 255, 255, 255), (0, 0, 0, 255))], "png", id="opaque RGBA"),
        pytest.param([palette(BLACK, (128, 0, 0))], "png", id="palette"),
        pytest.param([palette((120, 120, 120), (180, 120, 120))], "png", id="palette without black"),
        pytest.param([palette(WHITE, RED, transparency=0)], "png", id="palette with a transparent ground"),
        pytest.param([colours(BLACK, RED, DIM, (0, 128, 0))], "png", id="label colours, some dark"),
        pytest.param([colours((3, 3, 3), RED, (0, 255, 0))], "png", id="colours on nearly black"),
        pytest.param([grey(255), layer((255, 0, 0, 255)), palette(BLACK, RED)], "png", id="three tools"),
    ],
)
def test_what_is_drawn_is_object(tmp_path, saves, suffix):
    assert (objects(folder(tmp_path / "pairs", *saves, suffix=suffix)) == TRUE).all()


VOC = [BLACK, (128, 0, 0)] + [(7, 7, 7)] * 253 + [(224, 224, 192)]


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(grey(3, border=255), id="labels and 255"),
        pytest.param(grey(3, of=np.uint16, border=65535), id="labels and 65535"),
        pytest.param(palette(*VOC, border=255), id="PASCAL VOC"),
        pytest.param(
            lambda drawn, path: Image.fromarray(
                np.where(BORDER[..., None], np.uint8(VOC[-1]), np.uint8(VOC)[drawn.astype(int)])
            ).save(path),
            id="PASCAL VOC in colour",
        ),
    ],
)
def test_void_is_no_object_and_said(tmp_path, save, capsys):
    root = folder(tmp_path / "pairs", save)
    drawn = read(root)[1]
    assert (drawn == 1).sum() == TRUE.sum()
    assert ((drawn == 1) == TRUE).all()
    assert ((drawn == 2) == BORDER).all()
    splits = segmentation(seed=0, root=str(root), side=SIDE)
    assert sum(int(split.targets.sum()) for _, split in splits) == TRUE.sum()
    assert "void counted as background in 6 masks" in splits.info.source
    assert "void" in capsys.readouterr().err


def test_white_alone_is_refused_where_white_is_void(tmp_path):
    said = refusal(folder(tmp_path / "pairs", grey(3, border=255), grey(0, border=255), grey(3)))
    assert "masks/1.png" in said
    assert "masks/4.png" in said
    assert said.count("is void") == 2


@pytest.mark.parametrize(
    ("save", "suffix"),
    [
        pytest.param(grey(1, rest=2), "png", id="trimap of pets: 1 object, 2 ground, no 0"),
        pytest.param(labels(85, 170, 255), "png", id="three stretched labels"),
        pytest.param(labels(20, 200, 255), "png", id="a dark and a bright label"),
        pytest.param(labels(1, 127, 255), "png", id="unknown in the middle"),
        pytest.param(grey(20), "jpg", id="labels in JPEG"),
        pytest.param(palette(WHITE, BLACK), "gif", id="black on white in a palette"),
        pytest.param(palette(WHITE, RED), "png", id="red on white in a palette"),
        pytest.param(layer((255, 255, 255, 255), (0, 0, 0, 200)), "png", id="all half-transparent"),
        pytest.param(colours(WHITE, RED, (0, 0, 255)), "png", id="colours without black"),
        pytest.param(grey(7.5, of=np.float32, border=3000.5), "tif", id="floats of no scale"),
        pytest.param(grey(3, of=np.int32, border=-1), "tif", id="negative"),
        pytest.param(
            lambda drawn, path: Image.fromarray(
                np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
            ).save(path),
            "png",
            id="a photo",
        ),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path, save, suffix):
    said = refusal(folder(tmp_path / "pairs", save, suffix=suffix))
    assert all(f"masks/{k}.{suffix} (" in said for k in range(COUNT))


def test_visible_black_beside_colour_is_refused(tmp_path):
    def save(drawn, path):
        pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
        pixels[drawn] = 255
        pixels[40:50, 40:50, 3] = 255  # opaque, and black
        Image.fromarray(pixels).save(path)

    assert "masks/0.png (transparent in parts" in refusal(folder(tmp_path / "pairs", save))


def test_a_mask_that_is_all_object_is_nothing_to_learn(tmp_path):
    assert "no mask holds background" in refusal(folder(tmp_path / "pairs", grey(255, rest=255)))


# EXIF data


def phone(orientation, method):
    def save(pixels, path):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).transpose(method).save(path, exif=exif, quality=98, subsampling=0)

    return save


SIDEWAYS = phone(6, Image.Transpose.ROTATE_90)
UPSIDE_DOWN = phone(3, Image.Transpose.ROTATE_180)


def stored(drawn, path):
    Image.fromarray(np.uint8(drawn * 255)).transpose(Image.Transpose.ROTATE_90).save(path)


def with_exif(drawn, path):
    SIDEWAYS(np.uint8(drawn * 255), path)


@pytest.mark.parametrize(
    ("save", "size", "suffix"),
    [
        pytest.param(grey(255), (48, 64), "png", id="drawn upright"),
        pytest.param(stored, (48, 64), "png", id="drawn as stored"),
        pytest.param(with_exif, (48, 64), "jpg", id="turned as its image"),
        pytest.param(with_exif, (64, 64), "jpg", id="square, turned as its image"),
    ],
)
def test_a_mask_lies_on_its_turned_photo(tmp_path, save, size, suffix):
    root = folder(tmp_path / "pairs", save, image=SIDEWAYS, image_suffix="jpg", suffix=suffix, size=size)
    images, drawn = read(root)
    assert images.shape[2:] == (size[1], size[0])
    inside, outside = (images[:, 0][drawn == value] for value in (1, 0))
    assert inside.min() > 180
    assert outside.max() < 120


def test_a_square_photo_that_is_turned_is_refused(tmp_path):
    said = refusal(folder(tmp_path / "pairs", grey(255), image=SIDEWAYS, image_suffix="jpg"))
    assert "images/0.jpg (turned by its EXIF data" in said


@pytest.mark.parametrize("save", [grey(255), stored], ids=["upright", "stored"])
def test_what_a_photo_cannot_tell_the_others_do(tmp_path, save):
    """One upside down among sideways ones: the tool that drew the masks either looked at EXIF data or did not."""
    root = folder(tmp_path / "pairs", save, image=SIDEWAYS, image_suffix="jpg", size=(48, 64))
    path = root / "images" / "2.jpg"
    drawn = truth(2)[:64, :48]
    UPSIDE_DOWN(np.where(drawn, 220, 20).astype(np.uint8), path)
    Image.fromarray(np.uint8((drawn if save is not stored else np.rot90(drawn, 2)) * 255)).save(root / "masks/2.png")
    images, found = read(root)
    assert images[2, 0][found[2] == 1].min() > 180


def test_another_size_than_the_image_is_refused(tmp_path):
    root = folder(tmp_path / "pairs", grey(255))
    Image.new("L", (32, 32), 255).save(root / "masks" / "1.png")
    assert "masks/1.png (size 32×32, its image 64×64)" in refusal(root)


# Small objects


def speck(drawn, path):
    pixels = np.zeros((640, 640), np.uint8)
    pixels[100:103, 200:203] = 255
    Image.fromarray(pixels).save(path)


def large(pixels, path):
    Image.fromarray(pixels).resize((640, 640)).save(path)


def block(drawn, path):
    Image.fromarray(np.uint8(drawn * 255)).resize((640, 640), Image.Resampling.NEAREST).save(path)


def test_objects_that_vanish_are_said_to_vanish(tmp_path):
    said = refusal(folder(tmp_path / "pairs", speck, image=large))
    assert "vanish" in said
    assert "dataset.side=64" in said


def test_masks_that_lose_their_objects_are_named(tmp_path, capsys):
    read(folder(tmp_path / "pairs", block, speck, image=large))
    said = capsys.readouterr().err
    assert all(f"{k}.png" in said for k in (1, 3, 5))
    assert "3 masks" in said


def test_folders_beside_pictures_are_named(tmp_path):
    root = folder(tmp_path / "pairs", grey(255))
    (root / "images" / "more").mkdir()
    assert "images/more (a folder)" in refusal(root)
