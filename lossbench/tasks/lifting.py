"""Losses of an example applied to pixels, tokens and identities: one equation, wherever it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from lossbench.config.task_types import load
from lossbench.core import Card, Noise, card_of

Loss = Callable[..., Any]

PAD = 0  # the padding of a sequence, which never counts


def lifted(loss: Any, task_type: str) -> Any:
    """The loss as a task of this type calls it, depending on what its card says it fits: see `TaskType.call`.

    A loss without a card is called on what the task has, as its author says.
    """
    return load(task_type).call(loss)


def of_signs(loss: Loss, scores: Tensor, labels: Tensor) -> Tensor:
    """A loss that takes −1 and +1, called on labels 0 and 1."""
    return loss(scores, 2 * labels - 1)


def of_pixels(loss: Loss, logits: Tensor, masks: Tensor) -> Tensor:
    """A binary loss of every pixel, mean over those of an image: logits and masks [batch, …], result [batch]."""
    return loss(logits.flatten(), masks.flatten()).view(len(masks), -1).mean(-1)


def of_tokens(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    """A multi-class loss of every token, mean over an example's own; padding never counts.

    Shapes: logits [batch, tokens, classes], targets [batch, tokens]; result [batch].
    """
    per_example = loss(logits.flatten(0, 1), targets.flatten()).view_as(targets)
    real = targets != PAD
    return per_example.masked_fill(~real, 0).sum(-1) / real.sum(-1).clamp(min=1)


def of_one_hot(loss: Loss, outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss of vectors, called with the one-hot vectors of the labels as targets."""
    return loss(outputs, F.one_hot(labels, outputs.shape[-1]).to(outputs.dtype))


@dataclass(frozen=True)
class Quiet:
    """A loss of two players whose critic's loss takes no noise, called as if it did."""

    loss: Any

    @property
    def card(self) -> Card | None:
        """The card of the loss itself."""
        return card_of(self.loss)

    def critic(self, critic: Any, real: Tensor, fake: Tensor, noise: Noise) -> Any:
        """The critic's loss, without the noise."""
        return self.loss.critic(critic, real, fake)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.loss, name)


class OfIdentities(nn.Module):
    """A multi-class loss over the training identities, whose logits are linear in the embedding and learned with it.

    ℓ(W·e + b, y)

    Shapes: embeddings e [batch, dimensions], identities y [batch]; result [batch].
    """

    def __init__(self, loss: Loss, classes: int, dimensions: int, generator: torch.Generator) -> None:
        super().__init__()
        self.loss = loss
        self.head: nn.Linear = skip_init(nn.Linear, dimensions, classes)
        bound = dimensions**-0.5
        for parameter in self.head.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, embeddings: Tensor, identities: Tensor) -> Tensor:
        """Per-example losses [batch] of the learned logits."""
        return self.loss(self.head(embeddings), identities)
