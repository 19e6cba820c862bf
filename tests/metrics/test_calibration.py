"""Calibration and thresholds against brute force and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score

from lossbench.metrics import best_f1_threshold, expected_calibration_error, temperature


def binned_by_hand(confidence, correct, bins):
    total = 0.0
    for k in range(bins):
        inside = [(c, r) for c, r in zip(confidence, correct, strict=True) if k / bins < c <= (k + 1) / bins]
        if inside:
            c, r = np.mean(inside, axis=0)
            total += len(inside) / len(confidence) * abs(c - r)
    return total


def nll(logits, targets, t):
    pairs = np.stack([np.zeros_like(logits), logits], -1) if logits.ndim == 1 else logits
    return -log_softmax(pairs / t, axis=1)[np.arange(len(targets)), targets].mean()


def noisy(n, classes, true_temperature, seed=0):
    """Logits, and labels drawn with the probabilities that the logits have at a temperature."""
    random = np.random.default_rng(seed)
    logits = 3 * random.standard_normal((n, classes))
    p = softmax(logits / true_temperature, axis=1)
    return logits, (p.cumsum(1) > random.random((n, 1))).argmax(1)


def test_ece_is_torchmetrics_for_classes():
    from lossbench.core.vision import torchvision  # noqa: F401, I001 (torchmetrics imports it)
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, targets = noisy(700, 4, 2.0)
    p = torch.tensor(logits).softmax(-1)
    reference = multiclass_calibration_error(p, torch.tensor(targets), num_classes=4, n_bins=15, norm="l1")
    confidence, guess = p.max(1)
    found = expected_calibration_error(confidence.numpy(), guess.numpy() == targets)
    assert found == pytest.approx(reference.item(), rel=1e-5)
    assert found > 0.05


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 999), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([1, 4, 10, 15]),
)
def test_ece_is_a_loop_over_bins(pairs, bins):
    confidence = np.array([(c + 0.37) / 1000 for c, _ in pairs])  # between the edges of every bin
    correct = np.array([r for _, r in pairs])
    reference = binned_by_hand(confidence, correct, bins)
    assert expected_calibration_error(confidence, correct, bins=bins) == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize(
    ("confidence", "correct", "ece"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [False, False], 1.0),
        ([0.0, 0.0], [True, True], 1.0),
        ([0.75] * 4, [True, True, True, False], 0.0),
        ([0.9, 0.1], [False, True], 0.9),
    ],
)
def test_ece_of_known_cases(confidence, correct, ece):
    assert expected_calibration_error(np.array(confidence), np.array(correct)) == pytest.approx(ece, abs=1e-12)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 6.0])
def test_temperature_is_the_best_of_a_grid(binary, true_temperature):
    logits, targets = noisy(300, 2 if binary else 5, true_temperature)
    logits = logits[:, 1] - logits[:, 0] if binary else logits
    grid = np.geomspace(0.02, 50, 4001)
    costs = [nll(logits, targets, t) for t in grid]
    found = temperature(logits, targets)
    assert nll(logits, targets, found) <= min(costs) + 1e-12
    assert found == pytest.approx(grid[np.argmin(costs)], rel=3e-3)


@pytest.mark.parametrize("scale", [0.2, 3.0, 10.0])
def test_temperature_undoes_a_scale(scale):
    logits, targets = noisy(400, 3, 1.0)
    assert temperature(scale * logits, targets) == pytest.approx(scale * temperature(logits, targets), rel=1e-4)


@pytest.mark.parametrize("true_temperature", [0.5, 2.5])
def test_temperature_recovers_the_truth(true_temperature):
    assert temperature(*noisy(20_000, 4, true_temperature)) == pytest.approx(true_temperature, rel=0.05)


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e4])
def test_temperature_is_finite_where_logits_separate_the_classes(magnitude):
    logits = magnitude * np.array([-2.0, -1.0, 1.0, 2.0], dtype=np.float32)
    assert 0.02 <= temperature(logits, np.array([0, 0, 1, 1])) <= 50
    assert 0.02 <= temperature(logits, np.array([1, 1, 0, 0])) <= 50


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 1)), min_size=1, max_size=40))
def test_threshold_is_the_best_of_all(pairs):
    scores = np.array([s / 3 for s, _ in pairs], dtype=np.float32)
    targets = np.array([y for _, y in pairs])
    threshold = best_f1_threshold(scores, targets)
    assert threshold in scores
    best = max(f1_score(targets, scores >= s, zero_division=0) for s in scores)
    assert f1_score(targets, scores >= threshold, zero_division=0) == pytest.approx(best, abs=1e-12)


def test_threshold_where_nothing_is_positive_is_the_highest_score():
    assert best_f1_threshold(np.array([0.5, 2.0, -1.0]), np.zeros(3, dtype=int)) == 2.0


def test_threshold_separates_classes_that_can_be_separated():
    scores, targets = np.array([-3.0, -2.0, 1.5, 4.0]), np.array([0, 0, 1, 1])
    assert best_f1_threshold(scores, targets) == 1.5


@pytest.mark.parametrize("classes", [2, 3])
def test_examples_that_are_all_right_say_nothing_of_the_temperature(classes):
    random = np.random.default_rng(0)
    targets = random.integers(classes, size=30)
    logits = random.normal(size=(30, classes)) + 9 * np.eye(classes)[targets]
    if classes == 2:
        logits = logits[:, 1] - logits[:, 0]
    assert temperature(logits, targets) == 1
    wrong = targets.copy()
    wrong[0] = (wrong[0] + 1) % classes
    assert temperature(logits, wrong) > 1
    assert temperature(logits, wrong, weights=np.arange(30) > 0) == 1
