"""Pictures as phones, scanners, microscopes and archives leave them, through every dataset that reads a folder."""

import json

import numpy as np
import pytest
from PIL import Image

from lossbench.core import ConfigError
from lossbench.datasets import coco, masks, photos
from lossbench.datasets.boxes import boxes
from lossbench.datasets.faces import faces
from lossbench.datasets.segmentation import segmentation

HEIGHT, WIDTH = 24, 36
RAMP = np.add.outer(np.arange(HEIGHT) * 3, np.arange(WIDTH) * 5).astype(np.uint8)  # 0 … 244, like none of its turns


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))


def by_coco(root, suffix, save):
    content = {"images": [{"id": k, "file_name": f"{k}{suffix}", "width": WIDTH, "height": HEIGHT} for k in range(3)]}
    for image in content["images"]:
        save(root / image["file_name"])
    (root / "instances.json").write_text(json.dumps(content | {"annotations": []}))
    return 255 * coco.folder(str(root)).scene(0).image.numpy()


def by_faces(root, suffix, save):
    save(path := root / f"0{suffix}")
    return photos.read("dataset.root=x", [path], HEIGHT, WIDTH, mixed=False)[0].numpy()


def by_masks(root, suffix, save):
    for name in ("images", "masks"):
        (root / name).mkdir()
    for k in range(3):
        save(root / "images" / f"{k}{suffix}")
        Image.fromarray(np.uint8(255 * (RAMP > 100))).save(root / "masks" / f"{k}.png")
    return masks.read(str(root), masks.paths(str(root)), WIDTH)[0][0, 0].numpy()


DOORS = pytest.mark.parametrize("door", [by_coco, by_faces, by_masks])

# What a picture is as stored, for what it is upright: EXIF 2.32, 4.6.4, undone.
STORED = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(np.transpose(a), 2),
    8: lambda a: np.rot90(a, -1),
}


def turned(orientation, **how):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](RAMP))
    return lambda path: Image.fromarray(stored).save(path, exif=exif, **how)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@DOORS
def test_a_phones_photo_is_upright(tmp_path, door, orientation):
    seen = door(tmp_path, ".jpg", turned(orientation, quality=100, subsampling=0))
    assert seen.shape == RAMP.shape
    assert np.abs(seen - RAMP.astype(float)).max() < 4


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_mirrored_photo_is_upright(tmp_path, orientation):
    assert (by_faces(tmp_path, ".png", turned(orientation)) == RAMP).all()


@pytest.mark.parametrize(("suffix", "how"), [(".png", {}), (".tif", {}), (".tif", {"compression": "tiff_lzw"})])
@DOORS
def test_other_formats_are_upright(tmp_path, door, suffix, how):
    assert np.abs(door(tmp_path, suffix, turned(6, **how)) - RAMP.astype(float)).max() < 0.01


def test_a_phones_second_picture_is_no_page(tmp_path):
    """JPEG of two pictures, the second a map of depth or gain."""

    def save(path):
        second = Image.new("L", (WIDTH // 2, HEIGHT // 2), 255)
        Image.fromarray(RAMP).save(path, format="MPO", save_all=True, append_images=[second], quality=100)

    assert np.abs(by_faces(tmp_path, ".jpg", save) - RAMP.astype(float)).max() < 4


def tiff(values):
    return lambda path: Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("suffix", "values"),
    [
        pytest.param(".png", RAMP.astype(np.uint16) * 257, id="16-bit PNG"),
        pytest.param(".tif", RAMP.astype(np.uint16) * 257, id="16-bit TIFF"),
        pytest.param(".pgm", RAMP.astype(np.int32) * 257, id="16-bit PGM"),
        pytest.param(".tif", (RAMP / 255).astype(np.float32), id="float to 1"),
        pytest.param(".tif", RAMP.astype(np.float32), id="float to 255"),
    ],
)
@DOORS
def test_deep_pictures_have_the_grey_of_8_bits(tmp_path, door, suffix, values):
    assert np.abs(door(tmp_path, suffix, tiff(values)) - RAMP.astype(float)).max() < 0.51


@DOORS
def test_one_bit_is_black_and_white(tmp_path, door):
    seen = door(tmp_path, ".png", lambda path: Image.fromarray(RAMP > 100).save(path))
    assert np.abs(seen - 255 * (RAMP > 100)).max() < 0.01


def with_alpha(mode):
    def save(path):
        alpha = np.where(RAMP > 100, 255, 0).astype(np.uint8)
        hidden = Image.merge("LA", [Image.fromarray(RAMP), Image.fromarray(alpha)])  # grey that nobody sees
        if mode == "P":
            drawn = Image.fromarray(np.where(alpha > 0, RAMP, 0)).convert("P")
            drawn.save(path, transparency=0)
        else:
            hidden.convert(mode).save(path)

    return save


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
@DOORS
def test_what_is_transparent_is_white(tmp_path, door, mode):
    seen = door(tmp_path, ".png", with_alpha(mode))
    assert np.abs(seen - np.where(RAMP > 100, RAMP, 255.0)).max() < 0.01


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
@DOORS
def test_print_and_screen_have_one_grey(tmp_path, door, mode):
    seen = door(tmp_path, ".tif", lambda path: Image.fromarray(RAMP).convert("RGB").convert(mode).save(path))
    assert np.abs(seen - RAMP.astype(float)).max() < 1.01


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(RAMP.astype(np.uint16) * 16, id="12 bits in 16"),
        pytest.param(RAMP.astype(np.uint16), id="8 bits in 16"),
        pytest.param(RAMP.astype(np.float32) / 100, id="float beyond 1"),
        pytest.param(RAMP.astype(np.float32) / 255 - 0.5, id="negative"),
        pytest.param(np.where(RAMP > 100, np.float32("nan"), np.float32(0)), id="nan"),
        pytest.param(RAMP.astype(np.int32) * 1000, id="beyond 16 bits"),
    ],
)
@DOORS
def test_a_depth_that_cannot_be_told_is_refused(tmp_path, door, values):
    with pytest.raises(ConfigError, match=r"\b0\.tif"):
        door(tmp_path, ".tif", tiff(values))


