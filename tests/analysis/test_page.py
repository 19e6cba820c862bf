"""The report in a browser: it draws, answers clicks, fits phones and paper, and asks nobody for anything."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import browser
import numpy as np
import pytest
from analysis.made import EPOCH, RATES, Made, arms, record, searched, tell, trial
from mlflow.entities import Metric
from PIL import Image
from playwright.sync_api import Browser, Page

from lossbench import tracking
from lossbench.analysis import figures, matrices, report
from lossbench.analysis.across import across as across_of
from lossbench.analysis.across_panel import claim
from lossbench.analysis.page import page as rendered

pytestmark = browser.needed
PAGES = ("swept", "across", "hostile", "tuned")
SWEPT = ["-m", "loss=mae,mse,huber", "seed=range(6)", "optimizer=sgd", "optimizer.lr=2,4", "train.steps=40"]
SMALL = ["train.eval_every=10", "dataset.train=200", "dataset.validation=100", "dataset.test=100"]
IMG, SCRIPT = "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"
QUOTES, AMPERSAND, GONE = """it's "so" &lt; `it`""", "a_b&c", "gone"
MEANS = {IMG: 9.5, SCRIPT: 10.2, QUOTES: 100.0, AMPERSAND: 50.0}  # as text, they would stand in another order
YARDSTICKS = (("error", "↓", "<b>mm</b>"), ("score", "↑", ""))
EACH = ["Leaderboard", "Differences", "Curves", "Training"]
LAST = ["Fairness", "How this was computed"]
TOGETHER = ["Across datasets", "Ranks", "Effects"]
HEADINGS = {
    "swept": [*EACH, "Every loss as a metric", "Sensitivity", "Failures", "Pictures, seed 0", *LAST],
    "across": [
        *(h for name in ("one", "three", "two") for h in (name, *EACH)),
        "Across datasets",
        "Ranks",
        "Effects",
        *LAST,
    ],
    "tuned": ["Leaderboard", "Differences", "Tuning", "Curves", "Training", "Failures", *LAST],
    "hostile": [*EACH, "Every loss as a metric", "Sensitivity", "Failures", "Pictures, seed 0", *LAST],
}
FIGURES = {"swept": 8, "across": 3 * 7 + 2, "hostile": 9, "pair": 6, "tuned": 11}
PHONE, PAPER = 380, 718  # CSS pixels; A4 within margins of a centimetre
DEVICES = {
    "desk": lambda chromium: chromium.new_context(viewport={"width": 1200, "height": 900}),
    "phone": lambda chromium: chromium.new_context(viewport={"width": PHONE, "height": 844}, **TOUCHED),
    "paper": lambda chromium: chromium.new_context(viewport={"width": PAPER, "height": 1000}),
}
TOUCHED = {"device_scale_factor": 2, "is_mobile": True, "has_touch": True}
SORT = """table => [...table.tHead.rows[0].cells].map(head => head.querySelector("button")).map((button, place) => {
  const cells = () => [...table.tBodies[0].rows].map(row => row.cells[place]);
  const click = () => (button.click(), cells().map(cell => (cell.dataset.value ?? cell.textContent).trim()));
  return button && [click(), click()];
})"""
TRACES = "id => document.getElementById(id).data.map(it => [it.meta, it.legendgroup, it.visible ?? true])"


@dataclass(frozen=True)
class Written:
    path: Path
    report: report.Report


def curved(client, runs, **named) -> list[str]:
    """These runs in a store, with two metrics on validation, a loss and a gradient over steps; their ids."""
    ids = record(client, *runs, **named)
    for one, run_id in zip(runs, ids, strict=True):
        ends = {"val/error": one.error or 1.0, "val/score": 0.9, "train/loss": 0.1, "train/grad_norm": 1.0}
        points = [Metric(name, end + 4 / k, EPOCH, 10 * k) for name, end in ends.items() for k in range(1, 6)]
        client.log_batch(run_id, [*points, Metric("time/step_ms", 2.0, EPOCH, 50)])
    return ids


def across(client) -> str:
    """Three datasets that do not rank the losses alike, so that no test tells all of these apart."""
    rng = np.random.default_rng(0)
    runs = [
        Made(loss, seed, mean + rng.normal(0, 0.1), dataset=dataset, objective=mean)
        for dataset, huber in (("one", 1.5), ("two", 1.5), ("three", 0.5))
        for seed in range(6)
        for loss, mean in (("mse", 2.0), ("mae", 1.0), ("huber", huber))
    ]
    curved(client, runs, experiment="across")
    return "across"


