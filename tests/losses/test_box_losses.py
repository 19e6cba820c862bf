"""Losses of boxes: the papers' equations by hand, what they are where boxes are equal, nested or apart, extremes."""

import itertools
import math

import numpy as np
import pytest
import torch

from lossbench.core import ConfigError, stream
from lossbench.core.box_offsets import FURTHEST, decode, encode
from lossbench.core.vision import torchvision
from lossbench.engine.stacked_loss import StackedLoss
from lossbench.losses import huber, mae, mse
from lossbench.losses.boxes import ciou, diou, giou, smooth_l1

LOSSES = (giou, diou, ciou, smooth_l1)
OVERLAPS = LOSSES[:3]
EACH = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
EACH_OVERLAP = pytest.mark.parametrize("loss", OVERLAPS, ids=lambda loss: loss.__name__)
EACH_TYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
EXTREMES = (0.0, 20.0, -20.0, 100.0, -100.0, 1e4, -1e4)


def offsets(n=200, seed=0, spread=0.5, dtype=torch.float64):
    return spread * torch.randn(n, 4, generator=stream(seed, "offsets"), dtype=dtype)


def corners(box):
    """Of one box given as offsets, with plain numbers."""
    x, y, w, h = box[0], box[1], math.exp(box[2]), math.exp(box[3])
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def pair(prediction, target):
    """IoU, union, and the sides of the smallest box around both."""
    a, b = corners(prediction), corners(target)
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = math.exp(prediction[2] + prediction[3]) + math.exp(target[2] + target[3]) - wide * high
    return wide * high / union, union, max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def giou_of_one(p, t):
    iou, union, width, height = pair(p, t)
    return 1 - iou + (width * height - union) / (width * height)


def diou_of_one(p, t):
    iou, _, width, height = pair(p, t)
    return 1 - iou + ((p[0] - t[0]) ** 2 + (p[1] - t[1]) ** 2) / (width**2 + height**2)


def proportions(p, t):
    """α and v of the paper."""
    v = 4 / math.pi**2 * (math.atan(math.exp(t[2]) / math.exp(t[3])) - math.atan(math.exp(p[2]) / math.exp(p[3]))) ** 2
    return v / (1 - pair(p, t)[0] + v), v


def ciou_of_one(p, t):
    alpha, v = proportions(p, t)
    return diou_of_one(p, t) + alpha * v


def smooth_l1_of_one(p, t, beta=1 / 9):
    return sum(r**2 / 2 / beta if r < beta else r - beta / 2 for r in np.abs(np.subtract(p, t)))


BY_HAND = {giou: giou_of_one, diou: diou_of_one, ciou: ciou_of_one, smooth_l1: smooth_l1_of_one}


@EACH
def test_terms_are_the_papers(loss):
    prediction, target = offsets(), offsets(seed=1)
    found = loss(prediction, target)
    expected = [BY_HAND[loss](p, t) for p, t in zip(prediction.tolist(), target.tolist(), strict=True)]
    assert len({iou > 0 for iou, *_ in map(pair, prediction.tolist(), target.tolist())}) == 2  # some meet, some do not
    assert found.tolist() == pytest.approx(expected, abs=1e-5)  # the library adds 1e-7 to areas


@pytest.mark.parametrize("loss", [giou, diou, smooth_l1], ids=lambda loss: loss.__name__)
def test_gradient_is_the_slope(loss):
    prediction, target = offsets(20).requires_grad_(), offsets(20, seed=1)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction)


