"""The scale on which an interval is computed, so that its ends stay in the range of a metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Floats: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Scale:
    """The logit between the ends of a range, the logarithm of the distance to its only end, or x itself without ends.

    g(x) = log(x − low) − log(high − x), without the term of an infinite end

    Shapes: low and high [column], x [..., column].
    """

    low: Floats
    high: Floats

    def __call__(self, x: Floats) -> Floats:
        """g(x)."""
        from_low = np.where(np.isfinite(self.low), np.log(x - self.low), 0)
        from_high = np.where(np.isfinite(self.high), np.log(self.high - x), 0)
        return np.where(self._free, x, from_low - from_high)

    def slope(self, x: Floats) -> Floats:
        """g′(x)."""
        return np.where(self._free, 1, 1 / (x - self.low) + 1 / (self.high - x))

    def back(self, z: Floats) -> Floats:
        """The inverse of g: the x with g(x) = z."""
        from scipy.special import expit

        above, below = self.low + np.exp(z), self.high - np.exp(-z)
        one_end = np.where(np.isfinite(self.low), above, below)
        between = self.low + (self.high - self.low) * expit(z)
        found = np.where(np.isfinite(self.high - self.low), between, one_end)
        return np.clip(np.where(self._free, z, found), self.low, self.high)

    @property
    def _free(self) -> Floats:
        return np.isinf(self.low) & np.isinf(self.high)