def many(client) -> str:
    """Eight datasets that all rank one loss first, which is enough to tell it from the others; another fails on one."""
    rng = np.random.default_rng(0)
    runs = [
        Made(loss, seed, mean and mean + rng.normal(0, 0.1), "finished" if mean else "diverged", dataset=f"{SCRIPT}{k}")
        for k in range(8)
        for seed in range(6)
        for loss, mean in (("mse", 2.0), ("mae", 1.0), (IMG, (1.5, 2.5, 1.5, 2.5, 2.5, None, 1.5, 2.5)[k]))
    ]
    record(client, *runs, experiment="many")
    return "many"


def hostile(client, folder: Path) -> str:
    """Whatever anybody may name, with what a page or a script could take for more than a name."""
    rng = np.random.default_rng(0)

    def runs(loss, mean, how="x", **changed):
        params = {"question": f"Which{SCRIPT}?</title>", "loss.how": how}
        noise = rng.normal(0, 0.1, 6)
        return [
            Made(loss, seed, mean and mean + noise[seed], dataset=AMPERSAND, params=params, **changed)
            for seed in range(6)
        ]

    first, *_ = curved(
        client,
        [
            *(run for loss, mean in MEANS.items() for run in runs(loss, mean, metrics={"test_loss/a": mean})),
            *runs(IMG, 9.7, "<b>y</b>"),
            *runs(GONE, None, outcome="failed", tags={"lossbench.error": f"{IMG}{SCRIPT}"}),
        ],
        comparison="hostile",
        metrics=YARDSTICKS,
    )
    Image.new("RGB", (40, 30), "#336699").save(folder / "a_picture.png")
    client.log_artifact(first, str(folder / "a_picture.png"), "pictures")
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": "hostile", "lossbench.command": SCRIPT}
    client.create_run(client.get_run(first).info.experiment_id, tags=tags)
    return "hostile"


def tuned(client) -> str:
    """A search for three losses, one with a parameter of its own and a name that could be taken for markup."""
    rng = np.random.default_rng(0)
    told, runs = [], []
    for loss, mean in (("mse", 2.0), (IMG, 1.5), ("a_loss_with_a_long_name", 1.0)):
        own = {"loss.k": {"choices": [1, "<b>"]}} if loss == IMG else {}
        space = {"optimizer.lr": RATES, "optimizer.weight_decay": RATES, **own}
        settings = {"optimizer.lr": 0.03, **dict.fromkeys(own, "<b>")}
        words = ["dataset=toy", "loss=mse", "dataset.ratio=50"]
        budget, chosen = {"trials": 12}, None if loss == "mse" else 3
        told.append(
            searched(loss, space=space, own=list(own), settings=settings, words=words, budget=budget, chosen=chosen)
        )
        for number in range(12):
            rates = 10 ** rng.uniform(-4, -1, 2)
            drawn = {
                "optimizer__lr": rates[0],
                "optimizer__weight_decay": rates[1],
                "loss__k": rng.choice(["1", "<b>"]),
            }
            failed = number in (1, 5) or loss == "mse"
            score = mean + abs(np.log10(rates[0]) + 2)
            runs.append(trial(loss, number, score, "diverged" if failed else "finished", **drawn))
        ends = {
            arm: list(mean + more + rng.normal(0, 0.1, 6))
            for arm, more in (("tuned", 0), ("default", 1), ("matched", 0.5))
        }
        ends["default"][2] = None
        runs += arms(loss, **ends)
    runs += [run for run in arms(IMG, tuned=[None] * 7) if run.seed == 6]
    tell(client, "tuned", *told, experiment="tuned")
    curved(client, runs, experiment="tuned", comparison="tuned")
    return "tuned"


