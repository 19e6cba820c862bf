"""The columns of a table as a net gets them: numbers first, then the codes of categories, or these one-hot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.core import Column, ConfigError


def apart(columns: Sequence[Column]) -> tuple[list[Column], list[int]]:
    """The numbers, and how many levels each category has. Raises: ConfigError where a category precedes a number."""
    numbers = [column for column in columns if not column.levels]
    levels = [column.levels for column in columns if column.levels]
    if numbers != list(columns[: len(numbers)]):
        raise ConfigError("dataset: a category stands before a number among its columns; numbers first works")
    return numbers, levels


def starts(levels: Sequence[int]) -> Tensor:
    """The place of each category's first level [categories], where the levels of all stand side by side."""
    return torch.tensor([0, *levels[:-1]]).cumsum(0)


def one_hot_width(columns: Sequence[Column]) -> int:
    """How many numbers there are once each category is one-hot."""
    return sum(column.levels or 1 for column in columns)


class OneHot(nn.Module):
    """A net that reads numbers alone, given the categories of a table one-hot.

    Shapes: inputs [batch, columns]; the net gets [batch, numbers + levels of all categories]; result as the net's.
    """

    starts: Tensor

    def __init__(self, net: nn.Module, columns: Sequence[Column]) -> None:
        super().__init__()
        numbers, levels = apart(columns)
        self.net = net
        self.numbers, self.levels = len(numbers), sum(levels)
        self.register_buffer("starts", starts(levels))

    def forward(self, inputs: Tensor) -> Any:
        """The net's outputs for inputs [batch, columns]."""
        numbers, codes = inputs[..., : self.numbers], inputs[..., self.numbers :].long()
        none = inputs.new_zeros(*inputs.shape[:-1], self.levels)
        known = (codes > 0).to(inputs.dtype)  # no level at all where it is missing, or was not trained on
        return self.net(torch.cat([numbers, none.scatter(-1, codes + self.starts, known)], -1))
