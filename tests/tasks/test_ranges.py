"""Ranges of metrics: whatever a model answers, no value lies outside, and an end is where it is said to be."""

from __future__ import annotations

import pytest
import torch
from recorded import outside

from lossbench.core import DatasetInfo
from lossbench.losses import NonSaturating
from lossbench.metrics import parzen_nll
from lossbench.runs import builders
from lossbench.tasks.gan import KERNEL

CLASSES = tuple("abcd")
SHAPES = {
    "regression": ((3,), (2,)),
    "binary": ((3,), ()),
    "multiclass": ((3,), ()),
    "boxes": ((1, 8, 8), (4,)),
    "segmentation": ((1, 6, 8), (6, 8)),
    "embedding": ((1, 8, 8), ()),
    "gan": ((2,), (2,)),
}
MODES = ((0.0, 0.0), (1.0, 1.0))


def asked(task_type):
    inputs, targets = SHAPES[task_type]
    classes = CLASSES[:2] if task_type == "binary" else CLASSES
    mixture_means = MODES if task_type == "gan" else ()
    loss = NonSaturating() if task_type == "gan" else None
    return builders.task(
        task_type,
        loss,
        DatasetInfo(
            "toy", task_type, inputs, targets, "", "", "", classes, unit="mm", mixture_means=mixture_means, scale=0.2
        ),
    )


def drawn(task_type, random, n=30):
    """Targets, and what a model could answer."""
    if task_type in ("regression", "boxes", "gan"):
        truth = 0.3 * torch.randn(n, *SHAPES[task_type][1], generator=random)
        return truth, torch.randn(truth.shape, generator=random)
    if task_type == "segmentation":
        truth = (torch.rand(n, *SHAPES[task_type][1], generator=random) < 0.2).float()
        return truth, torch.randn(truth.shape, generator=random)
    truth = torch.randint(2 if task_type == "binary" else len(CLASSES), (n,), generator=random)
    return truth, torch.randn(n, *((len(CLASSES),) if task_type != "binary" else ()), generator=random)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("task_type", SHAPES)
def test_no_answer_is_measured_outside_the_range_of_a_metric(task_type, size):
    task, random = asked(task_type), torch.Generator().manual_seed(0)
    ranges = {y.name: y.range for y in task.metrics}
    for _ in range(5):
        truth, answer = drawn(task_type, random)
        outputs = size * answer if task_type != "boxes" else torch.tanh(size * answer)
        report = task.report(outputs, truth, task.calibrate(outputs, truth))
        assert report.keys() == ranges.keys()
        assert not outside(report, ranges)


def reached(task_type, outputs, truth):
    task = asked(task_type)
    return task.report(outputs, truth, task.calibrate(outputs, truth)), {y.name: y.range for y in task.metrics}


def test_the_brier_score_of_classes_ends_at_two_and_that_of_two_at_one():
    truth = torch.tensor([0, 1, 2, 3])
    wrong, ranges = reached("multiclass", 200 * torch.eye(4)[(truth + 1) % 4], truth)
    assert wrong["brier"] == pytest.approx(ranges["brier"][1]) == 2
    wrong, ranges = reached("binary", torch.tensor([200.0, -200.0]), torch.tensor([0, 1]))
    assert wrong["brier"] == pytest.approx(ranges["brier"][1]) == 1


def test_nothing_found_is_as_far_as_a_picture_is_wide_from_corner_to_corner():
    truth = torch.zeros(2, 6, 8)
    truth[:, 2:4, 3:5] = 1
    nothing, ranges = reached("segmentation", -9 * torch.ones(2, 6, 8), truth)
    assert nothing["hd95"] == pytest.approx(ranges["hd95"][1]) == 10


def test_no_samples_are_likelier_than_those_that_all_lie_where_the_points_are():
    at_one, ranges = torch.zeros(20, 2), {y.name: y.range for y in asked("gan").metrics}
    assert parzen_nll(at_one, at_one, width=KERNEL * 0.2) == pytest.approx(ranges["parzen_nll"][0])
    assert ranges["modes"] == (0, 2)