def long(client) -> str:
    """Names that are longer than a phone is wide, and more metrics than any screen has room for."""
    metrics = [("balanced_accuracy_tuned", "↑", ""), *((f"another_yardstick_{k}", "↓", "") for k in range(9))]
    losses = ["asymmetric_charbonnier_with_margin", "a_loss_whose_name_goes_on_and_on_without_an_end", "huber"]
    runs = [
        Made(loss, seed, dataset="a_dataset_with_a_long_name", objective=1.0) for seed in range(6) for loss in losses
    ]
    for run in runs:
        place = losses.index(run.loss)
        run.metrics = {f"test/{name}": place + run.seed / 10 + place * run.seed / 50 for name, _, _ in metrics}
        run.metrics |= {f"test_loss/{loss}": 1.0 + place for loss in losses}
    curved(client, runs, experiment="long", metrics=metrics)
    return "long"


def pair(client) -> str:
    runs = [Made(loss, seed, seed + more) for seed in range(6) for loss, more in (("mse", 1), ("mae", 2 + 0.1 * seed))]
    curved(client, runs, experiment="pair")
    return "pair"


def few(client) -> str:
    """Too few seeds for any test."""
    runs = [Made(loss, seed, seed + 1.0) for seed in range(2) for loss in ("mse", "mae", "huber")]
    record(client, *runs, experiment="few")
    return "few"


def fallen(client) -> str:
    """What others are compared with never finished."""
    ends = {"mse": (None, "diverged"), "mae": (1.0,), "huber": (2.0,)}
    record(client, *(Made(loss, seed, *end) for seed in range(6) for loss, end in ends.items()), experiment="fallen")
    return "fallen"


OTHERS = (tuned, pair, few, fallen, long, many)


