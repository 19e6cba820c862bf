"""Whether a comparison was fair: what must not be mixed, what differed, and one loss under two names."""

from __future__ import annotations

import json

import pytest
import torch
from analysis.made import Made, arms, compared, record, records, searched

from lossbench.analysis import answer, report, verdict
from lossbench.analysis.fairness import refuse_mixed, remarks
from lossbench.core import ConfigError, DatasetInfo, Split
from lossbench.losses import bce, cross_entropy, focal, hinge, huber, label_smoothing, mae, mse, squared_hinge
from lossbench.runs import builders, cross_loss


def runs(losses="ab", seeds=4, **changed):
    return [Made(loss, seed, 1.0, **changed) for loss in losses for seed in range(seeds)]


def about(found, what):
    """The texts on one matter, and whether each is a concern."""
    return [(remark.text, remark.concern) for remark in remarks(found) if remark.about == what]


# what must not be mixed


def two_codes():
    return records(*runs("a"), *runs("b", tags={"lossbench.code": "0dd"}))


def two_data_under_a_seed():
    return records(*runs("a"), *runs("b", tags={"lossbench.data": "other bytes"}))


def two_sources():
    return records(*runs("a", source="https://here"), *runs("b", source="https://there"))


def two_weights_under_a_seed():
    ours, theirs = ({"lossbench.weights": weights} for weights in ("ab12", "cd34"))
    return records(*runs("a", tags=ours), *runs("b", tags=theirs))


MIXED = {
    two_codes: "2 revisions",
    two_data_under_a_seed: "differ between runs of one seed",
    two_sources: "2 sources",
    two_weights_under_a_seed: "initial weights on toy differ",
}


@pytest.mark.parametrize("mixed", MIXED)
def test_what_is_mixed_is_refused_and_otherwise_a_concern(mixed):
    with pytest.raises(ConfigError, match=MIXED[mixed]) as refused:
        refuse_mixed(mixed())
    assert "--allow-mixed" in str(refused.value)
    ((text, concern),) = about(mixed(), "mixed")
    assert MIXED[mixed] in text
    assert concern
    assert remarks(mixed())[0].about == "mixed", "concerns come first"


def test_what_is_mixed_is_named():
    assert "0dd" in about(two_codes(), "mixed")[0][0]
    assert "c0de" in about(two_codes(), "mixed")[0][0]
    assert "toy" in about(two_data_under_a_seed(), "mixed")[0][0]
    assert "https://here; https://there" in about(two_sources(), "mixed")[0][0]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tags": {"lossbench.data": "the same for all"}},
        {"tags": {"lossbench.data": None, "lossbench.code": None}},
        {"source": "https://here"},
        {"tags": {"lossbench.weights": "the same for all"}},
    ],
)
def test_one_comparison_is_not_mixed(changed):
    made = records(*runs(**changed))
    refuse_mixed(made)
    assert about(made, "mixed") == []


def test_only_runs_that_shared_data_and_weights_are_called_paired():
    told = {
        mixed: answer.sentence(verdict.judge(made))
        for mixed, made in {
            "weights": records(*several("ab12", "cd34")),
            "none": records(*several("ab12", "ab12")),
        }.items()
    }
    assert "paired seeds" in told["none"]
    assert "not paired" in told["weights"]
    assert "paired seeds" not in told["weights"]


def several(*weights):
    """Two losses on eight seeds, the second a little worse."""
    return [
        Made(loss, seed, 1.0 + number + 0.01 * seed, tags={"lossbench.weights": hashed})
        for number, (loss, hashed) in enumerate(zip("ab", weights, strict=True))
        for seed in range(8)
    ]


def test_models_of_other_settings_start_elsewhere():
    made = [
        Made("a", seed, 1.0, params={"model.hidden": width}, tags={"lossbench.weights": f"{width} {seed}"})
        for width in ("[8]", "[16]")
        for seed in range(3)
    ]
    assert about(records(*made), "mixed") == []


def test_seeds_and_datasets_have_data_of_their_own():
    other = runs(dataset="other", source="https://there")
    for run in other:
        run.tags["lossbench.data"] = f"other {run.seed}"
    refuse_mixed(records(*runs(source="https://here"), *other))


