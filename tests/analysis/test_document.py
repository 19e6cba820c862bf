"""The report for programs: as its schema says, the numbers of the tables, and nothing else on standard output."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from analysis.made import Made, arms, record, searched, tell, trial

from lossbench.analysis import document, report

SCHEMA = json.loads(files("lossbench.analysis").joinpath("report.schema.json").read_text(encoding="utf-8"))
NOISE = np.random.default_rng(0).normal(0, 0.01, (3, 8))


def some(store):
    """Two losses far apart, the first at two settings, and one that diverged; with a metric that no run has."""
    runs = [
        Made(loss, seed, 1.0 + n + NOISE[n, seed], params={"loss.k": "1", "question": "Which?"}, objective=1.0)
        for seed in range(8)
        for n, loss in enumerate("ab")
    ]
    runs += [Made("a", seed, 9.0 + NOISE[2, seed], params={"loss.k": "2"}, objective=9.0) for seed in range(8)]
    runs += [Made("c", seed, None, "diverged" if seed else "killed") for seed in range(3)]
    for run in runs[:16]:
        run.metrics["time/step_ms"] = 2.0
    record(store.client, *runs)
    return report.make(store.client, "test")


def test_the_schema_is_one_and_is_that_of_the_document():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == document.SCHEMA


def test_a_document_has_the_numbers_of_the_verdict(store):
    made = some(store)
    found = json.loads(document.text(made))
    (one,), (verdict,) = found["datasets"], made.verdicts
    assert (found["name"], found["question"]) == ("test", "Which?") or found["question"] is None
    assert datetime.fromisoformat(found["made"]).tzinfo is not None
    assert (one["dataset"], one["sentence"]) == ("toy", made.sentences[0])
    assert one["metric"] == {"name": "error", "direction": "lower", "unit": "mm"}
    assert (one["decided"], one["best"], one["baseline"], one["paired"]) == (True, ["a"], "a", True)
    board = {row["loss"]: row for row in one["leaderboard"]}
    assert list(board) == list(verdict.leaderboard["loss"])
    a, c = board["a"], board["c"]
    assert (a["setting"], a["runs"], a["finished"], a["failures"]) == ("k=1", 8, 8, {})
    expected = verdict.leaderboard.set_index("loss").loc["a"]
    told = {"mean": "error", "sd": "error sd", "low": "error low", "high": "error high", "n": "error n"}
    assert a["metrics"]["error"] == {what: expected[column] for what, column in told.items()}
    assert a["metrics"]["score"] == {"mean": None, "sd": None, "low": None, "high": None, "n": 0}
    assert a["costs"]["step_ms"] == 2.0
    assert a["costs"]["peak_mb"] is None
    assert (c["runs"], c["finished"], c["failures"]) == (3, 0, {"diverged": 2, "killed": 1})
    assert {row["loss"] for row in one["settings"]} == {"a k=1", "a k=2", "b", "c"}
    pairs = {(row["a"], row["b"]): row for row in one["differences"]}
    assert set(pairs) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert pairs["a", "b"]["p_all"] == verdict.difference("a", "b")["p_all"] == 2 / 2**8
    assert pairs["a", "c"]["p"] is None
    assert {(r["about"], r["text"], r["concern"]) for r in found["remarks"]} == {
        (r.about, r.text, r.concern) for r in made.remarks
    }


def test_nothing_but_the_document_goes_to_standard_output(lossbench, store):
    some(store)
    said = lossbench("report", "test", "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    jsonschema.validate(found, SCHEMA)
    again = json.loads(lossbench("report", "test", "--json", "--metric", "error", "--baseline", "b").out)
    assert again["datasets"][0]["baseline"] == "b"
    assert again["datasets"][0]["leaderboard"] == found["datasets"][0]["leaderboard"]


@pytest.mark.parametrize("words", [["--metric", "auprc"], ["--csv"], ["--baseline", "z"]])
def test_what_is_wrong_goes_to_standard_error(words, lossbench, store):
    record(store.client, *(Made(loss, s, 1.0) for loss in "ab" for s in range(2)))
    said = lossbench("report", "test", "--json", *words)
    assert (said.code, said.out) == (2, "")
    assert words[0] in said.err


def test_a_document_of_nothing_certain_names_no_best(store):
    record(store.client, *(Made(loss, s, 1.0 + s) for loss in "ab" for s in range(5)))
    (one,) = json.loads(document.text(report.make(store.client, "test")))["datasets"]
    assert (one["decided"], one["best"]) == (False, [])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(one | {"best": ["a"]}, SCHEMA["$defs"]["dataset"] | {"$defs": SCHEMA["$defs"]})


def test_a_tuned_comparison_has_its_tuning(store):
    tell(store.client, "c", *(searched(loss) for loss in "ab"))
    tuned = {loss: [n + x / 10 for x in range(6)] for n, loss in enumerate("ab")}
    runs = [run for loss in "ab" for run in arms(loss, tuned=tuned[loss], default=[x + 1 for x in tuned[loss]])]
    trials = [trial(loss, k, 1.0 + k, optimizer__lr=0.01) for loss in "ab" for k in range(3)]
    record(store.client, *runs, *trials, comparison="c")
    made = report.make(store.client, "c")
    found = json.loads(document.text(made))["datasets"][0]["tuning"]
    assert [row["difference"] for row in found["arms"]] == pytest.approx([-1, -1])
    assert found["after_tuning"] == [{"a": "a", "b": "b", "difference": "survives"}]
    assert [one["loss"] for one in found["chosen"]] == ["a", "b"]
    assert found["chosen"][0]["settings"] == {"optimizer.lr": 0.01}


def test_what_is_not_finite_is_null():
    assert document._plain({"a": [np.float64("nan"), np.inf, np.int64(3)], "b": (np.bool_(True), "x")}) == {
        "a": [None, None, 3],
        "b": [True, "x"],
    }
