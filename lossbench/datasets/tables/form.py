"""How a text is written: separator, encoding, header and decimal point, found from the beginning of the file."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from lossbench.core import ConfigError

MISSING = (
    "", "?", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Texts that mean a missing value: those of pandas, and the question mark of many collections."""

HEAD = 1 << 20  # bytes from which a file is understood
LINES = 200  # of these
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


@dataclass(frozen=True)
class Options:
    """How to read a text where it is not to be found out: separator, encoding, header, further texts for missing.

    `texts` are columns that hold texts, whatever they look like: new rows are read as those of the training were.
    """

    separator: str | None = None
    encoding: str | None = None
    header: bool | None = None
    missing: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


FOUND = Options()


@dataclass(frozen=True)
class Form:
    """How a text is written. `names` are those of its columns, `before` counts the lines before them."""

    separator: str
    encoding: str
    names: tuple[str, ...]
    header: bool
    comma: bool
    multiline: bool
    missing: tuple[str, ...]
    before: int = 0
    texts: tuple[str, ...] = ()


def understood(here: str, path: str, compression: str | None, options: Options) -> tuple[Form, tuple[str, ...]]:
    """The form of a text, and remarks on what was found out. Raises: ConfigError for what is no table."""
    with pa.input_stream(here, compression=compression) as stream:
        head = stream.read(HEAD + 1)
    encoding, remark = _encoding(head[:HEAD], options.encoding, whole=len(head) <= HEAD)
    remarks = [remark] if remark else []
    content = head[:HEAD].decode(encoding, errors="replace")
    if "\x00" in content[:LINES]:
        raise ConfigError(f"dataset.path={path}: not a text; CSV, Parquet, Feather or JSON lines work")
    if len(head) > HEAD:
        content = content[: content.rfind("\n") + 1]
    content, before = _beginning(content.lstrip("\ufeff"))
    if before:
        remarks.append(f"begins with {before} blank lines or comments, which are left out")
    separator = options.separator or _separator(content, path)
    rows = _rows(content, separator)
    if not rows:
        raise ConfigError(f"dataset.path={path}: holds no rows")
    comma = separator != "," and _comma(rows[1:])
    header = _header(rows, comma=comma) if options.header is None else options.header
    names, renamed = _names(rows[0], header=header)
    if separator != ",":
        remarks.append(f"is separated by {SEPARATORS.get(separator, 'spaces' if separator == ' ' else separator)}")
    if comma:
        remarks.append("has decimal commas")
    if not header:
        remarks.append(f"has no line of names: its columns are called 1 to {len(names)}")
    remarks += renamed
    zeros = [name for place, name in enumerate(names) if _leading_zeros([row[place : place + 1] for row in rows[1:]])]
    if zeros:
        remarks.append(f"{', '.join(zeros)}: has leading zeros, which are kept: it is no number")
    texts = tuple(name for name in names if name in (*zeros, *options.texts))
    multiline = any("\n" in cell for row in rows for cell in row)
    missing = (*MISSING, *options.missing)
    form = Form(separator, encoding, tuple(names), header, comma, multiline, missing, before, texts)
    return form, tuple(remarks)


def _beginning(content: str) -> tuple[str, int]:
    """The text from its first line that is neither blank nor a comment, and how many lines precede that."""
    lines = content.splitlines(keepends=True)
    before = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    return "".join(lines[before:]), before


def _leading_zeros(cells: list[list[str]]) -> bool:
    """Whether a column holds codes such as 00501, which as numbers would lose their zeros."""
    return any(re.fullmatch(r"0\d+", cell[0].strip()) for cell in cells if cell)


def _encoding(head: bytes, asked: str | None, *, whole: bool) -> tuple[str, str]:
    """The encoding of a text, and a remark where it is not UTF-8."""
    if asked is not None:
        try:
            return codecs.lookup(asked).name, ""
        except LookupError:
            raise ConfigError(f"dataset.encoding={asked}: unknown; utf-8, cp1252 or utf-16 work") from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", "is read as UTF-16"
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig", ""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, whole)
        return "utf-8", ""
    except UnicodeDecodeError:
        pass
    return western(head)


def western(head: bytes) -> tuple[str, str]:
    try:
        head.decode("cp1252")
        name = "cp1252"
    except UnicodeDecodeError:
        name = "latin-1"
    return name, f"is not UTF-8: it is read as {name}; dataset.encoding= sets another"


def _separator(content: str, path: str) -> str:
    """The separator with which the most lines have the same number of fields; a space stands for any number of them."""
    if not content.strip():
        raise ConfigError(f"dataset.path={path}: is empty")
    scores = {}
    for separator in SEPARATORS:
        counts = Counter(len(row) for row in _rows(content, separator))
        fields, times = max(counts.items(), key=lambda pair: (pair[1], pair[0]), default=(1, 0))
        if fields > 1:
            scores[separator] = (times / counts.total(), fields)
    if scores:
        return max(scores, key=lambda separator: scores[separator])
    lines = [len(line.split()) for line in islice(content.splitlines(), LINES) if line.strip()]
    return " " if len(set(lines)) == 1 and lines[0] > 1 else ","


def _rows(content: str, separator: str) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in islice(content.splitlines(), LINES) if line.strip()]
    lines = csv.reader(io.StringIO(content), delimiter=separator)
    try:
        return [row for row in islice(lines, LINES) if row]
    except csv.Error:  # such as a field of more than a hundred thousand characters
        return []


def _comma(rows: list[list[str]]) -> bool:
    """Whether numbers are written with a decimal comma; 12,000 alone may be thousands."""
    cells = [cell for row in rows for cell in row]
    commas = [cell.strip() for cell in cells if COMMA.fullmatch(cell)]
    points = any("." in cell and NUMBER.fullmatch(cell) for cell in cells)
    return any(len(cell.partition(",")[2]) != 3 for cell in commas) and not points


def _header(rows: list[list[str]], *, comma: bool) -> bool:
    """Whether the first line holds names: not where each column of numbers has a number there, too."""

    def number(cell: str) -> bool:
        return bool(NUMBER.fullmatch(cell) or (comma and COMMA.fullmatch(cell)))

    first, rest = rows[0], rows[1:]
    if len(first) > 1 and [cell.strip() for cell in first] == [*map(str, range(len(first)))]:
        return True  # the numbers that pandas gives to columns without names
    if not rest:
        return not any(map(number, first))
    columns = [[row[place] for row in rest if place < len(row)] for place in range(len(first))]
    known = [[cell for cell in cells if cell.strip() not in MISSING] for cells in columns]
    numeric = [place for place, cells in enumerate(known) if cells and all(map(number, cells))]
    if numeric:
        return not all(number(first[place]) or first[place].strip() in MISSING[1:] for place in numeric)
    return not any(first[place] in known[place] for place in range(len(first)))


def _names(first: list[str], *, header: bool) -> tuple[list[str], list[str]]:
    """The names of the columns, each once, and remarks on those that were made."""
    if not header:
        return [str(place + 1) for place in range(len(first))], []
    names: list[str] = []
    remarks = []
    for place, cell in enumerate(first, 1):
        name = " ".join(cell.lstrip("\ufeff").split()) or f"column {place}"
        if name in names:
            other = next(f"{name} {n}" for n in range(2, len(first) + 2) if f"{name} {n}" not in names)
            remarks.append(f"has two columns called {name}: column {place} is called {other}")
            name = other
        names.append(name)
    return names, remarks
