"""A metric: a number that is independent of the loss, with a direction and a range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lossbench.core.loss import F

Range: TypeAlias = tuple[float, float]
"""The least and the largest value of a metric, infinite where there is no bound."""

ANY: Range = (-math.inf, math.inf)
POSITIVE: Range = (0.0, math.inf)
SHARE: Range = (0.0, 1.0)


def finite(ends: Range) -> list[float | None]:
    """A range for JSON: None for an infinite end."""
    return [end if math.isfinite(end) else None for end in ends]


@dataclass(frozen=True)
class Metric:
    """A number by which models are compared, the same for every loss of a task.

    `unit` is displayed beside it; a fraction has none. No value lies outside `range`. A model whose value on the test
    split is `collapse` or below outputs the same for every input: its outcome is `collapsed`.
    """

    name: str
    meaning: str
    higher_is_better: bool
    unit: str = ""
    collapse: float | None = None
    range: Range = ANY

    @property
    def arrow(self) -> str:
        """↑ where higher is better, else ↓."""
        return "↑" if self.higher_is_better else "↓"

    def better(self, a: float, b: float) -> bool:
        """Whether a is strictly better than b."""
        return a > b if self.higher_is_better else a < b


def metric(meaning: str, *, higher_is_better: bool, unit: str = "", range: Range = ANY) -> Callable[[F], F]:  # noqa: A002
    """Decorator that declares a function (outputs, targets) -> float as a metric of its name, for `task.metrics`.

    Outputs are what the task's `predict` gives for a whole split, and targets the split's, both on the CPU. With a
    parameter `weights`, it gets those of the examples by this name, where there are any.
    """

    def attach(function: F) -> F:
        name = getattr(function, "__name__", type(function).__name__)
        function.metric = Metric(name, meaning, higher_is_better, unit, range=range)  # type: ignore[attr-defined]
        return function

    return attach
