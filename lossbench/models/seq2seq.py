"""A small encoder–decoder with attention, for sequences of symbols."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from lossbench.core import ConfigError
from lossbench.models.initial import initialise

PAD = 0  # the index of padding
SPREAD = 0.5  # of what a symbol and a place start as; at .1 a run learns half as fast


class Seq2Seq(nn.Module):
    """A Transformer whose layers normalise first (Xiong et al., 2020, https://arxiv.org/abs/2002.04745).

    The source is read `stride` symbols at a time, each such block with its neighbours: half the places to attend to,
    and letters are part of a word before attention has to find that out. Attention is written out, since torch's
    fused one does not stack. Padding of the source is masked.

    Shapes: source [batch, source length], shifted [batch, target length], the target shifted by one place, so that
    each symbol is known when the next is predicted; result [batch, target length, outputs].
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        *,
        vocabulary: int,
        length: int,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        stride: int = 2,
    ) -> None:
        super().__init__()
        if len(inputs) != 1 or vocabulary < 1:
            raise ConfigError(f"model=seq2seq: wants sequences of symbols, the dataset gives {list(inputs)}")
        if heads < 1 or width < 1 or width % heads:
            raise ConfigError(f"model.heads={heads}: must divide model.width={width}")
        if stride < 1 or layers < 1:
            raise ConfigError(f"model.stride={stride}, model.layers={layers}: at least 1")
        self.encoder = Encoder(vocabulary, inputs[0], width, heads, layers, stride)
        self.decoder = Decoder(outputs, length, width, heads, layers, stride)
        self.head: nn.Linear = skip_init(nn.Linear, width, outputs)
        initialise(self, generator)
        for table in (part for name, part in self.named_parameters() if name.endswith(("what", "where"))):
            nn.init.normal_(table, std=SPREAD, generator=generator)

    def forward(self, source: Tensor, shifted: Tensor) -> Tensor:
        """Logits [batch, target length, outputs] of each next symbol."""
        return self.head(self.decoder(self.encoder(source), source, shifted))


class Encoder(nn.Module):
    """Shapes: source [batch, length]; result [batch, blocks, width], a block for each `stride` symbols."""

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.what = nn.Parameter(torch.empty(vocabulary, width))
        self.where = nn.Parameter(torch.empty(-(-length // stride), width))
        self.window: nn.Linear = skip_init(nn.Linear, 3 * stride * width, width)
        self.layers = nn.ModuleList(Layer(width, heads, crossed=False) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, source: Tensor) -> Tensor:
        """Hidden states [batch, blocks, width] of a source [batch, length]."""
        source = F.pad(source, (0, -source.shape[-1] % self.stride), value=PAD)
        symbols = F.embedding(source, self.what).masked_fill((source == PAD).unsqueeze(-1), 0)
        blocks = symbols.unflatten(-2, (-1, self.stride)).flatten(-2)
        before, after = F.pad(blocks, (0, 0, 1, -1)), F.pad(blocks, (0, 0, -1, 1))
        hidden = self.window(torch.cat([before, blocks, after], -1)) + self.where[: blocks.shape[-2]]
        for layer in self.layers:
            hidden = layer(hidden, unseen(source, self.stride))
        return self.norm(hidden)


class Decoder(nn.Module):
    """Shapes: memory [batch, blocks, width], source and shifted as above; result [batch, target length, width]."""

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, layers: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.what = nn.Parameter(torch.empty(vocabulary, width))
        self.where = nn.Parameter(torch.empty(length, width))
        self.layers = nn.ModuleList(Layer(width, heads, crossed=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, source: Tensor, shifted: Tensor) -> Tensor:
        """Hidden states [batch, target length, width]; no place attends to a later one, or to padding."""
        length = shifted.shape[-1]
        hidden = F.embedding(shifted, self.what) + self.where[:length]
        future = torch.ones(length, length, dtype=torch.bool, device=shifted.device).triu(1)
        for layer in self.layers:
            hidden = layer(hidden, future, memory, unseen(source, self.stride))
        return self.norm(hidden)


def unseen(source: Tensor, stride: int) -> Tensor:
    """The blocks that are all padding, [batch, 1, blocks]: those whose first symbol is."""
    return (source[..., ::stride] == PAD).unsqueeze(-2)


class Layer(nn.Module):
    """Attention to the sequence itself, where `crossed` also to another, then two linear layers: each adds to x."""

    def __init__(self, width: int, heads: int, *, crossed: bool) -> None:
        super().__init__()
        self.own = Attention(width, heads)
        self.other = Attention(width, heads) if crossed else None
        self.feed = nn.Sequential(
            nn.LayerNorm(width),
            skip_init(nn.Linear, width, 4 * width),
            nn.ReLU(),
            skip_init(nn.Linear, 4 * width, width),
        )

    def forward(self, x: Tensor, masked: Tensor, memory: Tensor | None = None, unseen: Tensor | None = None) -> Tensor:
        """Hidden states like x [batch, length, width]; `masked` and `unseen` are true where attention must not look."""
        x = x + self.own(x, None, masked)
        if self.other is not None:
            x = x + self.other(x, memory, unseen)
        return x + self.feed(x)


class Attention(nn.Module):
    """softmax(q·kᵀ/√d)·v of several heads side by side, over what is not masked; x is normalised first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query: nn.Linear = skip_init(nn.Linear, width, width)
        self.key_value: nn.Linear = skip_init(nn.Linear, width, 2 * width)
        self.out: nn.Linear = skip_init(nn.Linear, width, width)

    def forward(self, x: Tensor, memory: Tensor | None, masked: Tensor) -> Tensor:
        """Hidden states like x [batch, length, width], from `memory`, or from x itself where it is None."""
        x = self.norm(x)
        keys, values = self.key_value(x if memory is None else memory).chunk(2, -1)
        q, k, v = (self._split(part) for part in (self.query(x), keys, values))  # [batch, head, length, width of head]
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        # not -inf: where everything is masked, the softmax would be 0 / 0
        scores = scores.masked_fill(masked.unsqueeze(-3), torch.finfo(scores.dtype).min)
        return self.out((scores.softmax(-1) @ v).transpose(-3, -2).flatten(-2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