def test_data_may_differ_under_one_seed_where_they_have_a_seed_of_their_own():
    made = [
        Made(loss, 0, 1.0, params={"dataset.seed": str(s)}, tags={"lossbench.data": f"data {s}"})
        for loss in "ab"
        for s in range(3)
    ]
    refuse_mixed(records(*made))


def test_runs_that_recorded_nothing_are_mixed_with_none():
    nothing = {"lossbench.code": None, "lossbench.data": None}
    refuse_mixed(records(*runs("a", source="https://here"), *runs("b", tags=nothing)))


def test_a_report_on_mixed_runs_must_be_asked_for(store):
    record(store.client, *runs("a"), *runs("b", tags={"lossbench.code": "0dd"}))
    with pytest.raises(ConfigError, match="report test: 2 revisions of the code"):
        report.make(store.client, "test")
    made = report.make(store.client, "test", allow_mixed=True)
    assert made.remarks[0].concern
    assert "2 revisions" in made.remarks[0].text


# settings


def test_a_setting_that_differs_between_losses_is_a_concern():
    made = records(*runs("a", params={"train.steps": "10"}), *runs("b", params={"train.steps": "20"}))
    ((text, concern),) = about(made, "settings")
    assert concern
    assert "train.steps" in text
    assert "a: 10; b: 20" in text


def test_a_setting_that_one_loss_alone_was_tried_with_is_a_concern():
    made = records(*runs("ab", params={"optimizer.lr": "0.1"}), *runs("b", params={"optimizer.lr": "1"}))
    ((text, concern),) = about(made, "settings")
    assert concern
    assert "a: 0.1; b: 0.1, 1" in text


def test_a_setting_that_all_losses_were_swept_over_is_none():
    made = records(*(run for rate in "98765432" for run in runs(params={"optimizer.lr": rate})))
    (swept, swept_concern), (clean, clean_concern) = about(made, "settings")
    assert "optimizer.lr took 2, 3, 4, 5, 6, 7 and 2 more for every loss" in swept
    assert "same settings" in clean
    assert not swept_concern
    assert not clean_concern


@pytest.mark.parametrize(
    "key", ["loss.delta", "loss._target_", "tracking.uri", "experiment_name", "seed", "dataset.seed"]
)
def test_what_a_loss_owns_or_a_run_is_told_apart_by_is_no_difference(key):
    made = records(*(Made(loss, seed, 1.0, params={key: f"{loss}{seed}"}) for loss in "ab" for seed in range(3)))
    assert [concern for _, concern in about(made, "settings")] == [False]
    assert "same settings" in about(made, "settings")[0][0]


def test_datasets_may_have_settings_of_their_own():
    made = records(*runs(params={"train.steps": "10"}), *runs(dataset="other", params={"train.steps": "20"}))
    assert [concern for _, concern in about(made, "settings")] == [False]


def tuned(*searches):
    """Two losses at rates of their own, and each default."""
    made = [run for loss in "ab" for run in arms(loss, tuned=[1.0] * 3, default=[1.0] * 3)]
    for run in made:
        if run.tags["lossbench.arm"] == "tuned":
            run.params = {"optimizer.lr": "0.1" if run.loss == "a" else "0.2"}
    return records(*made, searches=searches).main


def test_what_was_searched_for_every_loss_may_differ():
    ((text, concern),) = about(tuned(searched("a"), searched("b")), "settings")
    assert text == "apart from the loss and what was searched, every loss was trained with the same settings"
    assert not concern
    assert about(tuned(searched("a"), searched("b")), "budget") == []


def test_what_was_searched_for_one_loss_alone_may_not():
    ((text, concern),) = about(tuned(searched("a"), searched("b", space={})), "settings")
    assert concern
    assert "optimizer.lr differs" in text


# budgets


def test_more_settings_for_one_loss_are_a_concern():
    made = records(*runs("a", params={"loss.delta": "1"}), *runs("a", params={"loss.delta": "2"}), *runs("b"))
    ((text, concern),) = about(made, "budget")
    assert concern
    assert "a 2, b 1" in text


def test_as_many_settings_for_each_loss_are_told():
    made = records(*(run for delta in "123" for run in runs(params={"loss.delta": delta})))
    ((text, concern),) = about(made, "budget")
    assert "3 settings" in text
    assert not concern


def test_more_seeds_for_one_loss_are_a_concern():
    ((text, concern),) = about(records(*runs("a", 4), *runs("b", 6)), "budget")
    assert concern
    assert "a 4, b 6" in text


