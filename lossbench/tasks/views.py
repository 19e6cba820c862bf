"""The views in which a loss is drawn: the numbers along x, and how the loss is called at each of them.

A case takes a loss, as its task calls it, and the swept numbers [n]; it returns per-example losses [n]. A loss that
needs the whole batch gets one number at a time. The cases of each task type stand with its pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.core import LossOutput, card_of, stream

Case = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class View:
    """A picture of the losses of a task type. In an overlay, their slopes are matched at `at`."""

    name: str
    task_type: str
    title: str
    axis: str
    x: tuple[float, ...]
    at: float
    cases: Mapping[str, Case]


class Still:
    """Noise that is the same along a curve, so that only what is swept moves it; within a batch it may vary."""

    done = 10**9  # steps, after which any warm-up is over

    def __init__(self, varied: bool = False) -> None:
        self._generator = stream(0, "gallery")
        self._varied = varied

    def own(self) -> Still:
        """Itself: noise that only a loss draws is as still."""
        return self

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of this shape, the same in every row unless varied."""
        return self._alike(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of this shape, the same in every row unless varied."""
        return self._alike(torch.rand, shape)

    def _alike(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        rows = shape[0] if self._varied else 1
        return draw((rows, *shape[1:]), generator=self._generator, dtype=torch.float64).expand(shape)


def steps(low: float, high: float, n: int) -> tuple[float, ...]:
    """`n` evenly spaced numbers from low to high."""
    return tuple(round(step, 9) for step in torch.linspace(low, high, n, dtype=torch.float64).tolist())


def per_example(output: Tensor | LossOutput) -> Tensor:
    """The per-example losses of what a loss returned, without its parts."""
    return LossOutput.of(output).per_example


def whole(loss: Any) -> bool:
    """Whether a loss needs the whole batch, so that it gets one number at a time."""
    card = card_of(loss)
    return card is not None and card.batch


SHARES, LOGITS, NEAR = steps(0.01, 0.99, 81), steps(-6, 6, 81), steps(-2, 2, 81)
