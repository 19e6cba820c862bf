"""A multi-layer perceptron for tables: numbers in pieces, categories embedded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from lossbench.core import Column, ConfigError
from lossbench.models.columns import apart, starts
from lossbench.models.initial import initialise

WIDEST = 2048  # numbers that the first layer reads, if fewer bins can achieve that


class Tabular(nn.Module):
    """Piecewise-linear encoded numbers and embedded categories, then linear layers with ReLU and dropout.

    Shapes: inputs [batch, columns]; result [batch, outputs].
    Reference: Gorishniy, Rubachev, Babenko, On embeddings for numerical features in tabular deep learning, 2022,
        https://arxiv.org/abs/2203.05556
    """

    def __init__(
        self,
        columns: Sequence[Column],
        outputs: int,
        generator: torch.Generator,
        *,
        hidden: Sequence[int] = (64, 64),
        dropout: float = 0.1,
        embedding: int = 8,
        bins: int = 8,
    ) -> None:
        super().__init__()
        if not columns:
            raise ConfigError("model=tabular: reads the columns of a table, and the dataset has none; model=mlp works")
        if outputs < 1:
            raise ConfigError("model=tabular: the dataset asks for no outputs")
        _check(dropout, embedding, bins)
        self.encoder = Encoder(columns, embedding, bins)
        widths = [self.encoder.width, *hidden]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [skip_init(nn.Linear, width, following), nn.ReLU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head: nn.Linear = skip_init(nn.Linear, widths[-1], outputs)
        initialise(self, generator)
        bound = 1 / math.sqrt(embedding)
        for vectors in self.encoder.parameters():
            nn.init.uniform_(vectors, -bound, bound, generator=generator)
        if self.encoder.categories is not None:
            self.encoder.categories.forget()

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [batch, outputs] for inputs [batch, columns]."""
        return self.head(self.body(self.encoder(inputs)))


class Encoder(nn.Module):
    """What the first layer reads of a table: the pieces of its numbers, then the vectors of its categories.

    Shapes: inputs [batch, columns]; result [batch, width].
    """

    def __init__(self, columns: Sequence[Column], embedding: int, bins: int) -> None:
        super().__init__()
        numbers, levels = apart(columns)
        pieces = Pieces(numbers, _bins(numbers, bins, embedding * len(levels)))
        self.width = pieces.width + embedding * len(levels)
        self.numbers = pieces if numbers else None
        self.categories = Embeddings(levels, embedding) if levels else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Encoded columns [batch, width] of inputs [batch, columns]."""
        parts = [part(inputs) for part in (self.numbers, self.categories) if part is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


class Pieces(nn.Module):
    """The piecewise-linear encoding of numbers: per bin 0 below it, 1 above, linear inside; open at both ends.

    Each number with edges takes `bins` places, zeros where it has fewer, so that runs whose splits have other quantiles
    share a stack. A number without two edges stays as it is; without any, in one place.

    Shapes: inputs [batch, columns], of which the first are the numbers; result [batch, width].
    """

    source: Tensor
    slope: Tensor
    offset: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, columns: Sequence[Column], bins: int) -> None:
        super().__init__()
        places = [(number, place) for number, c in enumerate(columns) for place in _places(c, bins)]
        self.width = len(places)
        self.register_buffer("source", torch.tensor([number for number, _ in places], dtype=torch.long))
        for position, name in enumerate(("slope", "offset", "low", "high")):
            values = [place[position] for _, place in places]
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64).to(torch.get_default_dtype()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Encoded numbers [batch, width] of inputs [batch, columns]."""
        line = torch.addcmul(self.offset, self.slope, inputs.index_select(-1, self.source))
        return line.clamp(self.low, self.high)


class Embeddings(nn.Module):
    """A learned vector for each level of each category, all in one table.

    Shapes: inputs [batch, columns], of which the last are the codes of categories; result [batch, categories · size].
    """

    starts: Tensor

    def __init__(self, levels: Sequence[int], size: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(sum(levels), size))
        self.register_buffer("starts", starts(levels))

    @torch.no_grad()
    def forget(self) -> None:
        """Let what is missing, or was not trained on, begin at 0: code 0 of each category."""
        self.vectors[self.starts] = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Vectors [batch, categories · size] of inputs [batch, columns]."""
        codes = inputs[..., inputs.shape[-1] - self.starts.shape[-1] :].long()
        return F.embedding(codes + self.starts, self.vectors).flatten(-2)


Place = tuple[float, float, float, float]
"""Slope, offset, lowest and highest value of what one place holds: clip(slope · x + offset)."""

FAR = torch.finfo(torch.float32).max  # where nothing is clipped; finite, so that stacks can be compared
SAME: Place = (1.0, 0.0, -FAR, FAR)
NOTHING: Place = (0.0, 0.0, 0.0, 0.0)


def _places(column: Column, bins: int) -> list[Place]:
    """What the places of a number hold; e_t = (x − b_{t−1}) / (b_t − b_{t−1}) for the bin from b_{t−1} to b_t."""
    edges = list(dict.fromkeys(column.edges))
    if not edges:
        return [SAME]
    if len(edges) > bins + 1:
        edges = [edges[round(place * (len(edges) - 1) / bins)] for place in range(bins + 1)]
    last = len(edges) - 2
    pieces = [
        (1 / (right - left), -left / (right - left), 0.0 if place else -FAR, 1.0 if place < last else FAR)
        for place, (left, right) in enumerate(pairwise(edges))
    ] or [SAME]
    return pieces + [NOTHING] * (bins - len(pieces))


def _bins(numbers: Sequence[Column], bins: int, beside: int) -> int:
    """As many bins as asked for, or fewer where the first layer would read more than WIDEST numbers."""
    pieced = sum(bool(column.edges) for column in numbers)
    room = WIDEST - beside - (len(numbers) - pieced)
    return max(1, min(bins, room // max(1, pieced)))


def _check(dropout: float, embedding: int, bins: int) -> None:
    """Raises: ConfigError for settings that make no layer."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout={dropout}: is the share of dropped numbers; 0 or more works, below 1")
    if min(embedding, bins) < 1:
        raise ConfigError(f"model.embedding={embedding}, model.bins={bins}: at least 1")
