"""Losses for wrong labels against their papers' formulas in plain numbers, and where one goes over into another."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lossbench.core import ConfigError
from lossbench.losses.classification import brier, cross_entropy
from lossbench.losses.noise import agce, bi_tempered, gce, nce, nce_rce, rce, sce, softmax_mae

RANDOM = np.random.default_rng(13)
LOGITS = torch.tensor(2 * RANDOM.standard_normal((60, 6)))
CLASSES = torch.tensor(RANDOM.integers(0, 6, 60))
LABEL = F.one_hot(CLASSES, 6).double().numpy()
P = LOGITS.softmax(-1).numpy()
PY = (P * LABEL).sum(-1)


def same(per_example, reference, rtol=1e-10):
    torch.testing.assert_close(per_example, torch.as_tensor(reference), rtol=rtol, atol=1e-12)


def authors_nce(p, label):
    return -(label * np.log(p)).sum(-1) / -np.log(p).sum(-1)


def authors_rce(p, label):
    return -(p * np.log(label.clip(min=1e-4))).sum(-1)


def test_nce_is_the_authors_code():
    same(nce(LOGITS, CLASSES), authors_nce(P, LABEL))


def test_rce_is_the_authors_code():
    same(rce(LOGITS, CLASSES, log_zero=math.log(1e-4)), authors_rce(P, LABEL))
    same(rce(LOGITS, CLASSES), authors_rce(P, LABEL), rtol=1e-5)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 10.0), (10.0, 0.1)])
def test_nce_rce_is_the_authors_code(alpha, beta):
    reference = alpha * authors_nce(P, LABEL) + beta * authors_rce(P, LABEL)
    same(nce_rce(LOGITS, CLASSES, alpha=alpha, beta=beta, log_zero=math.log(1e-4)), reference)


def test_nce_rce_by_default_is_as_for_mnist():
    same(nce_rce(LOGITS, CLASSES), authors_nce(P, LABEL) + 10 * authors_rce(P, LABEL), rtol=1e-5)


@pytest.mark.parametrize(("loss", "total"), [(nce, 1.0), (rce, 9.2103 * 5), (nce_rce, 1 + 10 * 9.2103 * 5)])
def test_all_labels_together_cost_the_same_whatever_is_predicted(loss, total):
    each = torch.stack([loss(LOGITS, torch.full((60,), label)) for label in range(6)])
    same(each.sum(0), torch.full((60,), total, dtype=torch.float64))


def test_rce_is_softmax_mae_at_another_learning_rate():
    same(rce(LOGITS, CLASSES), 9.2103 / 2 * softmax_mae(LOGITS, CLASSES))
    same(rce(LOGITS, CLASSES, log_zero=-4.0), sce(LOGITS, CLASSES, alpha=0.0))


def test_nce_rce_of_one_part_is_that_part():
    same(nce_rce(LOGITS, CLASSES, alpha=3.0, beta=0.0), 3 * nce(LOGITS, CLASSES))
    same(nce_rce(LOGITS, CLASSES, alpha=0.0, beta=2.0), 2 * rce(LOGITS, CLASSES))


@pytest.mark.parametrize(("a", "q"), [(4.0, 0.2), (0.6, 0.6), (6.0, 1.5), (1e-9, 0.5)])
def test_agce_is_its_equation(a, q):
    same(agce(LOGITS, CLASSES, a=a, q=q), ((a + 1) ** q - (a + PY) ** q) / q)


def test_agce_by_default_is_as_for_mnist():
    same(agce(LOGITS, CLASSES), (5**0.2 - (4 + PY) ** 0.2) / 0.2)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_agce_without_its_shift_is_gce(q):
    same(agce(LOGITS, CLASSES, a=0.0, q=q), gce(LOGITS, CLASSES, q=q))


@pytest.mark.parametrize("a", [0.0, 0.5, 4.0])
def test_agce_at_q_1_is_the_absolute_error(a):
    same(2 * agce(LOGITS, CLASSES, a=a, q=1.0), softmax_mae(LOGITS, CLASSES))


@pytest.mark.parametrize(("a", "q", "enough"), [(4.0, 0.2, 1.25**0.8), (0.6, 0.6, (1.6 / 0.6) ** 0.4), (1.0, 2.0, 1.0)])
def test_agce_gives_all_of_p_to_a_label_that_is_likely_enough(a, q, enough):
    p = torch.linspace(1e-6, 1 - 1e-6, 4001, dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()], -1)
    right, wrong = (agce(logits, torch.full((4001,), label), a=a, q=q) for label in (0, 1))
    assert p[(enough * 1.01 * right + wrong).argmin()] == p[-1]
    assert p[(enough * 0.95 * right + wrong).argmin()] < 0.95


def log_t(x, t):
    return np.log(x) if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def exp_t(x, t):
    return np.exp(x) if t == 1 else np.maximum(0, 1 + (1 - t) * x) ** (1 / (1 - t))


def tempered_softmax(z, t):
    """The normaliser by halving an interval, in the longest numbers that there are."""
    z = z.astype(np.longdouble)
    low, high = z.max(-1, keepdims=True), z.max(-1, keepdims=True) - log_t(np.longdouble(1) / z.shape[-1], t)
    for _ in range(120):
        middle = (low + high) / 2
        above = exp_t(z - middle, t).sum(-1, keepdims=True) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return exp_t(z - (low + high) / 2, t)


def papers_bi_tempered(z, label, t1, t2):
    p = tempered_softmax(z, t2)
    if t1 == 1:
        return (-label * np.log(p)).sum(-1).astype(float)
    own = label * (log_t(label, t1) - log_t(p, t1)) - (label ** (2 - t1) - p ** (2 - t1)) / (2 - t1)
    return own.sum(-1).astype(float)


TEMPERATURES = [(0.8, 1.2), (0.2, 4.0), (1.0, 1.3), (0.5, 1.0), (0.0, 2.0), (0.9, 1.05)]


@pytest.mark.parametrize(("t1", "t2"), TEMPERATURES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 1e4])
def test_bi_tempered_is_the_papers_equation(t1, t2, scale):
    if t2 == 1 and scale == 1e4:
        scale = 100.0  # beyond, the reference has nothing left of p
    logits = scale * LOGITS
    reference = papers_bi_tempered(logits.numpy(), LABEL, t1, t2)
    same(bi_tempered(logits, CLASSES, t1=t1, t2=t2), reference, rtol=1e-9)


def test_bi_tempered_of_many_classes_is_the_papers_equation():
    logits = 10 * RANDOM.standard_normal((9, 1000))
    targets = torch.arange(9) * 100
    reference = papers_bi_tempered(logits, F.one_hot(targets, 1000).numpy(), 0.8, 1.2)
    same(bi_tempered(torch.tensor(logits), targets), reference, rtol=1e-9)


@pytest.mark.parametrize(("t1", "t2"), TEMPERATURES)
def test_bi_tempered_has_the_papers_gradient(t1, t2):
    """(p − y)·p^(t2 − t1) − p^t2/Σp^t2·Σ(p − y)·p^(t2 − t1), as the authors' code has it in its backward pass."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(bi_tempered(logits, CLASSES, t1=t1, t2=t2).sum(), logits)
    p = tempered_softmax(LOGITS.numpy(), t2)
    pull = (p - LABEL) * p ** (t2 - t1)
    escort = p**t2 / (p**t2).sum(-1, keepdims=True)
    same(gradient, (pull - escort * pull.sum(-1, keepdims=True)).astype(float), rtol=1e-8)


