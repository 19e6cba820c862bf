"""Regression: predict numbers; measured in the target's own unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.config.task_type import Shape, TaskType
from lossbench.core import POSITIVE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel
from lossbench.metrics import weighted_median
from lossbench.tasks.calls import ALONE, Call
from lossbench.tasks.samples import OUTPUTS, Sample, normal
from lossbench.tasks.views import View


@dataclass(frozen=True)
class Regression(TaskType):
    """One net predicts standardised targets [..., batch, outputs]; metrics undo the standardisation.

    A loss may take several numbers per output; the first is the prediction: see `Card.outputs_per_target`.

    The mean absolute error is primary: validation is contaminated like the training split, and squared errors of
    a few outliers would decide which step is selected.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    default_loss = "mse"
    several_heads = True
    weighted = True
    models = ("mlp", "tabular")
    estimator = "regressor"
    forms = (ALONE, Call("flat", "flat", "gets predictions and targets without their last axis"))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The mean absolute error is primary; errors are in the target's unit."""
        unit = self.info.unit
        return (
            Metric("mae", "mean absolute error", False, unit, range=POSITIVE),
            Metric("rmse", "root mean squared error", False, unit, range=POSITIVE),
            Metric("median_ae", "median absolute error", False, unit, range=POSITIVE),
            Metric("r2", "share of variance explained", True, range=(-math.inf, 1.0)),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        yield "model", self.loss(nets.model(batch.inputs), batch.targets)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        """The first numbers of each output, in standardised units."""
        return nets.model(batch.inputs)[..., : self.info.targets[-1]]

    def measure(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, float]:
        """Each metric is taken per output and averaged over the outputs."""
        if weights is not None:
            return self._weighted(outputs, targets, weights)
        # by hand: scikit-learn's checks of its arguments take ten times as long, a sixth of a stack's training;
        # torchmetrics 1.9 takes .07 ms rather than .04 for 2,048 examples, without the median, and .4 s to import
        truth, guess = (self._in_units(values) for values in (targets, outputs))
        error, spread = np.abs(truth - guess), truth - truth.mean(0)
        residual, total = np.square(error).sum(0), np.square(spread).sum(0)
        explained = 1 - residual / np.where(total > 0, total, 1)
        return {
            "mae": error.mean(0).mean().item(),
            "rmse": np.sqrt(np.square(error).mean(0)).mean().item(),
            "median_ae": np.median(error, 0).mean().item(),
            "r2": np.where(total > 0, explained, residual == 0).mean().item(),
        }

    def answers(self, outputs: Tensor, calibration: Mapping[str, float]) -> dict[str, NDArray[Any]]:
        """Each target in its own unit."""
        if not self.info.target_scales:
            values = self._in_units(outputs)
            names = ["prediction"] if values.shape[1] == 1 else [f"prediction {n + 1}" for n in range(values.shape[1])]
            return dict(zip(names, values.T, strict=True))
        values = outputs.double().cpu().numpy()
        return {
            f"prediction {name}": values[:, place] * scale + center
            for place, (name, center, scale) in enumerate(self.info.target_scales)
        }

    def _weighted(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
        """The metrics by weights [n], which equal those of rows that are repeated as often as their weight."""
        count = weights > 0
        truth, guess = (self._in_units(values[count]) for values in (targets, outputs))
        w = weights[count].double().cpu().numpy()
        error, spread = np.abs(truth - guess), truth - np.average(truth, 0, w)
        residual, total = (np.average(np.square(values), 0, w) for values in (error, spread))
        total = np.where((truth == truth[0]).all(0), 0, total)  # rounding would leave a spread
        explained = 1 - residual / np.where(total > 0, total, 1)
        return {
            "mae": np.average(error, 0, w).mean().item(),
            "rmse": np.sqrt(residual).mean().item(),
            "median_ae": weighted_median(error, w).mean().item(),
            "r2": np.where(total > 0, explained, residual == 0).mean().item(),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        """Of the contaminated test split where there is one, its outliers marked."""
        from lossbench.tasks.pictures import prediction_against_truth

        splits = dict(seen.splits)
        name = "test_contaminated" if "test_contaminated" in seen.outputs else "test"
        outlier = splits[name].metadata.get("outlier")
        outputs: Any = seen.outputs[name]
        truth, guess = self._in_units(splits[name].targets)[:, 0], self._in_units(outputs)[:, 0]
        outliers = outlier.numpy() if outlier is not None else None
        return Pictures(
            {"prediction_against_truth": lambda: prediction_against_truth(truth, guess, outliers, self.info.unit)}
        )

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return info.targets[0]

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """`outputs_per_target` numbers for each target."""
        shape = (*info.targets[:-1], outputs_per_target * info.targets[-1]) if info.targets else ()
        yield "", tuple(nets.model(examples.inputs).shape), (len(examples), *shape)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        return 2 * normal(random, size, outputs_per_target * OUTPUTS), normal(random, size, OUTPUTS)

    @classmethod
    def made_up(cls, size: int, target: Shape, outputs: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        prediction, truth = (0.7 * torch.randn((size, *target), generator=random) for _ in range(2))
        return prediction, truth

    @classmethod
    def undecided(cls, sample: Sample, player: str) -> Sample:
        """Zeros, with each target moved one further away from them."""
        far = sample.target.sign() * (1 + sample.target.abs())
        return replace(sample, prediction=torch.zeros_like(sample.prediction), target=far)

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Every combination of far predictions with far targets."""
        rows = torch.cartesian_prod(*[far] * (outputs_per_target + 1))
        yield Sample(cls.name, rows[:, :-1], rows[:, -1:])

    @staticmethod
    def right(prediction: Tensor, target: Tensor) -> Tensor:
        """The targets themselves."""
        return target.clone()

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """The mean absolute error of each example."""
        return (sample.prediction.detach()[:, : sample.target.shape[1]] - sample.target).abs().mean(1)

    @classmethod
    def apart(cls, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().mean()

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.pictures import residual_views

        return residual_views(two)

    def _in_units(self, standardised: Tensor) -> Any:
        return (standardised.double() * self.info.scale + self.info.center).cpu().numpy()
