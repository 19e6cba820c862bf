"""The cache: made once, whole or not at all, and never in the way."""

import pytest
import torch

from lossbench.datasets.cache import remembered


def ones():
    return {"a": torch.ones(1)}


def never():
    raise AssertionError("made again")


def test_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    remembered("x", {"seed": 1}, ones)
    assert remembered("x", {"seed": 1}, never)["a"] == 1
    with pytest.raises(AssertionError, match="made again"):
        remembered("x", {"seed": 2}, never)
    assert len(list(tmp_path.iterdir())) == 1  # no half files beside it


def test_one_that_cannot_be_written_costs_time_only(monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", "/proc/self")  # there, and no file can be made in it, not even by root
    assert remembered("x", {}, ones)["a"] == 1


def test_a_damaged_file_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    remembered("x", {}, ones)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:10])
    assert remembered("x", {}, ones)["a"] == 1
    assert remembered("x", {}, never)["a"] == 1
