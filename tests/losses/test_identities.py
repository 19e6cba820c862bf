"""Losses against what they have to equal: limit cases, independent references, known minimisers."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn import metrics
from torch.nn import functional as F

from lossbench.core import ConfigError
from lossbench.core.vision import torchvision
from lossbench.losses import (
    bce,
    class_balanced,
    cross_entropy,
    focal,
    gce,
    hinge,
    huber,
    label_smoothing,
    mae,
    mse,
    sce,
    softmax_mae,
    squared_hinge,
)

RANDOM = np.random.default_rng(3)
LOGITS = torch.tensor(4 * RANDOM.standard_normal(200))
LABELS = torch.tensor(RANDOM.integers(0, 2, 200))
CLASS_LOGITS = torch.tensor(3 * RANDOM.standard_normal((200, 6)))
CLASSES = torch.tensor(RANDOM.integers(0, 6, 200))
PREDICTION, TARGET = torch.tensor(RANDOM.standard_normal((2, 50, 3)))


def same(per_example, reference):
    torch.testing.assert_close(per_example, reference, rtol=1e-10, atol=1e-12)


def minimiser(mean_loss, low=-20.0, high=20.0):
    return minimize_scalar(
        lambda z: float(mean_loss(z)), bounds=(low, high), method="bounded", options={"xatol": 1e-9}
    ).x


def expected(loss, eta, negative=0):
    """What a loss costs at score z on average, where a share eta is positive."""

    def mean_loss(z):
        at = torch.tensor([z, z], dtype=torch.float64)
        positive, other = loss(at, torch.tensor([1, negative]))
        return eta * positive + (1 - eta) * other

    return mean_loss


def test_bce_is_log_loss():
    assert bce(LOGITS, LABELS).mean().item() == pytest.approx(metrics.log_loss(LABELS, LOGITS.sigmoid()))


def test_bce_weight_counts_positives_repeatedly():
    copies = torch.where(LABELS == 1, 3, 1)
    repeated = bce(LOGITS.repeat_interleave(copies), LABELS.repeat_interleave(copies)).sum()
    same(bce(LOGITS, LABELS, pos_weight=3.0).sum(), repeated)


def test_cross_entropy_is_log_loss():
    reference = metrics.log_loss(CLASSES, CLASS_LOGITS.softmax(-1), labels=range(6))
    assert cross_entropy(CLASS_LOGITS, CLASSES).mean().item() == pytest.approx(reference)


def test_cross_entropy_of_two_classes_is_bce():
    same(cross_entropy(torch.stack([torch.zeros_like(LOGITS), LOGITS], -1), LABELS), bce(LOGITS, LABELS))


def test_focal_without_focus_is_bce():
    same(focal(LOGITS, LABELS, gamma=0.0, alpha=None), bce(LOGITS, LABELS))


def test_focal_without_focus_is_cross_entropy():
    same(focal(CLASS_LOGITS, CLASSES, gamma=0.0), cross_entropy(CLASS_LOGITS, CLASSES))


@pytest.mark.parametrize(
    ("gamma", "alpha", "theirs"), [(2.0, "auto", 0.25), (2.0, 0.25, 0.25), (1.0, 0.6, 0.6), (3.0, None, -1)]
)
def test_focal_is_torchvisions(gamma, alpha, theirs):
    reference = torchvision.ops.sigmoid_focal_loss(LOGITS, LABELS.double(), alpha=theirs, gamma=gamma)
    same(focal(LOGITS, LABELS, gamma=gamma, alpha=alpha), reference)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_of_two_classes_is_binary_focal(gamma):
    pair = torch.stack([torch.zeros_like(LOGITS), LOGITS], -1)
    same(focal(pair, LABELS, gamma=gamma), focal(LOGITS, LABELS, gamma=gamma, alpha=None))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_softmax_focal_is_its_equation(gamma):
    p = CLASS_LOGITS.softmax(-1).gather(1, CLASSES[:, None])[:, 0]
    same(focal(CLASS_LOGITS, CLASSES, gamma=gamma), -((1 - p) ** gamma) * p.log())


def test_softmax_focal_refuses_alpha():
    with pytest.raises(ConfigError, match=r"alpha=0\.25"):
        focal(CLASS_LOGITS, CLASSES, alpha=0.25)


def slope(loss, logits, labels):
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), labels).sum(), logits)
    return gradient


def naive_focal(logits, labels, gamma):
    p = torch.where(labels == 1, logits.sigmoid(), (-logits).sigmoid())
    return -((1 - p) ** gamma) * p.log()


SURE = torch.tensor([-200.0, -50.0, -20.0, 20.0, 50.0, 200.0])


@pytest.mark.parametrize("gamma", [0, 0.1, 0.5, 1, 2, 5])
@pytest.mark.parametrize("label", [0, 1])
def test_focal_gradient_is_finite_where_p_reaches_0_and_1(gamma, label):
    labels = torch.full(SURE.shape, label)
    pair = torch.stack([torch.zeros_like(SURE), SURE], -1)
    assert slope(lambda z, y: focal(z, y, gamma=gamma), SURE.clone(), labels).isfinite().all()
    assert slope(lambda z, y: focal(z, y, gamma=gamma), pair, labels).isfinite().all()


def test_the_plain_power_would_fail_there():
    assert not slope(lambda z, y: naive_focal(z, y, 0.5), SURE.clone(), torch.ones(6)).isfinite().all()


COUNTS = (5000, 2997, 1796, 60, 3, 1)  # as a long tail has them


def effective_numbers(counts, beta):
    """Σ_{i<n} β^i: what n examples tell where each new one repeats a share of those before it."""
    return torch.tensor([math.fsum(beta**i for i in range(count)) for count in counts], dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.999, 0.9999, 1 - 1e-9])
def test_class_balanced_weighs_by_the_effective_number(beta):
    weights = 1 / effective_numbers(COUNTS, beta)
    weights = weights * len(COUNTS) / weights.sum()
    per_example = class_balanced(CLASS_LOGITS, CLASSES, class_counts=COUNTS, beta=beta)
    same(per_example, weights[CLASSES] * cross_entropy(CLASS_LOGITS, CLASSES))


@pytest.mark.parametrize("beta", [0.5, 0.9999])
def test_binary_class_balanced_counts_class_0_and_class_1(beta):
    weights = 1 / effective_numbers((1000, 10), beta)
    weights = weights / weights.mean()
    per_example = class_balanced(LOGITS, LABELS, class_counts=(1000, 10), beta=beta)
    same(per_example, weights[LABELS] * bce(LOGITS, LABELS))
    same(class_balanced(LOGITS, LABELS.double(), class_counts=(1000, 10), beta=beta), per_example)


def test_class_balanced_of_two_classes_is_binary_class_balanced():
    pair = torch.stack([torch.zeros_like(LOGITS), LOGITS], -1)
    same(class_balanced(pair, LABELS, class_counts=(70, 3)), class_balanced(LOGITS, LABELS, class_counts=(70, 3)))


def test_class_balanced_without_repetition_is_cross_entropy():
    for none in (0.0, 0):
        per_example = class_balanced(CLASS_LOGITS, CLASSES, class_counts=COUNTS, beta=none)
        assert torch.equal(per_example, cross_entropy(CLASS_LOGITS, CLASSES))
        assert torch.equal(class_balanced(LOGITS, LABELS, class_counts=(9, 1), beta=none), bce(LOGITS, LABELS))


def test_class_balanced_of_equal_classes_is_cross_entropy():
    same(class_balanced(CLASS_LOGITS, CLASSES, class_counts=(7,) * 6), cross_entropy(CLASS_LOGITS, CLASSES))


@pytest.mark.parametrize("beta", [1 - 1e-13, 1 - 2**-53])
def test_class_balanced_of_endless_repetition_weighs_by_inverse_frequency(beta):
    weights = 1 / torch.tensor(COUNTS, dtype=torch.float64)
    expected = (weights / weights.mean())[CLASSES] * cross_entropy(CLASS_LOGITS, CLASSES)
    per_example = class_balanced(CLASS_LOGITS, CLASSES, class_counts=COUNTS, beta=beta)
    torch.testing.assert_close(per_example, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("beta", [5e-324, 0.9999, 1 - 2**-53])
def test_class_balanced_is_finite_at_any_beta_and_any_count(beta):
    for counts in ((1, 10**12), (1, 1), (10**12, 10**12)):
        per_example = class_balanced(torch.zeros(2), torch.tensor([0, 1]), class_counts=counts, beta=beta)
        assert per_example.isfinite().all()
        assert per_example.mean().item() == pytest.approx(math.log(2))  # the weights' mean over classes is 1


@pytest.mark.parametrize("beta", [1.0, 1, -0.1, 1.5, math.nan, "much"])
def test_class_balanced_refuses_beta_outside_its_range(beta):
    with pytest.raises(ConfigError, match=r"loss\.beta="):
        class_balanced(LOGITS, LABELS, class_counts=(1, 1), beta=beta)


def test_class_balanced_refuses_a_class_without_examples():
    for beta in (0.0, 0.9999):
        with pytest.raises(ConfigError, match="class 4 has no example"):
            class_balanced(CLASS_LOGITS, CLASSES, class_counts=(5, 4, 3, 2, 0, 1), beta=beta)


@pytest.mark.parametrize("counts", [(), (5,), (5, 4, 3)])
def test_class_balanced_refuses_counts_of_other_classes(counts):
    with pytest.raises(ConfigError, match=f"{len(counts)} counts for 6 classes"):
        class_balanced(CLASS_LOGITS, CLASSES, class_counts=counts)
    with pytest.raises(ConfigError, match=f"{len(counts)} counts for 2 classes"):
        class_balanced(LOGITS, LABELS, class_counts=counts)


P = CLASS_LOGITS.softmax(-1).gather(1, CLASSES[:, None])[:, 0]


@pytest.mark.parametrize("q", [0.1, 0.5, 0.7, 1.0])
def test_gce_is_its_equation(q):
    same(gce(CLASS_LOGITS, CLASSES, q=q), (1 - P**q) / q)


def test_gce_by_default_is_at_7_tenths():
    same(gce(CLASS_LOGITS, CLASSES), (1 - P**0.7) / 0.7)


def test_gce_goes_over_into_cross_entropy():
    assert torch.equal(gce(CLASS_LOGITS, CLASSES, q=0.0), cross_entropy(CLASS_LOGITS, CLASSES))
    for q in (1e-12, 1e-300):
        same(gce(CLASS_LOGITS, CLASSES, q=q), cross_entropy(CLASS_LOGITS, CLASSES))
    near = gce(CLASS_LOGITS.float(), CLASSES, q=1e-6)  # 1 - p^q has no digits left here
    torch.testing.assert_close(near, cross_entropy(CLASS_LOGITS.float(), CLASSES), rtol=1e-4, atol=1e-6)


def test_gce_at_its_end_and_softmax_mae_are_the_absolute_error():
    error = (F.one_hot(CLASSES, 6) - CLASS_LOGITS.softmax(-1)).abs().sum(-1)
    same(softmax_mae(CLASS_LOGITS, CLASSES), error)
    same(2 * gce(CLASS_LOGITS, CLASSES, q=1.0), error)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_gce_refuses_other_q(q):
    with pytest.raises(ConfigError, match=r"loss\.q="):
        gce(CLASS_LOGITS, CLASSES, q=q)


def test_softmax_mae_of_all_labels_is_the_same_whatever_is_predicted():
    """What makes it robust: labels that are wrong alike for all classes add a constant."""
    each = torch.stack([softmax_mae(CLASS_LOGITS, torch.full((200,), label)) for label in range(6)])
    same(each.sum(0), torch.full((200,), 10.0, dtype=torch.float64))


@pytest.mark.parametrize(("alpha", "beta", "log_zero"), [(0.01, 1.0, -4.0), (6.0, 0.1, -4.0), (0.0, 2.0, -9.0)])
def test_sce_is_cross_entropy_and_its_reverse(alpha, beta, log_zero):
    label = F.one_hot(CLASSES, 6).double()
    p = CLASS_LOGITS.softmax(-1)
    reverse = -(p * torch.where(label > 0, 0.0, log_zero)).sum(-1)
    expected = alpha * -(label * p.log()).sum(-1) + beta * reverse
    same(sce(CLASS_LOGITS, CLASSES, alpha=alpha, beta=beta, log_zero=log_zero), expected)


def test_sce_by_default_is_as_for_mnist():
    same(sce(CLASS_LOGITS, CLASSES), 0.01 * cross_entropy(CLASS_LOGITS, CLASSES) + 4 * (1 - P))


def test_sce_of_one_part_is_that_part():
    same(sce(CLASS_LOGITS, CLASSES, alpha=3.0, beta=0.0), 3 * cross_entropy(CLASS_LOGITS, CLASSES))
    same(sce(CLASS_LOGITS, CLASSES, alpha=0.0, beta=0.5), softmax_mae(CLASS_LOGITS, CLASSES))  # ½·4·(1 − p) = 2·(1 − p)


@pytest.mark.parametrize("changed", [{"alpha": -1.0}, {"beta": -1.0}, {"log_zero": 0.0}], ids=str)
def test_sce_refuses_what_would_reward_mistakes(changed):
    (name,) = changed
    with pytest.raises(ConfigError, match=rf"loss\.{name}="):
        sce(CLASS_LOGITS, CLASSES, **changed)


ROBUST = [softmax_mae, gce, lambda z, y: gce(z, y, q=0.01), lambda z, y: gce(z, y, q=0.0), sce]


@pytest.mark.parametrize("loss", ROBUST)
@pytest.mark.parametrize("label", [0, 1])
def test_robust_losses_pull_finitely_where_p_reaches_0_and_1(loss, label):
    pair = torch.stack([torch.zeros_like(SURE), SURE], -1)
    assert slope(loss, pair, torch.full(SURE.shape, label)).isfinite().all()


def test_the_plain_power_of_gce_would_fail_there():
    pair = torch.stack([torch.zeros_like(SURE), SURE], -1)
    plain = slope(lambda z, y: (1 - z.softmax(-1)[torch.arange(6), y] ** 0.7) / 0.7, pair, torch.ones(6).long())
    assert not plain.isfinite().all()


@pytest.mark.parametrize(("eta", "p"), [(0.9, 0.6942), (0.99, 0.8464)])
def test_focal_is_underconfident_by_a_known_map(eta, p):
    z = minimiser(expected(lambda z, y: focal(z, y, gamma=2.0, alpha=None), eta))
    assert 1 / (1 + math.exp(-z)) == pytest.approx(p, abs=5e-4)


def test_focal_at_its_defaults_decides_at_three_quarters():
    assert minimiser(expected(focal, 0.75)) == pytest.approx(0, abs=1e-6)
    assert minimiser(expected(focal, 0.74)) < -1e-3
    assert minimiser(expected(focal, 0.76)) > 1e-3


@pytest.mark.parametrize("eta", [0.05, 0.5, 0.9])
def test_bce_minimiser_is_the_log_odds(eta):
    assert minimiser(expected(bce, eta)) == pytest.approx(math.log(eta / (1 - eta)), abs=1e-6)


def test_label_smoothing_without_smoothing_is_cross_entropy():
    same(label_smoothing(CLASS_LOGITS, CLASSES, epsilon=0.0), cross_entropy(CLASS_LOGITS, CLASSES))


def test_label_smoothing_is_its_equation():
    minus_log = -CLASS_LOGITS.log_softmax(-1)
    true = minus_log.gather(1, CLASSES[:, None])[:, 0]
    same(label_smoothing(CLASS_LOGITS, CLASSES, epsilon=0.3), 0.7 * true + 0.3 * minus_log.mean(-1))


def test_label_smoothing_is_content_below_certainty():
    def mean_loss(gap):
        return label_smoothing(torch.tensor([[gap] + [0.0] * 9], dtype=torch.float64), torch.tensor([0]), epsilon=0.1)

    gap = minimiser(mean_loss)
    assert gap == pytest.approx(4.5109, abs=5e-5)
    assert math.exp(gap) / (math.exp(gap) + 9) == pytest.approx(0.91, abs=1e-6)


def test_hinge_is_scikit_learns():
    signed_targets = 2 * LABELS - 1
    assert hinge(LOGITS, signed_targets).mean().item() == pytest.approx(metrics.hinge_loss(signed_targets, LOGITS))


def test_squared_hinge_is_the_square_of_the_hinge():
    same(squared_hinge(LOGITS, 2 * LABELS - 1), hinge(LOGITS, 2 * LABELS - 1) ** 2)


@pytest.mark.parametrize(("eta", "score"), [(0.3, -1), (0.7, 1)])
def test_hinge_minimiser_is_the_decision(eta, score):
    assert minimiser(expected(hinge, eta, negative=-1)) == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("eta", [0.1, 0.5, 0.8])
def test_squared_hinge_minimiser_tells_the_probability(eta):
    assert (1 + minimiser(expected(squared_hinge, eta, negative=-1))) / 2 == pytest.approx(eta, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "reference"), [(mse, metrics.mean_squared_error), (mae, metrics.mean_absolute_error)], ids=["mse", "mae"]
)
def test_regression_losses_are_scikit_learns(loss, reference):
    assert loss(PREDICTION, TARGET).mean().item() == pytest.approx(reference(TARGET, PREDICTION))


def test_wide_huber_is_half_of_mse():
    same(huber(PREDICTION, TARGET, delta=1e6), mse(PREDICTION, TARGET) / 2)


@pytest.mark.parametrize("delta", [1e-1, 1e-3, 1e-6])
def test_narrow_huber_is_mae(delta):
    gap = mae(PREDICTION, TARGET) - huber(PREDICTION, TARGET, delta=delta) / delta
    assert gap.max() <= delta / 2 * (1 + 1e-6)
    assert gap.min() > 0


def test_huber_is_torch_smooth_l1_times_delta():
    reference = 2.5 * F.smooth_l1_loss(PREDICTION, TARGET, beta=2.5, reduction="none").mean(-1)
    same(huber(PREDICTION, TARGET, delta=2.5), reference)


@pytest.mark.parametrize(("loss", "centre"), [(mse, np.mean), (mae, np.median)], ids=["mse-mean", "mae-median"])
def test_minimiser_is_the_centre(loss, centre):
    sample = np.random.default_rng(0).exponential(size=101)
    target = torch.tensor(sample)[:, None]
    found = minimiser(lambda c: loss(torch.full_like(target, c), target).mean())
    assert found == pytest.approx(centre(sample), abs=1e-4)
    assert abs(np.mean(sample) - np.median(sample)) > 0.1  # else the two could not be told apart
