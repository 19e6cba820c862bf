"""The verdict on one dataset: every run counted, none averaged that did not finish, validation chooses, test judges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from analysis.made import Made, compared, records

from lossbench.analysis import stats, tables
from lossbench.analysis.verdict import by_seed, judge
from lossbench.core import ConfigError

NOISE = np.random.default_rng(0).normal(0, 0.01, 20)


def line(found, loss):
    return found.leaderboard.set_index("loss").loc[loss]


def series(loss, mean, count=8, **changed):
    """Finished runs on so many seeds around a mean."""
    return [Made(loss, seed, mean + NOISE[seed] * (1 + len(loss)), **changed) for seed in range(count)]


# every run counts, and only finished ones are averaged


@pytest.mark.parametrize("outcome", ["diverged", "failed", "collapsed", "killed", "error", "running"])
def test_a_run_that_did_not_finish_is_counted_listed_and_never_averaged(outcome):
    runs = [*series("a", 1.0, 6), *series("b", 2.0, 6)]
    runs[2] = Made("a", 2, 1000.0, outcome)  # a number that its last finite step left
    found = judge(records(*runs))
    row = line(found, "a")
    assert (row["runs"], row["n"], row["error n"], row["failures"], row["outcomes"]) == (6, 5, 5, 1, f"1 {outcome}")
    finished = [run.error for run in runs if run.loss == "a" and run.outcome == "finished"]
    assert row["error"] == pytest.approx(np.mean(finished))
    assert row["error sd"] == pytest.approx(np.std(finished, ddof=1))
    assert np.isnan(found.values.loc["2", "a"])
    assert found.difference("a", "b")["n"] == 5
    ((_, shown),) = tables.paper([found])
    assert shown.set_index("loss").loc["a", ["n", "failures"]].tolist() == ["5", f"1 {outcome}"]


@pytest.mark.parametrize(
    ("outcome", "blamed"),
    [
        ("diverged", True),
        ("failed", True),
        ("collapsed", True),
        ("killed", False),
        ("error", False),
        ("running", False),
    ],
)
def test_a_loss_is_blamed_for_what_it_did_and_not_for_what_others_stopped(outcome, blamed):
    runs = [*series("a", 1.0, 6), *series("b", 2.0, 6), Made("a", 6, None, outcome), Made("b", 6, 2.0)]
    found = judge(records(*runs))
    assert found.failed.loc["6", "a"] == blamed
    assert found.failed.to_numpy().sum() == blamed
    assert found.ranks.loc["6"].tolist() == ([2, 1] if blamed else [pytest.approx(np.nan, nan_ok=True), 1])
    assert line(found, "a")["rank"] == pytest.approx(8 / 7 if blamed else 1)


def test_several_outcomes_are_told_apart():
    runs = [*series("a", 1.0, 5), *(Made("a", 5 + k, None, o) for k, o in enumerate(["killed", "diverged", "killed"]))]
    row = line(judge(records(*runs)), "a")
    assert (row["runs"], row["n"], row["failures"]) == (8, 5, 3)
    assert sorted(row["outcomes"].split(", ")) == ["1 diverged", "2 killed"]


def test_a_finished_run_without_the_metric_is_missing_and_no_zero():
    runs = [*series("a", 1.0), *series("b", 2.0)]
    runs[3].error = None
    found = judge(records(*runs))
    row = line(found, "a")
    assert (row["n"], row["error n"], row["failures"]) == (8, 7, 0)
    assert row["error"] == pytest.approx(np.mean([run.error for run in runs[:8] if run.error]))
    assert np.isnan(found.values.loc["3", "a"])
    assert not found.failed.to_numpy().any()
    assert found.difference("a", "b")["n"] == 7


def test_a_metric_that_no_run_has_is_missing_everywhere():
    found = judge(compared(a=[1, 2, 3, 4, 5, 6], b=[2, 3, 4, 5, 6, 7]), primary="score")
    assert found.values.shape == (6, 2)
    assert found.values.isna().to_numpy().all()
    assert found.best == []
    assert found.differences["p_all"].isna().all()


def test_runs_without_a_seed_are_counted_and_averaged_and_not_paired():
    runs = [*series("a", 1.0), *series("b", 2.0), Made("a", "", 9.0), Made("a", "", None, "diverged")]
    found = judge(records(*runs))
    row = line(found, "a")
    assert (row["runs"], row["n"], row["failures"]) == (10, 9, 1)
    assert row["error"] == pytest.approx(np.mean([run.error for run in runs[:8]] + [9.0]))
    assert list(found.values.index) == [str(seed) for seed in range(8)]
    assert found.difference("a", "b")["n"] == 8
    assert not found.failed.to_numpy().any()


def test_of_repeated_runs_the_newest_that_finished_counts():
    late = [Made("a", 0, 7.0, start=999), Made("a", 1, None, "killed", start=999)]
    found = judge(records(*series("a", 1.0), *series("b", 2.0), *late))
    assert found.values.loc["0", "a"] == 7.0
    assert found.values.loc["1", "a"] == pytest.approx(1.0, abs=0.1)
    assert (line(found, "a")["runs"], line(found, "a")["failures"]) == (8, 0)


def test_seeds_stand_in_the_order_of_their_numbers():
    found = judge(records(*(Made(loss, seed, 1.0) for loss in "ab" for seed in (10, 2, "x", 0))))
    assert list(found.values.index) == ["0", "2", "10", "x"]
    assert (found.values.index.name, found.values.columns.name) == ("seed", "loss")


def test_a_seed_on_which_no_run_finished_keeps_its_row():
    runs = records(*series("a", 1.0, 6), *series("b", 2.0, 5), Made("a", 9, None, "diverged")).runs
    wide = by_seed(runs.assign(contender=runs["loss"]), "test/error", ["b", "a"])
    assert list(wide.columns) == ["b", "a"]
    assert wide.loc["9"].isna().all()
    assert wide.count().tolist() == [5, 6]


# which setting stands for a loss


def swept(**settings):
    """A loss at two settings, `good` and `bad`, with what each has on validation and on test, beside a plain loss."""
    made = []
    for name, changed in settings.items():
        made += series("swept", changed.pop("test"), params={"loss.delta": name}, **changed)
    return [*made, *series("plain", 5.0, objective=5.0)]


def test_validation_chooses_the_setting_and_never_test():
    runs = swept(one={"test": 1.0, "objective": 4.0}, two={"test": 2.0, "objective": 3.0})
    found = judge(records(*runs))
    assert found.chosen == {"swept": "swept delta=two", "plain": "plain"}
    row = line(found, "swept")
    assert row["setting"] == "delta=two"
    assert row["error"] == pytest.approx(2.0, abs=0.1)
    assert set(found.settings["loss"]) == {"swept delta=one", "swept delta=two", "plain"}
    assert found.settings["loss"].iloc[0] == "swept delta=one", "the table of settings is by test"
    assert (found.runs["label"] != "swept delta=one").all()


def test_validation_chooses_by_the_primary_metric_whatever_is_asked_for():
    runs = swept(one={"test": 1.0, "objective": 4.0}, two={"test": 2.0, "objective": 3.0})
    for place, run in enumerate(runs):
        run.metrics["test/score"] = float(place)
    for metric in ("score", "test/score", "error"):
        assert judge(records(*runs), primary=metric).chosen["swept"] == "swept delta=two"
    up = (("score", "↑", ""), ("error", "↓", "mm"))
    assert judge(records(*runs, metrics=up), primary="error").chosen["swept"] == "swept delta=one"


@pytest.mark.parametrize(("outcome", "chosen"), [("diverged", "two"), ("failed", "two"), ("killed", "one")])
def test_a_setting_that_fails_comes_after_one_that_does_not(outcome, chosen):
    runs = swept(one={"test": 1.0, "objective": 1.0}, two={"test": 2.0, "objective": 3.0})
    runs[0].outcome, runs[0].error = outcome, None
    assert judge(records(*runs)).chosen["swept"] == f"swept delta={chosen}"


def test_the_setting_that_fails_less_often_comes_first():
    runs = swept(one={"test": 1.0, "objective": 1.0}, two={"test": 2.0, "objective": 3.0})
    for place in (0, 1, 8):
        runs[place].outcome = "diverged"
    assert judge(records(*runs)).chosen["swept"] == "swept delta=two"


def test_runs_that_did_not_finish_do_not_choose():
    runs = swept(one={"test": 1.0, "objective": 4.0}, two={"test": 2.0, "objective": 3.0})
    runs[0].outcome, runs[0].objective = "killed", -1000.0
    assert judge(records(*runs)).chosen["swept"] == "swept delta=two"


def test_a_setting_that_was_never_measured_on_validation_comes_last():
    runs = swept(one={"test": 1.0}, two={"test": 2.0, "objective": 3.0})
    assert judge(records(*runs)).chosen["swept"] == "swept delta=two"


def test_the_settings_of_one_loss_are_compared_with_each_other():
    runs = [run for run in swept(one={"test": 1.0}, two={"test": 2.0}) if run.loss == "swept"]
    found = judge(records(*runs))
    assert found.chosen == {label: label for label in ("swept delta=one", "swept delta=two")}
    assert found.best == ["swept delta=one"]
    assert found.difference("swept delta=two", "swept delta=one")["difference"] == pytest.approx(1.0)
    assert set(found.leaderboard["setting"]) == {""}


# the tables of a verdict


@pytest.mark.parametrize(("arrow", "order"), [("↓", ["a", "b", "c"]), ("↑", ["b", "a", "c"])])
def test_the_best_mean_comes_first_and_a_loss_without_one_last(arrow, order):
    runs = [*series("a", 1.0), *series("b", 2.0), *(Made("c", seed, None, "diverged") for seed in range(8))]
    found = judge(records(*runs, metrics=[("error", arrow, "")]))
    assert list(found.leaderboard["loss"]) == order
    assert found.best == [order[0]]
    assert found.best_ranked == [order[0]]
    assert found.higher_is_better == (arrow == "↑")
    assert line(found, order[0])["rank"] == 1
    improvement = found.difference("a", "b")["improvement"]
    assert improvement == (1 if arrow == "↓" else 0)


def test_a_loss_that_never_finished_is_not_among_the_best_with_failures_last():
    runs = [*series("a", 1.0, 6), *series("b", 1.0, 6), *(Made("c", seed, None, "diverged") for seed in range(6))]
    found = judge(records(*runs))
    assert found.best == ["a", "b"]
    assert found.best_ranked == ["a", "b"]


def test_another_metric_brings_its_own_direction():
    runs = [*series("a", 1.0), *series("b", 2.0)]
    for run in runs:
        run.metrics["test/score"] = run.error
    assert judge(records(*runs)).best == ["a"]
    found = judge(records(*runs), primary="score")
    assert (found.best, found.unit, found.higher_is_better) == (["b"], "score", True)
    assert judge(records(*runs)).unit == "error [mm]"
    assert found.best_ranked == ["b"]


def test_means_spreads_and_intervals_of_every_metric():
    runs = [*series("a", 1.0), *series("b", 2.0)]
    for place, run in enumerate(runs):
        run.metrics["test/score"] = float(place**2)
    board = judge(records(*runs)).leaderboard.set_index("loss")
    for loss, start in (("a", 0), ("b", 8)):
        for name, values in {
            "error": [run.error for run in runs[start : start + 8]],
            "score": [float(place**2) for place in range(start, start + 8)],
        }.items():
            row = board.loc[loss]
            assert (row[name], row[f"{name} sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
            assert row[f"{name} n"] == 8
            half = 2.365 * np.std(values, ddof=1) / np.sqrt(8)  # Student's, which the bootstrap's is like
            assert row[f"{name} high"] - row[f"{name} low"] == pytest.approx(2 * half, rel=0.4)
            assert row[f"{name} low"] < row[name] < row[f"{name} high"]


def test_costs_are_medians_and_a_loss_says_how_many_numbers_it_learns():
    runs = series("a", 1.0, 5)
    for run, ms in zip(runs, [1.0, 2.0, 3.0, 4.0, 100.0], strict=True):
        run.metrics |= {"time/step_ms": ms}
        run.tags["lossbench.loss_parameters"] = "7"
    row = line(judge(records(*runs)), "a")
    assert (row["ms a step"], row["own parameters"]) == (3.0, 7)
    assert np.isnan(row["peak memory, MB"])


def test_differences_are_those_of_the_paired_values():
    found = judge(compared(a=[1, 2, 3, 4, 5, 6.5], b=[2, 2, 5, 4, 7, 6], c=[0, 0, 0, 0, 0, 1]))
    random = np.random.default_rng(0)
    expected = stats.differences(found.values, random, higher_is_better=False, margin=found.margin)
    pd.testing.assert_frame_equal(found.differences, expected)
    assert list(found.values.columns) == ["a", "b", "c"]
    ranked = stats.differences(found.ranks, np.random.default_rng(0), higher_is_better=False)
    pd.testing.assert_frame_equal(found.ranked, ranked)


def test_a_pair_turned_round_has_the_opposite_sign_and_the_same_p():
    found = judge(compared(a=[1, 2, 3, 4, 5, 6.5, 9], b=[2, 2, 5, 4, 7, 6, 1]))
    one, other = found.difference("a", "b"), found.difference("b", "a")
    assert (other["a"], other["b"]) == ("b", "a")
    assert other["difference"] == -one["difference"] != 0
    assert (other["low"], other["high"]) == (-one["high"], -one["low"])
    assert other["improvement"] == pytest.approx(1 - one["improvement"])
    same = ["n", "p", "p_holm", "p_all", "detectable"]
    assert list(other[same]) == list(one[same])
    assert one["difference"] == pytest.approx(np.mean([-1, 0, -2, 0, -2, 0.5, 8]))
    assert found.difference("a", "b").equals(one), "asking changed the table"


def test_the_first_loss_is_the_baseline_unless_another_is_named():
    made = compared(b=[1, 2, 3, 4, 5, 6], a=[2, 3, 4, 5, 6, 9], c=[5, 5, 5, 5, 5, 6])
    found = judge(made)
    assert found.baseline == "b"
    assert list(found.against("b").index) == ["a", "c"]
    assert found.against("b").loc["a", "difference"] == pytest.approx(8 / 6)
    other = judge(made, baseline="a")
    assert other.baseline == "a"
    assert other.against("a").loc["b", "difference"] == pytest.approx(-8 / 6)
    assert other.against("a").loc["b", "p_all"] == found.against("b").loc["a", "p_all"]


def test_the_same_records_give_the_same_verdict():
    rng = np.random.default_rng(1)
    made = compared(**{loss: list(rng.standard_normal(17)) for loss in "abc"})  # beyond exact flips
    one, other = judge(made), judge(made)
    pd.testing.assert_frame_equal(one.differences, other.differences)
    pd.testing.assert_frame_equal(one.leaderboard, other.leaderboard)


# what is refused


def test_what_these_records_do_not_have_is_refused():
    made = compared(a=[1, 2], b=[2, 3])
    with pytest.raises(ConfigError, match=r"--metric nonsense: no metric of toy; there are error, score"):
        judge(made, primary="nonsense")
    with pytest.raises(ConfigError, match=r"--baseline z: was not compared on toy; there are a, b"):
        judge(made, baseline="z")
    with pytest.raises(ConfigError, match="toy name no metrics"):
        judge(records(Made("a", 0), metrics=[]))


# ranges


@pytest.mark.parametrize(("ends", "stays"), [("[0, 1]", True), ("[null, null]", False), (None, False)])
def test_an_interval_stays_in_the_range_that_the_records_tell(ends, stays):
    values = [0.99, 0.999, 0.998, 0.96, 1.0, 0.92]
    tags = {} if ends is None else {"lossbench.ranges": f'{{"error": {ends}}}'}
    found = judge(records(*(Made(loss, seed, v, tags=tags) for seed, v in enumerate(values) for loss in "ab")))
    assert (line(found, "a")["error high"] <= 1) == stays
    assert found.range == ((0, 1) if stays else (-np.inf, np.inf))