def test_the_weight_of_proportions_has_no_gradient():
    prediction, target = offsets(20).requires_grad_(), offsets(20, seed=1)
    alpha = torch.tensor([proportions(p, t)[0] for p, t in zip(prediction.tolist(), target.tolist(), strict=True)])
    assert (alpha > 0.01).any()
    ratio = (prediction[:, 2] - prediction[:, 3]).exp().atan() - (target[:, 2] - target[:, 3]).exp().atan()
    weighted = diou(prediction, target) + alpha * 4 / math.pi**2 * ratio**2
    found, expected = (
        torch.autograd.grad(per_example.sum(), prediction)[0] for per_example in (ciou(prediction, target), weighted)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# Where boxes are equal, nested, apart.


@EACH
@EACH_TYPE
def test_a_box_that_is_right_costs_nothing(loss, dtype):
    boxes = offsets(dtype=torch.float64).to(dtype)
    assert loss(boxes, boxes).abs().max() < 5e-6
    assert (loss(boxes, boxes + 0.1).double() > 1e-3).all()


@EACH_OVERLAP
def test_boxes_apart_cost_between_one_and_the_most(loss):
    boxes = offsets()
    per_example = loss(boxes + torch.tensor([8.0, 0, 0, 0], dtype=boxes.dtype), boxes)
    assert ((per_example > 1) & (per_example < 2)).all()  # of equal proportions, so that ciou has no third part
    further = loss(boxes + torch.tensor([1e4, 0, 0, 0], dtype=boxes.dtype), boxes)
    assert (further > per_example).all()
    assert further.tolist() == pytest.approx([2.0] * len(boxes), abs=2e-2)


def test_inside_another_box_only_distance_tells_where():
    """Half the sides, in the middle and in a corner of the true box."""
    target = torch.zeros(2, 4, dtype=torch.float64)
    half = -math.log(2)
    prediction = torch.tensor([[0.0, 0, half, half], [0.25, 0.25, half, half]], dtype=torch.float64)
    assert giou(prediction, target).tolist() == pytest.approx([0.75, 0.75], abs=1e-6)
    assert diou(prediction, target).tolist() == pytest.approx([0.75, 0.75 + 0.125 / 2], abs=1e-6)
    torch.testing.assert_close(ciou(prediction, target), diou(prediction, target))  # of equal proportions


def test_proportions_cost_in_ciou_alone():
    target, other = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[0, 0, 0.5, -0.5]], dtype=torch.float64)
    assert ciou(other, target) > diou(other, target) + 0.005
    equal = torch.tensor([[0.3, 0.1, 0.4, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(ciou(equal, target), diou(equal, target))


def anchored(loss, boxes, others, anchors):
    return loss(encode(boxes, anchors), encode(others, anchors))


@EACH
def test_moving_all_moves_nothing(loss):
    boxes, others, anchors = (decode(offsets(seed=seed)) for seed in range(3))
    moved = [shape + torch.tensor([7.0, -3, 7, -3], dtype=torch.float64) for shape in (boxes, others, anchors)]
    torch.testing.assert_close(encode(moved[0], moved[2]), encode(boxes, anchors))
    torch.testing.assert_close(anchored(loss, *moved), anchored(loss, boxes, others, anchors))


@pytest.mark.parametrize(("loss", "stretch"), [(giou, 5.0), (diou, 1.0), (ciou, 1.0)])
def test_overlap_is_the_same_in_pixels(loss, stretch):
    """Whatever the anchor; of diou and ciou whatever the square one."""
    boxes, others = (decode(offsets(seed=seed)) for seed in range(2))
    square = torch.tensor([[-0.5, -0.5, 0.5, 0.5]], dtype=torch.float64)
    other = torch.tensor([[3.0, 1, 5, 1 + 2 * stretch]], dtype=torch.float64)
    found, expected = (anchored(loss, boxes, others, anchor.expand(len(boxes), 4)) for anchor in (other, square))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)  # 1e-7 beside an area that is now a part of it


# Smooth L1 among the losses of residuals.


@pytest.mark.parametrize("beta", [0.05, 1 / 9, 1.0])
def test_smooth_l1_is_hubers_over_its_delta(beta):
    prediction, target = offsets(), offsets(seed=1)
    expected = 4 * huber(prediction, target, delta=beta) / beta  # a sum, not a mean
    torch.testing.assert_close(smooth_l1(prediction, target, beta=beta), expected)


def test_smooth_l1_is_between_absolute_and_squared():
    prediction, target = offsets(), offsets(seed=1)
    torch.testing.assert_close(smooth_l1(prediction, target, beta=1e-9), 4 * mae(prediction, target))
    torch.testing.assert_close(1e6 * smooth_l1(prediction, target, beta=1e6), 2 * mse(prediction, target))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf, "wide"])
def test_an_impossible_beta_is_refused(beta):
    with pytest.raises(ConfigError, match=r"loss\.beta=.*above 0|loss\.beta=.*not a number"):
        smooth_l1(offsets(2), offsets(2), beta=beta)


# Numbers.


