"""Dates and numbers as people write them, in several languages, each with what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "pl", "cs", "da", "sv", "fi")  # in figures, day before month
DAYS = (date(1930, 1, 1), date(2030, 1, 1))  # a century, so that two figures name one year
EVERY = range((DAYS[1] - DAYS[0]).days)
STYLES = ("short", "medium", "long", "full")
TYPED = ("d.M.yy", "d-M-yyyy", "d/M/yy", "dd/MM/yyyy", "M/d/yyyy", "yyyy/MM/dd")  # by hand, in figures
HALF_TYPED = ("d MMM yy", "d MMMM yyyy", "EEE d MMM yyyy", "EEEE d MMMM yy")
PATTERNS = (*STYLES, *TYPED, *HALF_TYPED)
FIGURES = re.compile(r"[\d./ -]+")
COMMON = 1000  # number k is as likely as 1 / (k + COMMON): short ones are met more often than long ones


class Pair(NamedTuple):
    """A text, its meaning in ISO form, and its form of writing."""

    source: str
    target: str
    form: str = ""


def dates(
    count: int, languages: Sequence[str], random: np.random.Generator, among: Sequence[int] | NDArray[np.int64] = EVERY
) -> Iterator[Pair]:
    """Different days among these, counted from the first, each written once: `jeudi 5 mars 1998` → `1998-03-05`."""
    from babel.dates import format_date

    for offset in random.choice(among, count, replace=False):
        day = DAYS[0] + timedelta(int(offset))
        language = languages[int(random.integers(len(languages)))]
        text = "?"
        while ambiguous(text):
            text = format_date(day, PATTERNS[random.integers(len(PATTERNS))], locale=language)
        yield Pair(text, day.isoformat(), f"date, {'figures' if FIGURES.fullmatch(text) else language}")


def numbers(
    count: int, among: Sequence[int] | NDArray[np.int64], languages: Sequence[str], random: np.random.Generator
) -> Iterator[Pair]:
    """Different whole numbers of these, each in words of one language: `achtundvierzig` → `48`."""
    from num2words import num2words

    weights = 1 / (np.asarray(among) + COMMON)
    for number in random.choice(among, count, replace=False, p=weights / weights.sum()):
        language = languages[int(random.integers(len(languages)))]
        yield Pair(num2words(int(number), lang=language), str(number), f"number, {language}")


def ambiguous(text: str) -> bool:
    """Whether it names no day or two: in figures with slashes, English has the month first, others the day."""
    slashed = re.fullmatch(r"(\d+)/(\d+)/\d+", text)
    if slashed is None:
        return text == "?"
    first, second = map(int, slashed.groups())
    return first != second and max(first, second) <= 12