def test_equal_budgets_are_not_mentioned():
    assert about(records(*runs()), "budget") == []


def test_runs_without_a_seed_are_counted():
    made = records(*runs(), *(Made(loss, "", 1.0) for loss in "aab"))
    assert any("3 runs on toy record no seed" in text and concern for text, concern in about(made, "budget"))


def test_repeated_runs_are_told_and_are_no_budget():
    made = records(*runs(), *runs("a"), Made("a", 0, 1.0))
    ((text, concern),) = about(made, "repeated")
    assert text.startswith("5 runs repeat")
    assert not concern
    assert about(made, "budget") == []


# what a seed stood for


def seeded(data_seed, fingerprint):
    return records(
        *(
            Made(loss, s, 1.0, params={"dataset.seed": data_seed(s)}, tags={"lossbench.data": fingerprint(s)})
            for loss in "ab"
            for s in range(3)
        )
    )


@pytest.mark.parametrize(
    ("data_seed", "fingerprint", "stayed"),
    [
        (str, lambda s: f"data {s}", False),
        (lambda s: "0", lambda s: "the same", True),
        (str, lambda s: "the same", True),  # a dataset that takes no notice of its seed
    ],
)
def test_what_varied_from_seed_to_seed_is_told(data_seed, fingerprint, stayed):
    ((text, concern),) = about(seeded(data_seed, fingerprint), "seeds")
    assert text.startswith("initial weights" if stayed else "split or data, initial weights")
    assert ("data and split stayed the same" in text) == stayed
    assert not concern


def test_one_seed_stands_for_nothing():
    assert about(records(*runs(seeds=1)), "seeds") == []


# one loss under two names


GENERATOR = torch.Generator().manual_seed(0)
SHAPES = {"regression": (1,), "binary": (), "multiclass": (4,)}


def probe(kind, loss):
    classes = tuple("wxyz"[: {"regression": 0, "binary": 2, "multiclass": 4}[kind]])
    info = DatasetInfo("toy", kind, (3,), (1,), "nowhere", "none", "ab", classes, (1,) * len(classes))
    targets = {
        "regression": torch.linspace(-3, 3, 90)[:, None],
        "binary": torch.arange(90) % 2,
        "multiclass": torch.arange(90) % 4,
    }[kind]
    split = Split(torch.zeros(90, 3), targets)
    return cross_loss.probe(builders.task(kind, loss, info), SHAPES[kind], split, torch.device("cpu"))


def pulled(kind, **losses):
    """Two seeds of each loss, with its probe."""
    made = {loss: probe(kind, function) for loss, function in losses.items()}
    assert all(made.values())
    return records(*(Made(loss, s, 1.0, tags={"lossbench.probe": made[loss]}) for loss in losses for s in range(2)))


def times(loss, factor, **parameters):
    return lambda prediction, target: factor * loss(prediction, target, **parameters)


TWINS = [
    ("regression", mse, lambda z, y: huber(z, y, delta=1e6), 0.5),
    ("regression", mse, times(mse, 3.0), 3.0),
    ("regression", mae, times(mae, 1e-4), 1e-4),
    ("regression", mae, lambda z, y: mae(z, y) + 7, 1.0),
    ("regression", mae, lambda z, y: huber(z, y, delta=1e-4), 1e-4),
    ("binary", bce, lambda z, y: focal(z, y, gamma=0, alpha=0.5), 0.5),
    ("binary", bce, lambda z, y: focal(z, y, gamma=0, alpha=None), 1.0),
    ("multiclass", cross_entropy, lambda z, y: focal(z, y, gamma=0), 1.0),
    ("multiclass", cross_entropy, lambda z, y: label_smoothing(z, y, epsilon=0), 1.0),
]
STRANGERS = [
    ("regression", mse, mae),
    ("regression", mse, huber),
    ("regression", mae, huber),
    ("regression", mse, times(mse, -1.0)),
    ("regression", mse, lambda z, y: mse(z, y) + 0.1 * mae(z, y)),
    ("binary", bce, focal),
    ("binary", bce, lambda z, y: bce(z, y, pos_weight=2.0)),
    ("binary", hinge, squared_hinge),
    ("multiclass", cross_entropy, focal),
    ("multiclass", cross_entropy, label_smoothing),
]


