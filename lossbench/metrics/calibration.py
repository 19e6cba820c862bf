"""Calibration: how far confidence is from accuracy, and the temperature that corrects most of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def expected_calibration_error(
    confidence: Floats, correct: NDArray[np.bool_], *, bins: int = 15, weights: Floats | None = None
) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by their counts.

    Σ_b (n_b / n)·|accuracy_b − confidence_b|

    Shapes: confidence [n] in [0, 1], correct [n], weights of examples [n]; result in [0, 1].
    Reference: Guo et al., On calibration of modern neural networks, 2017, https://arxiv.org/abs/1706.04599
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = correct.astype(float) - confidence
    gaps = np.bincount(index, gap if weights is None else weights * gap, minlength=bins)
    return float(np.abs(gaps).sum() / (len(confidence) if weights is None else weights.sum()))


def temperature(logits: Floats, targets: NDArray[np.integer], *, weights: Floats | None = None) -> float:
    """The T that minimises the negative log-likelihood of logits / T.

    Shapes: logits [n] with targets 0 or 1, or logits [n, classes] with class indices; weights of examples [n].
    T is searched in 0.02 … 50; log-likelihood is concave in 1/T, so the minimum is the only one. Where all examples
    that count are classified right there is none, and T is 1: it would go to 0, and new examples would get
    probabilities of 0 and 1.
    Reference: Guo et al., On calibration of modern neural networks, 2017, https://arxiv.org/abs/1706.04599
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    pair = np.stack([np.zeros_like(logits), logits], -1) if logits.ndim == 1 else logits
    pair = pair.astype(np.float64)
    true = np.take_along_axis(pair, targets[:, None], 1)[:, 0]
    others = pair.copy()
    np.put_along_axis(others, targets[:, None], -np.inf, 1)
    counts = slice(None) if weights is None else weights > 0
    if (true > others.max(1))[counts].all():
        return 1.0

    def nll(log_t: float) -> float:
        inverse = np.exp(-log_t)
        each = logsumexp(pair * inverse, axis=1) - true * inverse
        return float(each.mean() if weights is None else np.average(each, weights=weights))

    found = minimize_scalar(nll, bounds=(np.log(0.02), np.log(50)), method="bounded")
    return float(np.exp(found.x))
