"""`verify` by the command line: its table, its exit code, its page."""

from __future__ import annotations

import browser
import pytest
from verification import faults

from lossbench.verification import Losses, counts
from lossbench.verification import verify as verifying
from lossbench.verification.page import page

FAST = ("class_counts", "discriminator")


@pytest.fixture
def faulty(monkeypatch):
    """Has the verb measure with other losses."""

    def make(**instead):
        losses = Losses({name: f"{loss.__module__}.{loss.__qualname__}" for name, loss in instead.items()})
        measured = verifying.examined
        monkeypatch.setattr(verifying, "examined", lambda truth: measured(truth, losses))

    return make


def test_a_table_and_a_last_line(lossbench):
    said = lossbench("verify", *FAST)
    assert said.code == 0, said
    rows = [line for line in said.out.splitlines() if "class_weighted: mean" in line]
    assert len(rows) == 1
    assert rows[0].count("2.3026") == 2
    assert "holds" in rows[0]
    assert said.out.splitlines()[-1].startswith("2 of 2 truths hold, 6 numbers in")
    assert "fails" not in said.out
    assert not said.err


def test_one_that_fails_ends_with_1(lossbench, faulty):
    faulty(class_weighted=faults.one_more_of_each)
    said = lossbench("verify", *FAST)
    assert said.code == 1
    assert said.out.splitlines()[-1].endswith("; failed: class_counts")
    assert said.out.count("fails") == 1


def test_an_exception_is_told_in_a_line_and_ends_with_1(lossbench, faulty, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    faulty(class_weighted=faults.raises)
    said = lossbench("verify", *FAST)
    assert said.code == 1
    assert "ArithmeticError: <b>no</b> [red]way[/]" in said.out
    assert "minimax: fakes" in said.out  # the others are measured all the same
    assert "Traceback" not in said.out + said.err


def test_a_name_that_is_none(lossbench):
    said = lossbench("verify", "class_count")
    assert said.code == 2
    assert "class_count: no such truth" in said.err
    assert "class_counts" in said.err.splitlines()[1]


def test_a_page_that_cannot_be_written(lossbench):
    said = lossbench("verify", "class_counts", "--html", "nowhere/verify.html")
    assert said.code == 2
    assert "--html nowhere/verify.html: cannot be written" in said.err


@browser.needed
def test_the_page(lossbench, here):
    assert lossbench("verify", "class_counts", "focal", "--html", "verify.html").code == 0
    with browser.chromium() as chromium:
        context = chromium.new_context(viewport={"width": 1200, "height": 900})
        heard = browser.Heard(context)
        shown = context.new_page()
        shown.goto((here / "verify.html").as_uri())
        figures = browser.figures(shown)
        assert len(figures) == 3  # two of distances, and the map of focal
        assert all(figure["traces"] and not figure["cut"] for figure in figures)
        assert browser.lines(shown, "h2") == [
            "11 · Counts of the classes holds",
            "4 · Focal is calibrated, not proper holds",
        ]
        assert heard.said == []
        assert [address for address in heard.asked if not address.startswith("file:")] == []


def test_what_a_loss_says_is_escaped():
    outcome = verifying.examined(counts.class_counts, Losses({"class_weighted": "verification.faults.raises"}))
    text = page([outcome])
    assert "&lt;b&gt;no&lt;/b&gt;" in text
    assert "<b>no</b>" not in text
    assert "0 of 1 truths hold" in text
