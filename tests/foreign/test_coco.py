"""COCO folders as Label Studio, CVAT, Roboflow and VIA leave them: boxes lie on their objects, or an entry is named."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lossbench.core import ConfigError
from lossbench.datasets import coco
from lossbench.datasets.boxes import boxes
from lossbench.datasets.imbalanced import imbalanced

WIDTH, HEIGHT = 96, 72
BOXES = ([8, 10, 20, 28], [50, 30, 18, 24])  # objects of 255 on a ground below 100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))


def picture(shade=0):
    pixels = np.full((HEIGHT, WIDTH), shade, np.uint8)
    for x, y, width, height in BOXES:
        pixels[y : y + height, x : x + width] = 255
    return pixels


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folder(root, *, file="annotations.json", name="im{}.png", listed=None, save=save, images=5, edit=None, first=0):
    """Images of a shade of their own and their annotations, which `edit` changes before they are written."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    for k in range(images):
        save(picture(5 * (k + first)), root / name.format(k))
        image = {"id": k + 1, "file_name": (listed or name).format(k), "width": WIDTH, "height": HEIGHT}
        content["images"].append(image)
        for box in BOXES:
            number = len(content["annotations"]) + 1
            content["annotations"].append({"id": number, "image_id": k + 1, "bbox": list(box), "iscrowd": 0})
    if edit:
        edit(content)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))
    return root


def loaded(root):
    return coco.folder(str(root))


def refusal(root):
    with pytest.raises(ConfigError) as refused:
        loaded(root)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def lie_on_objects(found, count=2):
    """Whether each box of each scene holds its object and no more."""
    for k in range(len(found.images)):
        scene = found.scene(k)
        assert len(scene.boxes) == count
        for x0, y0, x1, y1 in scene.boxes.round().int().tolist():
            assert (scene.image[y0:y1, x0:x1] > 0.75).double().mean() > 0.95
            grown = scene.image[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3]
            assert (grown > 0.75).double().mean() < 0.9
    return True


def annotation(number, **changed):
    """Changes one annotation by its id."""

    def edit(content):
        content["annotations"][number - 1].update(changed)

    return edit


def every(part, **changed):
    def edit(content):
        for item in content[part]:
            item.update({key: value(item) if callable(value) else value for key, value in changed.items()})

    return edit


# The file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_any_unicode_is_read(tmp_path, encoding):
    path = folder(tmp_path, name="Straße {}.png") / "annotations.json"
    text = json.dumps(json.loads(path.read_text()), ensure_ascii=False)
    path.write_bytes(text.encode(encoding))
    assert lie_on_objects(loaded(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"images": [', id="cut off"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"images": []}', id="no annotations"),
        pytest.param(b'{"images": {}, "annotations": []}', id="no list"),
        pytest.param('{"images": "Straße"}'.encode("latin-1"), id="Latin-1"),
        pytest.param(b'{"_via_settings": {}, "_via_img_metadata": {}}', id="a VIA project"),
    ],
)
def test_what_is_no_coco_file_is_named(tmp_path, content):
    (folder(tmp_path) / "annotations.json").write_bytes(content)
    assert "annotations.json: not a COCO annotation file" in refusal(tmp_path)


# Where images are


@pytest.mark.parametrize(
    ("name", "listed", "file"),
    [
        pytest.param("images/im{}.png", "images\\im{}.png", "result.json", id="Label Studio on Windows"),
        pytest.param("images/a-im{}.png", "../../data/media/upload/3/a-im{}.png", "result.json", id="Label Studio"),
        pytest.param("im{}.png", "C:\\Users\\me\\photos\\im{}.png", "via.json", id="VIA on Windows"),
        pytest.param("im{}.png", "/home/me/photos/im{}.png", "via.json", id="another machine"),
        pytest.param("images/default/im{}.png", "im{}.png", "annotations/instances_default.json", id="CVAT"),
        pytest.param("a/b/im{}.png", "./b/im{}.png", "annotations/instances.json", id="deep"),
        pytest.param("train2017/{:012}.png", "{:012}.png", "annotations/instances_train2017.json", id="COCO"),
    ],
)
def test_images_are_found(tmp_path, name, listed, file):
    assert lie_on_objects(loaded(folder(tmp_path, name=name, listed=listed, file=file)))


def test_accents_of_a_mac_are_those_of_the_file(tmp_path):
    name = "é{}.png"
    split = unicodedata.normalize("NFD", name)
    assert split != name
    assert lie_on_objects(loaded(folder(tmp_path, name=f"images/{split}", listed=name)))


