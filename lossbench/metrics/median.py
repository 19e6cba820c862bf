"""The median of values that do not count alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-6  # of the total weight: as far as sums of weights in single precision may be off


def weighted_median(values: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.floating]:
    """The value with half of the weight below it, for each column; the mean of two where half of it lies between them.

    With whole weights it is the median of values that are repeated as often as their weight.

    Shapes: values [n, columns], weights [n], all above 0; result [columns].
    """
    order = values.argsort(0)
    ordered = np.take_along_axis(values, order, 0)
    below = weights[order].cumsum(0)
    half, slack = below[-1] / 2, ROUNDING * below[-1]
    last = len(values) - 1
    low, high = ((below < half + away).sum(0).clip(max=last) for away in (-slack, slack))
    lower, upper = (np.take_along_axis(ordered, place[None], 0)[0] for place in (low, high))
    middle: NDArray[np.floating] = (lower + upper) / 2
    return middle
