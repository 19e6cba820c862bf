"""Curves are the product's own losses, and their gradients the slopes of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lossbench.config import catalogue
from lossbench.config.schema import CONFIGS
from lossbench.config.task_types import load
from lossbench.gallery import curves
from lossbench.gallery.knobs import knobs, through
from lossbench.gallery.views import views

ENTRIES = catalogue.losses([CONFIGS])
BY_NAME = {entry.name: entry for entry in ENTRIES}
VIEWED = [(entry, view) for entry in ENTRIES for view in views(entry)]
STEP, JUMP = 1e-6, 1e4
HELD = {"circle": "its weights of pairs have no gradient, as in the paper"}


def slopes(loss, case, x):
    """Quotients of differences to the left and to the right of each x."""
    moved = [torch.tensor(x, dtype=torch.float64, requires_grad=True) + s for s in (0, -STEP, STEP)]
    there, left, right = (curves.values(loss, case, at).detach().numpy() for at in moved)
    return (there - left) / STEP, (right - there) / STEP


@pytest.mark.parametrize(("entry", "view"), VIEWED, ids=[f"{entry.name}-{view.name}" for entry, view in VIEWED])
def test_a_gradient_lies_between_the_slopes_on_either_side(entry, view):
    loss = curves.built(entry, view.task_type, {})
    off = 0
    for name, case in view.cases.items():
        x = view.x[::7]
        value, gradient = curves.curve(loss, case, x)
        left, right = slopes(loss, case, x)
        low, high = np.minimum(left, right), np.maximum(left, right)
        room = 1e-4 * (1 + np.abs(gradient)) + 1e-10 * np.abs(value) / STEP
        whole = high - low < JUMP  # a mined loss jumps where a triplet comes or goes
        wrong = whole & ((gradient < low - room) | (gradient > high + room))
        assert np.isfinite(value).all(), name
        assert np.isfinite(gradient).all(), name
        assert whole.mean() > 0.8
        assert entry.name in HELD or not wrong.any(), (name, np.array(x)[wrong])
        off += wrong.sum()
    assert (off > 0) == (entry.name in HELD)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_loss_is_drawn(entry):
    assert any(load(task_type).views(False, False) for task_type in entry.task_types)
    assert views(entry)
    view = views(entry)[0]
    made = curves.drawing(entry, view)
    values, gradients = made.default
    assert values.shape == gradients.shape == (len(view.cases), len(made.x))
    assert made.values.shape == (*(len(knob.values) for knob in made.knobs), len(view.cases), len(made.x))
    assert np.isfinite(values).all()
    assert np.isfinite(made.values).mean() > 0.5
    assert not made.flat or any(not curves.drawing(entry, other).flat for other in views(entry)[1:])


def usual(name, view=0):
    made = curves.drawings(BY_NAME[name])[view]
    return np.array(made.x), *made.default


def test_known_losses_are_drawn_as_they_are_known():
    x, value, gradient = usual("mse")
    np.testing.assert_allclose(value[0], x**2)
    np.testing.assert_allclose(gradient[0], 2 * x)
    x, value, gradient = usual("bce")
    for row, label in enumerate((1.0, 0.0)):
        z = torch.tensor(x)
        expected = F.binary_cross_entropy_with_logits(z, torch.full_like(z, label), reduction="none")
        np.testing.assert_allclose(value[row], expected)
        np.testing.assert_allclose(gradient[row], 1 / (1 + np.exp(-x)) - label, atol=1e-12)
    x, value, _ = usual("hinge")
    np.testing.assert_allclose(value, [np.maximum(0, 1 - x), np.maximum(0, 1 + x)])
    x, value, _ = usual("cross_entropy")
    np.testing.assert_allclose(value[0], np.log1p(9 * np.exp(-x)))
    np.testing.assert_allclose(value[1], np.log(1 + np.exp(-x) + 8 * np.exp(-6 - x)))
    x, value, _ = usual("kl")
    np.testing.assert_allclose(value[0], x**2 / 2, atol=1e-12)


def test_each_setting_of_a_slider_has_its_own_curve():
    made = curves.drawings(BY_NAME["huber"])[0]
    (knob,) = made.knobs
    assert (knob.name, knob.values[knob.at]) == ("delta", 1.0)
    x = torch.tensor(made.x, dtype=torch.float64)
    for delta, value in zip(knob.values, made.values, strict=True):
        np.testing.assert_allclose(value[0], F.huber_loss(x, 0 * x, reduction="none", delta=delta))


def test_a_parameter_that_changes_no_slope_has_no_slider():
    focal = {d.view.name: [knob.name for knob in d.knobs] for d in curves.drawings(BY_NAME["focal"])}
    assert focal == {"binary": ["gamma", "alpha"], "multiclass": ["gamma"]}
    wgan = {d.view.name: [knob.name for knob in d.knobs] for d in curves.drawings(BY_NAME["wgan"])}
    assert wgan == {"scores": [], "slope": ["r1"]}  # clip is of weights, and no picture has any


def test_words_are_chosen_and_numbers_slid():
    turned = {knob.name: knob for knob in knobs(BY_NAME["triplet"], "embedding")}
    assert turned["miner"].words
    assert turned["miner"].values[turned["miner"].at] == "semihard"
    assert not turned["margin"].words


@pytest.mark.parametrize(
    ("low", "high", "usual"), [(0.1, 10.0, 1.0), (0.0, 5.0, 2.0), (1.0, 1000.0, 1.0), (0.0, 1.0, 3)]
)
def test_a_range_is_gone_through_from_end_to_end_by_way_of_the_default(low, high, usual):
    values = through(low, high, 9, usual)
    assert list(values) == sorted(values)
    assert {low, high, usual} <= set(values)
    assert 9 <= len(values) <= 10


def test_a_default_that_is_no_number_comes_first():
    assert through(0.0, 1.0, 3, "auto") == ("auto", 0.0, 0.5, 1.0)
    assert through(0.0, 1.0, 3, None) == (None, 0.0, 0.5, 1.0)
