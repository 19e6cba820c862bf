"""Written dates and numbers: read back by other means, split without leaks; files of pairs that cannot work."""

import calendar
import re
from datetime import datetime

import numpy as np
import pytest
import torch

from lossbench.config.task_types import load
from lossbench.core import ConfigError
from lossbench.datasets import check
from lossbench.datasets.translation import SOURCE, TARGET, translation
from lossbench.datasets.written import LANGUAGES, ambiguous, dates, numbers

TINY = {"train": 300, "validation": 100, "test": 100}


@pytest.fixture(scope="module")
def made():
    return translation(seed=0, **TINY)


def sources(splits, split):
    return ["".join(splits.info.vocabulary[k] for k in row if k) for row in split.inputs.tolist()]


def targets(splits, split):
    """The texts of targets, which each end once, and where nothing but padding follows."""
    texts = []
    for row in split.targets.tolist():
        end = row.index(TARGET.index("<end>"))
        assert not any(row[end + 1 :])
        texts.append("".join(splits.info.classes[k] for k in row[:end]))
    return texts


def drawn(language, count=400):
    random = np.random.default_rng(0)
    return [*dates(count, [language], random), *numbers(count, range(100_000), [language], random)]


def test_splits_are_well_formed(made):
    check(made)
    info = made.info
    assert info.task_type == "sequence"
    assert [len(split) for _, split in made] == [300, 100, 100]
    assert info.vocabulary[:2] == SOURCE
    assert info.classes[:4] == TARGET
    assert info.inputs == made.train.inputs.shape[1:]
    assert info.targets == made.test.targets.shape[1:] == (len("1998-03-05") + 1,)
    assert load(info.task_type).outputs(info) == len(info.classes) == 4 + len("-0123456789")
    assert all(split.inputs.dtype == split.targets.dtype == torch.int64 for _, split in made)


def test_nothing_is_in_two_splits(made):
    for texts in (sources, targets):
        each = [set(texts(made, split)) for _, split in made]
        assert sum(map(len, each)) == len(set.union(*each)) == 500


def test_half_are_days_and_half_are_numbers(made):
    texts = [text for _, split in made for text in targets(made, split)]
    assert sum(bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text)) for text in texts) == 250
    assert sum(bool(re.fullmatch(r"0|[1-9]\d{0,4}", text)) for text in texts) == 250


def test_every_example_has_one_form(made):
    for _, split in made:
        assert torch.stack(list(split.metadata.values())).sum(0).eq(1).all()
    words = made.test.metadata["date, figures"].logical_not()
    for text, worded in zip(sources(made, made.test), words.tolist(), strict=True):
        assert bool(re.search("[a-z]", text)) == worded


def test_same_seed_same_data_other_seed_other(made):
    again, other = (translation(seed=seed, **TINY) for seed in (0, 1))
    assert again.info == made.info
    assert other.info.fingerprint != made.info.fingerprint


def test_the_seed_decides_what_is_drawn_and_how_it_is_split(made, tmp_path):
    other = translation(seed=1, **TINY)
    texts = [{text for _, split in splits for text in targets(splits, split)} for splits in (made, other)]
    assert len(texts[0] & texts[1]) < 50
    trained = [set(sources(splits, splits.train)) for splits in (from_file(tmp_path, GOOD, seed=k) for k in (0, 1))]
    assert trained[0] != trained[1]