@pytest.mark.parametrize(("t1", "t2"), [*TEMPERATURES, (1.0, 1 + 1e-9)])
def test_bi_tempered_gradient_is_the_slope(t1, t2):
    logits = LOGITS[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: bi_tempered(z, CLASSES[:4], t1=t1, t2=t2), logits)


def test_bi_tempered_goes_over_into_cross_entropy():
    same(bi_tempered(LOGITS, CLASSES, t1=1.0, t2=1.0), cross_entropy(LOGITS, CLASSES))
    for near in (1e-9, 1e-13):
        per_example = bi_tempered(LOGITS, CLASSES, t1=1 - near, t2=1 + near)
        same(per_example, cross_entropy(LOGITS, CLASSES), rtol=1e-6)


def test_bi_tempered_at_its_other_end_is_half_of_the_brier_score():
    same(2 * bi_tempered(LOGITS, CLASSES, t1=0.0, t2=1.0), brier(LOGITS, CLASSES))


@pytest.mark.parametrize("t1", [0.2, 0.8])
def test_bi_tempered_is_bounded(t1):
    per_example = bi_tempered(torch.tensor([[0.0, 1e30]], dtype=torch.float64), torch.tensor([0]), t1=t1)
    limit = 1 / (1 - t1)
    assert per_example.item() <= limit
    assert per_example.item() == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("loss", [nce, rce, nce_rce, agce, bi_tempered])
def test_a_gradient_may_be_taken_example_by_example(loss):
    def one(z, y):
        return loss(z[None], y[None])[0]

    (expected,) = torch.autograd.grad(loss(logits := LOGITS.clone().requires_grad_(), CLASSES).sum(), logits)
    same(torch.func.vmap(torch.func.grad(one))(LOGITS, CLASSES), expected)


@pytest.mark.parametrize(
    ("loss", "changed"),
    [
        (rce, {"log_zero": 0.0}),
        (nce_rce, {"alpha": -1.0}),
        (nce_rce, {"beta": -1.0}),
        (nce_rce, {"log_zero": 1.0}),
        (agce, {"a": -0.1}),
        (agce, {"q": 0.0}),
        (bi_tempered, {"t1": 1.1}),
        (bi_tempered, {"t1": -0.1}),
        (bi_tempered, {"t2": 0.9}),
        (bi_tempered, {"t2": math.inf}),
    ],
)
def test_settings_without_sense_are_refused(loss, changed):
    (name,) = changed
    with pytest.raises(ConfigError, match=rf"loss\.{name}="):
        loss(LOGITS, CLASSES, **changed)
