"""References in a report: beside the losses everywhere, and in no ranking, test, count or claim."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from analysis.made import YARDSTICKS, Made, record

from lossbench.analysis import document, figures, page, report, tables
from lossbench.terminal import comparison

SCHEMA = json.loads(files("lossbench.analysis").joinpath("report.schema.json").read_text(encoding="utf-8"))
SEEDS = range(6)


def reference(name, seed, error, outcome="finished", **more):
    """A reference has the settings of its data, and none of a model or a loss."""
    tags = {"lossbench.kind": "reference", "mlflow.runColor": None, "model": None, **more.pop("tags", {})}
    return Made(name, seed, error, outcome, tags=tags, **more)


def losses(a=1.0, b=1.2, **more):
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 6))
    return [Made(n, s, x + noise[k, s], **more) for k, (n, x) in enumerate([("a", a), ("b", b)]) for s in SEEDS]


def made(store, constant=3.0, boosting=1.1, a=1.0, b=1.2, metrics=YARDSTICKS):
    beside = [reference("constant", s, constant + s) for s in SEEDS] if constant is not None else []
    beside += [reference("gradient boosting", s, boosting) for s in SEEDS] if boosting is not None else []
    record(store.client, *losses(a, b), *beside, metrics=metrics)
    return report.make(store.client, "test")


def test_nothing_that_is_ranked_or_tested_changes(store, tmp_path):
    record(store.client, *losses(), experiment="plain")
    (plain,), (verdict,) = report.make(store.client, "plain").verdicts, made(store).verdicts
    for name in ("values", "failed", "ranks", "leaderboard", "differences", "ranked", "settings"):
        assert getattr(plain, name).equals(getattr(verdict, name)), name
    assert (plain.best, plain.baseline, plain.chosen) == (verdict.best, verdict.baseline, verdict.chosen)
    assert plain.references.empty
    assert report.make(store.client, "plain").sentences == report.make(store.client, "test").sentences
    assert "reference" not in tables.markdown([plain], [""]).lower() + tables.csv([plain]) + tables.latex([plain])
    (one,) = json.loads(document.text(report.make(store.client, "plain")))["datasets"]
    assert "references" not in one


def test_a_reference_has_its_mean_and_its_deviation(store):
    (verdict,) = made(store).verdicts
    board = verdict.references.set_index("loss")
    assert list(board.index) == ["gradient boosting", "constant"], "the best first"
    assert tuple(board.loc["constant", ["error", "error sd", "error n", "n"]]) == pytest.approx(
        (5.5, np.std(range(6), ddof=1), 6, 6)
    )
    assert np.isnan(board.loc["constant", "score"])


def test_of_one_recorded_twice_the_newest_that_finished_counts(store):
    again = [reference("constant", 0, 9.0), reference("constant", 0, None, "failed", tags={"lossbench.error": "x"})]
    record(store.client, *losses(), reference("constant", 0, 8.0), *again)
    (verdict,) = report.make(store.client, "test").verdicts
    assert verdict.references["error"].tolist() == [9.0]


def test_each_is_shown_where_its_dataset_is(store):
    """Also where only a setting tells the datasets apart."""
    noisy, clean = ({"dataset.noise": noise} for noise in ("1", "0"))
    runs = [run for params, x in ((noisy, 2), (clean, 1)) for run in losses(x, x + 0.2, params=params)]
    beside = [reference("constant", s, x, params=p) for p, x in ((noisy, 7.0), (clean, 6.0)) for s in SEEDS]
    record(store.client, *runs, *beside)
    found = {v.dataset: v.references["error"].tolist() for v in report.make(store.client, "test").verdicts}
    assert found == {"toy noise=0": [6.0], "toy noise=1": [7.0]}


def test_every_form_of_the_report_has_them_and_says_what_they_are(store):
    found = made(store)
    (verdict,) = found.verdicts
    text = tables.markdown(found.verdicts, found.sentences)
    lines = text.splitlines()
    assert [line.split(" | ")[0] for line in lines if " (reference)" in line] == [
        "| gradient boosting (reference)",
        "| constant (reference)",
    ]
    assert "References, which no loss trained" in text
    latex = tables.latex(found.verdicts)
    above = latex.split("gradient boosting (reference) &")[0].rstrip()
    assert above.endswith("\\midrule")
    numbers = tables.numbers(found.verdicts)
    assert numbers["reference"].tolist() == [False, False, True, True]
    assert numbers["runs"].tolist() == [6] * 4
    assert not numbers.loc[numbers["reference"], "best"].any()
    (one,) = json.loads(document.text(found))["datasets"]
    jsonschema.validate(json.loads(document.text(found)), SCHEMA)
    assert one["references"][1] == {
        "reference": "constant",
        "runs": 6,
        "metrics": {
            "error": {"mean": 5.5, "sd": pytest.approx(np.std(range(6), ddof=1)), "n": 6},
            "score": {"mean": None, "sd": None, "n": 0},
        },
    }
    assert comparison(verdict, 1).row_count == 4
    html = page.page(found, store.client).split("<h3>Leaderboard</h3>")[1].split("<h3>")[0]
    assert html.count("<small>reference</small>") == 2
    assert "References, which no loss trained" in html


def test_a_line_each_among_the_dots_which_does_not_stretch_the_axis(store):
    (verdict,) = made(store).verdicts
    drawn = figures.seeds(verdict)
    lines = {trace.name: trace for trace in drawn.data if trace.name}
    near, far = (lines[name] for name in lines)
    assert near.x == pytest.approx((1.1, 1.1))
    assert "beyond" not in near.name
    low, high = drawn.layout.xaxis.range
    assert low < far.x[0] < high < 5.5
    assert "5.5, beyond" in far.name.replace("<br>", "")
    assert near.line.dash != far.line.dash != "solid"


def remarks(store, **values):
    return [one for one in made(store, **values).remarks if one.about == "references"]


def test_losses_that_are_worse_than_a_constant_are_a_concern(store):
    (one,) = remarks(store, constant=-2.0, boosting=None)
    assert one.concern
    assert "every loss is worse than a constant" in one.text
    assert "the constant 0.5" in one.text


def test_one_loss_that_beats_the_constant_is_enough(store):
    assert remarks(store, constant=-1.4, boosting=None, b=2.0) == []  # 1.1 on average, between a and b


def test_boosting_that_is_ahead_by_more_than_the_losses_differ_is_said(store):
    (one,) = remarks(store, boosting=0.7)
    assert not one.concern
    assert "beats every loss by 0.3" in one.text
    assert "the losses differ by 0.199" in one.text


def test_boosting_that_is_ahead_by_less_is_not(store):
    assert remarks(store, boosting=0.9) == []


def test_higher_may_be_better(store):
    upwards = (("error", "↑", ""),)
    texts = [one.text for one in remarks(store, constant=0.0, boosting=1.5, metrics=upwards)]
    assert len(texts) == 2, "a mean of 2.5 is above both losses, and 1.5 by .3"


def test_means_are_over_the_seeds_that_both_have(store):
    """Of a large table only the first seeds have references: here on one where every loss is worse than usual."""
    runs = [Made(loss, s, 9.0 if s == 0 else 1.0) for loss in "ab" for s in SEEDS]
    record(store.client, *runs, reference("constant", 0, 8.0))
    texts = [one.text for one in report.make(store.client, "test").remarks if one.about == "references"]
    assert len(texts) == 1
    assert "the best 9, the constant 8" in texts[0]


def test_one_that_failed_is_said_with_its_reason(store):
    failed = [reference("gradient boosting", s, None, "failed", tags={"lossbench.error": "too wide"}) for s in (0, 1)]
    record(store.client, *losses(), *failed)
    found = report.make(store.client, "test")
    (one,) = (one for one in found.remarks if one.about == "references")
    assert (one.text, one.concern) == ("gradient boosting could not be computed on toy for 2 seeds: too wide", False)
    assert found.verdicts[0].references.empty


def test_a_comparison_has_its_own_alone(store):
    whole = {"lossbench.kind": "comparison", "lossbench.comparison": "one"}
    record(store.client, Made("", "", tags=whole), experiment="e")
    record(store.client, *losses(), reference("constant", 0, 4.0), comparison="one", experiment="e")
    record(store.client, reference("constant", 1, 5.0), comparison="two", experiment="e")
    assert report.make(store.client, "one").verdicts[0].references["error"].tolist() == [4.0]
    assert report.make(store.client, "e").verdicts[0].references["error"].tolist() == [4.5]
