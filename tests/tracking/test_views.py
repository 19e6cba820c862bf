"""What `ui` opens: MLflow's own pages in a browser, at a comparison's saved view and at its report."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import browser
import pytest
from playwright.sync_api import Browser, Page, expect
from recorded import runs

from lossbench import tracking

pytestmark = browser.needed
SHORT = ["train.steps=40", "train.eval_every=20", "dataset.train=200", "dataset.validation=100", "dataset.test=100"]
COMPARED = (["loss=mse,mae,huber", "seed=range(5)"], ["loss=mae,mse", "seed=7"])  # in one experiment
PATIENCE_S = 90
VIEWED = """() => {
  const rows = {};
  for (const cell of document.querySelectorAll(".ag-row [col-id]")) {
    const row = rows[cell.closest(".ag-row").getAttribute("row-index")] ??= {};
    row[cell.getAttribute("col-id")] = cell.textContent.trim();
    row.group ??= cell.querySelector("span[title]")?.textContent.match(/^Group: (.*)/)?.[1];
    const [link, dot] = [cell.querySelector("a[href*='/runs/']"), cell.querySelector("[data-testid$=run-color]")];
    if (dot && link) [row.run, row.colour] = [link.href.split("/").at(-1), getComputedStyle(dot).backgroundColor];
  }
  return Object.entries(rows).sort(([a], [b]) => a - b).map(([, row]) => row);
}"""


@dataclass(frozen=True)
class Served:
    """A server at the first of two comparisons, and what it printed."""

    store: tracking.Store
    comparison: str
    printed: str
    address: str


@pytest.fixture(scope="module")
def served(cache: Path, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from lossbench.cli.main import main

    folder = tmp_path_factory.mktemp("served")
    shutil.copy(migrated, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets
        for words in COMPARED:
            patch.setattr(sys, "argv", ["lossbench", "-m", *words, *SHORT])
            main()
        store = tracking.Store(f"sqlite:///{folder}/mlflow.db")
        comparison = runs(store, "comparison")[-1].data.tags["lossbench.comparison"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (folder / "said").open("w") as said:
            words = [sys.executable, "-m", "lossbench", "ui", comparison, f"port={port}"]
            server = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "said").read_text()
                time.sleep(0.3)
        yield Served(store, comparison, (folder / "said").read_text(), f"http://127.0.0.1:{port}")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def chromium(served: Served) -> Iterator[Browser]:
    with browser.chromium() as it:
        yield it


@pytest.fixture
def page(chromium: Browser, served: Served) -> Iterator[Page]:
    """An empty page; whatever it opens asks nobody but the server, and raises nothing."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1400})
    heard = browser.Heard(context)
    yield context.new_page()
    context.close()
    assert [said for said in heard.said if said.startswith(("raised", "dialog"))] == []
    hosts = {urlsplit(asked.removeprefix("blob:")).netloc for asked in heard.asked if not asked.startswith("data:")}
    assert hosts == {urlsplit(served.address).netloc}


def test_the_printed_link_opens_the_runs_of_the_comparison_by_loss(page, served):
    link = served.printed.split()[0]
    assert link.startswith(f"{served.address}/#/")
    page.goto(link)
    for loss in ("mse", "mae", "huber"):
        expect(page.get_by_text(f"Group: {loss}", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("15 matching runs")).to_be_visible()
    heads = browser.lines(page, "[role=columnheader]")
    assert {"test/mae", "lossbench.outcome"} <= set(heads)
    expected = {run.info.run_id: run.data for run in runs(served.store)}
    of_this = {id_ for id_, data in expected.items() if data.tags["lossbench.comparison"] == served.comparison}
    page.wait_for_function(f"() => ({VIEWED})().filter(row => row.run).length === {len(of_this)}")
    group, seen = None, {}
    for row in page.evaluate(VIEWED):
        if "run" not in row:
            group = row["group"]
            continue
        data = expected[row["run"]]
        assert data.tags["loss"] == group
        shown = "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", row["colour"])[:3])
        assert shown == data.tags["mlflow.runColor"]
        assert row["tags.`lossbench.outcome`"] == "finished"
        assert float(row["metrics.`test/mae`"]) == pytest.approx(data.metrics["test/mae"])
        seen[row["run"]] = (group, shown)
    assert set(seen) == of_this
    assert len(set(seen.values())) == 3


def test_the_report_draws_in_the_artifacts_of_the_comparison(page, served):
    (run,) = (r for r in runs(served.store, "comparison") if r.data.tags["lossbench.comparison"] == served.comparison)
    where = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/report.html"
    page.goto(tracking.page(served.address, where))
    page.frame_locator("iframe").locator(".answer").wait_for(timeout=30_000)
    (frame,) = (one for one in page.frames if one.url.startswith("blob:"))
    found = browser.figures(frame)
    assert len(found) > 4
    for figure in found:
        assert figure["marks"] >= figure["traces"] > 0
    assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "5 paired seeds" in frame.locator(".answer").text_content()
