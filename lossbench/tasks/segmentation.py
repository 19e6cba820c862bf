"""Segmentation: a logit for every pixel, object or background. Outputs are read as logits for every loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import POSITIVE, SHARE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel, card_of
from lossbench.datasets.splits import check_labels
from lossbench.metrics import expected_calibration_error
from lossbench.metrics.masks import dice_score, hausdorff_95, intersection_over_union, small_object_recall
from lossbench.tasks.calls import BINARY, MASKS, PIXELS, on_each
from lossbench.tasks.lifting import of_pixels, of_signs
from lossbench.tasks.samples import COUNTS, Sample, normal
from lossbench.tasks.views import View

CHUNK = 256  # images per forward pass at evaluation: every layer has activations as large as they are
THRESHOLDS = np.arange(1, 20) / 20  # probabilities, of which the best on validation is taken


@dataclass(frozen=True)
class Segmentation(TaskType):
    """Logits and targets 0 and 1 [batch, height, width]. Mean IoU is primary: background does not count in it."""

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    models = ("unet",)
    logits = True
    one_logit = True
    prior = "one"
    counts = COUNTS[:2]
    forms = (*MASKS, *on_each("pixel", PIXELS, BINARY))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean IoU over the images is primary."""
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
        """Logits [n, height, width], a chunk of images at a time."""
        return torch.cat([_logits(nets, images) for images in batch.inputs.split(CHUNK)])

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The metrics that take no search over boundaries, objects or bins."""
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
        """Adds IoU at the tuned threshold, boundaries, small objects and calibration error."""
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
        figures = {
            "masks": lambda: mask_pictures.masks(
                _array(test.inputs[chosen]), _array(test.targets[chosen] == 1), _array(torch.sigmoid(outputs[chosen]))
            )
        }
        steps = {step: _array(torch.sigmoid(glimpse)) for step, glimpse in seen.glimpses.items()}  # type: ignore[arg-type]
        if steps:
            few = _chosen(_array(watched.targets[: len(next(iter(steps.values())))] == 1))
            figures["over_training"] = lambda: mask_pictures.over_training(
                _array(watched.inputs[few]), _array(watched.targets[few] == 1), {s: p[few] for s, p in steps.items()}
            )
        return Pictures(figures)

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return 1

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """A channel axis of one is accepted."""
        shape, n = tuple(nets.model(examples.inputs).shape), len(examples)
        if shape == (n, 1, *info.targets):
            shape = (n, *info.targets)
        yield "", shape, (n, *info.targets)

    @staticmethod
    def call(loss: Any) -> Any:
        """A binary loss is applied to every pixel."""
        card = card_of(loss)
        if card is None:
            return loss
        signed = partial(of_signs, loss) if card.signed_targets else loss
        return partial(of_pixels, signed) if "binary" in card.task_types else signed

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Every pixel has to be a label of the classes, where there are classes."""
        check_labels(info, name, split)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Masks that all have object and background."""
        masks = (torch.rand(size, 3, 4, generator=random) < 0.4).long()
        masks[:, 0, 0], masks[:, 2, 3] = 1, 0
        return 2 * normal(random, size, 3, 4), masks

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Masks with less object than background, more of it further down."""
        down = torch.linspace(0, 1, target[0])[:, None]  # more object further down, so that rows are unlike columns
        masks = (torch.rand(size, *target, generator=random) < 0.6 * down).long()  # and less object than background
        masks[:, 0, 0], masks[:, -1, -1] = 0, 1
        return torch.randn((size, *target), generator=random) + down, masks

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Images of two by two pixels at every pair of far logits, with empty, full and mixed masks."""
        logits = torch.cartesian_prod(far, far)[:, [0, 1, 1, 0]].unflatten(1, (2, 2))
        for mask in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]):
            yield Sample(cls.name, logits, torch.tensor(mask).view(2, 2).expand(len(far) ** 2, 2, 2), COUNTS[:2])

    @staticmethod
    def other(target: Tensor) -> Tensor:
        """The inverted masks."""
        return 1 - target

    @staticmethod
    def probabilities(prediction: Tensor) -> Tensor:
        return prediction.sigmoid()

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor:
        """Logits of −1 and +1."""
        return 2.0 * target - 1

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """The mean logit towards the wrong class, of each image."""
        return ((1 - 2 * sample.target) * sample.prediction.detach()).flatten(1).mean(1)

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean logit towards the wrong class, for object and background."""
        return torch.stack([-prediction[target == 1].mean(), prediction[target == 0].mean()])

    @staticmethod
    def transposed(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Images on their side, whose losses are the same: rows are not channels."""
        return prediction.transpose(1, 2).contiguous(), target.transpose(1, 2).contiguous()

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.mask_pictures import views

        return views()


def _logits(nets: Any, images: Tensor) -> Tensor:
    """One logit per pixel, [..., batch, height, width], also of a net whose outputs have a channel axis of one."""
    logits: Tensor = nets.model(images)
    return logits.squeeze(-3) if logits.dim() == images.dim() else logits


def _chosen(true: NDArray[np.bool_], most: int = 5) -> list[int]:
    """Positions of the first images with an object and of the first without; the same for every loss."""
    holds = true.any((1, 2))
    return [*np.flatnonzero(holds)[:most].tolist(), *np.flatnonzero(~holds)[:1].tolist()]


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()
