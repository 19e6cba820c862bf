"""Data from a function of the user's: whatever scikit-learn, pandas and torch have at hand."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer

from lossbench.core import ConfigError, give
from lossbench.datasets.own import own, task_type_of

MINE = """
import numpy as np, torch
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_linnerud
from torch.utils.data import Dataset, Subset, TensorDataset

def pair(): return load_breast_cancer(return_X_y=True)
def frames(): return load_breast_cancer(return_X_y=True, as_frame=True)
def frame(): return load_breast_cancer(as_frame=True).frame
def several(): return load_linnerud(return_X_y=True)
def by_name(n=120, seed=0):
    x, y = pair()
    random = np.random.default_rng(seed)
    beside = {"group": np.arange(n) // 4, "weight": random.random(n), "names": [f"x{i}" for i in range(30)]}
    return {"X": x[:n], "y": y[:n], **beside}
def tensors():
    digits = load_digits()
    return TensorDataset(torch.tensor(digits.images[:, None]).float() / 16, torch.tensor(digits.target))
def apart():
    return Subset(tensors(), range(1200)), Subset(tensors(), range(1200, 1797))
class Pictures(Dataset):
    def __len__(self): return 60
    def __getitem__(self, place):
        return Image.fromarray(np.full((8, 6, 3), place, dtype=np.uint8)), place % 2
def pictures(): return Pictures()
def number(): return 3
def uneven(): return np.zeros((5, 2)), np.zeros(4)
def fails(): raise OSError("the disk is not there")
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_data_module.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_data_module", raising=False)


def made(name, **settings):
    return own(seed=0, load=f"my_data_module.{name}", **settings)


@pytest.mark.parametrize(
    ("name", "settings", "task_type", "inputs", "rows"),
    [
        ("pair", {}, "binary", (30,), 569),
        ("frames", {}, "binary", (30,), 569),
        ("frame", {"target": "target"}, "binary", (30,), 569),
        ("several", {}, "regression", (3,), 20),
        ("by_name", {}, "binary", (30,), 120),
        ("by_name", {"n": 80}, "binary", (30,), 80),
        ("tensors", {}, "multiclass", (1, 8, 8), 1797),
        ("apart", {}, "multiclass", (1, 8, 8), 1797),
        ("pictures", {}, "binary", (3, 8, 6), 60),
    ],
)
def test_what_libraries_return_is_taken(name, settings, task_type, inputs, rows):
    splits = made(name, **settings)
    assert (splits.info.task_type, splits.info.inputs, sum(len(split) for _, split in splits)) == (
        task_type,
        inputs,
        rows,
    )
    given = {**settings, "target": settings.get("target")}
    assert task_type_of(seed=0, load=f"my_data_module.{name}", **given) == task_type


def test_arrays_and_frames_are_the_same_table():
    assert (
        made("pair").info.fingerprint
        == made("frames").info.fingerprint
        == made("frame", target="target").info.fingerprint
    )


def test_a_table_is_standardised_on_its_training_rows():
    splits = made("pair")
    x, y = load_breast_cancer(return_X_y=True)
    rows = splits.train.metadata["row"].numpy()
    np.testing.assert_allclose(splits.train.inputs, (x[rows] - x[rows].mean(0)) / x[rows].std(0), atol=1e-4)
    np.testing.assert_array_equal(splits.train.targets, y[rows])


def test_groups_and_weights_beside_the_arrays_count():
    splits = made("by_name")
    groups = [set(split.metadata["group"].tolist()) for _, split in splits]
    assert not groups[0] & groups[2]
    assert splits.train.weights.mean().item() == pytest.approx(1)
    assert {column.name for column in splits.info.columns} == {f"x{i}" for i in range(30)}


def test_sets_that_are_apart_stay_apart():
    one, other = made("apart"), own(seed=1, load="my_data_module.apart")
    assert torch.equal(one.test.inputs, other.test.inputs)
    assert len(one.test) == 597
    assert not torch.equal(one.train.inputs, other.train.inputs), "validation is drawn by the seed"
    assert one.info.sampling.variation == "fixed"


def test_bytes_of_pictures_become_shares():
    splits = made("pictures")
    assert splits.train.inputs.max() <= 59 / 255
    assert splits.train.inputs.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "what"),
    [("number", "returned a int"), ("uneven", "5 rows of X and 4 of y"), ("fails", "disk"), ("nothing", "imported")],
)
def test_what_is_no_data_is_refused_in_a_line(name, what):
    with pytest.raises(ConfigError, match=what) as refused:
        made(name)
    assert "\n" not in str(refused.value)


def test_a_frame_needs_a_target():
    with pytest.raises(ConfigError, match=r"dataset\.target"):
        made("frame")


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ({"X": [[1], [1, 2]] * 30, "y": [0, 1] * 30}, "X is no array"),
        ({"X": np.zeros((60, 2)), "y": [[0], [1, 2]] * 30}, "y is no array"),
        ({"X": np.zeros((60, 2, 2)), "y": [0, 1] * 30, "weight": np.zeros(60)}, "weights of the training split are 0"),
        ({"X": np.zeros((60, 2, 2)), "y": [0, 1] * 30, "split": ["train"] * 30 + ["other"] * 30}, "'other' names none"),
        ({"X": np.zeros((60, 2, 2)), "y": [0] * 57 + [1] * 3, "split": ["train", "val", "test"] * 19 + ["test"] * 3},
         "of class 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_or_measured_is_refused_by_name(returned, what):
    path = give(lambda: returned, "load", str(abs(hash(what))))
    with pytest.raises(ConfigError, match=re.escape(what)):
        own(seed=0, load=path)


@pytest.mark.parametrize("shape", [(60, 2), (60, 2, 2)])
def test_tensors_that_were_computed_with_gradients_are_data(shape):
    inputs = torch.randn(shape, requires_grad=True) * 2
    splits = own(seed=0, load=give(lambda: (inputs, inputs.flatten(1)[:, 0]), "load", f"gradient{len(shape)}"))
    assert not splits.train.inputs.requires_grad
