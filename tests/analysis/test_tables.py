"""Tables that other programs read: whatever a loss is called, it neither ends a cell nor becomes markup."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from analysis.made import Made, record, records
from mlflow.entities import Metric

from lossbench import tracking
from lossbench.analysis import report, tables
from lossbench.analysis.answer import sentence
from lossbench.analysis.page import page
from lossbench.analysis.verdict import judge

HARD = np.random.default_rng(0).normal(0, 1, 10)
NOISE = np.random.default_rng(1).normal(0, 0.01, (8, 10))
NAMES = ["a_b&50%", 'p|q <b>"x"</b>', "plain", "#1 {c} ~^$ \\d", "<script>alert(1)</script>"]


def named(*losses, dataset="toy", seeds=10):
    """Runs of these losses, each worse than the one before."""
    return [
        Made(loss, seed, float(number + 1 + HARD[seed] + NOISE[number, seed]), dataset=dataset)
        for seed in range(seeds)
        for number, loss in enumerate(losses)
    ]


def verdicts(*runs, **asked):
    return [judge(part, **asked) for _, part in records(*runs).by_dataset()]


def markdown(found):
    return tables.markdown(found, [sentence(one) for one in found])


def rows(text):
    """The cells of a Markdown table, a bar with a backslash being none."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def read(found):
    return list(csv.DictReader(io.StringIO(tables.csv(found))))


# what stands in them


def test_every_loss_and_dataset_has_a_row():
    found = verdicts(*named("a", "b"), *named("a", "c", dataset="other"))
    assert [(row["dataset"], row["loss"]) for row in read(found)] == [
        ("other", "a"),
        ("other", "c"),
        ("toy", "a"),
        ("toy", "b"),
    ]
    text = markdown(found)
    assert [row[0] for row in rows(text)] == ["loss", "---", "a", "c", "loss", "---", "a", "b"]
    assert text.count("**other**: ") == text.count("**toy**: ") == 1
    assert tables.latex(found).count("\\begin{tabular}") == 2


def test_csv_compares_each_loss_with_the_baseline():
    (found,) = verdicts(*named("a", "b"), *named("c", seeds=3), baseline="b")
    by_loss = {row["loss"]: row for row in read([found])}
    assert float(by_loss["a"]["vs_baseline_difference"]) == found.difference("a", "b")["difference"] < 0
    assert float(by_loss["a"]["vs_baseline_p_all"]) == found.difference("a", "b")["p_all"]
    assert {row["baseline"] for row in by_loss.values()} == {"b"}
    assert by_loss["b"]["vs_baseline_difference"] == ""
    assert by_loss["c"]["vs_baseline_p"] == by_loss["c"]["error low"] == ""
    assert float(by_loss["c"]["vs_baseline_n"]) == 3
    assert [row["best"] for row in by_loss.values()] == [str(loss in found.best) for loss in by_loss]


def test_a_paper_shows_the_asked_metric_first_and_dashes_for_what_is_not_there():
    runs = [*named("a", "b"), *(Made("c", seed, None, "diverged") for seed in range(10)), Made("b", 0, None, "killed")]
    for run in runs[:20]:
        run.metrics["test/score"] = run.seed / 10
    (found,) = verdicts(*runs)
    head, _, a, b, c = rows(markdown([found]))
    assert head == ["loss", "n", "test error [mm] ↓", "95 % interval", "test score ↑", "− a", "p", "failures", "best"]
    assert a[1:2] + a[5:] == ["10", "", "", "0", "yes"]
    assert (b[6], b[8]) == (f"{found.difference('b', 'a')['p_all']:.3f}", "")
    assert c == ["c", "0", "–", "–", "–", "–", "–", "10 diverged", ""]
    (asked,) = verdicts(*runs, primary="score")
    assert rows(markdown([asked]))[0][2:5] == ["test score ↑", "95 % interval", "test error [mm] ↓"]


def test_the_p_of_a_paper_is_the_corrected_one():
    rng = np.random.default_rng(3)
    (found,) = verdicts(*(Made(loss, s, rng.normal(n / 2, 1)) for n, loss in enumerate("abcd") for s in range(9)))
    shown = {row[0]: row[-3] for row in rows(markdown([found]))[2:] if row[0] != "a"}
    corrected, plain = ({loss: f"{found.difference(loss, 'a')[p]:.3f}" for loss in shown} for p in ("p_all", "p"))
    assert shown == corrected != plain