@pytest.fixture(scope="module")
def pages(cache: Path, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """One page that a sweep left in its folder, and others made from records in the same store."""
    from lossbench.cli.main import main

    folder = tmp_path_factory.mktemp("pages")
    shutil.copy(migrated, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets
        patch.setattr("gc.collect", lambda *_: 0)  # as in conftest.py
        patch.setattr(sys, "argv", ["lossbench", *SWEPT, *SMALL])
        main()
        client = tracking.Store(f"sqlite:///{folder}/mlflow.db").client
        swept = Written(folder / "report.html", report.make(client))
        made = {"swept": swept}
        for name in (across(client), hostile(client, folder), *(make(client) for make in OTHERS)):
            found = report.make(client, name)
            made[name] = Written(folder / f"{name}.html", found)
            made[name].path.write_text(rendered(found, client), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def chromium(pages: dict[str, Written]) -> Iterator[Browser]:
    with browser.chromium() as it:
        yield it


@pytest.fixture(scope="module")
def opened(chromium: Browser) -> dict[tuple[str, str], tuple[Page, browser.Heard]]:
    return {}


@pytest.fixture
def visit(chromium: Browser, pages: dict[str, Written], opened: dict) -> Iterator[Callable[..., Page]]:
    """A page opened from disk, one for all tests; whatever they do, it says nothing and asks for nothing but itself."""
    visited = []

    def open_(name: str, where: str = "desk") -> Page:
        if (name, where) not in opened:
            context = DEVICES[where](chromium)
            opened[name, where] = context.new_page(), browser.Heard(context)
            opened[name, where][0].goto(pages[name].path.as_uri())
        visited.append((pages[name].path.as_uri(), opened[name, where][1]))
        browser.figures(opened[name, where][0])
        return opened[name, where][0]

    yield open_
    for uri, heard in visited:
        assert heard.said == []
        assert {asked for asked in heard.asked if not asked.startswith("data:")} == {uri}


@pytest.mark.parametrize("name", [*PAGES, "pair"])
def test_every_figure_is_drawn(name, visit):
    found = browser.figures(visit(name))
    assert len(found) == FIGURES[name]
    for figure in found:
        assert figure["marks"] >= figure["traces"] > 0
        assert figure["width"] == pytest.approx(figure["around"])
        assert figure["height"] > 100
        assert figure["cut"] == []


@pytest.mark.parametrize("name", PAGES)
def test_the_panels_and_the_answers_are_there(name, visit, pages):
    page = visit(name)
    assert browser.lines(page, "h2, h3") == HEADINGS[name]
    made = pages[name].report
    said = [" ".join([text, *(t.sentence for t in made.tunings.values())]) for text in made.sentences]
    together = across_of(made.verdicts)
    assert browser.lines(page, ".answer") == said + ([claim(together)] if together else [])
    assert len(pages[name].report.sentences) == (3 if name == "across" else 1)


@pytest.mark.parametrize("name", ["fallen", "few", "swept"])
def test_no_caption_stands_alone(name, visit):
    captions = visit(name).locator("figure:has(figcaption)")
    assert captions.count() > 0
    assert captions.count() == visit(name).locator("figure:has(figcaption):has(.plot, img)").count()


@pytest.mark.parametrize("name", ["fallen", "few"])
def test_no_figure_is_empty(name, visit):
    assert all(figure["marks"] for figure in browser.figures(visit(name)))


def ranks(panel) -> list[str]:
    """The names at the leader lines, from the best down."""
    return [" ".join(text.split()) for text in panel.locator(".plot >> nth=0").locator(".ytick").all_text_contents()]


def test_losses_that_no_test_tells_apart_are_joined_across_datasets(visit):
    panel = visit("many").locator("#across")
    assert panel.locator(".plot >> nth=0 >> .scatterlayer .trace").count() == 3  # leaders, a bar, points
    assert ranks(panel) == ["mae 1.00", "mse 2.38", f"{IMG} 2.62"]
    assert panel.locator(".chip").all_text_contents() == [f"mse, {IMG}"]
    assert "ranks significantly ahead of" in panel.locator(".answer").text_content()
    assert "6 failed" in panel.locator("table >> nth=0").text_content()


def test_few_datasets_join_nothing_and_claim_no_rank(visit):
    panel = visit("across").locator("#across")
    assert panel.locator(".plot >> nth=0 >> .scatterlayer .trace").count() == 2  # leaders, points
    assert ranks(panel) == ["mae 1.33", "huber 1.67", "mse 3.00"]
    assert panel.locator(".chip").count() == 0
    assert "p = 0.097" in panel.text_content()


def test_the_forest_shows_the_loss_that_was_chosen(visit):
    page = visit("many")
    chooser = page.locator("#across select")
    id_ = chooser.get_attribute("data-figures").strip()
    for loss in ("mae", IMG, "mae"):
        chooser.select_option(loss)
        shown = {meta for meta, _, visible in page.evaluate(TRACES, id_) if visible}
        assert shown == {loss}
    assert page.locator(f"#{id_} .ytick text").count() == 8 + 2


def test_a_phone_shows_every_word_across_datasets(visit):
    page = visit("many", "phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    inside = page.locator("#across .plot").count()
    assert inside == 2
    assert [text for figure in browser.figures(page)[-inside:] for text in figure["cut"]] == []


@pytest.mark.parametrize("name", MEANS)
def test_a_name_is_text_wherever_it_stands(name, visit):
    page = visit("hostile")
    matrix = "#figure-3 :is(.xtick, .ytick)"  # the best has no column, the worst no row
    for place in (".scroll >> nth=0", "#figure-1 .ytick", matrix, "#figure-4 .legend", "#figure-8 .ytick"):
        assert any(name in text for text in page.locator(place).all_text_contents()), place
    row = sorted(MEANS, key=MEANS.get, reverse=True).index(name)
    for trace, said in ((1 + 2 * row, f"{name}, seed "), (2 + 2 * row, f"{name}: mean ")):
        at = page.locator("#figure-1 .scatterlayer .trace").nth(trace).locator(".point").first.bounding_box()
        page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
        page.locator("#figure-1 .hoverlayer", has_text=said).wait_for(timeout=3000)


def test_no_name_becomes_a_part_of_the_page(visit):
    page = visit("hostile")
    assert page.title().startswith(f"Which{SCRIPT}?</title>")
    assert page.locator("script").count() == 2  # plotly, and ours
    assert page.locator("img").count() == page.locator("img[src^='data:image/png']").count() == 1
    assert SCRIPT in page.locator("#method code").text_content()
    assert page.locator("td.text").first.text_content() == f"{IMG}{SCRIPT}"
    assert "<b>mm</b>" in page.locator("#figure-1 .xtitle").text_content()
    assert "<b>y</b>" in page.locator("#figure-9 .xaxislayer-above").text_content()


def number(text: str) -> float | None:
    """The number that a cell begins with; None where it has none."""
    found = re.match(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text)
    return float(found[0]) if found else None


@pytest.mark.parametrize("name", ["swept", "hostile", "tuned"])
def test_every_column_sorts_by_its_numbers_and_what_is_missing_comes_last(name, visit):
    tables = visit(name).locator("table.sortable")
    assert tables.count() == {"swept": 6, "hostile": 6, "tuned": 7}[name]
    columns = [column for table in tables.all() for column in table.evaluate(SORT) if column]
    assert len(columns) > 30
    for up, down in columns:
        missing = [text for text in up if text in ("", "–", "nan")]
        assert sorted(up) == sorted(down)
        assert up[len(up) - len(missing) :] == down[len(down) - len(missing) :] == missing
        numbers, back = ([number(text) for text in cells[: len(cells) - len(missing)]] for cells in (up, down))
        if None not in numbers:
            assert numbers == sorted(numbers) == back[::-1]


def test_the_leaderboard_sorts_as_its_numbers_do(visit, pages):
    (verdict,) = pages["hostile"].report.verdicts
    page = visit("hostile")
    heads = page.locator("table.sortable").first.locator("th")
    column = browser.lines(page, "table.sortable >> nth=0 >> th").index("test error ↓ [<b>mm</b>]")
    names = page.locator("table.sortable >> nth=0 >> tbody td:first-child")
    expected = list(verdict.leaderboard.sort_values("error")["loss"])
    for state, order in (("ascending", expected), ("descending", [*expected[-2::-1], GONE])):
        heads.nth(column).locator("button").click()
        assert heads.nth(column).get_attribute("aria-sort") == state
        assert all(text.startswith(name) for text, name in zip(names.all_text_contents(), order, strict=True))
    heads.first.locator("button").click()
    assert [heads.nth(k).get_attribute("aria-sort") for k in (0, column)] == ["ascending", None]


@pytest.mark.parametrize("name", PAGES)
def test_the_chooser_changes_both_figures(name, visit):
    page = visit(name)
    chooser = page.locator("select[data-figures]").first
    ids = chooser.get_attribute("data-figures").split()
    options = chooser.locator("option").all_text_contents()
    assert len(ids) == 2
    assert len(options) == {"swept": 4, "across": 2, "hostile": 2, "tuned": 2}[name]
    for option in (options[0], *reversed(options)):
        chooser.select_option(option)
        for id_ in ids:
            traces = page.evaluate(TRACES, id_)
            shown = [loss for meta, loss, visible in traces if visible]
            assert {meta for meta, _, visible in traces if visible} == {option}
            assert shown == [loss for meta, loss, _ in traces if meta == option]
            drawn = page.locator(f"#{id_} .scatterlayer .trace .js-line")
            assert drawn.count() >= len(set(shown))
            names = page.locator(f"#{id_} .legendtext").all_text_contents()
            assert len(names) == len(set(shown))


def test_chosen_settings_stand_there_to_be_copied(visit):
    page = visit("tuned")
    page.locator("summary", has_text="Chosen settings").click()
    commands = page.locator("pre").all_text_contents()
    assert len(commands) == 6
    assert (
        commands[2]
        == "python -m lossbench dataset=toy loss=mse dataset.ratio=50 optimizer.lr=0.03 'loss.k='\"'\"'<b>'\"'\"''"
    )
    assert commands[1].startswith("# @package _global_")
    assert "\n  ratio: 50\n" in commands[1]
    assert page.locator("b", has_text="<b>").count() == 0
    page.locator("summary", has_text="Chosen settings").click()


def test_wide_pictures_stand_two_in_a_row_and_others_four(visit):
    wide = visit("hostile").locator("figure:has(img)").locator("xpath=..")
    assert wide.get_attribute("class") == "two"
    assert "pictures" in {it.get_attribute("class") for it in visit("swept").locator("div:has(> figure > img)").all()}


def test_a_click_in_the_legend_hides_a_loss_and_another_shows_it(visit):
    page = visit("across")
    entry = page.locator("#figure-4 .legend .traces", has_text="mae")
    for hidden in (True, False):
        entry.locator(".legendtoggle").click()
        page.wait_for_function(
            "hidden => document.querySelector('#figure-4').data.some(it => it.visible === 'legendonly') === hidden",
            arg=hidden,
        )
        states = {(loss, state) for _, loss, state in page.evaluate(TRACES, "figure-4") if state}
        assert states == {("mse", True), ("huber", True), ("mae", "legendonly" if hidden else True)}
        assert page.locator("#figure-4 .scatterlayer .trace").count() == (4 if hidden else 6)
    assert {state for *_, state in page.evaluate(TRACES, "figure-5")} == {True, False}  # the other figure keeps its own


@pytest.mark.parametrize("name", [*PAGES, "long"])
def test_a_phone_scrolls_down_only(name, visit):
    page = visit(name, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    for figure in browser.figures(page):
        assert 0 <= figure["left"] < figure["right"] <= PHONE
        assert figure["width"] == pytest.approx(figure["around"])
        assert figure["marks"] >= figure["traces"] > 0


@pytest.mark.parametrize("name", ["across", "swept", "tuned", "long"])
def test_a_phone_shows_every_word_of_a_figure(name, visit):
    page = visit(name, "phone")
    assert [text for figure in browser.figures(page) for text in figure["cut"]] == []


@pytest.mark.parametrize("name", PAGES)
def test_paper_has_everything(name, visit):
    page = visit(name)
    folded = page.locator("details:not([open])")
    assert folded.count() == {"swept": 2, "across": 0, "hostile": 1, "tuned": 1}[name]
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type */Page\b", printed)) > 2
    assert folded.count() == 0


HIDDEN = """table => [...table.tHead.rows[0].cells].filter(it => !it.offsetWidth).map(it => it.textContent.trim())"""


@pytest.mark.parametrize(("where", "shown"), [("desk", 4), ("phone", 1)])
def test_metrics_beyond_what_a_screen_holds_wait_to_be_asked_for(where, shown, visit):
    page = visit("long", where)
    table, box = page.locator("table >> nth=0"), page.locator(".board input")
    assert len(table.evaluate(HIDDEN)) == 10 - shown
    for hidden in (0, 10 - shown):
        page.locator(".board label").click()
        assert box.is_checked() == (hidden == 0)
        assert len(table.evaluate(HIDDEN)) == hidden


def test_a_few_metrics_are_all_there(visit):
    assert visit("hostile").locator("table >> nth=0").evaluate(HIDDEN) == []
    assert not visit("hostile").locator(".board label").is_visible()


def test_a_table_shows_that_it_goes_on(visit):
    """Pixels of the right edge: darker while there is more beyond it."""
    board = visit("long", "phone").locator(".scroll >> nth=0")
    edge = "it => it.scrollTo(it.scrollWidth, 0)"
    before = darkness(board)
    board.evaluate(edge)
    assert before > darkness(board) + 5
    board.evaluate("it => it.scrollTo(0, 0)")


def darkness(board) -> float:
    image = Image.open(io.BytesIO(board.screenshot())).convert("L")
    strip = np.asarray(image.crop((image.width - 12, 0, image.width, image.height)), dtype=float)
    return 255 - float(np.median(strip))


def test_every_pair_of_a_matrix_stands_once_and_what_is_not_told_apart_is_white(pages):
    verdict = pages["across"].report.verdicts[0]
    drawn = matrices.pairs(verdict).data[0]
    cells = [pair for rows in zip(drawn.z, drawn.text, strict=True) for pair in zip(*rows, strict=True)]
    known = [(cell, text) for cell, text in cells if cell is not None]
    assert len(known) == 3
    apart = (verdict.differences["p_all"] <= 0.05).sum()
    assert sum(abs(cell) >= matrices.FAINTEST for cell, _ in known) == apart > 0
    assert all(text.startswith("(") == (cell == 0) for cell, text in known)
    assert dict(drawn.colorscale)[0.5] == "#ffffff"


def test_paper_cuts_no_table_off(visit):
    page = visit("swept", "paper")
    page.emulate_media(media="print")
    widths = page.locator("table").evaluate_all("all => all.map(it => it.getBoundingClientRect().right)")
    assert max(widths) <= PAPER


def test_paper_keeps_the_colour_of_a_loss(visit):
    dots = visit("swept", "paper").locator(".dot")
    assert dots.count() > 3
    assert set(dots.evaluate_all("all => all.map(it => getComputedStyle(it).printColorAdjust)")) == {"exact"}


@pytest.mark.parametrize("text", ["short", "a_b" * 30, "<&>" * 20, "one two.three=four, " * 5, "x" * 61])
def test_a_name_on_several_lines_is_all_there(text):
    lines = figures.wrapped(text).split("<br>")
    assert "".join(map(unescape, lines)) == text
    assert max(len(unescape(line)) for line in lines) <= figures.LETTERS
    assert figures.longest([figures.wrapped(text)]) == max(len(unescape(line)) for line in lines)