def test_the_vocabulary_is_of_the_training_split_alone(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{chr(ord('a') + k)}\t{chr(ord('A') + k)}\n" for k in range(20)))
    splits = translation(seed=0, root=str(path))
    assert [len(split) for _, split in splits] == [12, 4, 4]
    assert set(splits.info.vocabulary) == {*SOURCE, *sources(splits, splits.train)}
    for split in (splits.validation, splits.test):
        assert set(sources(splits, split)) == {"<unk>"}
        assert set(targets(splits, split)) == {"<unk>"}


FIGURES = {
    r"\d{4}[-/]\d\d[-/]\d\d": ("%Y/%m/%d",),
    r"\d+/\d+/\d{4}": ("%d/%m/%Y", "%m/%d/%Y"),
    r"\d+/\d+/\d\d": ("%d/%m/%y", "%m/%d/%y"),
    r"\d+[.-] ?\d+[.-] ?\d{4}": ("%d/%m/%Y",),
    r"\d+[.-]\d+[.-]\d\d": ("%d/%m/%y",),
}


def readings(text):
    """Every day that a date in figures may be, in the century from 1930 on."""
    formats = [found for shape, known in FIGURES.items() if re.fullmatch(shape, text) for found in known]
    assert formats, text
    days = set()
    for one in formats:
        try:
            day = datetime.strptime(re.sub(r"[.-] ?", "/", text), one)
        except ValueError:
            continue
        days.add(day.replace(year=1930 + (day.year - 1930) % 100).date().isoformat())
    return days


@pytest.mark.parametrize("language", LANGUAGES)
def test_dates_in_figures_are_that_day_and_no_other(language):
    pairs = [pair for pair in drawn(language) if pair.form == "date, figures"]
    assert len(pairs) > 50
    for pair in pairs:
        assert readings(pair.source) == {pair.target}, pair


def test_dates_in_english_words_are_that_day():
    pairs = [pair for pair in drawn("en") if pair.form == "date, en"]
    assert len(pairs) > 100
    months = calendar.month_name[1:]
    for pair in pairs:
        day = datetime.fromisoformat(pair.target)
        month = re.search("(?:" + "|".join(name[:3] for name in months) + r")[a-z]*", pair.source).group()
        assert months[day.month - 1].startswith(month.removesuffix("t") if month == "Sept" else month)
        assert [int(n) % 100 for n in re.findall(r"\d+", pair.source)] == [day.day, day.year % 100]
        weekday = re.search(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", pair.source)
        assert weekday is None or weekday.group() == day.strftime("%a")


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_of_a_day_hold_its_figures(language):
    pairs = [pair for pair in drawn(language) if pair.form == f"date, {language}"]
    assert len(pairs) > 50
    for pair in pairs:
        day = datetime.fromisoformat(pair.target)
        assert sorted(int(n) % 100 for n in re.findall(r"\d+", pair.source)) == sorted([day.day, day.year % 100])


ONES = re.findall(
    "[a-z]+",
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""",
)
TENS = re.findall("[a-z]+", "twenty thirty forty fifty sixty seventy eighty ninety")
VALUES = {word: k for k, word in enumerate(ONES)} | {word: 10 * k for k, word in enumerate(TENS, 2)}


def test_english_numbers_read_back():
    for pair in numbers(500, range(100_000), ["en"], np.random.default_rng(0)):
        whole = part = 0
        for word in re.findall("[a-z]+", pair.source):
            if word == "thousand":
                whole, part = part * 1000, 0
            elif word != "and":
                part = part * 100 if word == "hundred" else part + VALUES[word]
        assert str(whole + part) == pair.target


def test_a_source_means_one_thing_in_all_languages():
    meanings = {}
    for pair in (pair for language in LANGUAGES for pair in drawn(language, 1500)):
        assert meanings.setdefault(pair.source, pair.target) == pair.target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("5/3/98", "3/5/1998", "12/11/2010")),
        *((text, False) for text in ("5/5/98", "13/5/98", "5/13/98", "1998/03/05", "05.03.1998", "5 mars 1998")),
    ],
)
def test_what_is_ambiguous(text, expected):
    assert ambiguous(text) is expected


def test_days_span_their_century_and_numbers_reach_their_highest():
    pairs = [
        *dates(5000, ["en"], np.random.default_rng(0)),
        *numbers(500, range(500), ["en"], np.random.default_rng(0)),
    ]
    years = {pair.target[:4] for pair in pairs[:5000]}
    assert years == {str(year) for year in range(1930, 2030)}
    assert {pair.target for pair in pairs[5000:]} == {str(number) for number in range(500)}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"languages": ["en", "xx"]}, r"dataset\.languages=\['en', 'xx'\]: choose from en, de"),
        ({"languages": []}, r"dataset\.languages=\[\]"),
        ({"highest": 100}, r"dataset\.highest=100: .* 250 different numbers"),
        ({"highest": 10**6}, r"dataset\.highest=1000000: at most 999999"),
        ({"train": 80_000, "highest": 99_999}, r"dataset\.train=80000: .* days"),
        ({"test": 0}, r"dataset\.test=0"),
    ],
)
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        translation(seed=0, **{**TINY, **settings})


GOOD = "".join(f"source {k}\ttarget {k}\n" for k in range(10)).encode()


def from_file(tmp_path, content, **settings):
    (tmp_path / "pairs.tsv").write_bytes(content)
    return translation(**{"seed": 0, "root": str(tmp_path / "pairs.tsv"), **settings})


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content,
        lambda content: content.rstrip(b"\n"),
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\n\n \t \n"),
        lambda content: content + b"source 3\tsomething else\n",
    ],
    ids=["plain", "no last newline", "windows", "byte order mark", "empty lines", "repeated source"],
)
def test_pairs_of_a_file(tmp_path, change):
    splits = from_file(tmp_path, change(GOOD))
    check(splits)
    assert [len(split) for _, split in splits] == [6, 2, 2]
    both = [(s, t) for _, split in splits for s, t in zip(sources(splits, split), targets(splits, split), strict=True)]
    whole = {pair for pair in both if "<unk>" not in "".join(pair)}
    assert len(whole) >= 6
    assert whole <= {(f"source {k}", f"target {k}") for k in range(10)}
    assert splits.info.fingerprint == from_file(tmp_path, GOOD).info.fingerprint
    assert not splits.test.metadata


def test_files_hold_any_script(tmp_path):
    content = "".join(f"日本 {k}\u2028\tñ{k}€\n" for k in range(5)).encode()
    splits = from_file(tmp_path, content)
    assert {"日", "\u2028"} <= set(splits.info.vocabulary)
    assert "€" in splits.info.classes


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"no tab at all", "has 0 tabs"),
        (b"one\ttwo\tthree", "has 2 tabs"),
        (b"\ttarget", "has no source"),
        (b"source\t ", "has no target"),
        (b"caf\xe9\ttarget", "is no UTF-8"),
        (b"x" * 81 + b"\ttarget", "has 81 characters, over dataset.longest=80"),
        (b"source\t" + b"x" * 90, "has 90 characters, over dataset.longest=80"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, fault):
    with pytest.raises(ConfigError, match=rf"pairs\.tsv: .*: line 11 {re.escape(fault)}$"):
        from_file(tmp_path, GOOD + line + b"\n" + GOOD)


def test_a_longer_line_may_be_allowed(tmp_path):
    assert from_file(tmp_path, GOOD + b"x" * 81 + b"\ty\n", longest=81).info.inputs == (96,)  # in blocks of 16


def test_all_bad_lines_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"line 11 has 0 tabs, line 12 is no UTF-8, line 13 has no source$"):
        from_file(tmp_path, GOOD + b"a\n\xff\tb\n\tc\n")
    with pytest.raises(ConfigError, match=r"line 30 has 0 tabs and 5 more$"):
        from_file(tmp_path, GOOD + 25 * b"a\n")


@pytest.mark.parametrize(("content", "count"), [(b"", 0), (b"\n\n", 0), (b"a\tb\n" * 9, 1), (GOOD[:68], 4)])
def test_too_few_pairs_are_refused(tmp_path, content, count):
    with pytest.raises(ConfigError, match=rf"pairs\.tsv: {count} different sources"):
        from_file(tmp_path, content)


@pytest.mark.parametrize("name", ["absent.tsv", "."])
def test_what_is_no_file_is_named(tmp_path, name):
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / name))):
        translation(seed=0, root=str(tmp_path / name))
