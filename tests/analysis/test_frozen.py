"""Records with numbers that were made up by hand: what a report makes of them is known to the last digit."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from analysis.made import Made, record
from scipy.stats import t as student

from lossbench.analysis import report, tables

FROZEN = json.loads(Path(__file__).with_name("frozen.json").read_text(encoding="utf-8"))
LOSSES, SEEDS = ("mse", "mae", "huber"), range(8)
PAIRS = list(combinations(LOSSES, 2))


@pytest.fixture
def written(store):
    """The frozen records in a fresh store."""
    runs = [
        Made(
            one["loss"],
            one["seed"],
            None,
            one["outcome"],
            metrics=one["metrics"],
            objective=one["metrics"]["val/error"],
        )
        for one in FROZEN["runs"]
    ]
    record(store.client, *runs, metrics=FROZEN["metrics"])
    return store.client


def exact(metric):
    """The numbers as fractions: by loss, one a seed, None where the run did not finish."""
    found = {(run["loss"], run["seed"]): run["metrics"].get(f"test/{metric}") for run in FROZEN["runs"]}
    return {loss: [Fraction(str(v)) if (v := found[loss, s]) is not None else None for s in SEEDS] for loss in LOSSES}


def pair(values, a, b):
    return [None if None in (x, y) else x - y for x, y in zip(values[a], values[b], strict=True)]


def mean(values):
    known = [v for v in values if v is not None]
    return sum(known) / len(known)


def by_hand(metric):
    """For each pair n, mean, ends of the interval, p and step-down p, exact: every flip of eight seeds, in fractions.

    The interval: means of all subsets in order, without as many at each end as make 2.5 % of the flips, less one.
    """
    values = exact(metric)
    d = {(a, b): pair(values, a, b) for a, b in PAIRS}
    flips = list(product([1, -1], repeat=len(SEEDS)))
    sums = {
        k: [sum(s * x for s, x in zip(f, each, strict=True) if x is not None) for f in flips] for k, each in d.items()
    }
    size = {k: [Fraction(t) ** 2 / sum(x * x for x in d[k] if x is not None) for t in each] for k, each in sums.items()}
    order = sorted(d, key=lambda k: -size[k][0])
    found, least = {}, Fraction(0)
    for place, k in enumerate(order):
        known = [x for x in d[k] if x is not None]
        n = len(known)
        single = Fraction(sum(abs(t) >= abs(sums[k][0]) for t in sums[k]), len(flips))
        reached = sum(max(size[other][f] for other in order[place:]) >= size[k][0] for f in range(len(flips)))
        least = max(least, Fraction(reached, len(flips)))
        subsets = sorted(mean(s) for size_of in range(1, n + 1) for s in combinations(known, size_of))
        skip = int(Fraction(25, 1000) * 2**n) - 1
        found[k] = (n, mean(known), subsets[skip], subsets[-1 - skip], single, least)
    return found


def floats(numbers):
    return [float(number) for number in numbers]


def test_what_is_frozen_is_what_it_says():
    assert len(FROZEN["runs"]) == 24
    outcomes = {(run["loss"], run["seed"]): run["outcome"] for run in FROZEN["runs"] if run["outcome"] != "finished"}
    assert outcomes == {("mae", 5): "killed", ("huber", 4): "diverged"}


@pytest.mark.parametrize("metric", ["error", "score"])
def test_differences_are_the_exact_ones(written, metric):
    (verdict,) = report.make(written, "test", primary=metric).verdicts
    for (a, b), expected in by_hand(metric).items():
        row = verdict.difference(a, b)[["n", "difference", "low", "high", "p", "p_all"]]
        assert row.to_list() == pytest.approx(floats(expected), rel=1e-9, abs=1e-12)


def test_some_of_it_was_worked_out_on_paper(written):
    (verdict,) = report.make(written, "test").verdicts
    board = verdict.leaderboard.set_index("loss")
    assert list(board.index) == ["huber", "mae", "mse"]
    assert board["error"].to_list() == pytest.approx([8.36 / 7, 8.57 / 7, 10.48 / 8])
    assert board["rank"].to_list() == pytest.approx([13 / 8, 10 / 7, 22 / 8])
    assert board[["runs", "n", "failures"]].to_numpy().tolist() == [[8, 7, 1], [8, 7, 1], [8, 8, 0]]
    assert board["outcomes"].to_list() == ["1 diverged", "1 killed", ""]
    row = verdict.difference("mse", "mae")
    assert (row["n"], row["difference"], row["low"], row["high"]) == pytest.approx((7, 0.69 / 7, 0.07, 0.12))
    assert (row["p"], row["p_all"], row["p_holm"], row["improvement"]) == (2 / 2**7, 2 / 2**7, 6 / 2**7, 0)
    assert verdict.difference("mae", "huber")[["p", "improvement"]].to_list() == [13 / 16, 1 / 2]
    assert verdict.baseline == "mse"
    assert verdict.best == ["huber", "mae"]


def test_the_sentence_says_so(written):
    assert report.make(written, "test").sentences == [
        "huber and mae are indistinguishable by test error on new data like these; "
        "mse is significantly worse by 0.104 mm [0.080, 0.125], p = 0.016 (corrected for all 3 pairs, 7 paired seeds). "
        "huber diverged on 1 of 8 seeds."
    ]


# the same numbers in every table


def from_csv(made):
    return pd.read_csv(io.StringIO(tables.csv(made.verdicts))).set_index("loss")


def from_markdown(made):
    lines = [line for line in tables.markdown(made.verdicts, made.sentences).splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return pd.DataFrame(rows, columns=head).set_index("loss")


def from_latex(made):
    body = tables.latex(made.verdicts).replace("$\\pm$", "±").replace("$-$", "−").replace("--", "–").replace("\\%", "%")
    head, rows = body.partition("\\toprule")[2].partition("\\midrule")[::2]
    head = head.replace("$\\uparrow$", "↑").replace("$\\downarrow$", "↓").strip().removesuffix("\\\\")
    lines = [line.removesuffix("\\\\") for line in rows.partition("\\bottomrule")[0].strip().splitlines()]
    cells = [[cell.strip() for cell in line.split("&")] for line in lines]
    found = pd.DataFrame(cells, columns=[cell.strip() for cell in head.split("&")]).set_index("loss")
    bold = found.index.str.startswith("\\textbf{")
    found.index = found.index.str.removeprefix("\\textbf{").str.removesuffix("}")
    return found.assign(best=np.where(bold, "yes", ""))


def test_csv_has_every_digit(written):
    made = report.make(written, "test")
    found = from_csv(made)
    assert list(found.index) == ["huber", "mae", "mse"]
    for name in ("error", "score"):
        values = exact(name)
        for loss in LOSSES:
            known = [v for v in values[loss] if v is not None]
            deviation = float(sum((v - mean(known)) ** 2 for v in known) / (len(known) - 1)) ** 0.5
            row = found.loc[loss]
            assert row[name] == pytest.approx(float(mean(known)), rel=1e-14)
            assert row[f"{name} sd"] == pytest.approx(deviation, rel=1e-12)
            assert row[f"{name} n"] == len(known)
            assert (row[f"{name} low"], row[f"{name} high"]) == pytest.approx(
                resampled(floats(known)), abs=deviation / 10
            )
    (verdict,) = made.verdicts
    board = verdict.leaderboard.set_index("loss")
    for column in ("error", "error sd", "error low", "error high", "score"):
        assert found[column].to_list() == board[column].to_list()
    expected = by_hand("error")
    for loss in ("mae", "huber"):
        n, middle, low, high, p, p_all = floats(expected["mse", loss])
        told = found.loc[loss, [f"vs_baseline_{c}" for c in ("n", "difference", "low", "high", "p", "p_all")]]
        assert told.to_list() == pytest.approx([n, -middle, -high, -low, p, p_all], rel=1e-9)
    assert found.loc["mse"].filter(like="vs_baseline").isna().all()
    assert found["best"].to_dict() == {"huber": True, "mae": True, "mse": False}
    assert set(found["baseline"]) == {"mse"}


def resampled(known):
    """Ends of Student's interval or, up to half as far again, of the studentised bootstrap's, by another generator."""
    rng, known = np.random.default_rng(99), np.array(known)
    n, t = len(known), []
    while len(t) < 4000:
        again = rng.choice(known, n)
        if np.ptp(again) > 0:
            t.append((again.mean() - known.mean()) / again.std(ddof=1))
    half = student.ppf(0.975, n - 1) / np.sqrt(n)
    left, right = np.clip(np.abs(np.quantile(t, [0.975, 0.025])), half, 1.5 * half) * known.std(ddof=1)
    return known.mean() - left, known.mean() + right


def test_markdown_and_latex_have_the_same_numbers(written):
    made = report.make(written, "test")
    found, markdown, latex = from_csv(made), from_markdown(made), from_latex(made)
    pd.testing.assert_frame_equal(markdown, latex)
    means = ["test error [mm] ↓", "95 % interval", "test score ↑"]
    assert list(markdown.columns) == ["n", *means, "− mse", "p", "failures", "best"]
    for loss, row in markdown.iterrows():
        numbers = found.loc[loss]
        assert row["n"] == f"{numbers['n']}"
        assert row["test error [mm] ↓"] == f"{numbers['error']:.4f} ± {numbers['error sd']:.4f}"
        assert row["95 % interval"] == f"[{numbers['error low']:.4f}, {numbers['error high']:.4f}]"
        assert row["test score ↑"] == f"{numbers['score']:.4f} ± {numbers['score sd']:.4f}"
        assert (row["best"] == "yes") == numbers["best"]


def test_markdown_to_the_last_digit(written):
    made = report.make(written, "test")
    lines = tables.markdown(made.verdicts, made.sentences).splitlines()
    assert lines[0] == f"**toy**: {made.sentences[0]}"
    interval = from_markdown(made)["95 % interval"]
    assert lines[2:] == [
        "| loss | n | test error [mm] ↓ | 95 % interval | test score ↑ | − mse | p | failures | best |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| huber | 7 | 1.1943 ± 0.0830 | {interval['huber']} | 0.7443 ± 0.0326 | -0.104 | 0.016 | 1 diverged | yes |",
        f"| mae | 7 | 1.2243 ± 0.0759 | {interval['mae']} | 0.7414 ± 0.0279 | -0.099 | 0.016 | 1 killed | yes |",
        f"| mse | 8 | 1.3100 ± 0.0891 | {interval['mse']} | 0.7125 ± 0.0292 |  |  | 0 |  |",
    ]


def test_another_metric_and_baseline(written):
    made = report.make(written, "test", primary="score", baseline="huber")
    markdown = from_markdown(made)
    assert list(markdown.columns[:4]) == ["n", "test score ↑", "95 % interval", "test error [mm] ↓"]
    assert markdown["− huber"].to_dict() == {"huber": "", "mae": "0.007", "mse": "-0.029"}
    assert markdown["p"].to_dict() == {"huber": "", "mae": "0.406", "mse": "0.016"}
    assert list(markdown.index) == ["huber", "mae", "mse"]
    pd.testing.assert_frame_equal(markdown, from_latex(made))


@pytest.mark.parametrize("kind", ["csv", "latex", "markdown"])
def test_the_command_prints_these_tables(written, lossbench, kind):
    said = lossbench("report", "test", f"--{kind}")
    made = report.make(written, "test")
    expected = {
        "csv": lambda: tables.csv(made.verdicts),
        "latex": lambda: tables.latex(made.verdicts),
        "markdown": lambda: tables.markdown(made.verdicts, made.sentences) + "\n",
    }[kind]()
    assert (said.code, said.out, said.err) == (0, expected, "")
