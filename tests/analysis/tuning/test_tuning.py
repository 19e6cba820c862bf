"""What equal tuning changed: gains seed by seed, differences that survive or not, searches that chose nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from analysis.made import RATES, arms, entities, records, searched, trial
from rich.console import Console
from scipy.stats import permutation_test

from lossbench import terminal
from lossbench.analysis import report, tables
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import charts, gains, importances, remarks, trial_table

HARD = np.random.default_rng(0).normal(0, 1, 8)
NOISE = np.random.default_rng(1).normal(0, 0.02, (26, 8))


def errors(mean, stream=0):
    return list(mean + HARD + NOISE[stream])


def studied(losses, trials=None, primary=None, metrics=None, **changed):
    """What is said of losses with an error default and one tuned each; three trials a loss unless others are given."""
    runs, told, made = [], [], []
    for n, (loss, ends) in enumerate(losses.items()):
        names = ("default", "tuned", "matched")[: len(ends)]
        runs += arms(
            loss, **{arm: errors(end, 3 * n + k) for k, (arm, end) in enumerate(zip(names, ends, strict=True))}
        )
        told.append(searched(loss, **changed.get(loss, {})))
        mine = (trials or {}).get(
            loss, [trial(loss, k, ends[1] + k / 10, optimizer__lr=0.01 + k / 100) for k in range(3)]
        )
        made.append(trial_table.table(Search(**told[-1]), entities(mine)))
    found = records(*runs, searches=told, **({"metrics": metrics} if metrics else {}))
    return gains.study(found, pd.concat(made, ignore_index=True), primary)


def arm(found, loss):
    return found.arms.set_index("loss").loc[loss]


def said(found):
    return [(remark.text, remark.concern) for remark in remarks.remarks(found)]


def concerns(found):
    return " | ".join(text for text, concern in said(found) if concern)


# tuned against default settings


def test_a_gain_is_the_mean_over_seeds_with_the_p_of_its_sign_flips():
    row = arm(studied({"a": (2.0, 1.99), "b": (3.0, 3.0)}), "a")
    tuned, default = np.array(errors(1.99, 1)), np.array(errors(2.0, 0))
    assert (row["default"], row["tuned"]) == (pytest.approx(default.mean()), pytest.approx(tuned.mean()))
    assert row["difference"] == pytest.approx((tuned - default).mean())
    test = permutation_test((tuned, default), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=999)
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["low"] < row["difference"] < row["high"]


def test_p_is_corrected_over_losses_as_holm_does():
    found = studied({"a": (2.0, 1.0), "b": (2.0, 2.0), "c": (2.0, 1.0)}).arms
    order = found.sort_values("p", kind="stable")
    by_hand = np.maximum.accumulate([min(1, p * (3 - k)) for k, p in enumerate(order["p"])])
    assert order["p_holm"].tolist() == pytest.approx(list(by_hand))
    assert not np.allclose(found["p"], found["p_holm"])


def test_ranks_and_failures_of_each_arm():
    found = studied({"a": (1.0, 2.0, 1.5), "b": (2.0, 1.0, 2.5)})
    assert arm(found, "a")[["default rank", "tuned rank", "matched rank"]].tolist() == [1, 2, 1]
    runs = [*arms("a", default=[1.0, None, *range(6)], tuned=[1.0, 2.0, *range(6)]), *arms("b", tuned=range(8))]
    found = gains.study(
        records(*runs, searches=[searched("a"), searched("b")]), pd.DataFrame(columns=trial_table.COLUMNS)
    )
    assert arm(found, "a")[["default failures", "tuned failures", "n"]].tolist() == [1, 0, 7]
    assert np.isnan(arm(found, "b")["difference"])
    assert np.isnan(arm(found, "b")["default"])


# what survives


STATES = {
    "survives": ((1.0, 2.0), (1.0, 2.0)),
    "vanishes": ((1.0, 2.0), (1.0, 1.0)),
    "reverses": ((1.0, 2.0), (2.0, 1.0)),
    "appears": ((1.0, 1.0), (1.0, 2.0)),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("turned", [False, True])
def test_what_becomes_of_a_difference(state, turned):
    (a, b), (a_tuned, b_tuned) = STATES[state]
    losses = {"a": (a, a_tuned), "b": (b, b_tuned)}
    found = studied(dict(reversed(losses.items())) if turned else losses)
    assert list(found.after_tuning.values()) == [state]


def test_a_pair_that_never_differed_has_no_state():
    assert studied({"a": (1.0, 2.0), "b": (1.0, 2.0)}).after_tuning == {}


def test_tuning_that_changes_the_answer_says_so():
    found = studied({"bce": (1.0, 0.9), "focal": (2.0, 0.9), "other": (3.0, 2.0)})
    assert found.sentence == (
        "Equal tuning (3 trials a loss, random) changes the answer: at default settings, bce is best; after tuning, "
        f"{' and '.join(found.verdicts['tuned'].best)} are indistinguishable. "
        "Of 3 significant differences at default settings, 2 survive, 1 vanishes."
    )


def test_tuning_that_changes_nothing_says_so():
    text = studied({"a": (1.0, 0.9), "b": (2.0, 1.9)}).sentence
    assert (
        "does not change the answer: a is best, before and after tuning. "
        "Of 1 significant difference at default settings, 1 survives." in text
    )


def test_differences_that_tuning_brings_are_told():
    text = studied({"a": (1.0, 0.5), "b": (1.0, 0.9)}).sentence
    assert "At default settings, no difference is significant; after tuning, 1 is." in text
    both = studied({"a": (1.0, 0.5), "b": (1.0, 0.9), "c": (2.0, 0.9)})
    assert "Of 2 significant differences at default settings, 1 survives, 1 vanishes; 1 appears." in both.sentence


def test_a_search_whose_trials_all_score_alike_is_no_gain():
    flat = [trial("a", k, 0.5, optimizer__lr=0.01 * (k + 1)) for k in range(3)]
    found = studied({"a": (2.0, 1.0), "b": (2.0, 1.5)}, {"a": flat})
    assert found.alike == ["a"]
    assert arm(found, "a")["alike"]
    assert "No trial of a was better than another: its search chose nothing." in found.sentence
    also = [trial("b", k, 0.7, optimizer__lr=0.01 * (k + 1)) for k in range(3)]
    found = studied({"a": (2.0, 1.0), "b": (2.0, 1.5)}, {"a": flat, "b": also})
    assert "changes the answer" not in found.sentence
    assert "chose nothing" in found.sentence
    assert "no trial of a was better than another" in concerns(found)


def test_unequal_searches_are_not_called_equal():
    losses, few = {"a": (2.0, 1.0), "b": (2.0, 1.5)}, {"b": [trial("b", k, 1.0 + k) for k in range(2)]}
    assert studied(losses).sentence.startswith("Equal tuning")
    assert studied(losses, few).sentence.startswith("Tuning with unequal budgets")
    assert studied(losses, b={"budget": {"trials": 4}}).sentence.startswith("Tuning with unequal budgets")
    steps = {loss: {"budget": {"steps": 30_000}} for loss in "ab"}
    assert studied(losses, few, **steps).sentence.startswith("Equal tuning (30,000 steps a loss, random)")


def test_too_few_seeds_say_nothing():
    runs = [run for loss in "ab" for run in arms(loss, tuned=[1.0, 2.0], default=[2.0, 3.0])]
    found = gains.study(records(*runs, searches=[searched(x) for x in "ab"]), pd.DataFrame(columns=trial_table.COLUMNS))
    assert "too few paired seeds" in found.sentence


def test_without_runs_at_default_settings_nothing_says_what_tuning_changed():
    runs = [*arms("a", tuned=errors(1)), *arms("b", tuned=errors(2))]
    found = gains.study(records(*runs, searches=[searched(x) for x in "ab"]), pd.DataFrame(columns=trial_table.COLUMNS))
    assert "since there are no runs at default settings" in found.sentence
    assert tables.gains(found).empty


def test_one_loss_alone_has_a_gain_and_no_pair():
    found = studied({"a": (2.0, 1.0)})
    assert "of one loss" in found.sentence
    assert arm(found, "a")["p_holm"] == pytest.approx(2 / 2**8)


# what the search cost and found


def test_the_budget_counts_every_trial_and_shares_leave_stopped_ones_out():
    mine = [
        trial("a", 0, 1.0), trial("a", 1, 1.009), trial("a", 2, 1.02), trial("a", 3, None, "diverged", steps=7),
        trial("a", 4, None, "killed", steps=50), trial("a", 5, 3.0, "pruned", steps=20),
    ]  # fmt: skip
    best = [trial("b", k, 0.5) for k in range(5)]
    row = studied({"a": (2.0, 1.0), "b": (2.0, 1.0)}, {"a": mine, "b": best}).budget.set_index("loss").loc["a"]
    assert row[["trials", "steps", "seconds", "best score"]].tolist() == [5, 377, 12.0, 1.0]
    assert row[["near its best", "near the best"]].tolist() == [2 / 5, 0]
    assert sorted(row["outcomes"].split(", ")) == ["1 diverged", "1 killed", "1 pruned", "3 finished"]


def test_the_best_trial_stands_beside_fresh_seeds():
    found = studied({"a": (2.0, 1.0), "b": (2.0, 1.5)}).budget.set_index("loss")
    assert found["best score"].to_dict() == {"a": 1.0, "b": 1.5}
    assert found.loc["a", "fresh score"] == pytest.approx(np.mean(errors(1.0, 1)))


def test_higher_may_be_better():
    up = [("error", "↑", "")]
    found = studied({"a": (1.0, 2.0), "b": (1.5, 1.6)}, metrics=up)
    assert found.budget["best score"].tolist() == [2.2, pytest.approx(1.8)]
    assert arm(found, "a")["tuned rank"] == 1
    assert "after tuning, a is best" in found.sentence


# was it fair


def test_an_equal_search_is_told_and_is_no_concern():
    settings = {loss: {"settings": {"optimizer.lr": lr}} for loss, lr in (("a", 0.0031), ("b", 0.012))}
    found = studied({"a": (2.0, 1.0), "b": (2.0, 1.0)}, **settings)
    told = "the setting optimizer.lr was searched for every loss alike (3 trials each); chosen: a 0.0031, b 0.012"
    assert said(found) == [(told, False)]


@pytest.mark.parametrize(
    ("changed", "trials", "told"),
    [
        ({"b": {"budget": {"trials": 4}}}, {}, "had different budgets (a 3 trials, b 4 trials)"),
        ({"b": {"sampler": "tpe"}}, {}, "different samplers (a random, b tpe)"),
        ({}, {"b": [trial("b", k, 1.0 + k) for k in range(2)]}, "different numbers of trials (a 3, b 2)"),
        ({}, {"b": [trial("b", k, 1.0 + k) for k in range(2)]}, "the search of b is unfinished: 2 of 3 trials"),
        ({}, {"b": [trial("b", k, 1.0 + k, steps=94) for k in range(3)]}, "numbers of steps (a 300, b 282)"),
        ({}, {"b": [trial("b", k, None, "diverged") for k in range(3)]}, "no trial of b has a score"),
        ({}, {"b": [trial("b", k, 1.0 + k, seed="3") for k in range(3)]}, "b used seeds of the final runs (3)"),
        (
            {},
            {"b": [*(trial("b", k, 1.0 + k) for k in range(3)), trial("b", 3, 1.0, "killed", steps=0)]},
            "1 trial of b was stopped",
        ),
        ({"b": {"space": {"optimizer.lr": RATES | {"high": 1.0}}}}, {}, "searched differently (a 0.0001 to 0.1 (log)"),
        ({"b": {"space": {"loss.k": RATES}, "own": ["loss.k"], "settings": {}}}, {}, "searched differently (a 0.0001"),
        ({"a": {"settings": {"optimizer.lr": 0.099}}}, {}, "optimizer.lr=0.099, chosen for a, lies at an end"),
        ({"a": {"settings": {"optimizer.lr": 1.02e-4}}}, {}, "[0.0001, 0.1]: widen it"),
    ],
)
def test_what_makes_a_search_unfair_is_a_concern(changed, trials, told):
    found = studied({"a": (2.0, 1.0), "b": (2.0, 1.0)}, trials, **changed)
    assert told in concerns(found)


def test_differences_within_reason_are_no_concern():
    close = {"b": [trial("b", k, 1.0 + k, steps=96) for k in range(3)]}
    inside = {loss: {"settings": {"optimizer.lr": 0.08}} for loss in "ab"}
    assert concerns(studied({"a": (2.0, 1.0), "b": (2.0, 1.0)}, close, **inside)) == ""


# what matters, and pictures of it


def test_the_parameter_that_matters_is_found():
    rng, made = np.random.default_rng(0), []
    space = {"optimizer.lr": RATES, "loss.k": {"choices": [1, 2, None]}, "loss.w": {"low": 0.0, "high": 1.0}}
    for k in range(40):
        rate = 10 ** rng.uniform(-4, -1)
        choice = {"loss__k": rng.choice(["1", "2", "None"]), "loss__w": rng.random()}
        made.append(trial("a", k, abs(np.log10(rate) + 2), optimizer__lr=rate, **choice))
    search = Search(**searched("a", space=space))
    trials = trial_table.table(search, entities(made))
    found = importances.importances(search, trials, False)
    assert set(found) == set(space)
    assert sum(found.values()) == pytest.approx(1)
    assert found["optimizer.lr"] > 0.8
    assert importances.importances(search, trials[:9], False) == {}
    assert importances.importances(search, trials.assign(score=1.0), False) == {}


def test_what_matters_is_what_makes_trials_good_and_not_what_makes_them_bad():
    rng, made = np.random.default_rng(0), []
    space = {"optimizer.lr": RATES, "loss.w": {"low": 0.0, "high": 1.0}}
    for k in range(60):
        rate, w = 10 ** rng.uniform(-4, -1), rng.random()
        made.append(trial("a", k, 10.0 + w if w > 0.7 else abs(np.log10(rate) + 2), optimizer__lr=rate, loss__w=w))
    search = Search(**searched("a", space=space))
    down, up = (importances.importances(search, trial_table.table(search, entities(made)), h) for h in (False, True))
    assert down["optimizer.lr"] > down["loss.w"]
    assert up["optimizer.lr"] < up["loss.w"]


def test_bands_stand_under_random_trials_alone():
    many = {x: [trial(x, k, 1 + (k * 7 % 20) / 10, optimizer__lr=0.01 + k / 1e3) for k in range(20)] for x in "ab"}
    losses = {"a": (2.0, 1.0), "b": (2.0, 1.0)}
    random, tpe = (charts.over_budget(studied(losses, many, b={"sampler": sampler})) for sampler in ("random", "tpe"))
    assert [trace.fill for trace in random.data] == ["toself", None, "toself", None]
    assert [trace.fill for trace in tpe.data] == ["toself", None, None]
    low, high = random.layout.yaxis.range
    assert all(low <= y <= high for trace in random.data for y in trace.y), "open ends are drawn to the frame"
    assert list(tpe.data[-1].y) == list(np.minimum.accumulate([1 + (k * 7 % 20) / 10 for k in range(20)]))


def test_every_trial_is_a_dot_the_chosen_one_ringed_and_failed_ones_beyond_the_worst():
    mine = [trial("a", 0, 1.0, optimizer__lr=0.01), trial("a", 1, 3.0, optimizer__lr=0.02)]
    mine.append(trial("a", 2, None, "diverged", optimizer__lr=0.09))
    figure = charts.effect(studied({"a": (2.0, 1.0)}, {"a": mine}), "optimizer.lr")
    dots, crosses = figure.data
    assert (list(dots.x), list(dots.y), list(dots.marker.line.width)) == ([0.01, 0.02], [1.0, 3.0], [3, 0])
    assert (list(crosses.x), crosses.marker.symbol) == ([0.09], "x")
    assert 3.0 < crosses.y[0] < figure.layout.yaxis.range[1]
    assert figure.layout.xaxis.type == "log"


def test_the_terminal_shows_gains_and_what_survives(capsys, monkeypatch):
    found = studied({"bce": (1.0, 0.9, 0.95), "focal": (2.0, 0.9, 1.5)})
    monkeypatch.setenv("COLUMNS", "160")
    runs = records(*arms("bce", tuned=errors(1)))
    terminal.report(report.Report(runs, [found.verdicts["tuned"]], ["said"], [], {"toy": found}))
    shown = capsys.readouterr().out
    for part in ("toy: tuned against default settings", "gradient-matched", "2 → ", "changes the answer"):
        assert part in shown
    assert shown.index("said") < shown.index("tuned against default settings") < shown.index("changes the answer")


@pytest.mark.parametrize(("width", "columns"), [(120, 7), (80, 6), (76, 5), (30, 4)])
def test_a_narrow_terminal_leaves_columns_out_rather_than_digits(width, columns):
    found = studied({"bce": (1.0, 0.9, 0.95), "focal": (2.0, 0.9, 1.5)})
    view = terminal.gains(found, Console(width=width))
    assert len(view.columns) == columns


def test_markdown_tells_what_survives_below_the_table():
    found = studied({"bce": (1.0, 0.9), "focal": (2.0, 0.9)})
    text = tables.markdown([found.verdicts["tuned"]], ["said"], {"toy": found})
    assert text.index("said") < text.index("Equal tuning (3 trials a loss, random)") < text.index("tuned − default")
    assert "\n\n| loss | default error [mm] ↓ |" in text
