"""Losses of logits and labels against independent references, at their limits, and with what they refuse."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn import metrics
from torch.nn import functional as F

from lossbench.core import ConfigError
from lossbench.losses.classification import (
    bce,
    brier,
    crammer_singer,
    cross_entropy,
    hinge,
    multi_margin,
    poly1,
    square_logits,
    squared_hinge,
)

RANDOM = np.random.default_rng(5)
LOGITS = torch.tensor(3 * RANDOM.standard_normal(200))
LABELS = torch.tensor(RANDOM.integers(0, 2, 200))
CLASS_LOGITS = torch.tensor(2 * RANDOM.standard_normal((200, 6)))
CLASSES = torch.tensor(RANDOM.integers(0, 6, 200))
PAIR = torch.stack([torch.zeros_like(LOGITS), LOGITS], -1)


def same(per_example, reference):
    torch.testing.assert_close(per_example, torch.as_tensor(reference), rtol=1e-10, atol=1e-12)


def by_hand(loss):
    """Terms of a loss of one example in plain numbers."""
    pairs = zip(CLASS_LOGITS.tolist(), CLASSES.tolist(), strict=True)
    return torch.tensor([loss(scores, y) for scores, y in pairs], dtype=torch.float64)


@pytest.mark.parametrize("margin", [0.3, 1.0, 5.0])
def test_multi_margin_is_torchs_times_the_classes(margin):
    reference = 6 * torch.nn.MultiMarginLoss(margin=margin, reduction="none")(CLASS_LOGITS, CLASSES)
    same(multi_margin(CLASS_LOGITS, CLASSES, margin=margin), reference)


@pytest.mark.parametrize("margin", [0.3, 1.0, 5.0])
def test_crammer_singer_is_its_equation(margin):
    def loss(scores, y):
        return max(0.0, margin - scores[y] + max(s for k, s in enumerate(scores) if k != y))

    same(crammer_singer(CLASS_LOGITS, CLASSES, margin=margin), by_hand(loss))


def test_crammer_singer_is_scikit_learns_hinge_of_classes():
    reference = metrics.hinge_loss(CLASSES, CLASS_LOGITS, labels=range(6))
    assert crammer_singer(CLASS_LOGITS, CLASSES).mean().item() == pytest.approx(reference)


@pytest.mark.parametrize("loss", [multi_margin, crammer_singer])
def test_margins_of_two_classes_are_the_hinge(loss):
    same(loss(PAIR, LABELS), hinge(LOGITS, 2 * LABELS - 1))


@pytest.mark.parametrize("loss", [multi_margin, crammer_singer])
def test_a_wider_margin_is_the_same_loss_of_smaller_scores(loss):
    same(loss(4 * CLASS_LOGITS, CLASSES, margin=4.0), 4 * loss(CLASS_LOGITS, CLASSES))


@pytest.mark.parametrize("loss", [multi_margin, crammer_singer])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_margins_have_their_slope_however_far_off(loss, scale):
    scores = scale * torch.tensor([[0.0, 3.0, 1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(scores, torch.tensor([0])).sum() / scale, scores, retain_graph=False)
    expected = [[-2.0, 1.0, 1.0]] if loss is multi_margin else [[-1.0, 1.0, 0.0]]
    assert (gradient * scale).tolist() == expected


def expected_cost(loss, eta, scores):
    scores = torch.as_tensor(scores, dtype=torch.float64).expand(len(eta), -1)
    return float(torch.tensor(eta, dtype=torch.float64) @ loss(scores, torch.arange(len(eta))))


@pytest.mark.parametrize(("loss", "least"), [(multi_margin, [1.0, 1.0, 0.0]), (crammer_singer, [0.0, 0.0, 0.0])])
def test_without_a_majority_the_minimum_of_margins_is_a_tie(loss, least):
    eta = (0.4, 0.35, 0.25)
    there = expected_cost(loss, eta, least)
    grid = np.linspace(-2, 2, 41)
    assert there <= min(expected_cost(loss, eta, [a, b, 0.0]) for a in grid for b in grid) + 1e-12
    assert there < expected_cost(loss, eta, [least[0] + 0.1, *least[1:]])
    assert cross_entropy_ranks(eta)


def cross_entropy_ranks(eta):
    found = minimize(lambda s: expected_cost(cross_entropy, eta, s), np.zeros(3)).x
    return list(np.argsort(found)) == list(np.argsort(eta))


def test_brier_is_scikit_learns():
    p = LOGITS.sigmoid()
    assert brier(LOGITS, LABELS).mean().item() == pytest.approx(metrics.brier_score_loss(LABELS, p))
    reference = metrics.brier_score_loss(CLASSES, CLASS_LOGITS.softmax(-1), labels=range(6), scale_by_half=False)
    assert brier(CLASS_LOGITS, CLASSES).mean().item() == pytest.approx(reference)


def test_brier_of_two_classes_is_twice_that_of_one_logit():
    same(brier(PAIR, LABELS), 2 * brier(LOGITS, LABELS))


@pytest.mark.parametrize("eta", [0.1, 0.5, 0.8])
def test_brier_is_least_at_the_probability(eta):
    def mean_loss(z):
        per_example = brier(torch.tensor([z, z], dtype=torch.float64), torch.tensor([1, 0]))
        return float(eta * per_example[0] + (1 - eta) * per_example[1])

    z = minimize_scalar(mean_loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-9}).x
    assert 1 / (1 + math.exp(-z)) == pytest.approx(eta, abs=1e-6)


@pytest.mark.parametrize(("k", "M"), [(1.0, 1.0), (15.0, 30.0), (0.5, 3.0)])
def test_square_logits_is_the_papers_equation(k, M):
    def loss(scores, y):
        return (k * (scores[y] - M) ** 2 + sum(s**2 for j, s in enumerate(scores) if j != y)) / len(scores)

    same(square_logits(CLASS_LOGITS, CLASSES, k=k, M=M), by_hand(loss))


def test_square_logits_is_torchs_mse_to_one_hot():
    reference = F.mse_loss(CLASS_LOGITS, F.one_hot(CLASSES, 6).double(), reduction="none").mean(-1)
    same(square_logits(CLASS_LOGITS, CLASSES), reference)


@pytest.mark.parametrize("M", [1.0, 4.0])
@pytest.mark.parametrize("k", [1.0, 9.0])
def test_square_logits_of_one_logit_is_that_of_two_at_their_best_common_part(M, k):
    for z, y in zip(LOGITS[:20].tolist(), LABELS[:20].tolist(), strict=True):

        def two(common, z=z, y=y):
            return square_logits(torch.tensor([[common, common + z]]).double(), torch.tensor([y]), k=k, M=M).item()

        best = minimize_scalar(two, bounds=(-50, 50), method="bounded", options={"xatol": 1e-9}).fun
        one = square_logits(torch.tensor([z]).double(), torch.tensor([y]), M=M).item()
        assert best == pytest.approx(one * k / (1 + k) / 2, rel=1e-6, abs=1e-9)


def test_square_logits_of_one_logit_is_the_squared_hinge_without_its_corner():
    near = LOGITS.clamp(-0.9, 0.9)
    same(square_logits(near, LABELS), squared_hinge(near, 2 * LABELS - 1))


def test_square_logits_refuses_to_weigh_one_logit():
    with pytest.raises(ConfigError, match=r"loss\.k=2"):
        square_logits(LOGITS, LABELS, k=2.0)


@pytest.mark.parametrize("epsilon", [-0.9, 0.0, 1.0, 5.0])
def test_poly1_is_cross_entropy_and_a_share_of_the_error(epsilon):
    p = CLASS_LOGITS.softmax(-1).gather(1, CLASSES[:, None])[:, 0]
    same(poly1(CLASS_LOGITS, CLASSES, epsilon=epsilon), -p.log() + epsilon * (1 - p))
    p = torch.where(LABELS == 1, LOGITS.sigmoid(), (-LOGITS).sigmoid())
    same(poly1(LOGITS, LABELS, epsilon=epsilon), -p.log() + epsilon * (1 - p))


def test_poly1_changes_the_first_coefficient_of_the_series():
    """−log p = Σ_j (1 − p)^j/j; the paper's loss has 1 + ε for j = 1."""
    p = torch.linspace(0.3, 0.999, 50, dtype=torch.float64)
    series = sum(((1 - p) ** j) / j for j in range(2, 400)) + (1 + 1.0) * (1 - p)
    same(poly1(p.logit(), torch.ones(50)), series)


