"""Multi-class classification: one logit a class, read as logits whatever the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import SHARE, Card, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel, weight_argument
from lossbench.datasets.splits import check_labels
from lossbench.metrics import expected_calibration_error, temperature
from lossbench.tasks.calls import MULTICLASS
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
    counting,
    decisions,
)
from lossbench.tasks.samples import CLASSES, COUNTS, Sample, margins, normal
from lossbench.tasks.views import View

RENAMED = (1, 0, 2, 4, 3)  # classes; not a rotation, which would not reveal weights that are one class off


@dataclass(frozen=True)
class Multiclass(TaskType):
    """One logit a class. Accuracy is primary."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    default_loss = "cross_entropy"
    models = ("mlp", "tabular", "cnn")
    logits = True
    weighted = True
    prior = "classes"
    estimator = "classifier"
    counts = COUNTS
    by_chance = ("regression", "boxes")
    forms = MULTICLASS
    always_drawn = True
    drawn_counts = (5000, 3000, 1800, 1100, 650, 400, 230, 140, 80, 50)

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

    def measure(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, float]:
        """The cheap metrics; areas take one pass a class and are left to `report`."""
        from sklearn import metrics

        outputs, targets, w = counting(outputs, targets, weights)
        p, y = array(outputs.double().softmax(-1)), array(targets)
        classes = list(range(p.shape[1]))
        guess = p.argmax(1)
        return {
            **decisions(y, guess, w),
            "nll": _nll(outputs.double(), targets, w),
            "brier": metrics.brier_score_loss(y, p, scale_by_half=False, labels=classes, sample_weight=w),
            "ece": expected_calibration_error(p.max(1), guess == y, weights=w),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, float]:
        """The temperature."""
        outputs, targets, w = counting(outputs, targets, weights)
        return {"temperature": temperature(array(outputs), array(targets), weights=w)}

    def report(
        self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float], *, weights: Tensor | None = None
    ) -> dict[str, float]:
        """Adds the areas, one class against the rest, and the metrics after temperature."""
        from sklearn import metrics

        measured = self.measure(outputs, targets, **weight_argument(weights))
        outputs, targets, w = counting(outputs, targets, weights)
        tempered = outputs.double() / calibration["temperature"]
        p, y = array(tempered.softmax(-1)), array(targets)
        classes = list(range(p.shape[1]))
        logits = array(outputs)
        seen = [k for k in classes if 0 < (y == k).sum() < len(y)]  # one against the rest needs both

        def area(measure: Callable[..., float], where_none: float) -> float:
            return _mean([measure(y == k, _log_odds(logits, k), sample_weight=w) for k in seen], where_none)

        return {
            **measured,
            "auprc": area(metrics.average_precision_score, 1.0),
            "auroc": area(metrics.roc_auc_score, 0.5),
            "nll_tempered": _nll(tempered, targets, w),
            "ece_tempered": expected_calibration_error(p.max(1), p.argmax(1) == y, weights=w),
        }

    def answers(self, outputs: Tensor, calibration: Mapping[str, float]) -> dict[str, NDArray[Any]]:
        """The most probable class, and the probability of each after temperature."""
        p = array((outputs.double() / calibration["temperature"]).softmax(-1))
        names = np.array(self.info.classes or tuple(map(str, range(p.shape[-1]))), dtype=object)
        return {
            "prediction": names[p.argmax(-1)],
            **{f"probability {name}": p[:, place] for place, name in enumerate(names)},
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import pictures

        outputs: Any = seen.outputs["test"]
        y, logits = array(seen.splits.test.targets), array(outputs)
        p, tempered = (array((outputs.double() / t).softmax(-1)) for t in (1.0, seen.calibration["temperature"]))
        one_against_rest = {
            name: ((y == k).astype(int), _log_odds(logits, k)) for k, name in enumerate(self.info.classes)
        }
        figures = {
            "confusion_matrix": lambda: pictures.confusion_matrix(y, p.argmax(1), self.info.classes),
            "precision_recall": lambda: pictures.precision_recall(one_against_rest, None),
            "reliability": lambda: pictures.reliability(
                {
                    "as trained": (p.max(1), p.argmax(1) == y),
                    "after temperature": (tempered.max(1), tempered.argmax(1) == y),
                }
            ),
        }
        return Pictures(figures)

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        yield "", tuple(nets.model(examples.inputs).shape), (len(examples), cls.outputs(info))

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Targets have to be labels of the classes, where there are classes."""
        check_labels(info, name, split)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return 2 * normal(random, size, CLASSES), torch.arange(size) % CLASSES

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randn(size, outputs, generator=random), torch.arange(size) % outputs

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Every triple of far logits with each of three labels."""
        logits = torch.cartesian_prod(far, far, far)
        labels = torch.arange(3).repeat(len(logits))
        yield Sample(cls.name, logits.repeat_interleave(3, 0), labels, COUNTS[:3])

    @classmethod
    def renumbered(cls, sample: Sample, card: Card | None) -> Sample | str:
        """The classes in another order, which is no rotation."""
        return sample.renamed(RENAMED)

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor:
        """One-hot vectors."""
        return F.one_hot(target, prediction.shape[-1]).float()

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """How far the mean logit of the other classes is above the right one's."""
        return margins(sample.prediction.detach(), sample.target)

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        return margins(prediction, target).mean()

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.pictures import multiclass_views

        return multiclass_views(counted)


def _nll(logits: Tensor, targets: Tensor, weights: Weights) -> float:
    if weights is None:
        return F.cross_entropy(logits, targets).item()
    return float(np.average(array(F.cross_entropy(logits, targets, reduction="none")), weights=weights))


def _mean(areas: list[float], where_none: float) -> float:
    """Mean over the classes; `where_none`, the area of any ranking, where targets are of one class only."""
    return float(np.mean(areas)) if areas else where_none


def _log_odds(logits: NDArray[Any], k: int) -> NDArray[Any]:
    """log p_k − log(1 − p_k): ranks like p_k, and still ranks where p_k rounds to 0 or 1."""
    others = np.delete(logits.astype(np.float64), k, axis=1)
    most = others.max(1, keepdims=True)
    return logits[:, k] - (most[:, 0] + np.log(np.exp(others - most).sum(1)))
