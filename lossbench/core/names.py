"""Names of files, and names that a store accepts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePath

from lossbench.core.given import is_given

NAME_LENGTH = 250  # characters that every store accepts

TABLES = (
    ".csv",
    ".tsv",
    ".tab",
    ".txt",
    ".dat",
    ".data",
    ".parquet",
    ".pq",
    ".feather",
    ".arrow",
    ".ipc",
    ".jsonl",
    ".ndjson",
    ".json",
    ".xlsx",
    ".xls",
)
"""Endings of tables' files; Excel's among them, which are refused where they are read."""

COMPRESSED = (".gz", ".zst", ".bz2", ".lz4", ".br", ".zip")


def is_table(name: str) -> bool:
    """Whether a word is the name of a table's file, by its ending."""
    path = PurePath(name.partition("?")[0].lower())
    ending = path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix
    return "=" not in name and "," not in name and ending in TABLES


@cache
def record_name(name: str) -> str:
    """A name that a store accepts for a metric or a parameter: other characters become underscores.

    `/` separates the parts of a name; an empty part, or one of dots alone, becomes underscores too.
    """
    parts = (re.sub(r"[^\w.: -]", "_", part).strip() for part in name.split("/"))
    return "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts)[:NAME_LENGTH]


def column_name(name: object) -> str:
    """The name of a column of pandas, of which one of several levels is a tuple."""
    return " ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name)


def stem(path: str) -> str:
    """The name of a file or an address without its folder and endings; of what was passed from Python, its own."""
    name = path.rpartition(".")[2] if is_given(path) else PurePath(path.partition("?")[0].rstrip("/")).name
    while name and re.fullmatch(r"\.[a-z]\w{0,7}", ending := PurePath(name).suffix.lower()):
        name = name[: -len(ending)]
    return name or "table"
