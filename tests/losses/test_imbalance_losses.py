"""Losses that know how many examples a class has, against their authors' code and each other."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from lossbench.core import ConfigError
from lossbench.losses.classification import bce, cross_entropy
from lossbench.losses.imbalance import asymmetric, class_balanced, class_weighted, focal, ldam, logit_adjusted

RANDOM = np.random.default_rng(11)
LOGITS = torch.tensor(3 * RANDOM.standard_normal(200))
LABELS = torch.tensor(RANDOM.integers(0, 2, 200))
CLASS_LOGITS = torch.tensor(2 * RANDOM.standard_normal((200, 6)))
CLASSES = torch.tensor(RANDOM.integers(0, 6, 200))
PAIR = torch.stack([torch.zeros_like(LOGITS), LOGITS], -1)
COUNTS = (5000, 2997, 1796, 60, 3, 1)
COUNTING = pytest.mark.parametrize("loss", [class_balanced, class_weighted, ldam, logit_adjusted])


def same(per_example, reference):
    torch.testing.assert_close(per_example, torch.as_tensor(reference), rtol=1e-10, atol=1e-12)


def labels_of(counts):
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def test_class_weights_are_scikit_learns():
    labels = labels_of(COUNTS)
    weight = torch.tensor(compute_class_weight("balanced", classes=np.arange(6), y=labels.numpy()))
    reference = F.cross_entropy(CLASS_LOGITS, CLASSES, weight=weight, reduction="none")
    same(class_weighted(CLASS_LOGITS, CLASSES, class_counts=COUNTS), reference)


def test_class_weighted_costs_log_k_where_nothing_is_known():
    labels = labels_of(COUNTS)
    per_example = class_weighted(torch.zeros(len(labels), 6, dtype=torch.float64), labels, class_counts=COUNTS)
    assert per_example.mean().item() == pytest.approx(math.log(6), rel=1e-12)
    for label in range(6):
        assert per_example[labels == label].sum().item() == pytest.approx(len(labels) / 6 * math.log(6), rel=1e-12)
    labels = labels_of((990, 10))
    per_example = class_weighted(torch.zeros(1000, dtype=torch.float64), labels, class_counts=(990, 10))
    assert per_example.mean().item() == pytest.approx(math.log(2), rel=1e-12)


def test_class_weighted_is_class_balanced_at_its_end_but_for_the_scale():
    ratio = class_balanced(CLASS_LOGITS, CLASSES, class_counts=COUNTS, beta=0.9999999999999) / class_weighted(
        CLASS_LOGITS, CLASSES, class_counts=COUNTS
    )
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)


def authors_ldam(x, target, counts, max_m, s):
    """The authors' code, LDAMLoss of losses.py, without what it does to have it on a GPU."""
    m_list = 1.0 / np.sqrt(np.sqrt(counts))
    m_list = torch.tensor(m_list * (max_m / np.max(m_list)))
    index = torch.zeros_like(x, dtype=torch.bool)
    index.scatter_(1, target.view(-1, 1), True)
    batch_m = torch.matmul(m_list[None, :], index.double().transpose(0, 1)).view((-1, 1))
    output = torch.where(index, x - batch_m, x)
    return F.cross_entropy(s * output, target, reduction="none")


@pytest.mark.parametrize(("max_margin", "scale"), [(0.5, 30.0), (2.0, 1.0)])
def test_ldam_is_the_authors_code(max_margin, scale):
    per_example = ldam(CLASS_LOGITS, CLASSES, class_counts=COUNTS, max_margin=max_margin, scale=scale)
    same(per_example, authors_ldam(CLASS_LOGITS, CLASSES, COUNTS, max_margin, scale))
    pair = authors_ldam(PAIR, LABELS, (500, 9), max_margin, scale)
    torch.testing.assert_close(  # which has no digits of p near 1
        ldam(LOGITS, LABELS, class_counts=(500, 9), max_margin=max_margin, scale=scale), pair, rtol=1e-8, atol=1e-13
    )


