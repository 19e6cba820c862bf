"""Metrics with weights: a weight of w is a row that is there w times; who takes weights, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import runs
from sklearn import metrics as reference

from lossbench.config.task_types import takes_weights
from lossbench.core import ConfigError, DatasetInfo, Metric, Split, Splits, metric
from lossbench.datasets import assemble, check
from lossbench.losses import bce, cross_entropy, mse
from lossbench.metrics import weighted_median
from lossbench.runs import predictions
from lossbench.runs.builders.training import check_for_task
from lossbench.tasks import Binary, Multiclass, Regression
from lossbench.tasks.choosing import guarded, with_metrics

N = 120


def info(task_type, classes=0, outputs=1):
    names = tuple(f"class {k}" for k in range(classes))
    shape = (outputs,) if task_type == "regression" else ()
    return DatasetInfo("toy", task_type, (4,), shape, "", "", "", names, (1,) * classes, center=3.0, scale=2.0)


def example(task):
    random = torch.Generator().manual_seed(0)
    if isinstance(task, Regression):
        shape = (N, task.info.targets[0])
        truth = torch.randn(shape, generator=random, dtype=torch.float64)
        return truth + torch.randn(shape, generator=random, dtype=torch.float64), truth
    classes = len(task.info.classes)
    y = torch.randint(0, classes, (N,), generator=random)
    if isinstance(task, Binary):
        return (torch.randn(N, generator=random) + 2 * y - 1).double(), y
    return (torch.randn(N, classes, generator=random) + 2 * torch.eye(classes)[y]).double(), y


TASKS = {
    "regression": Regression(mse, info("regression")),
    "several": Regression(mse, info("regression", outputs=3)),
    "binary": Binary(bce, info("binary", 2)),
    "multiclass": Multiclass(cross_entropy, info("multiclass", 4)),
}
EACH = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def counts(seed=1, n=N):
    return torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(seed))


def all_of(task, outputs, targets, **weights):
    """Everything that a task measures and fits; temperatures are found to five digits."""
    calibration = task.calibrate(outputs, targets, **weights)
    fixed = {"threshold": 0.2, "temperature": 1.7}
    return {
        **task.measure(outputs, targets, **weights),
        **{f"reported {name}": value for name, value in task.report(outputs, targets, fixed, **weights).items()},
        **{f"tuned {name}": value for name, value in task.measure_tuned(outputs, targets, fixed, **weights).items()},
    }, calibration


@EACH
@pytest.mark.parametrize("form", [torch.float32, torch.float64], ids=["single", "double"])
def test_whole_weights_repeat_rows(task, form):
    outputs, targets = example(task)
    often = counts()
    rows = torch.arange(N).repeat_interleave(often)
    found, calibrated = all_of(task, outputs, targets, weights=(often / often.double().mean()).to(form))
    expected, fitted = all_of(task, outputs[rows], targets[rows])
    assert found == pytest.approx(expected, rel=1e-6)
    assert calibrated == pytest.approx(fitted, rel=1e-4)
    assert found != pytest.approx(all_of(task, outputs, targets)[0], rel=1e-3)


@EACH
def test_weights_of_one_are_none(task):
    outputs, targets = example(task)
    found, calibrated = all_of(task, outputs, targets, weights=torch.ones(N))
    expected, fitted = all_of(task, outputs, targets)
    assert found == pytest.approx(expected, rel=1e-12)
    assert calibrated == pytest.approx(fitted, rel=1e-6)


@EACH
def test_a_class_or_row_without_weight_is_as_if_it_were_not_there(task):
    outputs, targets = example(task)
    labels = targets if targets.dim() == 1 else (targets[:, 0] > 0).long()
    there = labels != 1
    found, calibrated = all_of(task, outputs, targets, weights=3 * there.double())
    expected, fitted = all_of(task, outputs[there], targets[there])
    assert found == pytest.approx(expected, rel=1e-9)
    assert calibrated == pytest.approx(fitted, rel=1e-4)


def test_errors_are_scikit_learns_by_any_weights():
    outputs, targets = example(TASKS["several"])
    weights = torch.rand(N, generator=torch.Generator().manual_seed(2))
    w, guess, truth = weights.numpy(), 3 + 2 * outputs.numpy(), 3 + 2 * targets.numpy()
    found = TASKS["several"].measure(outputs, targets, weights=weights)
    assert found == pytest.approx(
        {
            "mae": reference.mean_absolute_error(truth, guess, sample_weight=w),
            "rmse": reference.root_mean_squared_error(truth, guess, sample_weight=w),
            "median_ae": reference.median_absolute_error(truth, guess, sample_weight=w),
            "r2": reference.r2_score(truth, guess, sample_weight=w),
        }
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 4)), min_size=1, max_size=12), st.floats(0.01, 100))
def test_a_weighted_median_is_that_of_repeated_values(pairs, factor):
    values, often = (np.array(column) for column in zip(*pairs, strict=True))
    found = weighted_median(values[:, None].astype(float), np.float32(often * factor).astype(float))
    assert found.tolist() == [np.median(np.repeat(values, often))]


def test_equal_targets_have_no_variance_to_explain():
    for seed in range(9):
        constant, weights = (
            torch.full((9, 1), 0.1 + seed, dtype=torch.float64),
            torch.rand(9, generator=torch.Generator().manual_seed(seed)),
        )
        assert TASKS["regression"].measure(constant, constant, weights=weights)["r2"] == 1
        assert TASKS["regression"].measure(constant + 1, constant, weights=weights)["r2"] == 0


def test_examples_are_left_out_with_their_weights():
    task, weights, part = TASKS["binary"], counts().double(), torch.arange(N) % 7
    outputs, targets = example(task)
    calibration = task.calibrate(outputs, targets, weights=weights)
    found = json.loads(predictions.left_out(task, outputs, Split(outputs, targets, weights=weights), part, calibration))
    for number in range(7):
        rows = part != number
        expected = task.measure(outputs[rows], targets[rows], weights=weights[rows])
        assert {name: values[number] for name, values in found.items()} == pytest.approx(expected, rel=1e-8)


def test_saved_predictions_have_their_weights():
    split = Split(torch.zeros(5, 2), torch.arange(5), weights=torch.arange(5) / 2)
    saved = np.load(io.BytesIO(predictions.packed({"weights": torch.zeros(5)}, split)))
    assert saved["weights"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert saved["outputs.weights"].tolist() == [0] * 5


# Metrics and tasks of somebody's own


@metric("weighted share of positives", higher_is_better=True)
def positives(outputs, targets, *, weights=None):
    share = (outputs > 0).double()
    weights = torch.ones(len(share)) if weights is None else weights
    return (share[:, 0] * weights).sum() / weights.sum()


@metric("share of positives", higher_is_better=True)
def unweighted_positives(outputs, targets):
    return (outputs > 0).double().mean()


def test_an_own_metric_gets_weights_if_it_takes_them(capsys):
    task = with_metrics(Regression, None, (positives, unweighted_positives))(mse, info("regression"))
    outputs, targets = example(TASKS["regression"])
    weights = counts().double()
    rows = torch.arange(N).repeat_interleave(counts())
    for measured in (
        task.measure(outputs, targets, weights=weights),
        task.measure_tuned(outputs, targets, {}, weights=weights),
        task.report(outputs, targets, {}, weights=weights),
    ):
        assert measured["positives"] == pytest.approx((outputs[rows] > 0).double().mean().item())
        assert measured["unweighted_positives"] == pytest.approx((outputs > 0).double().mean().item())
        assert measured["mae"] == TASKS["regression"].measure(outputs, targets, weights=weights)["mae"]
    said = capsys.readouterr().err
    assert said == "task.metrics: unweighted_positives has no parameter weights, and measures all examples alike\n"


def test_a_primary_metric_that_is_only_reported_is_weighted():
    plain = TASKS["binary"]
    task = with_metrics(Binary, "f1_tuned", ())(bce, info("binary", 2))
    (outputs, targets), weights = example(plain), counts().double()
    calibration = plain.calibrate(outputs, targets, weights=weights)
    expected = plain.report(outputs, targets, calibration, weights=weights)["f1_tuned"]
    assert task.measure(outputs, targets, weights=weights)["f1_tuned"] == expected
    assert task.measure(outputs, targets)["f1_tuned"] != expected


@dataclass(frozen=True)
class Own(Regression):
    """It changes what it is given."""

    metrics = (Metric("weight", "the sum of weights", True),)

    def measure(self, outputs, targets, *, weights=None):
        if weights is None:
            return {"weight": 0.0}
        total = weights.sum().item()
        weights.zero_()
        return {"weight": total}


def test_a_task_of_ones_own_gets_copies_of_weights():
    task, weights = guarded(Own)(mse, info("regression")), torch.ones(N)
    outputs, targets = example(TASKS["regression"])
    for _ in range(2):
        assert task.measure(outputs, targets, weights=weights) == {"weight": N}
        assert task.report(outputs, targets, {}, weights=weights) == {"weight": N}
        assert task.measure_tuned(outputs, targets, {}, weights=weights) == {"weight": N}
    assert task.measure(outputs, targets) == {"weight": 0}
    assert task.calibrate(outputs, targets, weights=weights) == {}


@dataclass(frozen=True)
class Forgetful(Regression):
    def measure(self, outputs, targets):
        return {}


def test_which_tasks_take_weights():
    assert all(map(takes_weights, (Regression, Binary, Multiclass, Own)))
    assert not takes_weights(Forgetful)
    from lossbench.config.task_types import TASKS as named
    from lossbench.config.task_types import load

    assert [name for name in named if takes_weights(load(name))] == ["regression", "binary", "multiclass"]


def splits(task_type="regression", **changed):
    weights = {name: torch.ones(20) for name in ("train", "validation", "test")} | changed
    made = {
        name: Split(torch.arange(40.0).view(20, 2), torch.arange(20.0)[:, None], weights=values)
        for name, values in weights.items()
    }
    return assemble(**made, name="toy", task_type=task_type, source="", licence="")


def test_weights_for_a_task_that_takes_none():
    check_for_task(splits())
    with pytest.raises(ConfigError, match=r"dataset=toy: has weights .* forgetful problems .* dataset\.weight$"):
        check_for_task(splits(f"{__name__}.Forgetful"))
    none = dict.fromkeys(("train", "validation", "test"))
    check_for_task(splits(f"{__name__}.Forgetful", **none))


BAD = {
    "the mean 2": {"train": torch.full((20,), 2.0)},
    "not finite, or below 0, in rows 3": {"test": torch.tensor([1.0] * 3 + [-1.0] + [1.0] * 16)},
    "validation are not finite, or below 0, in rows 19": {"validation": torch.tensor([1.0] * 19 + [torch.nan])},
    "are all 0": {"test": torch.zeros(20)},
    r"\[20\] of floats works": {"test": torch.ones(19)},
    r"\[20, 1\]": {"test": torch.ones(20, 1)},
    "int64": {"test": torch.ones(20, dtype=torch.long)},
    "train has weights of examples and test has none": {"test": None},
    "test has weights of examples and train has none": {"train": None, "validation": None},
}


@pytest.mark.parametrize("message", BAD)
def test_weights_that_are_none(message):
    check(splits())
    with pytest.raises(ConfigError, match=f"^dataset=toy: .*{message}"):
        check(splits(**BAD[message]))


def test_weights_are_part_of_the_fingerprint():
    none = splits(train=None, validation=None, test=None)
    other = splits(test=torch.tensor([0.5, 1.5] * 10))
    prints = [one.info.fingerprint for one in (none, splits(), other)]
    assert len(set(prints)) == 3
    plain = (replace(part, weights=None) for _, part in splits())
    again: Splits = assemble(*plain, name="toy", task_type="regression", source="", licence="")
    assert again.info.fingerprint == none.info.fingerprint


# Runs

DATA = """
import torch
from lossbench.core import Sampling, Split
from lossbench.datasets import assemble

