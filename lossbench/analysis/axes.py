"""Axes that a value far from all others does not stretch: it is drawn at the edge, as a triangle that points to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

FAR = 3  # times the usual distance from a middle: what an axis holds in any case
ROOM = 0.07  # of what an axis shows, on either side

Around: TypeAlias = tuple[Any, Any]
"""Middles, and the values around each: two arrays that broadcast."""


@dataclass(frozen=True)
class Axis:
    """The numbers from low to high, and some room on either side."""

    low: float
    high: float
    room: float

    @property
    def range(self) -> list[float]:
        return [self.low - self.room, self.high + self.room]

    def place(self, values: Any) -> Any:
        """Where they are drawn: in the room, if they lie beyond low or high."""
        return np.clip(values, self.low, self.high) + self.outside(values) * self.room / 2

    def outside(self, values: Any) -> Any:
        """−1 for what lies below low, 1 for what lies above high, else 0."""
        return np.nan_to_num(np.sign(values - np.clip(values, self.low, self.high)))

    def symbols(self, values: Any, inside: str) -> list[str]:
        """What marks them."""
        names = {-1: "triangle-left", 1: "triangle-right"}
        return [names.get(beyond, inside) for beyond in self.outside(np.asarray(values, float))]


def axis(*around: Around) -> Axis:
    """All middles, values no farther from theirs than three times the median distance, and as much again as that spans.

    A middle or a value that is missing has no part in it.
    """
    middles = np.concatenate([np.ravel(middle) for middle, _ in around])
    values = np.concatenate([np.ravel(each) for _, each in around])
    distance = np.concatenate(
        [np.ravel(np.abs(np.subtract(np.asarray(each), np.asarray(middle)))) for middle, each in around]
    )
    known = np.isfinite(distance)
    values, distance, middles = values[known], distance[known], middles[np.isfinite(middles)]
    some = distance[distance > 0]
    usual = np.quantile(some, 0.5, method="higher") if len(some) else 0.0
    inner = np.concatenate([middles, values[distance <= FAR * usual]])
    low, high = inner.min(), inner.max()
    near = values[(values >= 2 * low - high) & (values <= 2 * high - low)]
    low, high = min([low, *near]), max([high, *near])
    return Axis(float(low), float(high), float(ROOM * ((high - low) or abs(high) or 1)))