def test_ldam_by_default_is_the_papers():
    same(ldam(CLASS_LOGITS, CLASSES, class_counts=COUNTS), authors_ldam(CLASS_LOGITS, CLASSES, COUNTS, 0.5, 30))


def test_ldam_gives_the_rarest_class_the_whole_margin():
    """Counts 16 and 1: their fourth roots are as 2 to 1."""
    at = torch.tensor([0.25, -0.5], dtype=torch.float64)  # just at the margins of class 1, of 1, and of class 0, of 16
    per_example = ldam(torch.tensor([0.5, -0.25]).double(), torch.tensor([1, 0]), class_counts=(16, 1))
    assert per_example.tolist() == pytest.approx([math.log(2)] * 2)
    assert (ldam(at, torch.tensor([1, 0]), class_counts=(16, 1)) - per_example).tolist()[0] > 1


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjusted_is_its_equation(tau):
    prior = np.array(COUNTS) / sum(COUNTS)
    e = np.exp(CLASS_LOGITS.numpy()) * prior**tau
    p = e[np.arange(200), CLASSES.numpy()] / e.sum(-1)
    same(logit_adjusted(CLASS_LOGITS, CLASSES, class_counts=COUNTS, tau=tau), -np.log(p))


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_logit_adjusted_of_two_classes_is_that_of_one_logit(tau):
    one = logit_adjusted(LOGITS, LABELS, class_counts=(500, 9), tau=tau)
    same(logit_adjusted(PAIR, LABELS, class_counts=(500, 9), tau=tau), one)


def test_logit_adjusted_learns_logits_of_classes_equally_frequent():
    """Of 500 and 20, a share η positive: σ of its minimiser is η where both weigh the same, here 1/2."""
    eta = 20 / 520

    def mean_loss(z):
        at = torch.tensor([z, z], dtype=torch.float64)
        negative, positive = logit_adjusted(at, torch.tensor([0, 1]), class_counts=(500, 20))
        return float(eta * positive + (1 - eta) * negative)

    found = minimize_scalar(mean_loss, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9}).x
    assert found == pytest.approx(0, abs=1e-6)


@COUNTING
def test_counts_stay_with_their_classes(loss):
    """Under other names of the classes, their logits and counts renamed alike, nothing changes."""
    names = torch.tensor([3, 0, 5, 1, 4, 2])  # what was class names[k] is now class k
    counts = tuple(COUNTS[k] for k in names)
    per_example = loss(CLASS_LOGITS, CLASSES, class_counts=COUNTS)
    same(loss(CLASS_LOGITS[:, names], names.argsort()[CLASSES], class_counts=counts), per_example)
    assert not torch.allclose(loss(CLASS_LOGITS, CLASSES, class_counts=counts), per_example)
    one = loss(LOGITS, LABELS, class_counts=(500, 9))
    same(loss(-LOGITS, 1 - LABELS, class_counts=(9, 500)), one)
    same(loss(LOGITS, LABELS.double(), class_counts=(500, 9)), one)


@COUNTING
def test_equal_counts_treat_classes_alike(loss):
    pair = torch.stack([loss(CLASS_LOGITS, CLASSES, class_counts=(n,) * 6) for n in (1, 700)])
    same(pair[0], pair[1])
    if loss is not ldam:
        same(pair[0], cross_entropy(CLASS_LOGITS, CLASSES))


@COUNTING
def test_classes_without_examples_or_counts_are_refused(loss):
    with pytest.raises(ConfigError, match="class 4 has no example"):
        loss(CLASS_LOGITS, CLASSES, class_counts=(5, 4, 3, 2, 0, 1))
    with pytest.raises(ConfigError, match="class 1 has no example"):
        loss(LOGITS, LABELS, class_counts=(5, 0))
    with pytest.raises(ConfigError, match="5 counts for 6 classes"):
        loss(CLASS_LOGITS, CLASSES, class_counts=(5, 4, 3, 2, 1))


