"""What each column of a table is: a number, a category, a date, or nothing that a model can use."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lossbench.core import ConfigError
from lossbench.datasets.tables.form import MISSING, NUMBER
from lossbench.datasets.tables.memory import mixed

Kind = Literal["number", "category", "date"]

UNIQUE = 0.95  # share of different texts from which a column names or describes its rows
FEW = 20  # rows, below which no column is taken for an identifier
HUGE = 1e30  # the largest number of a column
NUMERIC = 0.8  # share of numbers among texts from which the others are mistakes
ID = re.compile(r"(?i)(^|[_ .-])(id|ids|uuid|guid|index|key|nr|no|row|rownames|unnamed: 0)$|[a-z]Id$|^column 1$")


WRITTEN = re.compile(
    r"\s*[-+]?\s*([$€£¥]\s*[\d.,' ]*\d|[\d.,' ]*\d\s*[%$€£¥]|\d{1,3}([,.' ]\d{3})+([.,]\d+)?|\d+,\d+)\s*"
)
"""Numbers with a currency, a percent sign, thousands apart, or a decimal comma."""
FORMS = {
    re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?"): ("ISO",),
    re.compile(r"\d{4}/\d\d?/\d\d?"): ("%Y/%m/%d",),
    re.compile(r"\d\d?\.\d\d?\.\d{4}"): ("%d.%m.%Y",),
    re.compile(r"\d\d?/\d\d?/\d{4}"): ("%m/%d/%Y", "%d/%m/%Y"),
    re.compile(r"\d\d?-\d\d?-\d{4}"): ("%d-%m-%Y", "%m-%d-%Y"),
}
"""Dates as people write them: where all texts of a column match, the first form in which all are dates is taken."""


PARTS = {"month": pc.month, "weekday": pc.day_of_week, "hour": pc.hour}
"""What of a date is a category."""


@dataclass(frozen=True)
class Used:
    """The columns that are used, by name: their kinds, the forms of dates in texts, which of them have missing values.

    `levels` is how many values a category, or a part of a date, has; so all splits of a table are encoded in one shape.
    `remarks` says what is left out and why.
    """

    kinds: dict[str, Kind]
    forms: dict[str, str]
    holes: frozenset[str]
    levels: dict[str, int]
    remarks: tuple[str, ...]


def understood(
    table: pa.Table, leave: Collection[str], numbers: Sequence[str], categories: Sequence[str], path: str
) -> Used:
    """The kind of each column but those in `leave`; `numbers` and `categories` are so, whatever they look like.

    Left out are columns of one value, identifiers, free texts, and columns of lists.

    Raises: ConfigError for a column of numbers with texts among them, which names the first one's row.
    """
    kinds: dict[str, Kind] = {}
    forms: dict[str, str] = {}
    remarks: list[str] = []
    out: dict[str, list[str]] = {}
    for name in table.column_names:
        if name in leave:
            continue
        if several := mixed(table, name):
            raise ConfigError(
                f"dataset: column {name} mixes {several}; values of one type work, or dataset.drop=['{name}']"
            )
        kind, reason = _kind(name, table.column(name), path, name in numbers, name in categories)
        if kind == "number":
            _check_size(name, table.column(name), path)
        if kind is None:
            out.setdefault(reason, []).append(name)
            continue
        kinds[name] = kind
        if kind == "date" and reason:
            forms[name] = reason
            remarks += [f"{name} is read as dates {reason}"] * (reason != "ISO")
    remarks += [f"{_listed(names)} {reason}: left out" for reason, names in out.items()]
    holes = frozenset(name for name in kinds if _missing(table.column(name), kinds[name], forms.get(name, "")))
    levels = dict(_levels(table, kinds, forms))
    return Used(kinds, forms, holes, levels, tuple(remarks))


def _missing(values: pa.ChunkedArray, kind: Kind, form: str) -> bool:
    known = numbers(values) if kind == "number" else moments(values, form) if kind == "date" else values
    return bool(known.null_count)


def _levels(table: pa.Table, kinds: dict[str, Kind], forms: dict[str, str]) -> Iterator[tuple[str, int]]:
    for name, kind in kinds.items():
        if kind == "category":
            yield name, int(pc.count_distinct(texts(table.column(name))).as_py())
        elif kind == "date":
            found = moments(table.column(name), forms.get(name, ""))
            for part, function in PARTS.items():
                yield f"{name} {part}", int(pc.count_distinct(function(found)).as_py())


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _kind(name: str, values: pa.ChunkedArray, path: str, as_number: bool, as_category: bool) -> tuple[Kind | None, str]:
    """The kind of a column, with the form of dates in texts; None, and the reason, for one that is left out."""
    dtype = values.type.value_type if types.is_dictionary(values.type) else values.type
    if not (types.is_null(dtype) or holds_texts(dtype) or types.is_primitive(dtype) or types.is_decimal(dtype)):
        return None, f"holds {dtype}"
    if types.is_interval(dtype):
        return None, f"holds {dtype}"
    known = len(values) - values.null_count
    different = _different(values)
    if different < 2:
        return None, "has one value" if different else "has no value"
    if as_category:
        return "category", ""
    if types.is_temporal(dtype) and not types.is_duration(dtype):
        return "date", ""
    if types.is_boolean(dtype):
        return "category", ""
    if holds_texts(dtype):
        if as_number or _numeric(name, values, path):
            return "number", ""
        if form := date_form(values):
            return "date", form
        if known >= FEW and different >= UNIQUE * known:
            return None, "differs from row to row, as a name or a text does"
        return "category", ""
    if not as_number and known >= FEW and different == known and types.is_integer(dtype) and _identifies(name, values):
        return None, "numbers the rows"
    return "number", ""


def holds_texts(dtype: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return bool(types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype))


def _different(values: pa.ChunkedArray) -> int:
    """How many different values there are, missing ones aside."""
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.null_count == len(values):
        return 0
    return int(pc.count_distinct(texts(values) if holds_texts(values.type) else values).as_py())


def _check_size(name: str, values: pa.ChunkedArray, path: str) -> None:
    """Raises: ConfigError for a number with whose square no model computes."""
    found = numbers(values)
    ends = pc.min_max(found).as_py()
    if ends["max"] is not None and max(abs(ends["max"]), abs(ends["min"])) > HUGE:
        far = ends["max"] if abs(ends["max"]) > HUGE else ends["min"]
        row = pc.index(found, far).as_py() + 1
        raise ConfigError(
            f"dataset.path={path}: row {row} of column {name} holds {far:g}, beyond {HUGE:g}; correct it, or set "
            f"dataset.drop=['{name}']"
        )


def is_date(values: pa.ChunkedArray) -> bool:
    """Whether a column holds dates, also as texts."""
    return bool(types.is_temporal(values.type) and not types.is_duration(values.type)) or bool(date_form(values))


def date_form(values: pa.ChunkedArray) -> str:
    """The form in which all texts of a column are dates; empty where there is none, or the column holds no texts."""
    if not holds_texts(values.type.value_type if types.is_dictionary(values.type) else values.type):
        return ""
    levels = pc.unique(texts(values)).drop_null()
    first = levels[0].as_py() if len(levels) else ""
    for pattern, forms in FORMS.items():
        if pattern.fullmatch(first) and all(pattern.fullmatch(level) for level in levels.to_pylist()):
            return next((form for form in forms if _are(levels, form)), "")
    return ""


def _are(levels: pa.Array, form: str) -> bool:
    """Whether all texts are dates in this form, and times have a zone either all or none."""
    try:
        return bool(moments(levels, form).null_count == 0)
    except pa.ArrowInvalid:  # such as the 31st of February
        return False


def moments(values: pa.ChunkedArray, form: str) -> pa.ChunkedArray:
    """Dates and times in microseconds, without a time zone; a text in another form than this one is null."""
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if holds_texts(values.type):
        trimmed = pc.utf8_trim_whitespace(values)
        if form not in ("", "ISO"):
            return pc.strptime(trimmed, format=form, unit="us", error_is_null=True)
        known = pc.match_substring_regex(trimmed, f"^({next(iter(FORMS)).pattern})$")
        found = pc.if_else(known, trimmed, None)
        return found.cast(pa.timestamp("us", "UTC") if _zoned(found) else pa.timestamp("us")).cast(pa.timestamp("us"))
    if types.is_time(values.type):  # on the first day there is
        values = values.cast(pa.time64("us")).cast(pa.int64())
    return values.cast(pa.timestamp("us"), safe=False)


def _zoned(values: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(values, r"(Z|:\d\d[+-]\d\d:?\d\d)$")).as_py())


def _identifies(name: str, values: pa.ChunkedArray) -> bool:
    """Whether different integers number the rows: one after the other, or in a column with such a name."""
    ends = pc.min_max(values).as_py()
    return bool(ends["max"] - ends["min"] + 1 == len(values) or ID.search(name))


def _numeric(name: str, values: pa.ChunkedArray, path: str) -> bool:
    """Whether all texts are numbers. Raises: ConfigError where most are, which names the first other one."""
    levels = pc.unique(values.cast(pa.string())).drop_null().to_pylist()
    good = [bool(NUMBER.fullmatch(level)) for level in levels if level.strip() not in MISSING]
    if not good or sum(good) < NUMERIC * len(good):
        written = [level for level in levels if WRITTEN.fullmatch(level)]
        if len(good) > 2 and len(written) >= NUMERIC * len(good):
            raise ConfigError(
                f"dataset.path={path}: column {name} holds {written[0]!r}, a number as people write it; write it as "
                f"programs do, or set dataset.categories=['{name}']"
            )
        return False
    if all(good):
        return True
    bad = next(level for level in levels if level.strip() not in MISSING and not NUMBER.fullmatch(level))
    row = pc.index(values.cast(pa.string()), bad).as_py() + 1
    raise ConfigError(
        f"dataset.path={path}: row {row} of column {name} holds {bad!r}, and nearly all others hold numbers; correct "
        f"it, or set dataset.missing=['{bad}'] or dataset.categories=['{name}']"
    )


def numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as doubles, missing ones as null. Raises: pa.ArrowInvalid for a text that is no number."""
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if holds_texts(values.type):
        trimmed = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.is_in(trimmed, pa.array(MISSING)), None, trimmed)
    if types.is_duration(values.type):
        values = values.cast(pa.duration("us")).cast(pa.int64())
    found = values.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(found), found, None)


def texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as trimmed texts, missing ones as null; whole numbers as they are written without a point."""
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if types.is_floating(values.type):
        whole = pc.all(pc.equal(values, pc.round(values))).as_py()
        values = pc.if_else(pc.is_finite(values), values, None)
        values = values.cast(pa.int64()) if whole and _in_range(values) else values
    found = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.is_in(found, pa.array(MISSING)), None, found)


def _in_range(values: pa.ChunkedArray) -> bool:
    ends = pc.min_max(values).as_py()
    return ends["max"] is not None and max(abs(ends["max"]), abs(ends["min"])) < 2**53
