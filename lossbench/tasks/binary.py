"""Binary classification: one logit an example, read as a logit whatever the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import (
    SHARE,
    Card,
    DatasetInfo,
    Metric,
    Noise,
    Pictures,
    Split,
    TrainedModel,
    card_of,
    weight_argument,
)
from lossbench.datasets.splits import check_labels
from lossbench.metrics import best_f1_threshold, expected_calibration_error, temperature
from lossbench.tasks.calls import BINARY
from lossbench.tasks.classification import (
    ACCURACY,
    BALANCED,
    BRIER,
    ECE,
    MACRO_F1,
    NLL,
    TEMPERED,
    Weights,
    array,
    balanced_accuracy,
    counting,
    decisions,
)
from lossbench.tasks.lifting import of_signs
from lossbench.tasks.samples import COUNTS, Sample, normal
from lossbench.tasks.views import View


@dataclass(frozen=True)
class Binary(TaskType):
    """One logit an example, targets 0 and 1. Area under precision–recall is primary: it ignores the threshold."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    default_loss = "bce"
    models = ("mlp", "tabular", "cnn")
    logits = True
    one_logit = True
    weighted = True
    prior = "one"
    estimator = "classifier"
    counts = COUNTS[:2]
    forms = BINARY
    always_drawn = True
    drawn_counts = (900, 100)

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
        """One logit an example, [..., batch]."""
        return nets.model(batch.inputs).squeeze(-1)

    def measure(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, float]:
        """The cheap metrics; where one class is absent, the areas are what every ranking gets."""
        from sklearn import metrics

        outputs, targets, w = counting(outputs, targets, weights)
        p, y = array(torch.sigmoid(outputs.double())), array(targets)
        scores = array(outputs)  # ranks beyond where probabilities round to 0 and 1
        both = 0 < y.sum() < len(y)
        return {
            "auprc": metrics.average_precision_score(y, scores, sample_weight=w) if both else float(y.mean()),
            "auroc": metrics.roc_auc_score(y, scores, sample_weight=w) if both else 0.5,
            "f1": metrics.f1_score(y, p > 0.5, zero_division=0, sample_weight=w),
            **decisions(y, (p > 0.5).astype(int), w),
            "nll": _binary_nll(outputs, targets, w),
            "brier": metrics.brier_score_loss(y, p, scale_by_half=True, labels=[0, 1], sample_weight=w),
            "ece": expected_calibration_error(*_confidence(p, y), weights=w),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, float]:
        """The threshold with the best F1, and the temperature."""
        outputs, targets, w = counting(outputs, targets, weights)
        scores, y = array(outputs), array(targets)
        return {
            "threshold": best_f1_threshold(scores, y, weights=w),
            "temperature": temperature(scores, y, weights=w),
        }

    def report(
        self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float], *, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Adds the metrics at the tuned threshold and after temperature."""
        from sklearn import metrics

        measured = self.measure(outputs, targets, **weight_argument(weights))
        outputs, targets, w = counting(outputs, targets, weights)
        y, positive = array(targets), array(outputs) >= calibration["threshold"]
        p = array(torch.sigmoid(outputs.double() / calibration["temperature"]))
        return {
            **measured,
            "f1_tuned": metrics.f1_score(y, positive, zero_division=0, sample_weight=w),
            "balanced_accuracy_tuned": balanced_accuracy(y, positive.astype(int), w),
            "nll_tempered": _binary_nll(outputs / calibration["temperature"], targets, w),
            "ece_tempered": expected_calibration_error(*_confidence(p, y), weights=w),
        }

    def answers(self, outputs: Tensor, calibration: Mapping[str, float]) -> dict[str, NDArray[Any]]:
        """The class at the tuned threshold, and the probability of the positive class after temperature."""
        p = torch.sigmoid(outputs.double() / calibration["temperature"])
        positive = array(outputs) >= calibration["threshold"]
        names = np.array(self.info.classes or ("0", "1"), dtype=object)
        return {"prediction": names[positive.astype(int)], f"probability {names[1]}": array(p)}

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import pictures

        outputs: Any = seen.outputs["test"]
        y, scores = array(seen.splits.test.targets), array(outputs)
        p, tempered = (array(torch.sigmoid(outputs.double() / t)) for t in (1.0, seen.calibration["temperature"]))
        figures = {
            "confusion_matrix": lambda: pictures.confusion_matrix(y, (p > 0.5).astype(int), self.info.classes),
            "precision_recall": lambda: pictures.precision_recall(
                {self.info.classes[1]: (y, scores)}, seen.calibration["threshold"]
            ),
            "reliability": lambda: pictures.reliability(
                {"as trained": _confidence(p, y), "after temperature": _confidence(tempered, y)}
            ),
        }
        return Pictures(figures)

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return 1

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """A last axis of one is accepted."""
        shape, n = tuple(nets.model(examples.inputs).shape), len(examples)
        yield "", (n,) if shape == (n, 1) else shape, (n, *info.targets)

    @staticmethod
    def call(loss: Any) -> Any:
        """A loss with signed targets gets −1 and +1."""
        card = card_of(loss)
        return partial(of_signs, loss) if card is not None and card.signed_targets else loss

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Targets have to be labels of the classes, where there are classes."""
        check_labels(info, name, split)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return 2 * normal(random, size), torch.arange(size) % 2

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(size, generator=random), torch.arange(size) % 2

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Each far logit with both labels."""
        yield Sample(cls.name, far.repeat_interleave(2), torch.arange(2).repeat(len(far)), COUNTS[:2])

    @classmethod
    def renumbered(cls, sample: Sample, card: Card | None) -> Sample | str:
        """The two classes swapped, for losses that take class counts."""
        if card is None or "class_counts" not in card.needs:
            return "no classes that could change places"
        return replace(sample, prediction=-sample.prediction, target=1 - sample.target, counts=sample.counts[::-1])

    @staticmethod
    def probabilities(prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor:
        """Logits of −1 and +1."""
        return 2.0 * target - 1

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """The logit towards the wrong class."""
        return (1 - 2 * sample.target) * sample.prediction.detach()

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean logit towards the wrong class, for each class."""
        return torch.stack([-prediction[target == 1].mean(), prediction[target == 0].mean()])

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.pictures import binary_views

        return binary_views(counted)


def _binary_nll(logits: Tensor, targets: Tensor, weights: Weights) -> float:
    """Mean NLL in nats, from logits: scikit-learn's log_loss clips probabilities, so that no value exceeds 36."""
    logits, truth = logits.double(), targets.double()
    if weights is None:
        return F.binary_cross_entropy_with_logits(logits, truth).item()
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return float(np.average(array(each), weights=weights))


def _confidence(p: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """From probabilities of the positive class: the confidence in each answer, and whether it is right."""
    return np.maximum(p, 1 - p), (p > 0.5) == (y == 1)