@EACH
@EACH_TYPE
def test_finite_at_extremes(loss, dtype, subtests):
    for target in [(0, 0, 0, 0), (0.3, -0.2, 0.4, -0.5), (1e4,) * 4, (-1e4,) * 4, (1e4, 0, -1e4, 20)]:
        with subtests.test(target=target):
            prediction = torch.tensor([*itertools.product(EXTREMES, repeat=4)], dtype=dtype).requires_grad_()
            per_example = loss(prediction, torch.tensor([target], dtype=dtype).expand_as(prediction))
            (gradient,) = torch.autograd.grad(per_example.sum(), prediction)
            assert per_example.shape == (len(prediction),)
            assert per_example.dtype == gradient.dtype == dtype
            assert per_example.isfinite().all()
            assert gradient.isfinite().all()
            if loss in OVERLAPS:
                assert per_example.min() > -1e-3
                assert per_example.max() <= (3.01 if loss is ciou else 2.01)


@EACH
def test_bfloat16_is_only_a_rounding(loss):
    prediction, target = (boxes.to(torch.bfloat16) for boxes in (offsets(), offsets(seed=1)))
    expected = loss(prediction.double(), target.double())
    assert loss(prediction, target).double().tolist() == pytest.approx(expected.tolist(), rel=2**-7, abs=1e-5)
    assert loss(prediction, target.double()).dtype == torch.bfloat16


@EACH
def test_a_term_depends_on_its_own_example_only(loss):
    prediction, target = offsets(12), offsets(12, seed=1)
    alone = torch.cat([loss(p, t) for p, t in zip(prediction.split(1), target.split(1), strict=True)])
    torch.testing.assert_close(loss(prediction, target), alone)
    stacked = StackedLoss([loss] * 3)(prediction.unflatten(0, (3, 4)), target.unflatten(0, (3, 4)))
    torch.testing.assert_close(stacked, alone.unflatten(0, (3, 4)))


@EACH
def test_nothing_is_drawn_or_changed(loss):
    prediction, target = offsets(), offsets(seed=1)
    before, state = (prediction.clone(), target.clone()), torch.random.get_rng_state()
    loss(prediction, target)
    assert torch.equal(prediction, before[0])
    assert torch.equal(target, before[1])
    assert torch.equal(torch.random.get_rng_state(), state)


@EACH
def test_descent_brings_the_boxes_together(loss):
    prediction, target = offsets(spread=0.2).requires_grad_(), offsets(seed=1, spread=0.2)
    means = []
    for _ in range(60):
        per_example = loss(prediction, target)
        means.append(per_example.mean().item())
        (gradient,) = torch.autograd.grad(per_example.sum(), prediction)
        prediction = (prediction - 0.02 * gradient).detach().requires_grad_()
    assert all(later < earlier for earlier, later in itertools.pairwise(means[:11]))
    assert means[-1] < means[0] / 3


# Offsets.


def coder():
    from torchvision.models.detection._utils import BoxCoder

    assert torchvision
    return BoxCoder((1.0, 1.0, 1.0, 1.0))


def test_offsets_are_the_reference_implementations():
    boxes, anchors = (decode(offsets(seed=seed, dtype=torch.float32)) for seed in range(2))
    torch.testing.assert_close(encode(boxes, anchors), coder().encode_single(boxes, anchors))
    square = torch.tensor([[-0.5, -0.5, 0.5, 0.5]]).expand(200, 4)
    given = torch.cat([offsets(seed=2, dtype=torch.float32)[:-1], torch.tensor([[0.0, 1, 9, 1]])])  # one beyond the end
    torch.testing.assert_close(decode(given), coder().decode_single(given, square))


def test_decoding_undoes_encoding():
    anchor = torch.tensor([[-0.5, -0.5, 0.5, 0.5]], dtype=torch.float64).expand(200, 4)
    given = offsets()
    torch.testing.assert_close(encode(decode(given), anchor), given)
    boxes = decode(given)
    torch.testing.assert_close(decode(encode(boxes, anchor)), boxes)


def test_sides_end_at_the_furthest():
    boxes = decode(torch.tensor([[0.0, 0, 1e4, -1e4], [0, 0, FURTHEST, -FURTHEST]], dtype=torch.float64))
    assert torch.equal(boxes[0], boxes[1])
    assert (boxes[0, 2:] - boxes[0, :2]).tolist() == pytest.approx([62.5, 1 / 62.5])
