"""Sequences: written dates and numbers into ISO form, or the pairs of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from lossbench.core import ConfigError, Sampling, Split, Splits
from lossbench.datasets.pairs import indices, read_pairs, symbols
from lossbench.datasets.pools import Stage, draw, sampling
from lossbench.datasets.splits import assemble
from lossbench.datasets.written import EVERY, LANGUAGES, Pair, dates, numbers

SOURCE = ("<pad>", "<unk>")
TARGET = ("<pad>", "<start>", "<unk>", "<end>")  # an answer is made of the end and what follows it

BLOCK = 16  # symbols by which sources are filled up, so that seeds whose longest differs a little still stack


def translation(
    *,
    seed: int,
    root: str | None = None,
    longest: int = 80,
    languages: Sequence[str] = ("en", "de", "fr", "es", "it", "nl"),
    highest: int = 99_999,
    train: int = 8_000,
    validation: int = 1_000,
    test: int = 2_000,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Characters into characters: `giovedì 5 marzo 1998` → `1998-03-05`, `achtundvierzig` → `48`.

    Half are days from 1930 to 2029 as Babel or a hand writes them, half are numbers in the words of num2words; no
    day and no number is in two splits. With `root`, the pairs of a file of two columns, split in three fifths, a
    fifth and a fifth, or a fold to test on; no source is in two splits. Under a `stage` no search sees a day, a
    number or a source that a later run tests on. Symbols are the characters of the training split. The metadata
    hold each form of writing.

    Shapes: inputs [n, longest source, rounded up], targets [n, longest target + 1] with `<end>`; filled up with 0.
    Raises: ConfigError for unknown languages, fewer numbers or days than are asked for, and files that do not fit.
    """
    if root is None:
        sizes = {"train": train, "validation": validation, "test": test}
        if folds is not None:
            raise ConfigError(f"dataset.folds={folds}: every seed draws days and numbers of its own; leave it null")
        pairs, drawn = _written(seed, languages, highest, sizes, stage)
        varied = Sampling("fresh")
        origin, licence = "days by Babel and by hand, numbers by num2words", "Unicode-3.0 (names of days and months)"
    else:
        pairs = read_pairs(root, longest)
        cuts = [len(pairs) * 3 // 5, len(pairs) * 4 // 5]
        sizes = {"train": cuts[0], "validation": cuts[1] - cuts[0], "test": len(pairs) - cuts[1]}
        drawn = draw([seed, 1], sizes, stage, folds)
        pool = sha256(repr([(pair.source, pair.target) for pair in pairs]).encode()).hexdigest()
        varied = sampling(pool, sizes, stage, folds, len(drawn["train"]))
        origin, licence = f"pairs of {root}", "of the file"
    parts = [[pairs[k] for k in drawn[name]] for name in sizes]
    read = symbols([pair.source for pair in parts[0]], SOURCE)
    write = symbols([pair.target for pair in parts[0]], TARGET)
    forms = sorted({pair.form for pair in pairs if pair.form})
    wide = -(-max(len(pair.source) for pair in pairs) // BLOCK) * BLOCK

    def split(part: list[Pair]) -> Split:
        return Split(
            indices([pair.source for pair in part], read, wide),
            indices([pair.target for pair in part], write, max(len(pair.target) for pair in pairs) + 1, ("<end>",)),
            {form: torch.tensor([pair.form == form for pair in part]) for form in forms},
        )

    return assemble(
        *map(split, parts),
        name="translation",
        task_type="sequence",
        vocabulary=read,
        classes=write,
        source=origin,
        licence=licence,
        sampling=varied,
    )


def _written(
    seed: int, languages: Sequence[str], highest: int, sizes: Mapping[str, int], stage: Stage | None
) -> tuple[list[Pair], dict[str, NDArray[np.int64]]]:
    """As many days as numbers, and which of them each split gets; with a stage, those of the test are of their own.

    Raises: ConfigError for what cannot be written.
    """
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown or not languages:
        raise ConfigError(f"dataset.languages={list(languages)}: choose from {', '.join(LANGUAGES)}")
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"dataset.{name}={size}: at least one pair")
    if highest > 999_999:
        raise ConfigError(f"dataset.highest={highest}: at most 999999, since words grow too long")
    _enough(highest, sizes, stage)
    if not all(map(find_spec, ("babel", "num2words"))):
        raise ConfigError(
            "dataset=translation: what writes dates and numbers is an extra: pip install 'lossbench[translation]'; or "
            "dataset.root= takes a file of pairs"
        )
    random = [np.random.default_rng([seed, 0, k]) for k in (0, 1)]
    if stage is None:
        pairs = _pairs(sum(sizes.values()), EVERY, range(highest + 1), languages, random)
        return pairs, draw([seed, 1], sizes)
    days, whole = (
        np.random.default_rng(0).permutation(n) < n // 2 for n in (len(EVERY), highest + 1)
    )  # reserved for tests
    others = {name: size for name, size in sizes.items() if name != "test"}
    count = sum(others.values())
    pairs = _pairs(count, np.flatnonzero(~days), np.flatnonzero(~whole), languages, random)
    pairs += _pairs(sizes["test"], np.flatnonzero(days), np.flatnonzero(whole), languages, random)
    return pairs, {**draw([seed, 1], others), "test": np.arange(count, len(pairs))}


def _enough(highest: int, sizes: Mapping[str, int], stage: Stage | None) -> None:
    """Half the pairs are days, half are numbers; with a stage, half of either is reserved for tests."""
    tests, whole = sizes["test"], sum(sizes.values())
    count, share = (whole, 1) if stage is None else (max(tests, whole - tests), 2)
    days, numbered = len(EVERY) // share, (highest + 1) // share
    if (count + 1) // 2 > days:
        raise ConfigError(
            f"dataset.train={sizes['train']}: {count:,} pairs want {(count + 1) // 2:,} different days, "
            f"there are {days:,}"
        )
    if count // 2 > numbered:
        raise ConfigError(
            f"dataset.highest={highest}: {count:,} pairs want {count // 2:,} different numbers from 0 on, "
            f"there are {numbered:,}"
        )


def _pairs(
    count: int,
    days: Sequence[int] | NDArray[np.int64],
    numbered: Sequence[int] | NDArray[np.int64],
    languages: Sequence[str],
    random: Sequence[np.random.Generator],
) -> list[Pair]:
    """So many pairs of these days and numbers, half and half, in the order in which they were drawn."""
    half, whole = (count + 1) // 2, count // 2
    return [*dates(half, languages, random[0], days), *numbers(whole, numbered, languages, random[1])]
