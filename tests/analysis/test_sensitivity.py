"""Swept settings: which they are, the metric over each, and how many are nearly as good as the best."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.made import Made, records

from lossbench.analysis import sensitivity
from lossbench.analysis.verdict import judge

NOISE = np.random.default_rng(0).normal(0, 0.01, 8)


def runs(loss, mean, seeds=6, **changed):
    return [Made(loss, seed, mean + NOISE[seed], **changed) for seed in range(seeds)]


def swept(loss, means, key="loss.delta", objective=None):
    """A loss at settings named by the keys of `means`, whose values are the means on test."""
    return [
        run
        for value, mean in means.items()
        for run in runs(loss, mean, params={key: value}, objective=(objective or means)[value])
    ]


def over(*made, parameter="loss.delta", **asked):
    found = records(*made)
    return sensitivity.over(found, judge(found, **asked), parameter).set_index(["loss", "value"])


# what was swept


@pytest.mark.parametrize("key", ["loss.delta", "optimizer.lr", "train.steps", "model.widths", "model"])
def test_a_setting_that_one_loss_was_tried_at_twice_was_swept(key):
    made = records(*runs("a", 1.0, params={key: "1"}), *runs("a", 1.0, params={key: "2"}), *runs("b", 1.0))
    assert sensitivity.swept(made) == [key]


@pytest.mark.parametrize(
    "key",
    ["seed", "dataset.seed", "experiment_name", "tracking.uri", "loss._target_", "model._target_", "dataset.ratio"],
)
def test_seeds_data_and_names_were_not(key):
    made = records(*runs("a", 1.0, params={key: "1"}), *runs("a", 1.0, params={key: "2"}))
    assert sensitivity.swept(made) == []


def test_a_setting_that_differs_between_losses_only_was_not():
    made = records(*runs("a", 1.0, params={"optimizer.lr": "1"}), *runs("b", 1.0, params={"optimizer.lr": "2"}))
    assert sensitivity.swept(made) == []
    assert sensitivity.swept(records(*runs("a", 1.0), *runs("b", 1.0, params={"loss.delta": "2"}))) == []


# the metric over it


def test_each_value_has_the_mean_of_its_runs_on_test():
    found = over(*swept("a", {"1": 3.0, "2": 1.0}), *runs("b", 5.0, params={"loss.delta": "9"}))
    assert found["mean"].to_dict() == pytest.approx(
        {("a", "1"): 3 + NOISE[:6].mean(), ("a", "2"): 1 + NOISE[:6].mean(), ("b", "9"): 5 + NOISE[:6].mean()}
    )
    assert ((found["low"] < found["mean"]) & (found["mean"] < found["high"])).all()
    half = 2.571 * NOISE[:6].std(ddof=1) / np.sqrt(6)  # Student's, which the bootstrap's is like
    assert (found["high"] - found["low"]).to_list() == pytest.approx([2 * half] * 3, rel=0.5)


def test_runs_that_do_not_count_are_left_out():
    made = [*swept("a", {"1": 3.0, "2": 1.0}), *runs("b", 5.0)]
    made[0].outcome, made[0].error = "killed", 1000.0
    made.append(Made("a", 1, 4.0, params={"loss.delta": "1"}))  # repeats one, and counts in its stead
    found = over(*made)
    assert list(found.index) == [("a", "1"), ("a", "2")] or list(found.index) == [("a", "2"), ("a", "1")]
    assert found.loc[("a", "1"), "mean"] == pytest.approx((4.0 + sum(3 + NOISE[2:6])) / 5)


@pytest.mark.parametrize(("arrow", "rate"), [("↓", "good"), ("↑", "bad")])
def test_of_other_settings_validation_chooses_for_each_value(arrow, rate):
    """On test the other rate is better, so that choosing there would be seen."""
    on_test, on_validation = {"good": 2.0, "bad": 1.0}, {"good": 1.0, "bad": 2.0}
    made = [
        run
        for delta in "12"
        for name in ("good", "bad")
        for run in runs(
            "a", on_test[name], params={"loss.delta": delta, "optimizer.lr": name}, objective=on_validation[name]
        )
    ]
    found = records(*made, *runs("b", 9.0), metrics=[("error", arrow, ""), ("score", "↑", "")])
    table = sensitivity.over(found, judge(found), "loss.delta")
    assert table["mean"].to_list() == pytest.approx([on_test[rate] + NOISE[:6].mean()] * 2)


def test_a_setting_that_validation_never_saw_is_not_chosen():
    made = [
        *runs("a", 1.0, params={"loss.delta": "1", "optimizer.lr": "unseen"}),
        *runs("a", 2.0, params={"loss.delta": "1", "optimizer.lr": "seen"}, objective=5.0),
        *runs("a", 3.0, params={"loss.delta": "2", "optimizer.lr": "unseen"}),
    ]
    found = over(*made, *runs("b", 9.0))
    assert found.loc[("a", "1"), "mean"] == pytest.approx(2 + NOISE[:6].mean())
    assert found.loc[("a", "2"), "mean"] == pytest.approx(3 + NOISE[:6].mean())


def test_the_metric_that_was_asked_for_is_shown():
    made = swept("a", {"1": 3.0, "2": 1.0})
    for place, run in enumerate(made):
        run.metrics["test/score"] = float(place)
    assert over(*made, primary="score")["mean"].to_list() == pytest.approx([2.5, 8.5])


def test_nothing_finished_is_an_empty_table():
    found = over(*(Made("a", 0, None, "failed", params={"loss.delta": d}) for d in "12"), *runs("b", 1.0))
    assert found.empty


# over data


def test_a_swept_setting_of_the_data_has_a_line_a_loss_over_its_datasets():
    made = [
        run
        for ratio, mean in (("10", 1.0), ("100", 2.0))
        for loss, more in (("a", 0.0), ("b", 0.5))
        for run in runs(loss, mean + more, params={"dataset.ratio": ratio})
    ]
    found = records(*made)
    assert [name for name, _ in found.by_dataset()] == ["toy ratio=10", "toy ratio=100"]
    assert sensitivity.swept(found) == []
    (table,) = sensitivity.over_data(found, [judge(part) for _, part in found.by_dataset()]).values()
    means = table.set_index(["loss", "value"])["mean"] - NOISE[:6].mean()
    assert means.to_dict() == pytest.approx({("a", "10"): 1, ("b", "10"): 1.5, ("a", "100"): 2, ("b", "100"): 2.5})
    assert (table["low"] < table["high"]).all()


def test_settings_of_the_data_that_were_swept_together_have_no_one_line():
    made = records(
        *(
            run
            for ratio in "12"
            for noise in "34"
            for run in runs("a", 1.0, params={"dataset.ratio": ratio, "dataset.noise": noise})
        )
    )
    verdicts = [judge(part) for _, part in made.by_dataset()]
    assert len(verdicts) == 4
    assert sensitivity.over_data(made, verdicts) == {}
    one = records(*runs("a", 1.0, params={"dataset.ratio": "1"}))
    assert sensitivity.over_data(one, [judge(one)]) == {}


# nearly as good as the best


def test_settings_near_the_best_are_counted_for_each_loss():
    at_a = {"1": 2.0, "2": 2.09, "3": 2.2, "4": 9.0}
    at_b = {"5": 1.0, "6": 1.06, "7": 3.0}
    made = records(*swept("a", at_a), *swept("b", at_b))
    losses = made.runs.drop_duplicates("label").set_index("label")["loss"]
    found = sensitivity.near_best(judge(made), losses).set_index("loss")
    assert found["settings"].to_dict() == {"a": 4, "b": 3}
    assert found["near its best"].to_dict() == pytest.approx({"a": 1 / 2, "b": 1 / 3})
    assert found["near the best"].to_dict() == pytest.approx({"a": 0, "b": 1 / 3})


def test_near_the_best_is_below_it_where_higher_is_better_and_below_zero_too():
    made = records(
        *swept("a", {"1": 1.0, "2": 0.96, "3": 0.94}),
        *swept("b", {"1": 0.97, "2": 0.5}),
        metrics=[("error", "↑", "")],
    )
    losses = made.runs.drop_duplicates("label").set_index("label")["loss"]
    found = sensitivity.near_best(judge(made), losses).set_index("loss")
    assert found["near its best"].to_dict() == pytest.approx({"a": 2 / 3, "b": 1 / 2})
    assert found["near the best"].to_dict() == pytest.approx({"a": 2 / 3, "b": 1 / 2})
    below = records(*swept("a", {"1": -2.0, "2": -1.95, "3": -1.8}), *runs("b", 0.0))
    losses = below.runs.drop_duplicates("label").set_index("label")["loss"]
    assert sensitivity.near_best(judge(below), losses).set_index("loss")["near its best"]["a"] == pytest.approx(2 / 3)


def test_a_setting_without_a_result_is_tried_and_near_nothing():
    made = records(
        *swept("a", {"1": 1.0}), *(Made("a", s, None, "failed", params={"loss.delta": "2"}) for s in range(3))
    )
    losses = made.runs.drop_duplicates("label").set_index("label")["loss"]
    (row,) = sensitivity.near_best(judge(made), losses).to_dict("records")
    assert row == {"loss": "a", "settings": 2, "near its best": 0.5, "near the best": 0.5}