# Three folders as they should be, and one file of each as it should not.


def people(root):
    random = np.random.default_rng(0)
    for person in range(8):
        (root / f"p{person}").mkdir(parents=True)
        for k in range(2):
            pixels = random.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"p{person}" / f"{k}.png")
    return root / "p3" / "1.png"


def pairs(root):
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k in range(5):
        Image.fromarray(random.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)).save(root / "images" / f"{k}.png")
        Image.fromarray(np.uint8(255 * (RAMP > 100))).save(root / "masks" / f"{k}.png")
    return root / "images" / "3.png"


def scenes(root):
    random = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    content = {"images": [], "annotations": []}
    for k in range(5):
        Image.fromarray(random.integers(0, 255, (96, 96), dtype=np.uint8)).save(root / "images" / f"{k}.png")
        content["images"].append({"id": k, "file_name": f"{k}.png", "width": 96, "height": 96})
        content["annotations"].append({"id": k, "image_id": k, "bbox": [30, 30, 20, 28]})
    (root / "instances.json").write_text(json.dumps(content))
    return root / "images" / "3.png"


def of_faces(root):
    return faces(seed=0, root=str(root), height=16, width=24)


def of_pairs(root):
    return segmentation(seed=0, root=str(root), side=32)


def of_scenes(root):
    return boxes(seed=0, source="coco", root=str(root), train=3, validation=1, test=1, side=16)


FOLDERS = pytest.mark.parametrize(("make", "load"), [(people, of_faces), (pairs, of_pairs), (scenes, of_scenes)])


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bomb(path):
    Image.new("1", (20000, 20000)).save(path)


def torn_header(path):
    path.write_bytes(b"P5\n160 120\n255b" + bytes(19200))


def torn_chunk(path):
    content = bytearray(path.read_bytes())
    content[20:30] = bytes(10)
    path.write_bytes(content)


def text(path):
    path.write_text("see the other folder")


def stack(path):
    page = Image.new("L", (WIDTH, HEIGHT))
    page.save(path, format="TIFF", save_all=True, append_images=[page.copy(), page.copy()])


@pytest.mark.parametrize("spoil", [half, bomb, torn_header, torn_chunk, text, stack])
@FOLDERS
def test_a_broken_picture_is_named_alone(tmp_path, make, load, spoil):
    spoil(make(tmp_path / "root"))
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "root")
    said = str(refused.value)
    assert said.count(".png") == 1
    assert ("p3/1.png" if make is people else "3.png") in said
    assert "\n" not in said


@FOLDERS
def test_what_systems_leave_behind_is_left_out(tmp_path, make, load):
    """A Mac's archive, Synology's thumbnails, Jupyter's copies, Windows' indices, a link to a disk that is gone."""
    make(tmp_path / "clean")
    sound = make(tmp_path / "root")
    within = sound.parent
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._3.png"):
        (within / name).write_bytes(b"\0\5\x16\7 nothing")
    (within / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        for copies in (within / name, tmp_path / "root" / name):
            copies.mkdir()
            for k in range(3):
                (copies / f"{k}.png").write_bytes(sound.read_bytes())
    (tmp_path / "root" / "__MACOSX" / "._instances.json").write_bytes(b"\0\5\x16\7")
    (tmp_path / "root" / "._instances.json").write_bytes(b"\0\5\x16\7")
    assert load(tmp_path / "root").info.fingerprint == load(tmp_path / "clean").info.fingerprint


def test_photos_that_pillow_cannot_read_are_not_passed_over(tmp_path):
    people(tmp_path / "root")
    (tmp_path / "root" / "p1" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x24ftypheic" + bytes(100))
    with pytest.raises(ConfigError, match=r"p1/IMG_1\.HEIC"):
        of_faces(tmp_path / "root")