TRAIN, REST = 60, 40

def data(*, seed: int, repeated: bool, task_type: str = "regression"):
    random = torch.Generator().manual_seed(1)
    often = torch.randint(1, 4, (REST,), generator=random)

    def split(n, often=None):
        inputs = torch.randn(n, 3, generator=random)
        targets = inputs.sum(1, keepdim=True) + torch.randn(n, 1, generator=random)
        if task_type != "regression":
            targets = (targets[:, 0] > 0).long()
        if often is None:
            return Split(inputs, targets, weights=None if repeated else torch.ones(n))
        if repeated:
            rows = torch.arange(n).repeat_interleave(often)
            return Split(inputs[rows], targets[rows])
        return Split(inputs, targets, weights=often / often.double().mean())

    parts = split(TRAIN), split(REST, often), split(REST, often)
    classes = () if task_type == "regression" else ("no", "yes")
    return assemble(
        *parts, name="data", task_type=task_type, source="", licence="", classes=classes,
        sampling=Sampling("fixed", "pool"),
    )
"""


@pytest.fixture
def data(here, monkeypatch):
    (here / "weighted_data.py").write_text(DATA)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "weighted_data", raising=False)
    return ["dataset._target_=weighted_data.data", "train.batch_size=20", "train.steps=20", "model=mlp", "device=cpu"]


@pytest.mark.parametrize(("task_type", "loss"), [("regression", "huber"), ("binary", "bce")])
def test_a_run_measures_as_if_rows_were_repeated(task_type, loss, data, lossbench, store):
    for repeated in ("true", "false"):
        words = [f"+dataset.task_type={task_type}", f"+dataset.repeated={repeated}", f"loss={loss}"]
        said = lossbench(*data, *words)
        assert said.code == 0, said.err
    weighted, expected = runs(store)
    names = {name for name in expected.data.metrics if not name.startswith(("time/", "memory/"))}
    assert {"test_last/nll", "val/temperature", "test_loss/bce"} <= names or task_type == "regression"
    assert {"test/mae", "val/mae", "test_loss/huber"} <= names or task_type == "binary"
    for name in names & set(weighted.data.metrics):
        # equal rows of a batch may get scores that differ in the last bit, which parts their tie
        rel = 2e-3 if any(word in name for word in ("auprc", "temper", "threshold")) else 1e-5
        assert weighted.data.metrics[name] == pytest.approx(expected.data.metrics[name], rel=rel), name
    of_batches = {"test_loss/tukey", "test_loss/welsch"} if task_type == "regression" else set()
    assert of_batches <= names
    assert not of_batches & set(weighted.data.metrics)
    tags = [run.data.tags for run in (weighted, expected)]
    assert "lossbench.left_out" in tags[0]
    assert tags[0].get("lossbench.remarks") == tags[1].get("lossbench.remarks")
    assert tags[0]["lossbench.weights"] == tags[1]["lossbench.weights"]


OF_BATCHES = """
def one_number(prediction, target):
    return (prediction - target).abs().mean()
"""


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (["loss._target_=of_batches.one_number"], "of_batches.one_number: gives one number a batch, so that"),
        (["loss=tukey"], "lossbench.losses.regression.tukey: takes a batch as a whole, so that"),
    ],
)
def test_a_loss_that_cannot_be_weighted_is_refused_by_name(loss, why, data, lossbench, here, store):
    (here / "of_batches.py").write_text(OF_BATCHES)
    words = ["+dataset.task_type=regression", *data, *loss]
    said = lossbench(*words, "+dataset.repeated=false")
    assert said.code == 2
    assert said.err == f"lossbench: loss._target_={why} examples cannot be weighted; leave out dataset.weight\n"
    assert lossbench(*words, "+dataset.repeated=true").code == 0
    assert len(runs(store)) == 1