def test_a_name_may_begin_above_the_folder(tmp_path, monkeypatch):
    root = folder(tmp_path / "photos", listed="photos/im{}.png")
    assert lie_on_objects(loaded(root))
    monkeypatch.chdir(root)
    assert lie_on_objects(loaded("."))


def two_cameras(tmp_path, listed):
    folder(tmp_path, name="camera2/im{}.png", listed=listed)
    for path in sorted((tmp_path / "camera2").iterdir()):
        save(np.full((HEIGHT, WIDTH), 40, np.uint8), tmp_path / "camera1" / path.name)
    return tmp_path


def test_two_files_that_fit_a_name_are_named(tmp_path):
    said = refusal(two_cameras(tmp_path, "im{}.png"))
    assert "im0.png (fits camera1/im0.png and camera2/im0.png" in said


def test_a_name_with_its_folder_is_enough(tmp_path):
    assert lie_on_objects(loaded(two_cameras(tmp_path, "camera2/im{}.png")))


def test_a_name_with_another_folder_is_missing(tmp_path):
    folder(tmp_path, name="camera1/im{}.png", listed="camera2/im{}.png")
    assert "camera2/im0.png (missing)" in refusal(tmp_path)


@pytest.mark.parametrize("name", [".", "/", "im\0.png", "x" * 5000, ""])
def test_names_that_no_file_has_are_named(tmp_path, name):
    def edit(content):
        content["images"][2]["file_name"] = name

    assert "annotations.json: not a COCO" in (said := refusal(folder(tmp_path, edit=edit))) or "images: " in said


@pytest.mark.parametrize("again", ["im1.png", "./im1.png", "link.png"])
def test_an_image_under_two_ids_is_named(tmp_path, again):
    def edit(content):
        content["images"].append({"id": 77, "file_name": again, "width": WIDTH, "height": HEIGHT})

    folder(tmp_path, edit=edit)
    (tmp_path / "link.png").symlink_to(tmp_path / "im1.png")
    assert f"{again} (there twice: ids 2 and 77)" in refusal(tmp_path)


# Splits

ROBOFLOW = {part: (f"{part}/_annotations.coco.json", f"{part}/im{{}}.png") for part in ("train", "valid", "test")}
CVAT = {
    part: (f"annotations/instances_{part}.json", f"images/{part}/im{{}}.png")
    for part in ("Train", "Validation", "Test")
}
COCO = {part: (f"annotations/instances_{part}2017.json", f"{part}2017/im{{}}.png") for part in ("train", "val", "test")}
LAYOUTS = pytest.mark.parametrize("layout", [ROBOFLOW, CVAT, COCO], ids=["Roboflow", "CVAT", "COCO"])
SIZES = {"train": 6, "validation": 4, "test": 3}


def split_folder(root, layout):
    """The same names in each split, and shades that tell which an image is of."""
    for (file, name), count, first in zip(layout.values(), SIZES.values(), (0, 6, 10), strict=True):
        folder(root, file=file, name=name, listed=name.rsplit("/", 1)[1], images=count, first=first)
    return root


@LAYOUTS
@pytest.mark.parametrize("seed", [0, 1])
def test_the_folders_own_splits_are_used(tmp_path, layout, seed):
    root = split_folder(tmp_path, layout)
    made = boxes(seed=seed, source="coco", root=str(root), **{name: 4 * size for name, size in SIZES.items()}, side=16)
    shades = [split.inputs.amin((1, 2, 3)) for _, split in made]
    assert [len(np.unique(part.numpy().round(4))) for part in shades] == list(SIZES.values())
    assert shades[0].max() < shades[1].min()
    assert shades[1].max() < shades[2].min()


@LAYOUTS
def test_both_datasets_use_them(tmp_path, layout):
    root = split_folder(tmp_path, layout)
    imbalanced(seed=0, source="coco", root=str(root), ratio=1, train=4, validation=4, test=4, side=16)
    (root / list(layout.values())[2][0]).unlink()
    with pytest.raises(ConfigError, match="train and validation but none of test"):
        imbalanced(seed=0, source="coco", root=str(root), ratio=1, train=4, validation=4, test=4, side=16)


def test_an_image_in_two_splits_is_named(tmp_path):
    root = split_folder(tmp_path, ROBOFLOW)
    (root / "test" / "im1.png").unlink()
    (root / "test" / "im1.png").symlink_to(root / "train" / "im1.png")
    assert "im1.png (there twice: ids 2 of train and 2 of test)" in refusal(root)