@pytest.mark.parametrize(("kind", "one", "other", "factor"), TWINS)
def test_losses_that_pull_alike_are_found_with_their_factor(kind, one, other, factor):
    ((text, concern),) = about(pulled(kind, one=one, other=other), "same loss")
    assert concern
    assert "one" in text
    assert "gradient of other is" in text
    (told,) = (float(word) for word in text.split() if word.replace(".", "").replace("e-", "").isdigit())
    assert told == pytest.approx(factor, rel=1e-3)


@pytest.mark.parametrize(("kind", "one", "other"), STRANGERS)
def test_losses_that_pull_otherwise_are_not(kind, one, other):
    assert about(pulled(kind, one=one, other=other), "same loss") == []


def test_every_pair_of_three_alike_is_told():
    found = pulled("regression", one=mse, two=times(mse, 2.0), three=times(mse, 3.0), mae=mae)
    assert len(about(found, "same loss")) == 3


def test_the_settings_of_a_loss_are_compared_too_and_those_of_the_optimizer_are_not():
    same, other = probe("regression", mse), probe("regression", mae)
    swept = [
        Made(loss, 0, 1.0, params={"optimizer.lr": rate}, tags={"lossbench.probe": pull})
        for rate in "12"
        for loss, pull in (("a", same), ("b", other))
    ]
    assert about(records(*swept), "same loss") == []
    settings = [Made("a", 0, 1.0, params={"loss.delta": d}, tags={"lossbench.probe": same}) for d in "12"]
    ((text, _),) = about(records(*settings), "same loss")
    assert "delta=1" in text
    assert "delta=2" in text


def test_runs_without_a_probe_are_like_none():
    made = [Made("a", 0, 1.0), Made("b", 0, 1.0), Made("c", 0, 1.0, tags={"lossbench.probe": probe("regression", mse)})]
    assert about(records(*made), "same loss") == []


def test_probes_of_other_data_or_seeds_are_not_compared():
    pull = probe("regression", mse)
    apart = [Made("a", 0, 1.0, tags={"lossbench.probe": pull}), Made("b", 1, 1.0, tags={"lossbench.probe": pull})]
    assert about(records(*apart), "same loss") == []
    apart[1].seed, apart[1].dataset = 0, "other"
    assert about(records(*apart), "same loss") == []


@pytest.mark.parametrize("gradient", [[0.0, 0.0], [1.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_gradients_that_say_nothing_are_like_none(gradient):
    made = [Made("a", 0, 1.0, tags={"lossbench.probe": json.dumps({"gradient": [1.0, 0.0]})})]
    made.append(Made("b", 0, 1.0, tags={"lossbench.probe": json.dumps({"gradient": gradient})}))
    for order in (made, made[::-1]):
        assert about(records(*order), "same loss") == []


def test_a_plain_comparison_has_nothing_to_beware_of():
    made = compared(a=[1.0, 2.0, 3.0], b=[2.0, 3.0, 4.0])
    assert [remark.about for remark in remarks(made)] == ["settings", "seeds"]
    assert not any(remark.concern for remark in remarks(made))


def test_runs_that_the_machine_ended_are_told_and_blamed_on_no_loss():
    made = records(*runs("ab", 4), Made("a", 4, outcome="error"), Made("b", 4, 1.0), Made("a", 5, outcome="failed"))
    (remark,) = [one for one in remarks(made) if one.about == "missing"]
    assert remark.concern
    assert "ended runs on toy, which are missing (a 1)" in remark.text


def test_remarks_of_runs_are_told_once_a_loss():
    said = {"lossbench.remarks": '["the picture x could not be drawn: ZeroDivisionError"]'}
    made = records(*runs("b", 4), Made("a", 0, 1.0, tags=said), Made("a", 1, 2.0, tags=said))
    told = [one.text for one in remarks(made) if one.about == "pictures"]
    assert told == ["the picture x could not be drawn: ZeroDivisionError (a, 2 runs)"]


def test_a_run_that_was_killed_before_it_wrote_its_params_brings_no_concern_about_settings():
    made = records(*runs("ab", 4), Made("a", 4, outcome="running", params=None), Made("b", 4, 1.0))
    assert [concern for _, concern in about(made, "settings")] == [False]
    assert len(list(made.by_dataset())) == 1
