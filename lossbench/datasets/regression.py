"""Synthetic regression with outliers: the truth is known, so the test split is clean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lossbench.core import ConfigError, Sampling, Split, Splits
from lossbench.datasets.splits import assemble

MAD_TO_SD = 1.4826  # of a Gaussian
LEAST_FEATURES = {"linear": 1, "friedman1": 5, "friedman2": 4, "friedman3": 4}


@dataclass(frozen=True)
class Noise:
    """On every example: Gaussian, or Student's t with `df` degrees of freedom.

    `scale` is in standard deviations of the clean target.
    """

    scale: float = 0.2
    df: float | None = None

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ConfigError(f"dataset.noise.scale={self.scale}: a scale is at least 0")
        if self.df is not None and not self.df > 0:
            raise ConfigError(f"dataset.noise.df={self.df}: degrees of freedom are above 0; null is Gaussian")

    def draw(self, n: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Noise for n examples, [n], in standard deviations of the clean target."""
        return self.scale * (random.standard_normal(n) if self.df is None else random.standard_t(self.df, n))


@dataclass(frozen=True)
class Outliers:
    """On a fraction of the examples: Gaussian, or its absolute value where one-sided.

    `scale` is in standard deviations of the clean target.
    """

    fraction: float = 0.1
    scale: float = 5.0
    side: Literal["symmetric", "one_sided"] = "symmetric"

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ConfigError(f"dataset.outliers.fraction={self.fraction}: a fraction lies between 0 and 1")
        if not self.scale >= 0:
            raise ConfigError(f"dataset.outliers.scale={self.scale}: a scale is at least 0")
        if self.side not in ("symmetric", "one_sided"):
            raise ConfigError(f"dataset.outliers.side={self.side}: unknown; choose symmetric or one_sided")

    def draw(self, n: int, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """What is added to each target, and which examples are outliers."""
        chosen = random.random(n) < self.fraction
        size = random.standard_normal(n)
        return self.scale * chosen * (np.abs(size) if self.side == "one_sided" else size), chosen


def regression(
    *,
    seed: int,
    target: Literal["linear", "friedman1", "friedman2", "friedman3"] = "friedman1",
    features: int = 10,
    train: int = 1000,
    validation: int = 500,
    test: int = 2000,
    noise: Noise = Noise(),
    outliers: Outliers = Outliers(),
) -> Splits:
    """A function of random features, with noise on every example and outliers on some.

    y = f(x) + s·(noise + outlier),  s the standard deviation of f(x)

    Train and validation are contaminated. `test` has y = f(x); `test_contaminated` has the same inputs with noise
    and outliers. Targets are standardised by median and MAD of the training split, which outliers leave alone.

    Raises: ConfigError for an unknown target, too few features or examples.
    Reference: Friedman, Multivariate adaptive regression splines, 1991, https://doi.org/10.1214/aos/1176347963
    """
    if target not in LEAST_FEATURES:
        raise ConfigError(f"dataset.target={target}: unknown; choose {', '.join(LEAST_FEATURES)}")
    if features < LEAST_FEATURES[target]:
        raise ConfigError(f"dataset.features={features}: {target} needs at least {LEAST_FEATURES[target]}")
    if min(train, validation, test) < 2:
        raise ConfigError(f"dataset: splits of {train}, {validation} and {test} examples; each needs at least 2")

    total = train + validation + test
    inputs, clean = _function(target, total, features, np.random.RandomState(np.random.MT19937([seed, 0])))
    surprise, outlier = outliers.draw(total, np.random.default_rng([seed, 1]))
    contaminated = clean + clean[:train].std() * (noise.draw(total, np.random.default_rng([seed, 2])) + surprise)

    spread = inputs[:train].std(0)
    inputs = (inputs - inputs[:train].mean(0)) / np.where(spread > 0, spread, 1)
    center = float(np.median(contaminated[:train]))
    mad = MAD_TO_SD * float(np.median(np.abs(contaminated[:train] - center)))

    def split(part: slice, targets: NDArray[np.float64], metadata: NDArray[np.bool_]) -> Split:
        standardised = torch.tensor((targets[part, None] - center) / mad, dtype=torch.float32)
        return Split(
            torch.tensor(inputs[part], dtype=torch.float32), standardised, {"outlier": torch.tensor(metadata[part])}
        )

    parts = slice(0, train), slice(train, train + validation), slice(train + validation, total)
    return assemble(
        split(parts[0], contaminated, outlier),
        split(parts[1], contaminated, outlier),
        split(parts[2], clean, np.zeros(total, dtype=bool)),
        extra_tests={"test_contaminated": split(parts[2], contaminated, outlier)},
        name="regression",
        task_type="regression",
        source=f"synthetic {target}, {outliers.fraction:.0%} outliers",
        licence="none: generated",
        center=center,
        scale=mad,
        sampling=Sampling("fresh"),
    )


def _function(
    target: str, total: int, features: int, random: np.random.RandomState
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inputs [n, features] and f(x) [n]; features beyond those that f uses are noise."""
    from sklearn import datasets  # half a second

    if target == "linear":
        inputs = random.standard_normal((total, features))
        return inputs, inputs @ random.standard_normal(features)
    if target == "friedman1":
        return datasets.make_friedman1(total, features, random_state=random)
    make = datasets.make_friedman2 if target == "friedman2" else datasets.make_friedman3
    inputs, clean = make(total, random_state=random)
    return np.hstack([inputs, random.standard_normal((total, features - 4))]), clean