@pytest.mark.parametrize(
    ("loss", "changed"),
    [(ldam, {"max_margin": 0.0, "scale": 1.0}), (logit_adjusted, {"tau": 0.0}), (class_balanced, {"beta": 0.0})],
)
def test_without_its_idea_it_is_cross_entropy(loss, changed):
    same(loss(CLASS_LOGITS, CLASSES, class_counts=COUNTS, **changed), cross_entropy(CLASS_LOGITS, CLASSES))
    same(loss(LOGITS, LABELS, class_counts=(500, 9), **changed), bce(LOGITS, LABELS))


def authors_asymmetric(x, y, gamma_neg, gamma_pos, clip):
    """The authors' code, AsymmetricLoss of losses.py, without its clamp of logarithms, its sum, and its detachment."""
    xs_pos = 1 / (1 + np.exp(-x))
    xs_neg = 1 - xs_pos
    if clip > 0:
        xs_neg = np.minimum(xs_neg + clip, 1)
    loss = y * np.log(xs_pos) + (1 - y) * np.log(xs_neg)
    pt = xs_pos * y + xs_neg * (1 - y)
    return -loss * (1 - pt) ** (gamma_pos * y + gamma_neg * (1 - y))


@pytest.mark.parametrize(("gamma_neg", "gamma_pos", "clip"), [(4.0, 1.0, 0.05), (2.0, 0.0, 0.0), (0.5, 3.0, 0.3)])
def test_asymmetric_is_the_authors_code(gamma_neg, gamma_pos, clip):
    per_example = asymmetric(LOGITS, LABELS, gamma_neg=gamma_neg, gamma_pos=gamma_pos, clip=clip)
    reference = authors_asymmetric(LOGITS.numpy(), LABELS.numpy(), gamma_neg, gamma_pos, clip)
    torch.testing.assert_close(per_example, torch.tensor(reference), rtol=1e-8, atol=1e-12)
    assert (LOGITS[LABELS == 0].sigmoid() < 0.05).any()


def test_asymmetric_by_default_is_the_papers():
    reference = authors_asymmetric(LOGITS.numpy(), LABELS.numpy(), 4, 1, 0.05)
    torch.testing.assert_close(asymmetric(LOGITS, LABELS), torch.tensor(reference), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_asymmetric_alike_for_both_is_focal(gamma):
    per_example = asymmetric(LOGITS, LABELS, gamma_neg=gamma, gamma_pos=gamma, clip=0.0)
    same(per_example, focal(LOGITS, LABELS, gamma=gamma, alpha=None))


@pytest.mark.parametrize("clip", [0.0, 1e-12, 0.05, 0.3])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 4.0])
def test_asymmetric_pulls_finitely_at_and_about_its_clip(gamma, clip):
    at = math.log(clip / (1 - clip)) if clip else -30.0
    z = torch.tensor([-1e4, -200.0, *(at + d for d in (-1e-6, -1e-7, 0, 1e-7, 1e-6)), 0.0, 200.0, 1e4])
    for y in (0, 1):
        logits = z.clone().requires_grad_()
        per_example = asymmetric(logits, torch.full((10,), y), gamma_neg=gamma, gamma_pos=gamma, clip=clip)
        (gradient,) = torch.autograd.grad(per_example.sum(), logits)
        assert per_example.isfinite().all()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "changed"),
    [
        (asymmetric, {"gamma_neg": -1.0}),
        (asymmetric, {"gamma_pos": math.inf}),
        (asymmetric, {"clip": 1.0}),
        (ldam, {"max_margin": -0.1}),
        (ldam, {"scale": 0.0}),
        (logit_adjusted, {"tau": -1.0}),
    ],
)
def test_settings_without_sense_are_refused(loss, changed):
    (name,) = changed
    counts = {} if loss is asymmetric else {"class_counts": (5, 4)}
    with pytest.raises(ConfigError, match=rf"loss\.{name}="):
        loss(LOGITS, LABELS, **counts, **changed)
