"""Ranges of yardsticks: whatever a model answers, no value lies outside, and an end is where it is said to be."""

from __future__ import annotations

import pytest
import torch
from recorded import outside

from lossbench import build
from lossbench.core import Facts
from lossbench.losses import NonSaturating
from lossbench.metrics import parzen_nll
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


def asked(kind):
    inputs, targets = SHAPES[kind]
    classes = CLASSES[:2] if kind == "binary" else CLASSES
    modes = MODES if kind == "gan" else ()
    loss = NonSaturating() if kind == "gan" else None
    return build.task(
        kind, loss, Facts("toy", kind, inputs, targets, "", "", "", classes, unit="mm", modes=modes, scale=0.2)
    )


def drawn(kind, random, n=30):
    """Targets, and what a model could answer."""
    if kind in ("regression", "boxes", "gan"):
        truth = 0.3 * torch.randn(n, *SHAPES[kind][1], generator=random)
        return truth, torch.randn(truth.shape, generator=random)
    if kind == "segmentation":
        truth = (torch.rand(n, *SHAPES[kind][1], generator=random) < 0.2).float()
        return truth, torch.randn(truth.shape, generator=random)
    truth = torch.randint(2 if kind == "binary" else len(CLASSES), (n,), generator=random)
    return truth, torch.randn(n, *((len(CLASSES),) if kind != "binary" else ()), generator=random)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("kind", SHAPES)
def test_no_answer_is_measured_outside_the_range_of_a_yardstick(kind, size):
    task, random = asked(kind), torch.Generator().manual_seed(0)
    ranges = {y.name: y.range for y in task.yardsticks}
    for _ in range(5):
        truth, answer = drawn(kind, random)
        outputs = size * answer if kind != "boxes" else torch.tanh(size * answer)
        report = task.report(outputs, truth, task.tune(outputs, truth))
        assert report.keys() == ranges.keys()
        assert not outside(report, ranges)


def reached(kind, outputs, truth):
    task = asked(kind)
    return task.report(outputs, truth, task.tune(outputs, truth)), {y.name: y.range for y in task.yardsticks}


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
    at_one, ranges = torch.zeros(20, 2), {y.name: y.range for y in asked("gan").yardsticks}
    assert parzen_nll(at_one, at_one, width=KERNEL * 0.2) == pytest.approx(ranges["parzen_nll"][0])
    assert ranges["modes"] == (0, 2)
