"""Synthetic regression: what is drawn, what is contaminated, what is clean, what is standardised by what."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import least_squares

from lossbench.config.task_types import load
from lossbench.core import ConfigError
from lossbench.datasets import check
from lossbench.datasets.regression import Noise, Outliers, regression

QUIET = Noise(scale=0.0)
NO_OUTLIERS = Outliers(fraction=0.0)
TARGETS = ("linear", "friedman1", "friedman2", "friedman3")


def in_units(splits, split):
    """Targets [n] as they were before standardisation."""
    return splits.info.center + splits.info.scale * split.targets[:, 0].double().numpy()


def surprise(splits):
    """What noise and outliers added to the test split, in standard deviations of the clean target."""
    clean = in_units(splits, splits.test)
    return (in_units(splits, splits.extra_tests["test_contaminated"]) - clean) / clean.std()


@pytest.mark.parametrize("target", TARGETS)
def test_same_seed_same_bits(target):
    first, second, other = (
        regression(seed=seed, target=target, train=60, validation=30, test=40) for seed in (4, 4, 5)
    )
    for (_, a), (_, b), (_, c) in zip(first, second, other, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert not torch.equal(a.inputs, c.inputs)
    assert first.info == second.info
    assert first.info.fingerprint != other.info.fingerprint


@pytest.mark.parametrize("target", TARGETS)
def test_sizes_and_facts(target):
    splits = regression(seed=0, target=target, features=7, train=50, validation=30, test=20)
    check(splits)
    assert {name: len(split) for name, split in splits} == {
        "train": 50, "validation": 30, "test": 20, "test_contaminated": 20,
    }  # fmt: skip
    assert splits.info.inputs == (7,)
    assert splits.info.targets == (1,)
    assert load(splits.info.task_type).outputs(splits.info) == 1


def test_standardised_by_the_training_split_alone():
    splits = regression(seed=1)
    inputs, targets = splits.train.inputs.double(), splits.train.targets.double().numpy()
    assert inputs.mean(0).abs().max() < 1e-6
    assert (inputs.std(0, correction=0) - 1).abs().max() < 1e-6
    assert np.median(targets) == pytest.approx(0, abs=1e-6)
    assert stats.median_abs_deviation(targets, axis=None, scale="normal") == pytest.approx(1, rel=1e-4)
    assert splits.test.inputs.double().mean(0).abs().max() > 1e-3


def test_the_test_split_does_not_depend_on_contamination():
    calm, wild = (
        regression(seed=2, outliers=Outliers(fraction=f), noise=Noise(df=df)) for f, df in ((0, None), (0.4, 2))
    )
    assert torch.equal(calm.test.inputs, wild.test.inputs)
    np.testing.assert_allclose(in_units(calm, calm.test), in_units(wild, wild.test), rtol=1e-5, atol=1e-5)
    assert calm.info.scale != wild.info.scale


def test_contaminated_test_has_the_inputs_of_the_clean_one():
    splits = regression(seed=2)
    contaminated = splits.extra_tests["test_contaminated"]
    assert torch.equal(splits.test.inputs, contaminated.inputs)
    assert not torch.equal(splits.test.targets, contaminated.targets)
    assert not splits.test.metadata["outlier"].any()


def misfit_of_friedman1(inputs, y):
    """The largest residual of Friedman's formula; least squares find what undoes the standardisation of its inputs."""

    def residual(unknown):
        x = unknown[:5] + unknown[5:] * inputs[:, :5]
        formula = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
        return formula - y

    return np.abs(least_squares(residual, [0.5] * 5 + [12**-0.5] * 5, xtol=1e-12, ftol=1e-12).fun).max()


def test_clean_friedman1_is_its_formula():
    splits = regression(seed=3, target="friedman1")
    inputs = splits.test.inputs.double().numpy()
    assert misfit_of_friedman1(inputs, in_units(splits, splits.test)) < 1e-4
    assert misfit_of_friedman1(inputs, in_units(splits, splits.extra_tests["test_contaminated"])) > 1


def test_clean_linear_is_linear():
    splits = regression(seed=3, target="linear")
    inputs = np.c_[splits.test.inputs.double().numpy(), np.ones(len(splits.test))]
    *_, rank, _ = np.linalg.lstsq(inputs, in_units(splits, splits.test))
    weights = np.linalg.lstsq(inputs, in_units(splits, splits.test))[0]
    np.testing.assert_allclose(inputs @ weights, in_units(splits, splits.test), atol=1e-4)
    assert rank == 11


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.3, 1.0])
def test_about_the_asked_fraction_is_marked(fraction):
    splits = regression(seed=5, test=4000, outliers=Outliers(fraction=fraction))
    marked = splits.extra_tests["test_contaminated"].metadata["outlier"].double().mean().item()
    assert marked == pytest.approx(fraction, abs=4 * (fraction * (1 - fraction) / 4000) ** 0.5)


@pytest.mark.parametrize("side", ["symmetric", "one_sided"])
def test_what_is_marked_is_what_was_moved(side):
    splits = regression(seed=8, noise=QUIET, outliers=Outliers(fraction=0.2, scale=5.0, side=side))
    added, marked = surprise(splits), splits.extra_tests["test_contaminated"].metadata["outlier"].numpy()
    np.testing.assert_allclose(added[~marked], 0, atol=1e-5)
    assert (added[marked] < 0).any() == (side == "symmetric")
    assert (added[marked] > 0).any()
    reference = stats.halfnorm if side == "one_sided" else stats.norm
    assert stats.kstest(added[marked] / 5, reference.cdf).pvalue > 1e-3


@pytest.mark.parametrize("df", [None, 2.0])
def test_noise_is_gaussian_or_heavy_tailed(df):
    splits = regression(seed=7, test=4000, noise=Noise(scale=0.5, df=df), outliers=NO_OUTLIERS)
    fits = {
        name: stats.kstest(surprise(splits) / 0.5, reference.cdf).pvalue
        for name, reference in {"gaussian": stats.norm, "student": stats.t(2)}.items()
    }
    expected, other = ("gaussian", "student") if df is None else ("student", "gaussian")
    assert fits[expected] > 1e-3
    assert fits[other] < 1e-6


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"target": "friedman9"}, "target=friedman9"),
        ({"features": 4}, "features=4"),
        ({"validation": 1}, "at least 2"),
    ],
)
def test_impossible_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        regression(seed=0, **settings)


@pytest.mark.parametrize(
    ("make", "settings", "named"),
    [
        (Noise, {"scale": -1.0}, r"noise\.scale"),
        (Noise, {"df": 0.0}, r"noise\.df"),
        (Outliers, {"fraction": 1.5}, r"outliers\.fraction"),
        (Outliers, {"fraction": float("nan")}, r"outliers\.fraction"),
        (Outliers, {"scale": -1.0}, r"outliers\.scale"),
        (Outliers, {"side": "left"}, r"outliers\.side"),
    ],
)
def test_impossible_contamination_is_refused(make, settings, named):
    with pytest.raises(ConfigError, match=named):
        make(**settings)
