"""Data that cannot be trained on is refused by name: of the file, or of the rows."""

import gzip
import os
import re
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from lossbench.core import ConfigError, Split, machine
from lossbench.datasets import assemble, check, pictures
from lossbench.datasets.annotations import parse
from lossbench.datasets.coco_files import index
from lossbench.datasets.digits import FILES, read_idx
from lossbench.datasets.mnist import mnist
from lossbench.datasets.pairs import read_pairs
from lossbench.datasets.pictures import Unreadable
from lossbench.runs import builders


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {name: random.integers(0, 10, (30, 28, 28) if "images" in name else 30, dtype=np.uint8) for name in FILES}


@pytest.fixture
def root(tmp_path, arrays):
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def refusal(root):
    with pytest.raises(ConfigError) as refused:
        mnist(seed=0, root=str(root), validation=0.2)
    return str(refused.value)


def test_the_folder_is_good_before_it_is_spoilt(root):
    check(mnist(seed=0, root=str(root), validation=0.2))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(root, name):
    (root / name).unlink()
    said = refusal(root)
    assert name in said
    assert sum(other in said for other in FILES) == 1


def test_all_missing_files_are_named_at_once(tmp_path):
    said = refusal(tmp_path)
    assert all(name in said for name in FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 3, 7, 20, -1])
def test_a_truncated_file_is_named(root, name, keep):
    (root / name).write_bytes((root / name).read_bytes()[:keep])
    assert str(root / name) in refusal(root)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_more_than_its_shape_is_named(root, name):
    (root / name).write_bytes((root / name).read_bytes() + b"\0")
    assert str(root / name) in refusal(root)


@pytest.mark.parametrize("magic", [b"\1\0\x08\3", b"\0\0\x0d\3", b"\0\0\x08\0", b"\x89PNG", b"<htm"])
def test_a_wrong_magic_number_is_named(root, magic):
    path = root / FILES[0]
    path.write_bytes(magic + path.read_bytes()[4:])
    assert str(path) in refusal(root)


def cut(content):
    return content[:-9]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes(255 - b for b in content[middle : middle + 20]) + content[middle + 20 :]


def never_packed(content):
    return gzip.decompress(content)


@pytest.mark.parametrize("spoil", [cut, flipped, never_packed])
def test_a_corrupt_gzip_is_named(tmp_path, arrays, spoil):
    for name, array in arrays.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    path = tmp_path / f"{FILES[2]}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    assert str(path) in refusal(tmp_path)


@pytest.mark.parametrize("which", [1, 3])
def test_labels_beyond_nine_are_named_by_row(root, arrays, which):
    labels = arrays[FILES[which]]
    labels[[4, 17]] = 10, 255
    (root / FILES[which]).write_bytes(idx(labels))
    said = refusal(root)
    assert "4, 17" in said
    assert ("train" if which == 1 else "test") in said


@pytest.mark.parametrize("which", [0, 2])
def test_more_images_than_labels_are_refused(root, arrays, which):
    images = arrays[FILES[which]]
    (root / FILES[which]).write_bytes(idx(np.concatenate([images, images[:2]])))
    said = refusal(root)
    assert str(root) in said
    assert "32 images" in said
    assert "30 labels" in said


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_idx(tmp_path)


def splits(spoilt="train", *, task_type="multiclass", **changed):
    """Three good splits of two classes, but for one."""
    inputs, targets = torch.zeros(6, 2), torch.tensor([0, 1, 0, 1, 0, 1])
    parts = {name: Split(inputs, targets) for name in ("train", "validation", "test")}
    parts[spoilt] = Split(changed.get("inputs", inputs), changed.get("targets", targets))
    return assemble(*parts.values(), name="toy", task_type=task_type, source="", licence="", classes=("a", "b"))


def test_good_splits_pass():
    check(splits())


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_are_named(name, bad):
    inputs = torch.zeros(6, 2)
    inputs[[1, 4], [0, 1]] = bad
    with pytest.raises(ConfigError, match=rf"inputs of {name} are not finite in rows 1, 4$"):
        check(splits(name, inputs=inputs))


def test_targets_that_are_not_finite_are_named():
    y = torch.tensor([[0.0], [float("nan")]])
    good, bad = Split(torch.zeros(2, 1), torch.zeros(2, 1)), Split(torch.zeros(2, 1), y)
    made = assemble(
        good, good, good, extra_tests={"late": bad}, name="toy", task_type="regression", source="", licence=""
    )
    with pytest.raises(ConfigError, match=r"targets of late are not finite in rows 1$"):
        check(made)


