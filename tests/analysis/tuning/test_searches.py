"""Trials and arms as they are read: whichever comparison made them, each trial once, each final run in its arm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analysis.made import RATES, Made, arms, entities, record, records, searched, tell, trial

from lossbench.analysis import records as reading
from lossbench.analysis import report
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import trial_table
from lossbench.analysis.verdict import judge

LEVEL = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def table(*made, **changed):
    return trial_table.table(Search(**searched("a", **changed)), entities(made)).set_index("number")


def up(by, values=LEVEL):
    return [value + by for value in values]


# trials


def test_a_trial_is_a_row_with_what_it_took_and_what_was_searched():
    found = table(trial("a", 1, 0.5, optimizer__lr=0.03, steps=70), trial("a", 0, 0.7, optimizer__lr="auto"))
    assert list(found.index) == [0, 1]
    assert found.loc[1, ["score", "steps", "seconds", "outcome", "optimizer.lr"]].tolist() == [
        0.5, 70, 2.0, "finished", 0.03,
    ]  # fmt: skip
    assert found.loc[0, "optimizer.lr"] == "auto"


def test_several_splits_are_one_trial_with_their_mean():
    found = table(trial("a", 0, 1.0, seed=100), trial("a", 0, 2.0, seed=101), splits=2)
    assert len(found) == 1
    assert found.loc[0, ["score", "steps", "seconds", "runs", "seeds"]].tolist() == [1.5, 200, 4.0, 2, "100 101"]


@pytest.mark.parametrize("outcome", ["diverged", "failed", "killed", "error", "running"])
def test_a_trial_with_a_split_that_did_not_end_has_no_score(outcome):
    found = table(trial("a", 0, 1.0, seed=1), trial("a", 0, 2.0, outcome, seed=2), splits=2)
    assert math.isnan(found.loc[0, "score"])
    assert found.loc[0, "outcome"] == outcome


def test_a_trial_that_lacks_a_split_is_unfinished():
    found = table(trial("a", 0, 1.0), splits=2)
    assert found.loc[0, "outcome"] == "running"
    assert math.isnan(found.loc[0, "score"])
    assert trial_table.counted(found).empty


@pytest.mark.parametrize("outcome", ["pruned", "cut"])
def test_a_trial_that_was_stopped_early_has_its_best_score(outcome):
    assert table(trial("a", 0, 1.25, outcome)).loc[0, ["score", "outcome"]].tolist() == [1.25, outcome]


def test_of_a_trial_that_was_repeated_the_newest_counts():
    found = table(trial("a", 0, 5.0, start=9), trial("a", 0, None, "killed", start=1), trial("a", 1, 1.0, start=2))
    assert found["score"].tolist() == [5.0, 1.0]
    assert found["steps"].tolist() == [100, 100]


@pytest.mark.parametrize(("higher", "worst"), [(True, -np.inf), (False, np.inf)])
def test_failed_trials_are_the_worst_and_stopped_ones_are_none(higher, worst):
    found = table(*(trial("a", k, 1.0, o) for k, o in enumerate(["finished", "diverged", "failed", "killed"])))
    assert trial_table.scores(found, higher).tolist() == [1.0, worst, worst]


@pytest.mark.parametrize(("value", "place"), [(1e-4, 0), (0.1, 1), (10**-2.5, 0.5)])
def test_a_choice_has_its_place_on_the_scale_of_its_range(value, place):
    assert Search(**searched("a", settings={"optimizer.lr": value})).place("optimizer.lr") == pytest.approx(place)
    plain = Search(**searched("a", space={"loss.k": {"low": 1, "high": 3}}, settings={"loss.k": 1 + 2 * place}))
    assert plain.place("loss.k") == pytest.approx(place)


def test_a_choice_without_a_range_has_no_place():
    made = Search(**searched("a", space={"loss.k": {"choices": [1, 2]}, "optimizer.lr": RATES}, settings={"loss.k": 1}))
    assert made.place("loss.k") is made.place("optimizer.lr") is None


# from a store


def test_trials_are_found_by_study_in_whichever_comparison_they_lie(store):
    client = store.client
    tell(client, "first", searched("a", chosen=0))
    record(client, trial("a", 0, 1.0), trial("z", 0, 9.0), comparison="first")
    tell(client, "second", searched("a", chosen=1) | {"something new": 1}, start=9000)
    record(client, trial("a", 1, 0.5), *arms("a", tuned=LEVEL, default=LEVEL), comparison="second")
    found = reading.read(client, "second")
    assert found.searches["study-a"].chosen == 1
    assert trial_table.trials(client, found)["number"].tolist() == [0, 1]
    assert len(found.runs) == 12, "no trial among them"
    whole = reading.read(client, "test")
    assert whole.searches["study-a"].chosen == 1, "the later comparison wins"
    made = report.make(client, "second")
    assert made.tunings["toy"].budget["trials"].tolist() == [2]


def test_a_comparison_without_a_search_has_none(store):
    tell(store.client, "plain")
    record(store.client, *(Made(loss, s, 1.0) for loss in "ab" for s in range(6)), comparison="plain")
    made = report.make(store.client, "plain")
    assert (made.records.searches, made.tunings) == ({}, {})


# arms


def tuned(**changed):
    runs = [*arms("a", tuned=LEVEL, default=up(2), matched=up(1)), *arms("b", tuned=up(1), default=up(0.5))]
    return records(*runs, **{"searches": [searched("a"), searched("b")], **changed})


def test_a_verdict_is_on_tuned_runs_alone():
    found = judge(tuned().main)
    assert found.values["a"].tolist() == LEVEL
    assert found.values["b"].tolist() == up(1)
    assert set(found.runs["arm"]) == {"tuned"}
    assert list(found.chosen.values()) == ["a", "b"], "arms are no settings"


def test_without_tuned_runs_a_verdict_is_on_plain_ones_and_each_dataset_has_its_own():
    other = [Made(loss, s, 3.0, dataset="other") for loss in "ab" for s in range(6)]
    main = records(*arms("a", tuned=LEVEL), *other, Made("b", 0, 1.0)).main.runs
    assert main.groupby("dataset")["arm"].unique().map(list).to_dict() == {"other": [""], "toy": ["tuned"]}
    assert set(records(*arms("a", default=LEVEL), Made("b", 0, 1.0)).main.runs["loss"]) == {"b"}
    assert len(records(*arms("a", default=LEVEL, matched=LEVEL)).main.runs) == 6


def test_a_later_search_replaces_the_tuned_runs_of_an_earlier_one():
    old, new = arms("a", tuned=up(5)), arms("a", tuned=LEVEL)
    for k, (runs, lr) in enumerate(((old, "0.05"), (new, "0.01"))):
        for run in runs:
            run.tags["lossbench.comparison"], run.params = f"c{k}", {"optimizer.lr": lr}
    new[2].outcome, new[2].error = "diverged", None
    found = judge(records(*old, *new, *arms("b", tuned=up(1))).main)
    assert found.values["a"].dropna().tolist() == [1.0, 2.0, 4.0, 5.0, 6.0], "no run of the earlier choice stands in"
    assert found.failed.loc["2", "a"]


def test_searches_belong_to_the_dataset_of_their_tuned_runs():
    runs = [*arms("a", tuned=LEVEL), *arms("a", "other", tuned=LEVEL)]
    for run in runs:
        run.params = {"dataset.ratio": "50" if run.tags["lossbench.study"] == "other" else "100"}
    found = records(*runs, searches=[searched("a"), searched("a", study="other")])
    assert [s.study for s in found.searched("toy ratio=50")] == ["other"]
    assert [s.study for s in found.searched("toy ratio=100")] == ["study-a"]
    assert [s.study for s in tuned().searched("toy")] == ["study-a", "study-b"]


def test_a_choice_close_below_one_has_its_place_by_what_is_missing():
    made = Search(
        **searched("a", settings={"loss.k": 0.99}, space={"loss.k": {"low": 0.9, "high": 0.999, "near_one": True}})
    )
    assert made.place("loss.k") == pytest.approx(0.5)
