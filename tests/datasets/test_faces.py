"""Faces: disjoint identities, folders of any kind, and everything that a folder can be wrong about."""

import shutil

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from sklearn.utils import Bunch

from lossbench.core import ConfigError
from lossbench.datasets import photos
from lossbench.datasets.faces import faces

SIZE = {"height": 16, "width": 12}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def orl(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield faces(seed=0)


def people(root, names, each=3, size=(12, 16), mode="L", suffix=".png"):
    """A folder for each person, whose photos all have the person's shade on their left and noise on their right."""
    random = np.random.default_rng(0)
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for k in range(each):
            pixels = random.integers(0, 255, size[::-1], dtype=np.uint8)
            pixels[:, : size[0] // 2] = 10 * shade
            Image.fromarray(pixels).convert(mode).save(root / name / f"{k}{suffix}")
    return root


NAMES = [f"p{k}" for k in range(10)]


@pytest.fixture
def root(tmp_path):
    return people(tmp_path / "root", NAMES)


def made(root, **settings):
    return faces(**{"seed": 0, "root": str(root), **SIZE, **settings})


def refusal(root, **settings):
    with pytest.raises(ConfigError) as refused:
        made(root, **settings)
    assert len(str(refused.value).splitlines()) <= 2
    return str(refused.value)


def identities(splits):
    return [set(split.targets.tolist()) for _, split in splits]


def test_orl_has_forty_people_of_ten_photos(orl):
    assert [len(split) for _, split in orl] == [240, 60, 100]
    assert orl.info.inputs == (1, 56, 46)
    assert orl.info.class_counts == (10,) * 24
    assert all((split.targets.unique(return_counts=True)[1] == 10).all() for _, split in orl)
    assert "40 people" in orl.info.source


def test_no_identity_is_in_two_splits(orl):
    train, validation, test = identities(orl)
    assert train == set(range(24))
    assert validation == set(range(24, 30))
    assert test == set(range(30, 40))
    assert len(set(orl.info.classes)) == 24


def test_no_photo_is_in_two_splits(orl):
    seen = [{photo.numpy().tobytes() for photo in split.inputs} for _, split in orl]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 400


def test_photos_of_a_label_are_of_one_person(root):
    for _, split in made(root):
        shades = {}
        for photo, label in zip(split.inputs, split.targets.tolist(), strict=True):
            shades.setdefault(label, set()).add(round(photo[0, 8, 1].item(), 4))
        assert all(len(found) == 1 for found in shades.values())
        assert len(set.union(*shades.values())) == len(shades)


def test_classes_name_the_folders_of_the_training_identities(root):
    splits = made(root)
    shown = {}
    for photo, label in zip(splits.train.inputs, splits.train.targets.tolist(), strict=True):
        shown[splits.info.classes[label]] = photo[0, 8, 1].item()
    assert set(shown) < set(NAMES)
    assert sorted(shown, key=shown.get) == sorted(shown, key=NAMES.index)  # the shade grows with the name


def test_standardised_by_the_training_split_alone(orl):
    assert orl.train.inputs.double().mean().item() == pytest.approx(0, abs=1e-5)
    assert orl.train.inputs.double().std().item() == pytest.approx(1, abs=1e-5)
    assert abs(orl.test.inputs.double().mean().item()) > 1e-4


def test_same_seed_same_bits_with_and_without_the_cache(orl, tmp_path, monkeypatch):
    fresh = faces(seed=0)
    monkeypatch.setattr(photos, "_look", None)  # from here on only the cache can tell
    again = faces(seed=0)
    assert orl.info == fresh.info == again.info
    for splits in (fresh, again):
        assert torch.equal(splits.train.inputs, orl.train.inputs)


def test_another_seed_draws_other_people(orl):
    other = faces(seed=1)
    assert set(other.info.classes) != set(orl.info.classes)
    assert other.info.fingerprint != orl.info.fingerprint


def test_a_photo_that_changes_is_read_again(root):
    before = made(root).info.fingerprint
    Image.fromarray(np.full((16, 12), 255, np.uint8)).save(root / "p1" / "0.png")
    assert made(root).info.fingerprint != before


@pytest.mark.parametrize(("validation", "test", "expected"), [(0.2, 0.3, (5, 2, 3)), (0.01, 0.6, (2, 2, 6))])
def test_shares_are_of_the_identities(root, validation, test, expected):
    assert tuple(map(len, identities(made(root, validation=validation, test=test)))) == expected


def test_photos_become_as_large_as_asked(root):
    assert made(root, height=24, width=32).info.inputs == (1, 24, 32)


def test_a_folder_in_three_parts_keeps_them(tmp_path):
    root = tmp_path / "root"
    for part, names in {"train": NAMES[:5], "val": NAMES[5:7], "test": NAMES[7:]}.items():
        people(root / part, names, each=2)
    splits = made(root)
    assert splits.info.classes == tuple(NAMES[:5])
    assert identities(splits) == [set(range(5)), {5, 6}, {7, 8, 9}]
    assert [len(split) for _, split in made(root, seed=5)] == [10, 4, 6]


def test_an_identity_in_two_parts_is_named(tmp_path):
    root = tmp_path / "root"
    for part, names in {"train": NAMES[:5], "val": NAMES[3:7], "test": NAMES[4:]}.items():
        people(root / part, names, each=2)
    said = refusal(root)
    assert "p3 (train and validation)" in said
    assert "p4 (train and validation and test)" in said
    assert "p6 (validation and test)" in said
    assert "p1" not in said


def test_a_missing_part_is_named(tmp_path):
    people(tmp_path / "root" / "train", NAMES)
    said = refusal(tmp_path / "root")
    assert "no validation and no test" in said


def test_a_part_of_too_few_is_named(tmp_path):
    root = tmp_path / "root"
    for part, names in {"train": NAMES[:5], "val": NAMES[5:6], "test": NAMES[7:]}.items():
        people(root / part, names, each=2)
    said = refusal(root)
    assert "validation has 1" in said
    assert "test has" not in said


def test_one_photo_each_is_refused(tmp_path):
    said = refusal(people(tmp_path / "root", NAMES, each=1))
    assert "10 identities with at most 1 photo each" in said
    assert "dataset.least" in said


def test_those_with_too_few_photos_are_left_out_and_counted(root):
    people(root, ["loner", "other loner"], each=1)
    splits = made(root)
    assert sum(map(len, identities(splits))) == 10
    assert "2 with fewer than 2 photos left out" in splits.info.source
    assert "3" in refusal(root, least=4)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_too_few_identities_are_refused(tmp_path, count):
    (tmp_path / "root").mkdir()
    said = refusal(people(tmp_path / "root", NAMES[:count]))
    assert "holds no photos" in said if not count else f"of {count} in all" in said


def test_all_unreadable_photos_are_named_at_once(root):
    (root / "p1" / "0.png").write_text("no photo")
    whole = (root / "p2" / "1.png").read_bytes()
    (root / "p2" / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "p7" / "2.png").write_bytes(b"")
    said = refusal(root)
    assert all(name in said for name in ("p1/0.png", "p2/1.png", "p7/2.png"))
    assert said.count(".png") == 3


def test_of_many_unreadable_photos_twenty_are_named(root):
    for path in root.glob("*/*.png"):
        path.write_text("no photo")
    said = refusal(root)
    assert said.count(".png") == 20
    assert "and 10 more" in said


def test_photos_of_another_size_are_named(root):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(root / "p3" / "1.png")
    said = refusal(root)
    assert "29 are 12×16 L" in said
    assert "p3/1.png (20×20 L)" in said
    assert "dataset.mixed=true" in said
    assert made(root, mixed=True).info.inputs == (1, 16, 12)


def test_photos_of_another_mode_are_named(root):
    Image.new("RGB", (12, 16)).save(root / "p4" / "2.png")
    assert "p4/2.png (12×16 RGB)" in refusal(root)
    assert made(root, mixed=True).info.inputs == (1, 16, 12)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_photos_of_any_one_mode_become_grey(tmp_path, mode):
    splits = made(people(tmp_path / "root", NAMES, mode=mode))
    assert splits.info.inputs == (1, 16, 12)


def test_what_is_no_photo_is_passed_over(root):
    (root / "README.txt").write_text("who took these")
    (root / "p1" / "Thumbs.db").write_text("")
    (root / "p1" / ".hidden.png").write_text("")
    (root / "empty").mkdir()
    assert sum(map(len, identities(made(root)))) == 10


def test_ten_comes_after_two():
    paths = [photos.Path(name) for name in ("s10", "s2", "s1", "b", "a10", "a9")]
    assert [p.name for p in photos._natural(paths)] == ["a9", "a10", "b", "s1", "s2", "s10"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "lfw"}, r"dataset\.source=lfw.*olivetti"),
        ({"source": "folder"}, r"needs dataset\.root="),
        ({"source": "orl", "root": "somewhere"}, r"dataset\.root=somewhere.*source=orl"),
        ({"root": "nowhere"}, r"dataset\.root=nowhere: no such folder"),
        ({"validation": 0.0}, r"dataset\.validation=0\.0"),
        ({"test": 1.5}, r"dataset\.test=1\.5"),
        ({"validation": 0.5, "test": 0.5}, r"validation=0\.5 and dataset\.test=0\.5"),
        ({"least": 1}, r"dataset\.least=1"),
        ({"height": 2}, r"dataset\.height=2"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        faces(seed=0, **settings)


def test_olivetti_is_split_alike(monkeypatch):
    random = np.random.default_rng(0)
    shown = Bunch(images=random.random((400, 64, 64), dtype=np.float32), target=np.arange(40).repeat(10))
    monkeypatch.setattr(sklearn.datasets, "fetch_olivetti_faces", lambda **_: shown)
    splits = faces(seed=0, source="olivetti", height=64, width=64)
    assert [len(split) for _, split in splits] == [240, 60, 100]
    name = int(splits.info.classes[0])
    photo = splits.train.inputs[splits.train.targets == 0][0, 0].flatten().numpy()
    assert np.corrcoef(photo, shown.images[10 * name].flatten())[0, 1] == pytest.approx(1, abs=1e-4)


def test_olivetti_that_is_out_of_reach_is_said(monkeypatch, tmp_path):
    def unreachable(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_olivetti_faces", unreachable)
    with pytest.raises(ConfigError, match=r"dataset\.source=olivetti.*no route to host"):
        faces(seed=0, source="olivetti")


def test_a_folder_named_like_a_part_may_be_a_person(tmp_path):
    root = people(tmp_path / "root", [*NAMES[:6], "test"])
    assert sum(map(len, identities(made(root)))) == 7
    shutil.rmtree(root / "test")
    assert sum(map(len, identities(made(root)))) == 6


def test_olivetti_that_was_damaged_in_the_cache_is_said(monkeypatch, tmp_path):
    (tmp_path / "olivetti_py3.pkz").write_bytes(b"\x78\x9c damaged")
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=r"dataset\.source=olivetti: neither whole in scikit-learn's cache"):
        faces(seed=0, source="olivetti")
