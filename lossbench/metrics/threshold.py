"""Thresholds on scores that are best for a metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_f1_threshold(
    scores: NDArray[np.floating], targets: NDArray[np.integer], *, weights: NDArray[np.floating] | None = None
) -> float:
    """The score from which calling an example positive gives the highest F1.

    Shapes: scores [n], targets [n] of 0 and 1, weights of examples [n]. Where nothing is positive, the threshold is the
    highest score.
    """
    from sklearn.metrics import precision_recall_curve

    if not targets.any():
        return float(scores.max())
    precision, recall, thresholds = precision_recall_curve(targets, scores, sample_weight=weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[f1[:-1].argmax()])
