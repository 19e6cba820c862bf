"""Axes that an outlier does not stretch: it is drawn at the edge, as a triangle that points to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

FAR = 3  # times the median distance from a middle: an axis shows everything that near
ROOM = 0.07  # on either side, as a share of the axis

Around: TypeAlias = tuple[Any, Any]
"""Middles, and the values around each: two arrays that broadcast against each other."""


@dataclass(frozen=True)
class Axis:
    """An axis from low to high, with some room on either side."""

    low: float
    high: float
    room: float

    @property
    def range(self) -> list[float]:
        """Its ends, with the room on either side."""
        return [self.low - self.room, self.high + self.room]

    def place(self, values: Any) -> Any:
        """The positions at which values are drawn: in the room on either side, where they lie beyond low or high."""
        return np.clip(values, self.low, self.high) + self.outside(values) * self.room / 2

    def outside(self, values: Any) -> Any:
        """−1 for what lies below low, 1 for what lies above high, else 0."""
        return np.nan_to_num(np.sign(values - np.clip(values, self.low, self.high)))

    def symbols(self, values: Any, inside: str) -> list[str]:
        """The marker of each value: `inside`, or a triangle for values beyond the axis."""
        names = {-1: "triangle-left", 1: "triangle-right"}
        return [names.get(beyond, inside) for beyond in self.outside(np.asarray(values, float))]


def axis(*around: Around) -> Axis:
    """The axis that shows these middles and values, outliers excepted.

    It holds all middles and all values within three times the median distance of theirs; then any other values that lie
    within as much again on either side. Missing middles and values are ignored.
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
