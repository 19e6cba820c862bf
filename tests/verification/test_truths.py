"""Every truth holds, and none of them holds of a loss that is something else than it says."""

from __future__ import annotations

import math

import pytest
import torch
from losses import wrong
from verification import faults

from lossbench.analysis import stats
from lossbench.core import ConfigError
from lossbench.verification import TRUTHS, Losses, location, sureness
from lossbench.verification.claims import above, below, near
from lossbench.verification.verify import chosen, examined

BY_NAME = {truth.name: truth for truth in TRUTHS}
WRONG = [  # truth; of each name in the catalogue, what stands for it and how the findings that fail begin
    (
        "minimum",
        {
            "mae": (faults.squared, "mae: the median"),
            "mse": (wrong.wrong_sign, "mse"),
            "label_smoothing": (faults.reversed_smoothing, "label_smoothing"),
        },
    ),
    ("focal", {"focal": (faults.focal_of_the_other_sign, "γ=2, α=.25")}),
    ("symmetric_noise", {"softmax_mae": (faults.cross_entropy, "softmax_mae")}),
    (
        "multiclass_hinge",
        {
            "crammer_singer": (faults.cross_entropy, "crammer_singer"),
            "multi_margin": (faults.not_a_number, "multi_margin"),
        },
    ),
    ("dice", {"bce": (faults.dice_for_bce, "bce")}),
    ("discriminator", {"minimax": (faults.HalfMinimax, "minimax")}),
    ("linear_autoencoder", {"mse": (faults.absolute, "mse")}),
    ("invariance", {"brier": (faults.labels_swapped, "brier")}),
    ("class_counts", {"class_weighted": (faults.one_more_of_each, "class_weighted")}),
    (
        "class_counts",
        {
            "class_weighted": (wrong.counts_off_by_one, "class_weighted"),
            "class_balanced": (faults.balanced_by_the_next_class, "class_balanced"),
        },
    ),
]


def path_of(loss):
    return f"{loss.__module__}.{loss.__qualname__}"


@pytest.mark.parametrize("truth", [pytest.param(t, id=t.name, marks=pytest.mark.slow) for t in TRUTHS])
def test_holds(truth):
    outcome = examined(truth)
    assert not outcome.fault
    assert outcome.findings
    assert [finding for finding in outcome.findings if not finding.holds] == []


@pytest.mark.parametrize(
    ("name", "instead"), WRONG, ids=lambda given: given if isinstance(given, str) else "-".join(given)
)
def test_wrong_losses_make_their_truth_fail(name, instead):
    """Each in the findings that are of it, and in no other."""
    outcome = examined(BY_NAME[name], Losses({stands_for: path_of(loss) for stands_for, (loss, _) in instead.items()}))
    assert not outcome.fault
    assert not outcome.holds
    failed = [finding.what for finding in outcome.findings if not finding.holds]
    starts = tuple(start for _, start in instead.values())
    assert [start for start in starts if not any(what.startswith(start) for what in failed)] == []
    assert [what for what in failed if not what.startswith(starts)] == []


def test_a_verdict_that_takes_splits_of_one_data_set_for_independent_fails(monkeypatch):
    by_seed = stats.differences
    monkeypatch.setattr(sureness, "SETS", 100)
    monkeypatch.setattr(sureness.stats, "differences", lambda *args, overlap, **more: by_seed(*args, **more))
    assert not examined(BY_NAME["same"]).holds


def test_a_loss_that_is_not_robust_is_not_as_efficient_as_it_should_be(monkeypatch):
    monkeypatch.setattr(location, "GAUSSIAN", {"mae": {"": 0.6366}})
    monkeypatch.setattr(location, "REPLICAS", 4)
    outcome = examined(BY_NAME["efficiency"], Losses({"mae": path_of(faults.squared)}))
    assert [round(finding.measured, 3) for finding in outcome.findings] == [1.0]
    assert not outcome.holds


@pytest.mark.parametrize(("name", "setting"), [("mae", ""), ("huber", "delta=1.345"), ("tukey", "c=4.685")])
def test_the_optimiser_leaves_no_error_that_counts(name, setting, monkeypatch):
    """Half the rate gives the same variance to four digits, and the median and the mean are those of the samples."""
    monkeypatch.setattr(location, "REPLICAS", 4)
    sample = location.samples(0.1, 3.0)
    once, half = (location.estimates(Losses(), name, setting, sample, rate).square().mean() for rate in (1.0, 0.5))
    assert half.item() == pytest.approx(once.item(), rel=5e-3 if name == "mae" else 5e-4)
    if name == "mae":
        medians = torch.cat([values.median(0).values for values in sample])
        assert once.item() == pytest.approx(medians.double().square().mean().item(), rel=1e-4)


def test_a_paired_ratio_and_its_interval():
    random = torch.Generator().manual_seed(0)
    both = torch.randn(2, 50_000, generator=random, dtype=torch.float64)
    found, (low, high) = location.ratio(both[0], 0.6 * both[0] + 0.8 * both[1])
    assert low < 1 < high
    assert found == pytest.approx(1, abs=0.02)
    # var of the log of two correlated variances is 4 (1 − ρ²) / n
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(4 * (1 - 0.36) / 50_000), rel=0.05)


def test_what_holds():
    assert near("", 1.0, 1.02, 0.02).holds is True
    assert near("", 1.0, 0.97, 0.02).holds is False
    assert near("", 1.0, math.nan, 0.02).holds is False
    assert (below("", 1.0, 0.5).holds, below("", 1.0, 1.5).holds, below("", 1.0, -math.inf).holds) == (1, 0, 0)
    assert (above("", 1.0, 1.5).holds, above("", 1.0, 0.5).holds, above("", 1.0, math.inf).holds) == (1, 0, 0)


def test_truths_have_names_of_their_own():
    assert len(BY_NAME) == len(TRUTHS)
    assert {truth.number for truth in TRUTHS} == set(range(1, 13))
    for truth in TRUTHS:
        assert truth.claim.endswith(".")
        assert truth.source


def test_chosen_keeps_order_and_names_what_there_is():
    assert [truth.name for truth in chosen(["focal", "dice", "focal"])] == ["focal", "dice"]
    assert chosen([]) == list(TRUTHS)
    with pytest.raises(ConfigError, match=r"(?s)focus: no such truth.*focal"):
        chosen(["dice", "focus"])


def test_two_measurements_are_equal_to_the_bit():
    state = torch.random.get_rng_state()
    first, again = (examined(BY_NAME["symmetric_noise"]).findings for _ in range(2))
    assert first == again
    assert torch.equal(state, torch.random.get_rng_state())
