"""Sentence, chips, stars, colours and tables of one report: they name the same losses as best, or none of them any."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from analysis.made import Made, record

from lossbench import terminal, tracking
from lossbench.analysis import figures, level, report, tables
from lossbench.analysis.page import page

NOTHING = (
    "nothing certain|was the only loss|there is nothing to rank|can be paired|no other loss shares|Only . has a result"
)
BEST = r"^(.+?) (?:is best|are indistinguishable)|^(.+?) has the best mean, and (.+) cannot be distinguished from it"
HARD = np.random.default_rng(0).normal(0, 1, 10)


def runs(case: str, seeds: int, losses: int) -> Iterator[Made]:
    """Equal: nothing but noise. Apart: each a whole unit worse. Failing: the first never finishes, the second half."""
    rng = np.random.default_rng(seeds * 10 + losses)
    for seed in range(seeds):
        for number, loss in enumerate("abcde"[:losses]):
            error = HARD[seed] + rng.normal(0, 0.1) + 3 + (number if case == "apart" else 0)
            failed = case == "failing" and (number == 0 or (number == 1 and seed % 2))
            outcome = "diverged" if failed else "finished"
            yield Made(loss, seed, None if failed else error, outcome, f"{case} {seeds} {losses}", objective=error)


CASES = [(case, n, 2) for case in ("equal", "apart", "failing") for n in (3, 4, 5, 6, 10)]
CASES += [(case, n, losses) for case in ("equal", "apart", "failing") for n in (5, 6) for losses in (1, 5)]


@pytest.fixture(scope="module")
def spoken(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What each case's verdict says, wherever it says it: the losses by place, None where a sentence says nothing."""
    folder = tmp_path_factory.mktemp("voice")
    shutil.copy(migrated, folder / "mlflow.db")
    client = tracking.Store(f"sqlite:///{folder}/mlflow.db").client
    # the last loss shares too few seeds with the best, which has its own
    alone = [Made("a", seed, 1.0 + seed / 100, dataset="alone") for seed in range(6)]
    alone += [Made(loss, seed, 2.0 + seed / 100, dataset="alone") for loss in "bc" for seed in range(3, 9)]
    record(client, *(run for case in CASES for run in runs(*case)), *alone)
    made = report.make(client, "test")
    sections = page(made, client).split('<section id="dataset-')[1:]
    latex = tables.latex(made.verdicts).split("\\begin{table}")[1:]
    shown = list(csv.DictReader(io.StringIO(tables.csv(made.verdicts))))
    papers = tables.paper(made.verdicts)
    found = {}
    for verdict, said, section, tex, (_, paper) in zip(
        made.verdicts, made.sentences, sections, latex, papers, strict=True
    ):
        board = section.partition("<h3>Leaderboard</h3>")[2].partition("<h3>")[0]
        stars = [str(row) for row in terminal.comparison(verdict, 0).columns[0].cells]
        found[verdict.dataset] = {
            "verdict": verdict,
            "sentence": said,
            "places": {
                "chips": set(re.findall(r'class="chip">.*?</span>(\w)</span>', section)),
                "stars": set(re.findall(r"</span>(\w) ★", board)),
                "green": set(re.findall(r'<tr class="best">\s*<td>.*?</span>(\w)', board)),
                "csv": {row["loss"] for row in shown if (row["dataset"], row["best"]) == (verdict.dataset, "True")},
                "latex": set(re.findall(r"\\textbf{(\w)}", tex)),
                "markdown": set(paper.loc[paper["best"] == "yes", "loss"]),
                "terminal": {star[2] for star in stars if "★" in star},
            },
            "legend": [word in section for word in ("★ and green", "Not distinguishable from the best")],
            "section": section,
        }
    return found


def named(sentence: str) -> set[str] | None:
    """The losses that a sentence calls best; None where it calls none so."""
    if re.search(NOTHING, sentence):
        return None
    told = re.search(BEST, sentence)
    return set(re.findall(r"\b[a-e]\b", " ".join(filter(None, told.groups()))))


ALL = [*(" ".join(map(str, case)) for case in CASES), "alone"]


@pytest.mark.parametrize("case", ALL)
def test_all_name_the_same_losses_as_best(case, spoken):
    one = spoken[case]
    best = named(one["sentence"])
    assert one["verdict"].decided == (best is not None)
    assert one["places"] == dict.fromkeys(one["places"], best or set())
    assert one["legend"] == [best is not None] * 2


@pytest.mark.parametrize("case", ALL)
def test_marks_are_filled_for_what_a_test_found(case, spoken):
    verdict = spoken[case]["verdict"]
    drawn = figures.baseline(verdict)
    filled = [trace for trace in (drawn.data if drawn else []) if "circle" in np.atleast_1d(trace.marker.symbol)]
    assert len(filled) == (verdict.against(verdict.baseline).get("p_all", np.array([])) <= level.ALPHA).sum()
    if not verdict.differences["p_all"].notna().any():
        assert filled == []
        assert "font-weight:600" not in spoken[case]["section"]


def test_some_are_decided_and_some_are_not(spoken):
    decided = {case for case in ALL if spoken[case]["verdict"].decided}
    assert {"equal 6 2", "equal 10 2", "apart 6 2", "apart 10 2", "equal 6 5", "apart 6 5", "failing 6 5"} <= decided
    assert not {case for case in ALL if case.split()[1:2] in (["3"], ["4"], ["5"])} & decided
    assert not {"equal 6 1", "failing 6 2", "alone"} & decided
    assert spoken["apart 6 2"]["places"]["stars"] == {"a"}
    assert spoken["equal 6 2"]["places"]["stars"] == {"a", "b"}


def test_each_pair_stands_in_one_table(spoken):
    verdict, section = spoken["apart 6 5"]["verdict"], spoken["apart 6 5"]["section"]
    rows = re.findall(r"<td>(\w) − (\w)</td>", section)
    assert len(rows) == len({frozenset(row) for row in rows}) == 10
    assert rows[:4] == [(loss, verdict.baseline) for loss in "bcde"]
    assert not any(verdict.baseline in row for row in rows[4:])
    assert "All pairs" not in spoken["apart 6 2"]["section"]
