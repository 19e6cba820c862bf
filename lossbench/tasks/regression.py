"""Regression: predict numbers; measured in the target's own unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lossbench.core import Facts, Noise, Split, Splits, Yardstick

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Regression:
    """One net predicts standardised targets [..., batch, outputs]; yardsticks undo the standardisation.

    The mean absolute error is primary: validation is contaminated like the training split, and squared errors of
    a few outliers would drown the choice of a step.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    facts: Facts

    @property
    def yardsticks(self) -> tuple[Yardstick, ...]:
        unit = self.facts.unit
        return (
            Yardstick("mae", "mean absolute error", False, unit),
            Yardstick("rmse", "root mean squared error", False, unit),
            Yardstick("median_ae", "median absolute error", False, unit),
            Yardstick("r2", "share of variance explained", True),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor]]:
        yield "model", self.loss(nets.model(batch.inputs), batch.targets)

    def predict(self, nets: Any, inputs: Tensor) -> Tensor:
        return nets.model(inputs)

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        from sklearn import metrics

        truth, guess = (self._in_units(values) for values in (targets, outputs))
        return {
            "mae": metrics.mean_absolute_error(truth, guess),
            "rmse": metrics.root_mean_squared_error(truth, guess),
            "median_ae": metrics.median_absolute_error(truth, guess),
            "r2": metrics.r2_score(truth, guess),
        }

    def tune(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {}

    def report(self, outputs: Tensor, targets: Tensor, tuned: Mapping[str, float]) -> dict[str, float]:
        return self.measure(outputs, targets)

    def pictures(self, outputs: Mapping[str, Tensor], splits: Splits, tuned: Mapping[str, float]) -> dict[str, Figure]:
        from lossbench.tasks.pictures import prediction_against_truth

        named = dict(splits)
        name = "test_contaminated" if "test_contaminated" in outputs else "test"
        marks = named[name].marks.get("outlier")
        truth, guess = self._in_units(named[name].targets)[:, 0], self._in_units(outputs[name])[:, 0]
        outliers = marks.numpy() if marks is not None else None
        return {"prediction_against_truth": prediction_against_truth(truth, guess, outliers, self.facts.unit)}

    def _in_units(self, standardised: Tensor) -> Any:
        return (standardised.double() * self.facts.scale + self.facts.center).cpu().numpy()
