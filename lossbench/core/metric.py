"""A metric: a number that no loss owns, with a direction and a range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lossbench.core.loss import F

Range: TypeAlias = tuple[float, float]
"""The least and the largest value that a metric can have, infinite where it has none."""

ANY: Range = (-math.inf, math.inf)
POSITIVE: Range = (0.0, math.inf)
SHARE: Range = (0.0, 1.0)


def finite(ends: Range) -> list[float | None]:
    """A range as JSON has it: None for an end that is infinite."""
    return [end if math.isfinite(end) else None for end in ends]


@dataclass(frozen=True)
class Metric:
    """A metric that no loss owns. `unit` is shown beside it; a fraction has none. No value lies outside its `range`.

    At `collapse` or below, on the test split, a model gives the same whatever it is asked: its outcome is `collapsed`.
    """

    name: str
    meaning: str
    higher_is_better: bool
    unit: str = ""
    collapse: float | None = None
    range: Range = ANY

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    def better(self, a: float, b: float) -> bool:
        """Whether a is strictly better than b."""
        return a > b if self.higher_is_better else a < b


def metric(meaning: str, *, higher_is_better: bool, unit: str = "", range: Range = ANY) -> Callable[[F], F]:  # noqa: A002
    """Declare a function (outputs, targets) -> float as a metric, by its own name, for `task.metrics`.

    Outputs are what the task's `predict` gives for a whole split, and targets the split's, both on the CPU.
    """

    def pin(function: F) -> F:
        function.metric = Metric(function.__name__, meaning, higher_is_better, unit, range=range)  # type: ignore[attr-defined]
        return function

    return pin
