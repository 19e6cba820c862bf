"""Classification tasks: metrics against scikit-learn on the raw arrays, degenerate splits, pictures."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn import metrics
from torch import nn

from lossbench.core import DatasetInfo, Split, Splits, TrainedModel, stream
from lossbench.engine import Noise
from lossbench.losses import bce, cross_entropy, hinge
from lossbench.runs import builders
from lossbench.tasks import Binary, Multiclass


def info(task_type, classes):
    names = tuple(f"class {k}" for k in range(classes))
    return DatasetInfo("toy", task_type, (4,), (), "", "", "", classes=names, class_counts=(1,) * classes)


BINARY = Binary(bce, info("binary", 2))
MULTICLASS = Multiclass(cross_entropy, info("multiclass", 4))


def binary_example(n=301, seed=0):
    random = np.random.default_rng(seed)
    y = (random.random(n) < 0.2).astype(int)
    return 2 * random.standard_normal(n) + 3 * y - 2, y


def class_example(n=301, seed=0, classes=4):
    """Logits of four classes, of which the first `classes` occur."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    return 2 * random.standard_normal((n, 4)) + 2 * np.eye(4)[y], y


def tensors(logits, y):
    return torch.tensor(logits), torch.tensor(y)


def ece(confidence, correct):
    edges = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in itertools.pairwise(edges)]
    return sum(abs((confidence[i] - correct[i]).sum()) for i in inside) / len(confidence)


def test_binary_metrics_are_scikit_learns():
    z, y = binary_example()
    calibration = {"threshold": z[y == 1].mean(), "temperature": 1.7}
    z[0], y[0] = calibration["threshold"], 1  # a score at the threshold is positive
    p, guess, late = expit(z), z > 0, z >= calibration["threshold"]
    confidence, tempered = (np.maximum(expit(s), expit(-s)) for s in (z, z / 1.7))
    signed_targets = 2 * y - 1
    expected = {
        "auprc": metrics.average_precision_score(y, z),
        "auroc": metrics.roc_auc_score(y, z),
        "f1": metrics.f1_score(y, guess),
        "f1_tuned": metrics.f1_score(y, late),
        "accuracy": metrics.accuracy_score(y, guess),
        "macro_f1": (metrics.f1_score(y, guess) + metrics.f1_score(1 - y, ~guess)) / 2,
        "balanced_accuracy": metrics.balanced_accuracy_score(y, guess),
        "balanced_accuracy_tuned": metrics.balanced_accuracy_score(y, late),
        "nll": -log_expit(signed_targets * z).mean(),
        "brier": np.mean((p - y) ** 2),
        "ece": ece(confidence, guess == y),
        "nll_tempered": -log_expit(signed_targets * z / 1.7).mean(),
        "ece_tempered": ece(tempered, guess == y),
    }
    assert BINARY.report(*tensors(z, y), calibration) == pytest.approx(expected, rel=1e-9)


def test_class_metrics_are_scikit_learns():
    z, y = class_example()
    one_hot, guess = np.eye(4)[y], z.argmax(1)
    expected = {
        "accuracy": metrics.accuracy_score(y, guess),
        "macro_f1": metrics.f1_score(y, guess, average="macro"),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, guess),
        "auprc": metrics.average_precision_score(one_hot, softmax(z, 1), average="macro"),
        "auroc": metrics.roc_auc_score(y, softmax(z, 1), multi_class="ovr", average="macro"),
        "nll": -(one_hot * log_softmax(z, 1)).sum(1).mean(),
        "brier": np.mean(np.sum((softmax(z, 1) - one_hot) ** 2, axis=1)),
        "ece": ece(softmax(z, 1).max(1), guess == y),
        "nll_tempered": -(one_hot * log_softmax(z / 1.7, 1)).sum(1).mean(),
        "ece_tempered": ece(softmax(z / 1.7, 1).max(1), guess == y),
    }
    assert MULTICLASS.report(*tensors(z, y), {"temperature": 1.7}) == pytest.approx(expected, rel=1e-9)


