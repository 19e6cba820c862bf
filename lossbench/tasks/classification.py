"""What classification tasks share: metrics of decisions and of probabilities."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lossbench.core import POSITIVE, SHARE, Metric

NLL = Metric("nll", "negative log-likelihood, nats", False, range=POSITIVE)
BRIER = Metric("brier", "Brier score", False, range=SHARE)
ECE = Metric("ece", "expected calibration error, 15 bins", False, range=SHARE)
TEMPERED = (
    Metric("nll_tempered", "the same after temperature", False, range=POSITIVE),
    Metric("ece_tempered", "the same after temperature", False, range=SHARE),
)
ACCURACY = Metric("accuracy", "share of right answers", True, range=SHARE)
MACRO_F1 = Metric("macro_f1", "mean F1 of the classes", True, range=SHARE)
BALANCED = Metric("balanced_accuracy", "mean recall of the classes", True, range=SHARE)


def array(tensor: Tensor) -> NDArray[Any]:
    """A tensor on any device as numpy's."""
    return tensor.cpu().numpy()


Weights: TypeAlias = "NDArray[np.float64] | None"
"""The weights of examples [n], none of them 0; None: all alike."""


def counting(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Weights]:
    """The examples that count, and their weights: one of weight 0 is as if it were not there, nor its class."""
    if weights is None:
        return outputs, targets, None
    count = weights > 0
    return outputs[count], targets[count], array(weights[count].double())


def decisions(y: NDArray[Any], guess: NDArray[Any], weights: Weights = None) -> dict[str, float]:
    """Accuracy, macro F1 and balanced accuracy of guessed classes; y and guess are integers [n]."""
    from sklearn import metrics

    return {
        "accuracy": metrics.accuracy_score(y, guess, sample_weight=weights),
        "macro_f1": metrics.f1_score(y, guess, average="macro", zero_division=0, sample_weight=weights),
        "balanced_accuracy": balanced_accuracy(y, guess, weights),
    }


def balanced_accuracy(y: NDArray[Any], guess: NDArray[Any], weights: Weights = None) -> float:
    """Mean recall of the classes that occur; scikit-learn's own function warns where others are guessed."""
    from sklearn import metrics

    return metrics.recall_score(y, guess, labels=np.unique(y), average="macro", zero_division=0, sample_weight=weights)