# Entries


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(every("annotations", iscrowd="0"), id="iscrowd is text"),
        pytest.param(every("annotations", iscrowd=False), id="iscrowd is a truth value"),
        pytest.param(every("annotations", iscrowd=None), id="iscrowd is null"),
        pytest.param(every("annotations", bbox=lambda a: [str(side) for side in a["bbox"]]), id="bbox of text"),
        pytest.param(every("annotations", image_id=lambda a: str(a["image_id"])), id="image_id is text"),
        pytest.param(every("images", id=lambda i: float(i["id"])), id="id is a float"),
        pytest.param(every("images", width=str(WIDTH), height=str(HEIGHT)), id="size is text"),
        pytest.param(every("images", width=0, height=0), id="size is 0"),
        pytest.param(every("images", width=None, height=None), id="size is null"),
    ],
)
def test_numbers_are_read_however_they_are_written(tmp_path, edit):
    assert lie_on_objects(loaded(folder(tmp_path, edit=edit)))


@pytest.mark.parametrize("crowd", [1, "1", True, "true", 1.0])
def test_crowds_are_left_out_and_counted(tmp_path, crowd):
    found = loaded(folder(tmp_path, edit=annotation(4, iscrowd=crowd, bbox=None)))
    assert [len(part) for _, part in found.images] == [2, 1, 2, 2, 2]
    assert "crowd regions left out (1)" in found.remarks


@pytest.mark.parametrize(
    "changed",
    [
        {"bbox": [float("nan"), 10, 20, 28]},
        {"bbox": [8, float("inf"), 20, 28]},
        {"bbox": [8, 10, -20, 28]},
        {"bbox": [8, 10, 20]},
        {"bbox": []},
        {"bbox": None},
        {"bbox": "8 10 20 28"},
        {"bbox": [8, 10, "wide", 28]},
        {"bbox": [8, 10, True, 28]},
        {"bbox": {"x": 8}},
        {"iscrowd": "maybe"},
        {"iscrowd": 2},
        {"image_id": 99},
        {"image_id": None},
        {"image_id": [1]},
    ],
    ids=str,
)
def test_an_entry_that_is_wrong_is_named_alone(tmp_path, changed):
    said = refusal(folder(tmp_path, edit=annotation(4, **changed)))
    assert "annotations.json: not a COCO annotation file that can be used: annotations[3] (id 4): " in said
    assert said.count("(id ") == 1
    assert next(iter(changed)) in said


@pytest.mark.parametrize(
    "changed",
    [{"file_name": None}, {"file_name": 3}, {"width": -5}, {"height": float("nan")}, {"id": None}, {"id": 1}],
    ids=str,
)
def test_an_image_that_is_wrong_is_named_alone(tmp_path, changed):
    def edit(content):
        content["images"][2].update(changed)

    said = refusal(folder(tmp_path, edit=edit))
    assert "images[2] (id " in said
    assert said.count("[") == 1


def test_all_wrong_entries_are_named_and_many_counted(tmp_path):
    said = refusal(folder(tmp_path, images=15, edit=every("annotations", bbox=[float("nan")] * 4)))
    assert said.count("annotations[") == 20
    assert "and 10 more" in said


def test_boxes_without_area_are_left_out_and_said(tmp_path, capsys):
    def edit(content):
        content["annotations"][0]["bbox"] = [8, 10, 0, 28]
        content["annotations"][5]["bbox"] = [8, 10, 20, 0.0]

    root = folder(tmp_path, edit=edit)
    assert [len(part) for _, part in loaded(root).images] == [1, 2, 1, 2, 2]
    made = boxes(seed=0, source="coco", root=str(root), train=2, validation=1, test=1, side=16)
    assert "boxes without area left out (2)" in made.info.source
    assert "boxes without area left out (2)" in capsys.readouterr().err


def test_a_sound_folder_has_no_remarks(tmp_path, capsys):
    assert loaded(folder(tmp_path)).remarks == ""
    assert not capsys.readouterr().err


# Boxes and images


def test_boxes_are_cut_at_the_edge_and_counted(tmp_path):
    def edit(content):
        content["annotations"][1]["bbox"] = [-4.5, 10, 20, 100]
        content["annotations"][2]["bbox"] = [80, 60, 16.5, 12.25]  # rounding

    found = loaded(folder(tmp_path, edit=edit))
    assert found.images[0][1][1] == (0, 10, 15.5, HEIGHT - 10)
    assert found.images[1][1][0] == (80, 60, 16, 12)
    assert "boxes cut at the edge of their image (1)" in found.remarks


@pytest.mark.parametrize("box", [[WIDTH, 0, 10, 10], [0, HEIGHT + 5, 10, 10], [-20, 5, 20, 10]])
def test_a_box_outside_of_its_image_is_named(tmp_path, box):
    assert "im1.png (box " in refusal(folder(tmp_path, edit=annotation(3, bbox=box)))