EACH = pytest.mark.parametrize(
    ("task", "example"), [(BINARY, binary_example), (MULTICLASS, class_example)], ids=["binary", "multiclass"]
)


def assert_complete(task, outputs, y):
    """Tuned on itself, a report has every declared metric, nothing else, and every value is finite."""
    calibration = task.calibrate(outputs, y)
    report = task.report(outputs, y, calibration)
    names = [metric.name for metric in task.metrics]
    assert sorted(report) == sorted(names)
    assert all(map(math.isfinite, (*report.values(), *calibration.values())))
    return report


@EACH
def test_a_report_is_what_is_declared(task, example):
    outputs, y = tensors(*example())
    report = assert_complete(task, outputs, y)
    watched = task.measure(outputs, y)
    assert task.metrics[0].name in watched
    assert watched == {name: report[name] for name in watched}


@EACH
def test_tuning_helps_where_it_was_tuned(task, example):
    logits, y = example()
    outputs, y = tensors(5 * logits, y)
    report = task.report(outputs, y, task.calibrate(outputs, y))
    assert report["nll_tempered"] < report["nll"]
    assert report["ece_tempered"] < report["ece"]
    assert report.get("f1_tuned", 1) >= report.get("f1", 1)


def test_tuned_threshold_helps_where_it_was_tuned():
    outputs, y = tensors(*binary_example())
    report = BINARY.report(outputs, y, BINARY.calibrate(outputs, y))
    assert report["f1_tuned"] > report["f1"]


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_binary_reports_on_one_class_only(label, scale):
    logits, _ = binary_example(50)
    assert_complete(BINARY, torch.tensor(scale * logits), torch.full((50,), label))


@pytest.mark.parametrize("score", [-1e4, -3.0, 0.0, 3.0, 1e4])
def test_binary_reports_on_equal_scores(score):
    _, y = binary_example()
    report = assert_complete(BINARY, torch.full((len(y),), score), torch.tensor(y))
    assert report["auroc"] == pytest.approx(0.5)
    assert report["auprc"] == pytest.approx(y.mean())


@pytest.mark.parametrize("score", [-1e4, 0.0, 1e4])
def test_classes_report_on_equal_scores(score):
    _, y = class_example()
    report = assert_complete(MULTICLASS, torch.full((len(y), 4), score), torch.tensor(y))
    assert report["auroc"] == pytest.approx(0.5)
    assert report["nll"] == pytest.approx(math.log(4))


@pytest.mark.parametrize("classes", [2, 3])
def test_areas_are_means_over_the_classes_that_occur(classes):
    z, y = class_example(classes=classes)
    report = assert_complete(MULTICLASS, *tensors(z, y))
    p = softmax(z, 1)
    each = [metrics.roc_auc_score(y == k, p[:, k]) for k in range(classes)]
    areas = [metrics.average_precision_score(y == k, p[:, k]) for k in range(classes)]
    assert report["auroc"] == pytest.approx(np.mean(each))
    assert report["auprc"] == pytest.approx(np.mean(areas))


def test_ranks_survive_where_probabilities_round_to_0_and_1():
    y = torch.tensor([0, 0, 1, 1])
    scores = torch.tensor([100.0, 200.0, 300.0, 400.0])
    assert len(scores.sigmoid().unique()) == 1
    assert BINARY.measure(scores, y)["auroc"] == 1
    two = Multiclass(cross_entropy, info("multiclass", 2))
    pair = torch.stack([torch.zeros(4), scores], -1)
    assert two.report(pair, y, {"temperature": 1.0})["auroc"] == 1


@EACH
def test_single_and_double_precision_agree(task, example):
    outputs, y = tensors(*example())
    assert task.measure(outputs.float(), y) == pytest.approx(task.measure(outputs, y), rel=1e-4)


class Net:
    """Players whose model is one linear map."""

    def __init__(self, outputs):
        self.model = torch.nn.utils.skip_init(torch.nn.Linear, 4, outputs)
        torch.nn.init.normal_(self.model.weight, generator=stream(0, "weights"))
        torch.nn.init.zeros_(self.model.bias)


