"""The documentation's generated pages hold every loss, and what a docstring says comes through as it stands."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from lossbench.config import catalogue, families
from lossbench.config.schema import CONFIGS
from lossbench.gallery import prose, site
from lossbench.gallery.page import DrawnFamily
from lossbench.gallery.tree import limits, setting, tree

ENTRIES = catalogue.losses([CONFIGS])
FAMILIES = families.families(ENTRIES)
PAGES = {family.name: site.page(DrawnFamily(family, {}, {}), FAMILIES) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_loss_has_its_heading_and_all_that_its_docstring_says(family):
    headings = re.findall(r"^## (.*)$", PAGES[family.name], re.MULTILINE)
    assert headings == [prose.plain(entry.name) for entry in family.members]
    shown = " ".join(re.sub(r"<[^>]+>", " ", MarkdownIt().enable("table").render(PAGES[family.name])).split())
    shown = shown.replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    for entry in family.members:
        for text in (entry.described.meaning, *entry.described.sections.values()):
            for word in re.sub(prose.LINK, "", text.replace("`", " ")).split():
                assert word.strip(",.;:()") in shown, (entry.name, word)
        assert all(f"loss.{name}" in shown for name in entry.parameters)


def test_each_loss_stands_on_one_page_and_in_the_index():
    told = [name for page in PAGES.values() for name in re.findall(r"^\((loss-[^)]*)\)=$", page, re.MULTILINE)]
    assert sorted(told) == sorted(f"loss-{entry.name.replace('_', '-')}" for entry in ENTRIES)
    linked = re.findall(r"^- \[[^\]]*\]\(#(loss-[^)]*)\)", site.index(FAMILIES), re.MULTILINE)
    assert set(linked) == set(told)


def test_links_lead_to_a_loss_that_is_there():
    there = {f"loss-{entry.name.replace('_', '-')}" for entry in ENTRIES}
    for page in (*PAGES.values(), site.index(FAMILIES)):
        assert set(re.findall(r"\]\(#(loss-[^)]*)\)", page)) <= there


@pytest.mark.parametrize(
    "text", ["a*b*c", "w_k ∝ n_k^{−¼}", "|r| ≤ δ", "[0, 1](x)", "1 < 2 > 0 & 3", "# no heading", "- no list"]
)
def test_no_letter_means_more_than_itself(text):
    rendered = MarkdownIt().enable("table").render(prose.markdown(text))
    assert rendered == f"<p>{text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</p>\n"
    assert prose.html("<b>") == "&lt;b&gt;"


def test_code_and_links_live():
    said = "set `model.prior=0.01`; see https://arxiv.org/abs/1708.02002, 2017 (https://doi.org/10.1/a_b)."
    for shown in (prose.html(said), MarkdownIt().render(prose.markdown(said))):
        assert "<code>model.prior=0.01</code>" in shown
        assert re.findall(r'href="([^"]*)"', shown) == ["https://arxiv.org/abs/1708.02002", "https://doi.org/10.1/a_b"]


def test_families_stand_in_their_order_with_their_guests():
    titles = [family.title for family in FAMILIES]
    assert titles == [title for title in families.TITLES.values() if title in titles]
    assert [entry for family in FAMILIES for entry in family.members] == sorted(
        ENTRIES, key=lambda entry: (list(families.TITLES).index(entry.family), entry.name)
    )
    by_name = {family.name: family for family in FAMILIES}
    sequence = {guest.name for guest in by_name["sequence"].guests}
    assert sequence == {entry.name for entry in ENTRIES if "sequence" in entry.task_types}
    assert not by_name["sequence"].members


def test_the_tree_has_every_loss_once_and_every_limit():
    grown = tree(FAMILIES)
    assert sorted(leaf.name for leaf in grown.leaves) == sorted(entry.name for entry in ENTRIES)
    told = {(limit.loss, limit.other) for limit in grown.limits}
    assert told == {(entry.name, other) for entry in ENTRIES for other in entry.card.limits}
    assert ("focal", "bce") in told
    assert limits(FAMILIES[:0], {}) == []
    assert setting({"gamma": 0.0, "alpha": None, "n": 2}) == "gamma = 0, alpha = none, n = 2"
    places = {(leaf.x, leaf.y) for leaf in grown.leaves}
    assert len(places) == len(ENTRIES)
