"""A real Chromium over our pages: what they draw, say and ask for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

needed = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")

# of each figure that is not folded away: where it is, how many marks it shows, and the texts that its frame cuts off
FIGURES = """() => [...document.querySelectorAll(".plot")].filter(it => !it.closest("details:not([open])")).map(it => {
  const shown = e => { const at = e.getBoundingClientRect(); return at.width > 0 || at.height > 0; };
  const {left, right, top, bottom, width, height} = (it.querySelector("svg.main-svg") ?? it).getBoundingClientRect();
  const cut = [...it.querySelectorAll("svg.main-svg text")].filter(text => {
    const at = text.getBoundingClientRect();
    return shown(text) && (at.left < left - 1 || at.right > right + 1 || at.top < top - 1 || at.bottom > bottom + 1);
  });
  const marks = [...it.querySelectorAll(".scatterlayer .trace path, .heatmaplayer image")].filter(shown);
  return {left, right, width, height, marks: marks.length, cut: cut.map(text => text.textContent),
          around: it.getBoundingClientRect().width, traces: it.data?.filter(t => t.visible !== false).length ?? 0};
})"""


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


class Heard:
    """What everything in a context says, and the addresses that it asks for."""

    def __init__(self, context: BrowserContext) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        context.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self.said.append(f"raised: {error.error}"))
        context.on("dialog", self._dialog)
        context.on("request", lambda request: self.asked.append(request.url))

    def _dialog(self, dialog: Dialog) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def figures(page: Any) -> list[dict[str, Any]]:
    """The figures of a page or a frame, once plotly has drawn them all."""
    drawn = "[...document.querySelectorAll('.plot')].every(it => it.querySelector('svg.main-svg'))"
    page.wait_for_function(drawn, timeout=10_000)
    return page.evaluate(FIGURES)


def lines(page: Page, selector: str) -> list[str]:
    """The text of each such element, on one line."""
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]