def test_the_chosen_setting_stands_beside_the_loss():
    runs = [Made("h", s, 1.0, params={"loss.delta": d}, objective=float(d)) for s in range(6) for d in "12"]
    found = verdicts(*runs, *named("plain", seeds=6))
    assert {row[0] for row in rows(markdown(found))[2:]} == {"h (delta=1)", "plain"}
    assert "h (delta=1)" in tables.latex(found)


def test_one_value_has_no_spread_and_no_interval():
    found = verdicts(Made("a", 0, 1.25), Made("b", 0, 2.5))
    a = rows(markdown(found))[2]
    assert a[2:4] == ["1.2500", "–"]
    assert "nan" not in markdown(found) + tables.latex(found)


def test_one_loss_alone_is_a_table_too():
    found = verdicts(*named("a"))
    assert len(read(found)) == 1
    assert rows(markdown(found))[2][0] == "a"


def test_latex_has_the_best_in_bold_and_says_what_was_done():
    (found,) = verdicts(*named("a"), *named("b", "c"))  # a and b are one
    assert sorted(found.best) == ["a", "b"]
    text = tables.latex([found])
    assert re.findall(r"\\textbf{(\w)}", text) == found.best
    assert "over 10 paired seeds" in text
    assert "distinguishable from the best test error" in text
    assert "against a, by the sign-flip test, corrected" in text
    assert all(rule in text for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\begin{tabular}{lrrrrrrr}"))


# what losses may be called


@pytest.mark.parametrize("name", NAMES)
def test_names_survive_csv(name):
    assert {row["loss"] for row in read(verdicts(*named(name, "b\nc, d;\"e'")))} == {name, "b\nc, d;\"e'"}


def test_no_name_breaks_a_markdown_table_or_becomes_html():
    found = verdicts(*named(*NAMES, "two\nlines"), *named("a", dataset="d|<i>"))
    text = markdown(found)
    assert "<" not in text
    assert {len(row) for row in rows(text)} == {9}
    assert len(rows(text)) == 2 + 6 + 2 + 1
    assert any(row[0] == 'p\\|q &lt;b>"x"&lt;/b>' for row in rows(text))
    assert any(row[0] == "two lines" for row in rows(text))


TEX = {
    "a_b&50%": r"a\_b\&50\%",
    'p|q <b>"x"</b>': 'p|q $<$b$>$"x"$<$/b$>$',
    "#1 {c} ~^$ \\d": r"\#1 \{c\} \textasciitilde{}\textasciicircum{}\$ \textbackslash{}d",
    "a − b ± c": r"a $-$ b $\pm$ c",
}


@pytest.mark.parametrize("name", TEX)
def test_no_name_breaks_a_latex_table(name):
    (found,) = verdicts(*named("first", name), baseline=name)
    text = tables.latex([found])
    lines = text.partition("\\toprule")[2].partition("\\bottomrule")[0].strip().splitlines()
    body = [line for line in lines if line != "\\midrule"]
    assert len(body) == 3
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {7}
    assert any(line.startswith(f"{TEX[name]} &") for line in body)
    assert f"$-$ {TEX[name]} &" in body[0], "the column of differences to it"
    assert f"against {TEX[name]}, by the sign-flip test" in text
    assert not re.search(r"(?<!\\)%", text), "the rest of a line would be a comment"
    assert text.isascii()
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")


def test_datasets_and_units_are_escaped_too():
    found = verdicts(*named("a", "b", dataset="50%_&|<i>"))
    latex, text = tables.latex(found), markdown(found)
    assert r"50\%\_\&" in latex
    assert "**50%_&\\|&lt;i>**" in text
    unit = records(*named("a"), metrics=[("er_ror", "↑", "m|<u>")])
    (one,) = [judge(part) for _, part in unit.by_dataset()]
    assert r"er\_ror [m|$<$u$>$] $\uparrow$" in tables.latex([one])
    assert "er_ror [m\\|&lt;u>] ↑" in markdown([one])


# the page

EVIL = '<b>"x"</b>'


class TrainedModel(HTMLParser):
    """Tags that a reader's browser would make, and text that it would show."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.scripts = [], [], []
        self._inside = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        (self.scripts if self._inside == "script" else self.text).append(data)


@pytest.fixture(scope="module")
def evil_page(migrated, tmp_path_factory):
    """A page on which everything that a user may name has a tag in its name."""
    folder = tmp_path_factory.mktemp("evil")
    shutil.copy(migrated, folder / "mlflow.db")
    client = tracking.Store(f"sqlite:///{folder}/mlflow.db").client
    names = (EVIL, f"two {EVIL}", "</script><script>alert(1)</script>")
    runs = [
        run
        for dataset in ("toy", f"data {EVIL}")
        for run in (
            *named(*names, dataset=dataset, seeds=6),
            *(Made(EVIL, seed, 99.0, dataset=dataset, params={"loss.p": f"w {EVIL}"}) for seed in range(6)),
            Made(EVIL, f"s {EVIL}", None, "failed", dataset=dataset, tags={"lossbench.error": f"said {EVIL}"}),
        )
    ]
    for run in runs:
        run.objective = 1.0
        run.params = {"loss.p": f"v {EVIL}", "train.steps": run.loss} | run.params
        run.metrics |= {"test_loss/mse": 1.0, "test_loss/b": 2.0, "time/step_ms": 1.0} if run.error else {}
        run.tags |= {"lossbench.code": f"code {EVIL}", "lossbench.probe": json.dumps({"gradient": [1.0, 2.0]})}
    metrics = [("error", "↓", f"mm {EVIL}"), ("score", "↑", "")]
    ids = record(client, *runs, experiment=f"asked {EVIL}", metrics=metrics)
    for run_id in ids:
        client.log_batch(run_id, [Metric(f"{m}/error", 1.0 / k, k, k) for k in (1, 2, 3) for m in ("val", "train")])
    made = report.make(client, f"asked {EVIL}", allow_mixed=True)
    return page(made, client)


@pytest.fixture(scope="module")
def seen(evil_page):
    """The page without the script of plotly, which is not ours."""
    parsed = TrainedModel()
    parsed.feed(evil_page)
    parsed.scripts = [text for text in parsed.scripts if "plotly.js" not in text]
    return parsed


def test_no_name_is_markup_in_the_source_of_the_page(evil_page, seen):
    assert EVIL not in evil_page
    assert not any(tag == "b" and attributes for tag, attributes in seen.tags)
    assert "<script>alert(1)" not in evil_page
    (ours,) = seen.scripts
    assert "<b>" not in ours
    assert "</script" not in ours
    assert "\\u003c" in ours


def test_every_name_is_shown_as_it_is(seen):
    shown = " ".join(seen.text)
    for name in (EVIL, f"two {EVIL}", "</script><script>alert(1)</script>", f"asked {EVIL}", f"said {EVIL}"):
        assert name in shown
    for name in (f"data {EVIL}", f"code {EVIL}", f"mm {EVIL}", f"s {EVIL}", f"p=w {EVIL}"):
        assert name in shown


def texts(value, key=""):
    """All strings of a figure that plotly reads as markup."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, key)
    elif isinstance(value, str) and key in ("text", "hovertext", "name", "ticktext"):
        yield value


def test_plotly_which_reads_markup_gets_none_from_a_name(seen):
    (ours,) = seen.scripts
    figures = re.search(r"const figures = (\{.*\});$", ours, flags=re.MULTILINE)[1]
    found = list(texts(json.loads(figures)))
    assert sum("&lt;b&gt;" in text for text in found) > 20
    assert [text for text in found if "<b>" in text or "</" in text] == []
    assert {tag for text in found for tag in re.findall(r"<(\w+)", text)} <= {"br"}


FORMULAS = ['=HYPERLINK("http://x","y")', "+1+cmd", "-2+3", "@SUM(1)", "\t=1", " =1"]


def test_no_name_is_a_formula_to_a_spreadsheet():
    judged = verdicts(*named(*FORMULAS))
    for line in csv.reader(io.StringIO(tables.csv(judged))):
        assert not [cell for cell in line if cell.lstrip().startswith(tuple("=+-@")) and not is_number(cell)]
    cells = {cell for line in csv.reader(io.StringIO(tables.csv(judged))) for cell in line}
    assert {f"'{name}" for name in FORMULAS} <= cells


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_numbers_of_a_table_stay_as_they_are():
    board = tables.numbers(verdicts(*named("a", "b")))
    assert tables.separated(board) == board.to_csv(index=False)


def test_a_colour_that_is_none_is_grey():
    judged = verdicts(
        *(Made(run.loss, run.seed, run.error, tags={"mlflow.runColor": "none"}) for run in named("a", "b"))
    )
    assert set(judged[0].leaderboard["colour"]) == {"#666666"}
