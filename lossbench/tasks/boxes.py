"""Boxes: four offsets from an anchor, measured by the overlap of the boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import POSITIVE, SHARE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel
from lossbench.core.box_offsets import CROP, decode
from lossbench.metrics.overlap import paired_iou
from lossbench.tasks.calls import ALONE, Call
from lossbench.tasks.samples import Sample, normal, same
from lossbench.tasks.views import View

SUCCESSES = (0.5, 0.75, 0.9)  # IoU from which a box counts as found


@dataclass(frozen=True)
class Boxes(TaskType):
    """Predicted and true offsets [..., batch, 4], as in `core.box_offsets`. Mean IoU is primary."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    models = ("cnn",)
    only_with = "regression"
    forms = (ALONE, Call("corners", "corners", "gets boxes as corners x0, y0, x1, y1, in sides of the anchor"))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean IoU is primary."""
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
        """Offsets are decoded to corners first."""
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

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import box_pictures

        outputs, test, watched = seen.outputs["test"], seen.splits.test, seen.splits.validation
        assert isinstance(outputs, Tensor)
        predicted, true = decode(outputs.double()), decode(test.targets.double())
        iou = paired_iou(predicted, true)
        figures = {
            "boxes": lambda: box_pictures.boxes(*map(_array, (test.inputs, true, predicted, iou))),
            "overlap": lambda: box_pictures.overlap(_array(iou), SUCCESSES),
        }
        steps = {step: _array(decode(glimpse.double())) for step, glimpse in seen.glimpses.items()}  # type: ignore[union-attr]
        if steps:
            figures["over_training"] = lambda: box_pictures.over_training(
                _array(watched.inputs), _array(decode(watched.targets.double())), steps
            )
        return Pictures(figures)

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return info.targets[0]

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        yield "", tuple(nets.model(examples.inputs).shape), (len(examples), *info.targets)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Predicted and true offsets, some of them further apart than 1."""
        return 0.6 * normal(random, size, 4), 0.6 * normal(random, size, 4)  # some of them further apart than 1

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        prediction, truth = (0.7 * torch.randn((size, *target), generator=random) for _ in range(2))
        return prediction, truth

    @classmethod
    def undecided(cls, sample: Sample, player: str) -> Sample:
        """Zeros, with targets in which one of the four offsets is not 0."""
        zeros = torch.zeros_like(sample.prediction)
        return replace(sample, prediction=zeros, target=0.5 * torch.cat([torch.eye(4), -torch.eye(4)]).to(zeros.dtype))

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Centres and sides at every pair of far values, against one true box."""
        pairs = torch.cartesian_prod(far, far)
        target = torch.tensor([0.1, -0.5, 0.3, 0.0]).double().expand(len(pairs), 4)
        yield Sample(cls.name, pairs.repeat_interleave(2, 1), target)

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor:
        return target.clone()

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """The error of the offset whose target is furthest from 0."""
        prediction, target = sample.prediction.detach(), sample.target
        return (prediction - target).gather(1, target.abs().argmax(1, keepdim=True)).abs().squeeze(1)

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().mean()

    @staticmethod
    def mistaken(mean_loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> bool:
        """Whether it takes offsets for corners, as a loss of IoU does.

        Then its mean loss is the same for corners in a mirror, and another for moved offsets.
        """
        mirror = torch.tensor([-1.0, 1.0, -1.0, 1.0])
        mirrored = [(mirror * boxes)[:, [2, 1, 0, 3]] for boxes in (prediction, target)]
        moved = [boxes + torch.tensor([0.1, -0.2, 0.3, 0.4]) for boxes in (prediction, target)]
        plain = mean_loss(prediction, target)
        return same(plain, mean_loss(*mirrored)) and not same(plain, mean_loss(*moved))

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.box_pictures import views

        return views()


def _success(threshold: float) -> str:
    return f"success_{math.floor(100 * threshold + 0.5)}"


def _array(tensor: Tensor) -> NDArray[np.floating]:
    return torch.as_tensor(tensor).cpu().numpy()