def test_a_box_beyond_an_image_of_unknown_size_is_named(tmp_path):
    def edit(content):
        content["annotations"][3]["bbox"] = [80, 10, 60, 30]
        del content["images"][1]["width"]

    assert "im1.png (box 80, 10, 60, 30 reaches beyond its 96×72" in refusal(folder(tmp_path, edit=edit))


def test_corners_are_not_taken_for_sizes(tmp_path):
    def corners(item):
        x, y, width, height = item["bbox"]
        return [x + 30, y + 20, x + 30 + width, y + 20 + height]

    assert "not two corners" in refusal(folder(tmp_path, edit=every("annotations", bbox=corners)))


def test_shares_are_not_taken_for_pixels(tmp_path):
    def share(item):
        return [side / of for side, of in zip(item["bbox"], (WIDTH, HEIGHT) * 2, strict=True)]

    assert "0 … 1" in refusal(folder(tmp_path, edit=every("annotations", bbox=share)))


def scaled(width, height):
    return lambda pixels, path: save(np.asarray(Image.fromarray(pixels).resize((width, height))), path)


@pytest.mark.parametrize(("width", "height"), [(48, 36), (192, 144), (47, 35), (200, 150)])
def test_boxes_follow_images_to_another_size(tmp_path, width, height):
    found = loaded(folder(tmp_path, save=scaled(width, height)))
    expected = np.array(BOXES) * [width / WIDTH, height / HEIGHT, width / WIDTH, height / HEIGHT]
    assert all(np.allclose(part, expected) for _, part in found.images)
    assert "images with boxes of another size, scaled (5)" in found.remarks


@pytest.mark.parametrize(("width", "height"), [(96, 80), (72, 96), (50, 30)])
def test_other_proportions_than_the_entrys_are_refused(tmp_path, width, height):
    said = refusal(folder(tmp_path, save=scaled(width, height)))
    assert f"im0.png (96×72 in its entry, {width}×{height} in its file)" in said


# EXIF data

METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def phone(orientation):
    """Saves an upright picture as a phone stores it: turned, and the way back in its EXIF data."""

    def stored(pixels, path):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).transpose(METHODS[orientation]).save(path, exif=exif, quality=98)

    return stored


def turned_box(box, orientation):
    """Where a box lies on the stored picture: found by drawing it."""
    x, y, width, height = box
    blank = np.zeros((HEIGHT, WIDTH), np.uint8)
    blank[y : y + height, x : x + width] = 255
    left, top, right, bottom = Image.fromarray(blank).transpose(METHODS[orientation]).getbbox()
    return [left, top, right - left, bottom - top]


def as_stored(orientation, known=True):
    def edit(content):
        for image in content["images"]:
            image["width"], image["height"] = (HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT)
        for item in content["annotations"]:
            item["bbox"] = turned_box(item["bbox"], orientation)

    return edit


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_upright_photo(tmp_path, orientation):
    root = folder(tmp_path, name="im{}.jpg", save=phone(orientation))
    assert lie_on_objects(loaded(root))
    assert loaded(root).remarks == ""


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_photo_as_stored(tmp_path, orientation):
    found = loaded(folder(tmp_path, name="im{}.jpg", save=phone(orientation), edit=as_stored(orientation)))
    assert lie_on_objects(found)
    assert "turned with them (5)" in found.remarks


@pytest.mark.parametrize(
    ("orientation", "edit"),
    [(6, every("images", width=None)), (3, None), (2, None)],
    ids=["no size", "upside down", "mirrored"],
)
def test_photos_whose_boxes_may_be_either_are_refused(tmp_path, orientation, edit):
    root = folder(tmp_path, name="im{}.jpg", save=phone(orientation), edit=edit)
    assert "im0.jpg (turned by its EXIF data" in refusal(root)


@pytest.mark.parametrize("orientation", [2, 3, 4])
@pytest.mark.parametrize("stored", [False, True])
def test_what_a_photo_cannot_tell_the_others_do(tmp_path, orientation, stored):
    """One tool made all entries: as it treats sideways photos, it treats those upside down."""

    def edit(content):
        if stored:
            sideways, flipped = json.loads(json.dumps(content)), json.loads(json.dumps(content))
            as_stored(6)(sideways)
            as_stored(orientation)(flipped)
            content["images"][:] = flipped["images"][:1] + sideways["images"][1:]
            content["annotations"][:] = flipped["annotations"][:2] + sideways["annotations"][2:]

    def mixed(pixels, path):
        phone(orientation if path.name == "im0.jpg" else 6)(pixels, path)

    assert lie_on_objects(loaded(folder(tmp_path, name="im{}.jpg", save=mixed, edit=edit)))
