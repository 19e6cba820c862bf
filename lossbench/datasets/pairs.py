"""Pairs of texts from a file of two columns, and texts as indices of their symbols."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError
from lossbench.datasets import reading
from lossbench.datasets.written import Pair

FEWEST = 5  # pairs of which three fifths, a fifth and a fifth are each at least one
TEXTS = 20  # bytes of memory that a byte of a file takes, as lines, pairs and indices
NAMED = 20  # faults that one message names


def read_pairs(root: str, longest: int) -> list[Pair]:
    """The pairs of a UTF-8 file, a line each: source, tab, target. Empty lines and repeated sources are left out.

    Raises: ConfigError for a file that cannot be read or holds too few pairs, and, all named at once, for lines that
        are no UTF-8, have not exactly one tab, lack a side or are longer than `longest` on one.
    """
    try:
        content = reading.content(Path(root).expanduser(), f"dataset.root={root}", TEXTS)
    except OSError as error:
        raise ConfigError(f"dataset.root={root}: cannot be read as a file of two columns: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise ConfigError(f"dataset.root={root}: text of 16 or 32 bits, as Excel saves it; save it as UTF-8")
    lines = [line.removesuffix(b"\r") for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    found = [(k, _pair(line, longest)) for k, line in enumerate(lines, 1) if line.strip()]
    faults = [f"line {k} {fault}" for k, fault in found if isinstance(fault, str)]
    if faults:
        more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise ConfigError(
            f"dataset.root={root}: wants source, tab, target on a line: {', '.join(faults[:NAMED])}{more}"
        )
    pairs: dict[str, Pair] = {}
    for _, pair in found:
        assert isinstance(pair, Pair)
        pairs.setdefault(pair.source, pair)
    if len(pairs) < FEWEST:
        raise ConfigError(f"dataset.root={root}: {len(pairs)} different sources; a split in three needs {FEWEST}")
    return list(pairs.values())


def _pair(line: bytes, longest: int) -> Pair | str:
    """The pair of a line, or what is wrong with it."""
    try:
        columns = line.decode().split("\t")
    except UnicodeDecodeError:
        return "is no UTF-8"
    if len(columns) != 2:
        return f"has {len(columns) - 1} tabs"
    empty = [side for side, text in zip(("source", "target"), columns, strict=True) if not text.strip()]
    if empty:
        return f"has no {empty[0]}"
    length = max(map(len, columns))
    return f"has {length} characters, over dataset.longest={longest}" if length > longest else Pair(*columns)


def symbols(texts: Sequence[str], special: tuple[str, ...]) -> tuple[str, ...]:
    """The special symbols, then each character that occurs, in the order of Unicode."""
    return (*special, *sorted(set("".join(texts))))


def indices(texts: Sequence[str], known: tuple[str, ...], length: int, end: tuple[str, ...] = ()) -> Tensor:
    """Texts as [n, length] int64: the index of each symbol, `<unk>` where unknown, then those of `end`, then 0."""
    place = {symbol: k for k, symbol in enumerate(known)}
    rows = np.zeros((len(texts), length), np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text) + len(end)] = [place.get(symbol, place["<unk>"]) for symbol in (*text, *end)]
    return torch.from_numpy(rows)
