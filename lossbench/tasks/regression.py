"""Regression: predict numbers; measured in the target's own unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lossbench.core import POSITIVE, DatasetInfo, Metric, Noise, Pictures, Split, TrainedModel


@dataclass(frozen=True)
class Regression:
    """One net predicts standardised targets [..., batch, outputs]; metrics undo the standardisation.

    A loss may take more numbers an output than the first, which is the prediction: see `Card.outputs_per_target`.

    The mean absolute error is primary: validation is contaminated like the training split, and squared errors of
    a few outliers would drown the choice of a step.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    info: DatasetInfo

    @property
    def metrics(self) -> tuple[Metric, ...]:
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
        return nets.model(batch.inputs)[..., : self.info.targets[-1]]

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        # by hand: scikit-learn's checks of its arguments take ten times as long, a sixth of a stack's training;
        # torchmetrics 1.9 takes .07 ms rather than .04 for 2,048 examples, without the median, and .4 s to import
        truth, guess = (self._in_units(values) for values in (targets, outputs))
        error, spread = np.abs(truth - guess), truth - truth.mean(0)
        left, all_of_it = np.square(error).sum(0), np.square(spread).sum(0)
        explained = 1 - left / np.where(all_of_it > 0, all_of_it, 1)
        return {
            "mae": error.mean(0).mean().item(),
            "rmse": np.sqrt(np.square(error).mean(0)).mean().item(),
            "median_ae": np.median(error, 0).mean().item(),
            "r2": np.where(all_of_it > 0, explained, left == 0).mean().item(),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        return self.measure(outputs, targets)

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks.pictures import prediction_against_truth

        named = dict(seen.splits)
        name = "test_contaminated" if "test_contaminated" in seen.outputs else "test"
        metadata = named[name].metadata.get("outlier")
        outputs: Any = seen.outputs[name]
        truth, guess = self._in_units(named[name].targets)[:, 0], self._in_units(outputs)[:, 0]
        outliers = metadata.numpy() if metadata is not None else None
        return Pictures(
            {"prediction_against_truth": lambda: prediction_against_truth(truth, guess, outliers, self.info.unit)}
        )

    def _in_units(self, standardised: Tensor) -> Any:
        return (standardised.double() * self.info.scale + self.info.center).cpu().numpy()
