"""Classification: binary with one logit, multi-class with one a class. Outputs are read as logits for every loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import POSITIVE, SHARE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel
from lossbench.metrics import best_f1_threshold, expected_calibration_error, temperature

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


@dataclass(frozen=True)
class Binary:
    """One logit an example, targets 0 and 1. Area under precision–recall is primary: it ignores the threshold."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("auprc", "area under precision–recall (average precision)", True, range=SHARE),
            Metric("auroc", "area under the ROC curve", True, range=SHARE),
            Metric("f1", "F1 at probability .5", True, range=SHARE),
            Metric("f1_tuned", "F1 at the threshold tuned on validation", True, range=SHARE),
            ACCURACY,
            MACRO_F1,
            BALANCED,
            Metric("balanced_accuracy_tuned", "at the threshold tuned on validation", True, range=SHARE),
            NLL,
            BRIER,
            ECE,
            *TEMPERED,
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        yield "model", self.loss(nets.model(batch.inputs).squeeze(-1), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        return nets.model(batch.inputs).squeeze(-1)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        from sklearn import metrics

        p, y = _array(torch.sigmoid(outputs.double())), _array(targets)
        scores = _array(outputs)  # ranks beyond where probabilities round to 0 and 1
        both = 0 < y.sum() < len(y)
        return {
            "auprc": metrics.average_precision_score(y, scores) if both else float(y.mean()),
            "auroc": metrics.roc_auc_score(y, scores) if both else 0.5,
            "f1": metrics.f1_score(y, p > 0.5, zero_division=0),
            **_decisions(y, (p > 0.5).astype(int)),
            "nll": _binary_nll(outputs, targets),
            "brier": metrics.brier_score_loss(y, p, scale_by_half=True, labels=[0, 1]),
            "ece": expected_calibration_error(*_confidence(p, y)),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        scores, y = _array(outputs), _array(targets)
        return {"threshold": best_f1_threshold(scores, y), "temperature": temperature(scores, y)}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        from sklearn import metrics

        y, positive = _array(targets), _array(outputs) >= calibration["threshold"]
        p = _array(torch.sigmoid(outputs.double() / calibration["temperature"]))
        return {
            **self.measure(outputs, targets),
            "f1_tuned": metrics.f1_score(y, positive, zero_division=0),
            "balanced_accuracy_tuned": _balanced_accuracy(y, positive.astype(int)),
            "nll_tempered": _binary_nll(outputs / calibration["temperature"], targets),
            "ece_tempered": expected_calibration_error(*_confidence(p, y)),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import pictures

        outputs: Any = seen.outputs["test"]
        y, scores = _array(seen.splits.test.targets), _array(outputs)
        p, tempered = (_array(torch.sigmoid(outputs.double() / t)) for t in (1.0, seen.calibration["temperature"]))
        drawn = {
            "confusion_matrix": lambda: pictures.confusion_matrix(y, (p > 0.5).astype(int), self.info.classes),
            "precision_recall": lambda: pictures.precision_recall(
                {self.info.classes[1]: (y, scores)}, seen.calibration["threshold"]
            ),
            "reliability": lambda: pictures.reliability(
                {"as trained": _confidence(p, y), "after temperature": _confidence(tempered, y)}
            ),
        }
        return Pictures(drawn)


@dataclass(frozen=True)
class Multiclass:
    """One logit a class. Accuracy is primary."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            ACCURACY,
            MACRO_F1,
            BALANCED,
            Metric("auprc", "area under precision–recall, mean of one against the rest", True, range=SHARE),
            Metric("auroc", "area under the ROC curve, mean of one against the rest", True, range=SHARE),
            NLL,
            replace(BRIER, range=(0.0, 2.0)),  # a sum over the classes
            ECE,
            *TEMPERED,
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        yield "model", self.loss(nets.model(batch.inputs), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        return nets.model(batch.inputs)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        from sklearn import metrics

        p, y = _array(outputs.double().softmax(-1)), _array(targets)
        classes = list(range(p.shape[1]))
        guess = p.argmax(1)
        return {
            **_decisions(y, guess),
            "nll": F.cross_entropy(outputs.double(), targets).item(),
            "brier": metrics.brier_score_loss(y, p, scale_by_half=False, labels=classes),
            "ece": expected_calibration_error(p.max(1), guess == y),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {"temperature": temperature(_array(outputs), _array(targets))}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        from sklearn import metrics

        p, y = _array((outputs.double() / calibration["temperature"]).softmax(-1)), _array(targets)
        classes = list(range(p.shape[1]))
        logits = _array(outputs)
        seen = [k for k in classes if 0 < (y == k).sum() < len(y)]  # one against the rest needs both
        return {
            **self.measure(outputs, targets),
            "auprc": _mean([metrics.average_precision_score(y == k, _log_odds(logits, k)) for k in seen], 1.0),
            "auroc": _mean([metrics.roc_auc_score(y == k, _log_odds(logits, k)) for k in seen], 0.5),
            "nll_tempered": F.cross_entropy(outputs.double() / calibration["temperature"], targets).item(),
            "ece_tempered": expected_calibration_error(p.max(1), p.argmax(1) == y),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import pictures

        outputs: Any = seen.outputs["test"]
        y, logits = _array(seen.splits.test.targets), _array(outputs)
        p, tempered = (_array((outputs.double() / t).softmax(-1)) for t in (1.0, seen.calibration["temperature"]))
        one_against_rest = {
            name: ((y == k).astype(int), _log_odds(logits, k)) for k, name in enumerate(self.info.classes)
        }
        drawn = {
            "confusion_matrix": lambda: pictures.confusion_matrix(y, p.argmax(1), self.info.classes),
            "precision_recall": lambda: pictures.precision_recall(one_against_rest, None),
            "reliability": lambda: pictures.reliability(
                {
                    "as trained": (p.max(1), p.argmax(1) == y),
                    "after temperature": (tempered.max(1), tempered.argmax(1) == y),
                }
            ),
        }
        return Pictures(drawn)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()


def _decisions(y: NDArray[Any], guess: NDArray[Any]) -> dict[str, float]:
    from sklearn import metrics

    return {
        "accuracy": metrics.accuracy_score(y, guess),
        "macro_f1": metrics.f1_score(y, guess, average="macro", zero_division=0),
        "balanced_accuracy": _balanced_accuracy(y, guess),
    }


def _balanced_accuracy(y: NDArray[Any], guess: NDArray[Any]) -> float:
    """Mean recall of the classes that occur; scikit-learn's own function warns where a guess does not."""
    from sklearn import metrics

    return metrics.recall_score(y, guess, labels=np.unique(y), average="macro", zero_division=0)


def _binary_nll(logits: Tensor, targets: Tensor) -> float:
    """In nats, from logits: scikit-learn's log_loss clips probabilities, so that nothing costs more than 36."""
    return F.binary_cross_entropy_with_logits(logits.double(), targets.double()).item()


def _mean(areas: list[float], where_none: float) -> float:
    """Mean over the classes; where targets are of one class only, what every ranking gets."""
    return float(np.mean(areas)) if areas else where_none


def _confidence(p: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Of a probability of the positive class: the confidence in the answer given, and whether it is right."""
    return np.maximum(p, 1 - p), (p > 0.5) == (y == 1)


def _log_odds(logits: NDArray[Any], k: int) -> NDArray[Any]:
    """log p_k − log(1 − p_k): ranks like p_k, and still ranks where p_k rounds to 0 or 1."""
    others = np.delete(logits.astype(np.float64), k, axis=1)
    most = others.max(1, keepdims=True)
    return logits[:, k] - (most[:, 0] + np.log(np.exp(others - most).sum(1)))