@pytest.mark.parametrize(
    ("task", "outputs", "loss"),
    [
        (BINARY, 1, lambda z, y: bce(z[:, 0], y)),
        (builders.task("binary", hinge, info("binary", 2)), 1, lambda z, y: hinge(z[:, 0], 2 * y - 1)),
        (builders.task("binary", partial(hinge), info("binary", 2)), 1, lambda z, y: hinge(z[:, 0], 2 * y - 1)),
        (MULTICLASS, 4, cross_entropy),
    ],
    ids=["binary", "signs", "signs-bound", "multiclass"],
)
def test_a_step_asks_the_loss_for_its_terms(task, outputs, loss):
    nets, batch = Net(outputs), Split(torch.randn(6, 4, generator=stream(0, "x")), torch.tensor([0, 1, 0, 1, 1, 0]))
    ((player, per_example),) = task.step(nets, batch, Noise([0], torch.device("cpu")))
    assert player == "model"
    torch.testing.assert_close(per_example, loss(nets.model(batch.inputs), batch.targets))
    assert task.predict(nets, batch, Noise([0], torch.device("cpu"))).shape == ((6,) if outputs == 1 else (6, outputs))


def assert_drawn(figures, folder):
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")
        with Image.open(folder / f"{name}.png") as image:
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10  # more than an empty frame


@EACH
def test_pictures_are_drawn(task, example, tmp_path):
    outputs, y = tensors(*example())
    split = Split(torch.zeros(len(y), 4), y)
    figures = task.pictures(
        TrainedModel(nn.Module(), {"test": outputs}, Splits(task.info, *[split] * 3), task.calibrate(outputs, y))
    )
    assert set(figures) == {"confusion_matrix", "precision_recall", "reliability"}
    assert_drawn(figures, tmp_path)


def test_confusion_matrix_counts():
    z, y = class_example()
    split = Split(torch.zeros(len(y), 4), torch.tensor(y))
    splits = Splits(MULTICLASS.info, split, split, split)
    figure = MULTICLASS.pictures(TrainedModel(nn.Module(), {"test": torch.tensor(z)}, splits, {"temperature": 1.0}))[
        "confusion_matrix"
    ]
    shown = {(round(t.get_position()[1]), round(t.get_position()[0])): int(t.get_text()) for t in figure.axes[0].texts}
    expected = metrics.confusion_matrix(y, z.argmax(1))
    assert shown == {(row, column): expected[row, column] for row, column in np.ndindex(4, 4)}


def test_pictures_of_a_class_that_is_absent(tmp_path):
    outputs, y = tensors(*class_example(classes=3))
    split = Split(torch.zeros(len(y), 4), y)
    splits = Splits(MULTICLASS.info, split, split, split)
    assert_drawn(
        MULTICLASS.pictures(TrainedModel(nn.Module(), {"test": outputs}, splits, {"temperature": 1.0})), tmp_path
    )


def test_multiclass_report_on_one_class_only():
    report = MULTICLASS.report(torch.randn(9, 4, generator=stream(0, "x")), torch.ones(9).long(), {"temperature": 1.0})
    assert all(map(math.isfinite, report.values()))


def test_binary_pictures_without_positives():
    split = Split(torch.zeros(9, 1), torch.zeros(9).long())
    outputs = {"test": torch.randn(9, generator=stream(0, "x"))}
    calibration = {"temperature": 1.0, "threshold": 0.0}
    assert BINARY.pictures(TrainedModel(nn.Module(), outputs, Splits(BINARY.info, split, split, split), calibration))


def test_nll_is_not_clipped():
    """−log σ(−100) is 100 nats; scikit-learn's log_loss stops at 36.04."""
    assert BINARY.measure(torch.tensor([100.0, -100.0]), torch.tensor([0, 0]))["nll"] == pytest.approx(50)
    wrong = torch.tensor([[200.0, 0, 0, 0]])
    assert MULTICLASS.measure(wrong, torch.tensor([1]))["nll"] == pytest.approx(200)
