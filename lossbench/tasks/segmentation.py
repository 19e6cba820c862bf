"""Segmentation: a logit for every pixel, object or background. Outputs are read as logits for every loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import POSITIVE, SHARE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel
from lossbench.metrics import expected_calibration_error
from lossbench.metrics.masks import dice_score, hausdorff_95, intersection_over_union, small_object_recall

CHUNK = 256  # images that one forward pass takes at evaluation: every layer keeps values as large as they are
THRESHOLDS = np.arange(1, 20) / 20  # probabilities of which the best on validation is kept


@dataclass(frozen=True)
class Segmentation:
    """Logits and targets 0 and 1 [batch, height, width]. Mean IoU is primary: background does not count in it."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    @property
    def metrics(self) -> tuple[Metric, ...]:
        diagonal = math.hypot(*self.info.targets[-2:])
        return (
            Metric("iou", "intersection over union at probability .5, mean of the images", True, range=SHARE),
            Metric("iou_tuned", "the same at the threshold tuned on validation", True, range=SHARE),
            Metric("dice", "Dice at probability .5, mean of the images", True, range=SHARE),
            Metric(
                "hd95",
                "95 % of the boundaries lie within, mean of the images with an object",
                False,
                "pixels",
                range=(0.0, diagonal),
            ),
            Metric("small_recall", "share of small objects found, mean of the images that have one", True, range=SHARE),
            Metric("nll", "negative log-likelihood of a pixel, nats", False, range=POSITIVE),
            Metric("ece", "expected calibration error of the pixels, 15 bins", False, range=SHARE),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        yield "model", self.loss(_logits(nets, batch.inputs), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        return torch.cat([_logits(nets, images) for images in batch.inputs.split(CHUNK)])

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        predicted, true = _array(outputs > 0), _array(targets == 1)
        return {
            "iou": float(intersection_over_union(predicted, true).mean()),
            "dice": float(dice_score(predicted, true).mean()),
            "nll": F.binary_cross_entropy_with_logits(outputs.double(), targets.double()).item(),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The logit above which a pixel is object; the lowest of those that do equally well."""
        logits, true = _array(outputs), _array(targets == 1)
        thresholds = np.log(THRESHOLDS / (1 - THRESHOLDS))
        return {"threshold": float(max(thresholds, key=lambda z: intersection_over_union(logits > z, true).mean()))}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        predicted, true = _array(outputs > 0), _array(targets == 1)
        p = _array(torch.sigmoid(outputs.double()))
        return {
            **self.measure(outputs, targets),
            "iou_tuned": float(intersection_over_union(_array(outputs > calibration["threshold"]), true).mean()),
            "hd95": hausdorff_95(predicted, true),
            "small_recall": small_object_recall(predicted, true),
            "ece": expected_calibration_error(np.maximum(p, 1 - p).ravel(), (predicted == true).ravel()),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import mask_pictures

        outputs, test, watched = seen.outputs["test"], seen.splits.test, seen.splits.validation
        assert isinstance(outputs, Tensor)
        chosen = _chosen(_array(test.targets == 1))
        drawn = {
            "masks": lambda: mask_pictures.masks(
                _array(test.inputs[chosen]), _array(test.targets[chosen] == 1), _array(torch.sigmoid(outputs[chosen]))
            )
        }
        steps = {step: _array(torch.sigmoid(glimpse)) for step, glimpse in seen.glimpses.items()}  # type: ignore[arg-type]
        if steps:
            few = _chosen(_array(watched.targets[: len(next(iter(steps.values())))] == 1))
            drawn["over_training"] = lambda: mask_pictures.over_training(
                _array(watched.inputs[few]), _array(watched.targets[few] == 1), {s: p[few] for s, p in steps.items()}
            )
        return Pictures(drawn)


def _logits(nets: Any, images: Tensor) -> Tensor:
    """One logit a pixel, [..., batch, height, width], also of a net that keeps an axis for one channel."""
    given: Tensor = nets.model(images)
    return given.squeeze(-3) if given.dim() == images.dim() else given


def _chosen(true: NDArray[np.bool_], most: int = 5) -> list[int]:
    """The first images with an object and the first without: the same ones for every loss."""
    holds = true.any((1, 2))
    return [*np.flatnonzero(holds)[:most].tolist(), *np.flatnonzero(~holds)[:1].tolist()]


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()
