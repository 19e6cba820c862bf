"""Terms of a stack: a loss is written for one batch, a stack has one batch a replica."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.core import card_of

Loss = Callable[[Tensor, Tensor], Tensor]


class Together:
    """The losses of a stack's replicas as one, on predictions and targets [replica, batch, …]; terms [replica, batch].

    Neighbours with the same loss are flattened into one batch for it where its card promises terms that do not depend
    on each other. Any other loss is called replica by replica; one number stands for every example of its batch.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        self._parts: list[tuple[slice, Loss, bool]] = []
        for _, same in groupby(range(len(losses)), key=lambda replica: _identity(losses[replica])):
            replicas = list(same)
            loss = losses[replicas[0]]
            card = card_of(loss)
            flat = len(replicas) > 1 and card is not None and not card.batch
            self._parts.append((slice(replicas[0], replicas[-1] + 1), loss, flat))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        terms = [
            _flattened(loss, prediction[part], target[part]) if flat else _in_turn(loss, prediction[part], target[part])
            for part, loss, flat in self._parts
        ]
        return torch.cat(terms) if len(terms) > 1 else terms[0]


def _flattened(loss: Loss, prediction: Tensor, target: Tensor) -> Tensor:
    return loss(prediction.flatten(0, 1), target.flatten(0, 1)).unflatten(0, target.shape[:2])


def _in_turn(loss: Loss, prediction: Tensor, target: Tensor) -> Tensor:
    return torch.stack([loss(p, t).expand(len(t)) for p, t in zip(prediction, target, strict=True)])


def _identity(loss: Any) -> object:
    """Equal for losses that may be called as one. A module may keep something, so it is only itself."""
    if isinstance(loss, nn.Module):
        return id(loss)
    if isinstance(loss, partial):
        settings = [*loss.args, *(pair for named in sorted(loss.keywords.items()) for pair in named)]
        return _identity(loss.func), tuple(_identity(s) if callable(s) else repr(s) for s in settings)
    return loss
