"""The gallery in a browser: every loss is there, sliders move curves, names hide them; it asks nobody for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from playwright.sync_api import Browser, Page

from lossbench.config import catalogue, families
from lossbench.config.schema import CONFIGS
from lossbench.gallery import page as gallery

FAMILIES = families.families(catalogue.losses([CONFIGS]))
SOME = ("huber", "mse", "focal", "bce", "triplet", "dice", "lsgan", "kl", "giou", "gce")
HOSTILE = "</script><script>alert(1)</script>"
PHONE = 400
LINES = """([loss, which]) => [...document.querySelectorAll(`#${loss} .plot`)[which].data]
  .map(line => [line.hoverinfo ?? "", [...line.y]])"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of a loss or two of each family, and one of somebody's own that has no card and an unkind name."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "loss").mkdir()
    (folder / "loss" / "mine.yaml").write_text("_target_: nowhere.mine\nk: '</script><script>alert(1)</script>'\n")
    entries = [e for e in catalogue.losses([CONFIGS, folder]) if e.name in (*SOME, "mine")]
    (folder / "gallery.html").write_text(gallery.page(families.families(entries), "losses"), encoding="utf-8")
    return folder / "gallery.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as it:
        yield it


@pytest.fixture(scope="module", params=[1100, PHONE])
def opened(chromium: Browser, written: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, desk or phone; whatever tests do, it says nothing and asks for nothing but itself.

    Opened once: what a test has moved, it puts back.
    """
    context = chromium.new_context(viewport={"width": request.param, "height": 900}, reduced_motion="reduce")
    page, heard = context.new_page(), browser.Heard(context)
    page.goto(written.as_uri())
    page.add_style_tag(content="html { scroll-behavior: auto !important }")
    yield page
    assert heard.said == []
    assert {asked for asked in heard.asked if not asked.startswith("data:")} == {written.as_uri()}
    context.close()


def show(page: Page, loss: str) -> None:
    page.locator(f"#{loss}").scroll_into_view_if_needed()
    page.locator(f"#{loss} [data-ready] .main-svg").first.wait_for(timeout=10_000)


def curves(page: Page, loss: str, which: int) -> dict[str, list[list[float]]]:
    found = page.evaluate(LINES, [loss, which])
    return {
        what: [y for hoverinfo, y in found if (hoverinfo == "skip") == (what == "grey")] for what in ("own", "grey")
    }


@browser.needed
@pytest.mark.parametrize(("loss", "moved"), [("huber", "delta"), ("focal", "gamma")])
def test_a_slider_moves_the_curves_and_leaves_a_grey_one(opened, loss, moved):
    show(opened, loss)
    before = [curves(opened, loss, which) for which in (0, 1)]
    assert before[0]["grey"] == []
    slider = opened.locator(f"#{loss} input[data-parameter={moved}]")
    slider.focus()
    slider.press("ArrowRight")
    after = [curves(opened, loss, which) for which in (0, 1)]
    for was, now in zip(before, after, strict=True):
        assert now["grey"] == was["own"] != now["own"]
    opened.locator(f"#{loss} .reset").click()
    assert [curves(opened, loss, which) for which in (0, 1)] == before


@browser.needed
def test_a_slider_shows_the_settings_own_curve(opened):
    show(opened, "huber")
    opened.locator("#huber input[data-parameter=delta]").press("End")
    assert opened.locator("#huber output").text_content() == "10"
    (value,), (gradient,) = (curves(opened, "huber", which)["own"] for which in (0, 1))
    assert value == pytest.approx([(k / 6 - 8) ** 2 / 2 for k in range(97)], rel=1e-5, abs=1e-6)
    assert gradient == pytest.approx([k / 6 - 8 for k in range(97)], rel=1e-5, abs=1e-6)
    opened.locator("#huber .reset").click()


@browser.needed
def test_words_are_chosen_and_kinds_too(opened):
    show(opened, "triplet")
    before = curves(opened, "triplet", 0)["own"]
    opened.locator("#triplet select[data-parameter=miner]").select_option(label="none")
    assert curves(opened, "triplet", 0)["own"] != before
    opened.locator("#triplet .reset").click()
    assert curves(opened, "triplet", 0)["own"] == before
    show(opened, "focal")
    assert opened.locator("#focal input").count() == 2
    opened.locator("#focal .tabs button", has_text="multi-class").click()
    assert opened.locator("#focal input").count() == 1
    opened.locator("#focal .tabs button", has_text="binary").click()


@browser.needed
def test_names_hide_curves_of_an_overlay(opened):
    overlay = opened.locator("#family-regression .shapes")
    overlay.scroll_into_view_if_needed()
    overlay.locator(".main-svg").first.wait_for(timeout=10_000)
    names = "document.querySelector('#family-regression .shapes .plot').data.map(line => line.name)"
    assert opened.evaluate(names) == ["huber", "mse"]
    overlay.locator(".chip", has_text="huber").click()
    assert opened.evaluate(names) == ["mse"]
    slope = "document.querySelectorAll('#family-regression .shapes .plot')[1].data[0].y[0]"
    assert opened.evaluate(slope) == pytest.approx(-8)  # made 1 at r = 1
    overlay.locator(".plain", has_text="slopes").click()
    assert opened.evaluate(slope) == pytest.approx(-16)
    overlay.locator(".chip", has_text="huber").click()
    overlay.locator(".plain", has_text="slopes").click()


@browser.needed
def test_everything_is_drawn_within_the_width(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") <= opened.viewport_size["width"]
    for box in opened.locator("[data-ids]").all():
        box.scroll_into_view_if_needed()
        box.locator(".main-svg").first.wait_for(timeout=10_000)
    for figure in browser.figures(opened):
        assert figure["marks"] >= figure["traces"] > 0
        assert figure["width"] == pytest.approx(figure["around"], abs=1)
        assert figure["cut"] == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= opened.viewport_size["width"]


@browser.needed
def test_the_tree_tells_what_is_what(opened):
    leaf = opened.locator(".tree .leaf[data-loss=huber]")
    if opened.viewport_size["width"] == PHONE:
        assert not leaf.is_visible()
        assert "huber is mse at delta = 1e+06" in opened.locator(".branches").inner_text()
        return
    leaf.hover()
    assert "huber is mse at delta = 1e+06" in opened.locator(".limits").text_content()
    assert (
        opened.locator(".limit.on").count()
        == opened.locator(".limit[data-loss=huber], .limit[data-other=huber]").count()
    )


def test_a_loss_without_a_card_is_told_and_left_out(written):
    page = written.read_text(encoding="utf-8")
    assert "Not drawn: it has no card that says what it fits." in page
    assert HOSTILE not in page
    assert page.count("<script>") == 3  # plotly, the numbers, ours


def test_the_numbers_are_json_and_hold_every_drawing(written):
    page = written.read_text(encoding="utf-8")
    told = json.loads(re.search(r"<script>const gallery = (.*);</script>", page)[1])
    assert {spec["loss"] for spec in told["drawings"].values()} == set(SOME)
    asked = {name for ids in re.findall(r'class="drawn" data-ids="([^"]*)"', page) for name in ids.split()}
    assert asked == set(told["drawings"])
    asked = {name for ids in re.findall(r'class="shapes" data-ids="([^"]*)"', page) for name in ids.split()}
    assert asked == set(told["overlays"])
