"""The encoding of a table's rows as numbers and codes: fitted on the training split, kept with the run."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lossbench.core import Column
from lossbench.datasets.tables import columns, values
from lossbench.datasets.tables.columns import Used
from lossbench.datasets.tables.values import Raw

Scaling = Literal["standard", "quantile"]

EXACT = 250  # levels of a category that have a code of their own; where there are more, all are hashed
ROWS = 1 << 18  # in a block that is encoded at once
SAMPLE = 500_000  # rows of the training split, at most, that an encoding is fitted on
EDGES = 17  # of the bins of a number, at most
QUANTILES = 1000
LEAST, MOST = 1e-7, 1 - 1e-7  # quantiles that are mapped to the ends of the scale

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Number:
    """A number: the training split's median where it is missing, then scaled.

    standard: (x − centre) / scale; quantile: the normal quantile of its rank among `quantiles` of the training split.
    """

    source: str
    part: str = ""
    fill: float = 0.0
    center: float = 0.0
    scale: float = 1.0
    flagged: bool = False
    form: str = ""
    quantiles: Floats = field(default_factory=lambda: np.empty(0))
    edges: Floats = field(default_factory=lambda: np.empty(0))

    def values(self, table: pa.Table) -> Floats:
        """Raw values [n], where NaN is missing. Raises: ConfigError for a column that holds something else."""
        return values.numbers(table, self.source, self.part, self.form)

    def scaled(self, raw: Floats) -> Floats:
        """Scaled values [n] of raw ones, where NaN is missing."""
        filled = np.where(np.isnan(raw), self.fill, raw)
        if not len(self.quantiles):
            return (filled - self.center) / self.scale
        from scipy.special import ndtri

        ranks = np.linspace(0, 1, len(self.quantiles))
        up = np.interp(filled, self.quantiles, ranks)
        down = np.interp(-filled, -self.quantiles[::-1], -ranks[::-1])  # of equal quantiles, the middle rank
        return ndtri(np.clip((up - down) / 2, LEAST, MOST))


@dataclass(frozen=True)
class Category:
    """A category: code 1 + i is `levels[i]`, or a hash of the level where there are many; 0 is missing or unseen.

    There are `codes` codes, in every split of a table as many, though a training split may not have all levels.
    """

    source: str
    codes: int
    part: str = ""
    levels: tuple[str, ...] = ()
    form: str = ""

    def texts(self, table: pa.Table) -> pa.ChunkedArray:
        """Levels [n], where null is missing. Raises: ConfigError for a column that holds something else."""
        return values.texts(table, self.source, self.part, self.form)


@dataclass(frozen=True)
class Encoding:
    """Numbers, flags of missing numbers, then categories.

    `sources` are the columns of raw rows, with the kinds of their values; `target` is the kind of the target's.
    """

    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    sources: Mapping[str, Raw]
    target: Raw = "text"

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a model is told of the encoded columns."""
        return (
            *(Column(_name(one), edges=tuple(one.edges.tolist())) for one in self.numbers),
            *(Column(f"{_name(one)} is missing") for one in self.numbers if one.flagged),
            *(Column(_name(one), levels=one.codes) for one in self.categories),
        )

    @property
    def sources_of_columns(self) -> list[str]:
        """The raw column that each encoded one comes from."""
        flags = [one.source for one in self.numbers if one.flagged]
        return [*(one.source for one in self.numbers), *flags, *(one.source for one in self.categories)]

    @property
    def texts(self) -> tuple[str, ...]:
        """The raw columns that hold texts, which a file of new rows may seem to hold other values in."""
        return tuple(name for name, kind in self.sources.items() if kind == "text")

    def encode(self, table: pa.Table, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Rows as float32 [n, columns], in `out` where it is given.

        Raises: ConfigError for a column that is missing or of another kind.
        """
        if out is None:
            out = np.empty((len(table), len(self.columns)), dtype=np.float32)
        flag = len(self.numbers)
        for place, number in enumerate(self.numbers):
            raw = number.values(table)
            out[:, place] = number.scaled(raw)
            if number.flagged:
                out[:, flag] = np.isnan(raw)
                flag += 1
        for place, category in enumerate(self.categories, flag):
            out[:, place] = _codes(category, category.texts(table))
        return out

    @staticmethod
    def fit(table: pa.Table, used: Used, scaling: Scaling, undated: Sequence[str] = ()) -> Encoding:
        """The encoding of these columns, from training rows; of a column in `undated`, the day itself is left out."""
        if len(table) > SAMPLE:
            chosen = np.sort(np.random.default_rng(0).choice(len(table), SAMPLE, replace=False))
            table = table.take(pa.array(chosen))
        numbers: list[Number] = []
        categories: list[Category] = []
        for name, kind in used.kinds.items():
            if kind == "number":
                numbers.append(_number(table, Number(name, flagged=name in used.holes), scaling))
            elif kind == "category":
                categories.append(_category(table, name, "", used))
            else:
                form = used.forms.get(name, "")
                if name not in undated:
                    flagged = name in used.holes
                    numbers.append(_number(table, Number(name, "day", form=form, flagged=flagged), scaling))
                parts = [part for part in columns.PARTS if used.levels[f"{name} {part}"] > 1]
                categories += [_category(table, name, part, used) for part in parts]
        sources = {name: values.raw(table.column(name)) for name in used.kinds}
        return Encoding(tuple(numbers), tuple(categories), sources)

    def save(self, folder: Path) -> None:
        """Write encoding.json, and the arrays beside it as encoding.safetensors."""
        from safetensors.numpy import save_file

        arrays = {
            f"{place}.{what}": getattr(one, what)
            for place, one in enumerate(self.numbers)
            for what in ("quantiles", "edges")
        }
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "encoding.safetensors"
        )
        numbers = [
            {name: getattr(one, name) for name in ("source", "part", "fill", "center", "scale", "flagged", "form")}
            for one in self.numbers
        ]
        categories = [
            {name: getattr(one, name) for name in ("source", "codes", "part", "levels", "form")}
            for one in self.categories
        ]
        parts = {"numbers": numbers, "categories": categories, "sources": self.sources, "target": self.target}
        content = json.dumps(parts, ensure_ascii=False, indent=1)
        (folder / "encoding.json").write_text(content, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Encoding:
        """The encoding that `save` wrote."""
        from safetensors.numpy import load_file

        content = json.loads((folder / "encoding.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "encoding.safetensors")
        return Encoding(
            tuple(
                Number(**one, quantiles=arrays[f"{place}.quantiles"], edges=arrays[f"{place}.edges"])
                for place, one in enumerate(content["numbers"])
            ),
            tuple(Category(**{**one, "levels": tuple(one["levels"])}) for one in content["categories"]),
            content["sources"],
            content["target"],
        )


def _name(one: Number | Category) -> str:
    return f"{one.source} {one.part}".strip()


def _number(table: pa.Table, column: Number, scaling: Scaling) -> Number:
    raw = column.values(table)
    known = raw[~np.isnan(raw)]
    if not len(known):  # in the training split
        return column
    quantiles = np.empty(0)
    if scaling == "quantile":
        quantiles = np.quantile(known, np.linspace(0, 1, min(QUANTILES, len(known))))
    spread = float(known.std())
    fitted = replace(
        column,
        fill=float(np.median(known)),
        center=float(known.mean()),
        scale=spread if spread > 0 and np.isfinite(spread) else 1.0,
        quantiles=quantiles,
    )
    scaled = fitted.scaled(known).astype(np.float32).astype(float)
    return replace(fitted, edges=np.unique(np.quantile(scaled, np.linspace(0, 1, EDGES))))


def _category(table: pa.Table, name: str, part: str, used: Used) -> Category:
    """A category with the levels that the training rows have, as one of the codes that all rows need."""
    every = used.levels[f"{name} {part}".strip()]
    column = Category(name, 1 + min(every, EXACT), part, form=used.forms.get(name, ""))
    if every > EXACT:
        return column
    found = pc.unique(column.texts(table)).drop_null().to_pylist()
    return replace(column, levels=tuple(sorted(found, key=int if part else None)))


def _codes(category: Category, texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """Codes [n] of texts."""
    if category.levels or category.codes <= EXACT:
        places = pc.index_in(texts, pa.array(category.levels, pa.string()))
        return pc.add(pc.fill_null(places, -1), 1).to_numpy().astype(np.int64)
    found = texts.combine_chunks().dictionary_encode()
    hashed = np.array(
        [1 + zlib.crc32(level.encode()) % EXACT for level in found.dictionary.to_pylist()], dtype=np.int64
    )
    indices = found.indices.fill_null(-1).to_numpy().astype(np.int64)
    return np.append(hashed, 0)[indices]