def test_many_bad_rows_are_counted():
    with pytest.raises(ConfigError, match=r"rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more$"):
        check(splits("test", inputs=torch.full((100, 2), float("nan")), targets=torch.zeros(100, dtype=torch.long)))


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_outside_the_classes_are_named(label):
    targets = torch.tensor([0, 1, 0, label, 0, 1])
    with pytest.raises(ConfigError, match=rf"labels \[{label}\] of validation lie outside 0 … 1, in rows 3$"):
        builders.check_for_task(splits("validation", targets=targets))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_an_empty_split_is_named(name):
    with pytest.raises(ConfigError, match=f"the {name} split is empty"):
        check(splits(name, inputs=torch.zeros(0, 2), targets=torch.zeros(0, dtype=torch.long)))


def test_an_unknown_kind_of_problem_is_refused():
    with pytest.raises(ConfigError, match=r"task_type=ranking"):
        builders.check_for_task(splits(task_type="ranking"))


@pytest.mark.parametrize(
    ("which", "array"),
    [
        pytest.param(2, np.zeros((32, 28, 28), np.uint8), id="counts differ"),
        pytest.param(0, np.zeros(30, np.uint8), id="labels in place of images"),
        pytest.param(2, np.zeros((30, 20, 20), np.uint8), id="another size"),
        pytest.param(0, np.zeros((0, 28, 28), np.uint8), id="empty"),
    ],
)
def test_images_that_do_not_fit_are_named(root, which, array):
    (root / FILES[which]).write_bytes(idx(array))
    assert str(root / FILES[which]) in refusal(root)


@pytest.mark.parametrize(
    ("header", "unpacked"),
    [
        pytest.param(struct.pack(">4B3I", 0, 0, 8, 3, 30, 28, 28), 1 << 28, id="a bomb"),
        pytest.param(struct.pack(">4B3I", 0, 0, 8, 3, 1 << 31, 28, 28), 100, id="more than memory"),
        pytest.param(struct.pack(">4B3I", 0, 0, 8, 3, *[(1 << 32) - 1] * 3), 100, id="more than any memory"),
        pytest.param(struct.pack(">4B3I", 0, 0, 8, 3, 0, *[(1 << 32) - 1] * 2), 0, id="nothing of much"),
        pytest.param(bytes([0, 0, 8, 200]) + struct.pack(">I", 1) * 200, 1, id="too many axes"),
    ],
)
def test_a_file_that_unpacks_to_more_than_it_should_is_named_before_it_takes_memory(tmp_path, header, unpacked):
    path = tmp_path / f"{FILES[0]}.gz"
    path.write_bytes(gzip.compress(header + bytes(unpacked), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=re.escape(str(path))):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", ["pipe", "/dev/zero"])
def test_pictures_that_are_no_files_are_named_rather_than_waited_for(tmp_path, place):
    path = tmp_path / "a.png"
    os.mkfifo(path) if place == "pipe" else path.symlink_to(place)
    with pytest.raises(Unreadable, match="pipe"):
        pictures.read(path)


def test_a_picture_that_is_a_program_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n")
    with pytest.raises(Unreadable, match="EPS"):
        pictures.read(tmp_path / "a.png")


def test_a_file_without_an_end_is_read_no_further_than_memory_holds(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 1 << 20)
    with pytest.raises(ConfigError, match=r"dataset.root=/dev/zero: more than .* bytes"):
        read_pairs("/dev/zero", 80)


def test_a_link_around_in_a_circle_is_not_followed(tmp_path):
    place = tmp_path / "up" / "root"
    place.mkdir(parents=True)
    (tmp_path / "stranger.png").touch()
    (place / "mine.png").touch()
    for name, goal in (("around", place), ("out", tmp_path), ("top", "/")):
        (place / name).symlink_to(goal)
    assert set(index(place)) == {"mine.png"}


IMAGE = '{"id": 1, "file_name": "a.png"}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(f'{{"images": [{IMAGE}], "images": [], "annotations": []}}', '"images" stands twice', id="twice"),
        pytest.param('{"images": [{"id": 1, "id": 2}], "annotations": []}', '"id" stands twice', id="an id twice"),
        pytest.param("[" * 1_000_000, "nested too deeply", id="deep"),
        pytest.param('{"images": [' + "9" * 5000 + '], "annotations": []}', "digits", id="a long number"),
        pytest.param(
            f'{{"images": [{IMAGE}], "annotations": [{{"image_id": "{"9" * 5000}"}}]}}', "no image", id="as text"
        ),
        pytest.param(f'{{"images": [{IMAGE}], "annotations": [{{"image_id": "{"b" * 10**6}"}}]}}', "…", id="an id"),
    ],
)
def test_annotations_that_are_hostile_are_refused_in_a_line_or_two(tmp_path, text, said):
    (tmp_path / "all.json").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "all.json"))) as refused:
        parse(tmp_path / "all.json")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1000
