"""Boxes: four offsets from an anchor, judged by the box that they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.core import POSITIVE, SHARE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel
from lossbench.core.box_offsets import CROP, decode
from lossbench.metrics.overlap import paired_iou

SUCCESSES = (0.5, 0.75, 0.9)  # IoU from which a box counts as found


@dataclass(frozen=True)
class Boxes:
    """Offsets predicted and true [..., batch, 4], as `offsets` has them. Mean IoU is primary."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric("iou", "intersection over union, mean of the boxes", True, range=SHARE),
            *(
                Metric(_success(t), f"share of boxes with an IoU of {t:g} at least", True, range=SHARE)
                for t in SUCCESSES
            ),
            Metric("center_error", "distance of the centres, mean of the boxes", False, "crop sides", range=POSITIVE),
            Metric("size_error", "|log| of predicted to true side, mean of both sides", False, range=POSITIVE),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        yield "model", self.loss(nets.model(batch.inputs), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        return nets.model(batch.inputs)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        predicted, true = decode(outputs.double()), decode(targets.double())
        iou = paired_iou(predicted, true)
        apart = (outputs - targets).double()[:, :2] / CROP
        sides = [(boxes[:, 2:] - boxes[:, :2]).log() for boxes in (predicted, true)]
        return {
            "iou": iou.mean().item(),
            **{_success(threshold): (iou >= threshold).double().mean().item() for threshold in SUCCESSES},
            "center_error": apart.square().sum(-1).sqrt().mean().item(),
            "size_error": (sides[0] - sides[1]).abs().mean().item(),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        return self.measure(outputs, targets)

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import box_pictures

        outputs, test, watched = seen.outputs["test"], seen.splits.test, seen.splits.validation
        assert isinstance(outputs, Tensor)
        predicted, true = decode(outputs.double()), decode(test.targets.double())
        iou = paired_iou(predicted, true)
        drawn = {
            "boxes": lambda: box_pictures.boxes(*map(_array, (test.inputs, true, predicted, iou))),
            "overlap": lambda: box_pictures.overlap(_array(iou), SUCCESSES),
        }
        steps = {step: _array(decode(glimpse.double())) for step, glimpse in seen.glimpses.items()}  # type: ignore[union-attr]
        if steps:
            drawn["over_training"] = lambda: box_pictures.over_training(
                _array(watched.inputs), _array(decode(watched.targets.double())), steps
            )
        return Pictures(drawn)


def _success(threshold: float) -> str:
    return f"success_{math.floor(100 * threshold + 0.5)}"


def _array(tensor: Tensor) -> NDArray[np.floating]:
    return torch.as_tensor(tensor).cpu().numpy()