def test_poly1_of_two_classes_is_that_of_one_logit():
    same(poly1(PAIR, LABELS, epsilon=2.0), poly1(LOGITS, LABELS, epsilon=2.0))


@pytest.mark.parametrize(("epsilon", "way"), [(2.0, 1), (-0.8, -1)])
def test_poly1_sharpens_or_softens(epsilon, way):
    def mean_loss(z):
        per_example = poly1(torch.tensor([z, z], dtype=torch.float64), torch.tensor([1, 0]), epsilon=epsilon)
        return float(0.7 * per_example[0] + 0.3 * per_example[1])

    z = minimize_scalar(mean_loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-9}).x
    assert way * (z - math.log(0.7 / 0.3)) > 0.1


@pytest.mark.parametrize(
    ("loss", "changed"),
    [
        (multi_margin, {"margin": 0.0}),
        (crammer_singer, {"margin": -1.0}),
        (square_logits, {"k": 0.0}),
        (square_logits, {"M": math.nan}),
        (poly1, {"epsilon": -1.0}),
    ],
)
def test_settings_without_sense_are_refused(loss, changed):
    (name,) = changed
    with pytest.raises(ConfigError, match=rf"loss\.{name}="):
        loss(CLASS_LOGITS, CLASSES, **changed)


@pytest.mark.parametrize("loss", [hinge, squared_hinge])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_margin_losses_refuse_labels_0_and_1(loss, dtype):
    with pytest.raises(ConfigError, match=r"^targets have to be −1 and \+1; got 0, 1$"):
        loss(LOGITS, LABELS.to(dtype))
    assert loss(LOGITS, (2 * LABELS - 1).to(dtype)).shape == (200,)
    for one in (-1, 1):  # a batch of one class
        assert loss(LOGITS[:3], torch.full((3,), one, dtype=dtype)).shape == (3,)
    assert loss(LOGITS[:0], LABELS[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("targets", "said"),
    [([-1, 1, 1], "-1, 1"), ([0.0, 0.5, 1.5], "0, 0.5, 1.5"), ([0, 7, 30, 255, 90], "0, 7, 30, 90, …")],
)
def test_bce_refuses_targets_that_are_no_probabilities(targets, said):
    with pytest.raises(ConfigError, match=rf"^targets have to lie in 0 … 1; got {said}$"):
        bce(torch.zeros(len(targets)), torch.tensor(targets))


def test_bce_takes_shares_labels_and_masks():
    for targets in (torch.rand(9), torch.ones(9).long(), torch.zeros(9).bool(), torch.ones(0)):
        assert bce(torch.zeros(len(targets)), targets).tolist() == pytest.approx([math.log(2)] * len(targets))
