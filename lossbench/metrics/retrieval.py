"""Metrics of embeddings [n, dimensions] with the identity of each [n]: neighbours, verification, spread.

All by cosine, on identities that training did not see.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]

EXAMPLES = 1500  # whose million pairs are verified
NOISE = 1e-12  # of a cosine, by the order in which a thread sums
ROWS = 256  # of the matrix of cosines, that are there at once
NAMES = ("mean_average_precision_at_r", "precision_at_1", "r_precision")  # of Retrieval, in the library


class Retrieval(NamedTuple):
    """How well nearest neighbours share an identity, each number in 0 … 1; see `retrieval`."""

    map_at_r: float
    recall_at_1: float
    r_precision: float


class Verification(NamedTuple):
    """How well a cosine separates pairs of one identity from others, each number in 0 … 1; see `verification`."""

    auc: float
    eer: float
    tar_at_far: float


def unit(embeddings: Floats) -> NDArray[np.float64]:
    """Embeddings of length one. Those of length zero have no direction; they all get the same one.

    So a model that returns zero for everything counts as one that puts everybody at the same place.
    """
    exact = embeddings.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    somewhere = np.zeros_like(exact)
    somewhere[:, 0] = 1
    return np.where(norms > 0, exact / np.where(norms > 0, norms, 1), somewhere)


def _products(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dot products without rounding noise, so that equal places stay equal in whatever order threads sum."""
    return np.round(u @ v, 12)


def neighbours(embeddings: Floats, most: int) -> NDArray[np.int64]:
    """The `most` nearest others of each example, [n, most], nearest first; of equals the one that comes first."""
    u = unit(embeddings)
    n, most = len(u), min(most, len(u) - 1)
    found = np.empty((n, most), np.int64)
    for start in range(0, n, ROWS) if most else ():
        rows = np.arange(start, min(start + ROWS, n))
        # a whole number for the cosine, less what is noise, and for the place: no two are equal, and parting suffices
        keys = np.arange(n) - n * np.rint(_products(u[rows], u.T) / NOISE).astype(np.int64)
        keys[np.arange(len(rows)), rows] = np.iinfo(np.int64).max  # by position: where many are equal, oneself is any
        found[rows] = np.sort(np.partition(keys, most - 1)[:, :most]) % n
    return found


def retrieval(embeddings: Floats, labels: Labels) -> Retrieval:
    """How well an example finds the R others of its identity among its R nearest; means over examples with R ≥ 1.

    map_at_r: (1/R)·Σ_{i≤R} precision(i)·right(i); r_precision: share of the R that are right; recall_at_1: whether
    the first is. Zero where no identity has two examples. By pytorch-metric-learning, whose own search takes an
    example for its own neighbour where several are at one place.

    Reference: Musgrave et al., A metric learning reality check, 2020, https://arxiv.org/abs/2003.08505
    """
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    if np.unique(labels, return_counts=True)[1].max() < 2:
        return Retrieval(0.0, 0.0, 0.0)

    def nearest(query: Any, most: int, *_: Any) -> tuple[None, Any]:
        return None, torch.from_numpy(neighbours(embeddings, most))

    cpu = torch.device("cpu")
    calculator = AccuracyCalculator(include=NAMES, k="max_bin_count", device=cpu, knn_func=nearest)
    found = calculator.get_accuracy(torch.from_numpy(embeddings), torch.from_numpy(labels))
    return Retrieval(*(found[name] for name in NAMES))


def pairs(embeddings: Floats, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cosine of every pair, and whether it is of one identity.

    Of more than EXAMPLES examples, all pairs among a fixed random choice of identities that have about so many.
    """
    chosen = _some(labels)
    u, labels = unit(embeddings[chosen]), labels[chosen]
    first, second = np.triu_indices(len(u), 1)
    return _products(u, u.T)[first, second], labels[first] == labels[second]


def _some(labels: Labels) -> NDArray[np.bool_]:
    names, counts = np.unique(labels, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    enough = int(np.searchsorted(np.cumsum(counts[order]), EXAMPLES)) + 1
    return np.isin(labels, names[order[: max(2, enough)]])


def verification(cosines: Floats, same: NDArray[np.bool_], *, far: float = 0.01) -> Verification:
    """Do two photos show one person? From the ROC curve over a threshold on the cosine.

    eer: the rate at which false accepts equal false rejects; tar_at_far: the share of true pairs accepted where `far`
    of the others are; between two points of the curve both are interpolated linearly. If all pairs
    are of one identity, or none is, the values of a random ranking.
    """
    from sklearn.metrics import auc, roc_curve

    if same.all() or not same.any():
        return Verification(0.5, 0.5, far)
    false, true, _ = roc_curve(same, cosines, drop_intermediate=False)
    at = int(np.searchsorted(false, far, side="right")) - 1  # the last point that is allowed
    tar = true[at] + (far - false[at]) * _slope(false, true, at)
    excess = false + true - 1  # false accepts − false rejects: from −1 up to 1
    up = int(np.argmax(excess >= 0))
    share = -excess[up - 1] / (excess[up] - excess[up - 1])
    eer = false[up - 1] + share * (false[up] - false[up - 1])
    return Verification(float(auc(false, true)), float(eer), float(tar))


def _slope(x: Floats, y: Floats, at: int) -> float:
    return float((y[at + 1] - y[at]) / (x[at + 1] - x[at])) if at + 1 < len(x) else 0.0


def active_triplets(embeddings: Floats, labels: Labels, *, margin: float = 0.05) -> float:
    """Share of all triplets whose negative is not farther than the positive by the margin, d = 1 − cos.

    Of every triplet, no sample: each anchor's negatives are sorted once. Zero where there is no triplet.
    """
    u = unit(embeddings)
    violated = total = 0
    for k, own in enumerate(u):
        cosines, mates = _products(u, own), labels == labels[k]
        others = np.sort(cosines[~mates])
        mates[k] = False
        places = np.searchsorted(others, cosines[mates] - margin, side="right")
        violated += int((len(others) - places).sum())
        total += len(others) * len(places)
    return violated / total if total else 0.0


def spread(embeddings: Floats, labels: Labels) -> float:
    """Mean of 1 − cos between examples of different identities: 0 where everybody is at one place, about 1 at random.

    From sums, |Σu|² = Σ cos over all pairs, so that no pair is left out. Zero where there is one identity.
    """
    u = unit(embeddings)
    _, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), u.shape[1]))
    np.add.at(sums, group, u)
    different = len(u) ** 2 - int((counts.astype(np.int64) ** 2).sum())
    if not different:
        return 0.0
    cosines = np.square(sums.sum(0)).sum() - np.square(sums).sum()
    return max(0.0, float(1 - cosines / different))
