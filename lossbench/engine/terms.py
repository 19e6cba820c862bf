"""Terms over a stack: a loss is written for one batch, a stack has one batch a replica."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class OverReplicas:
    """A per-example loss on [..., batch, …]: replicas flattened into one batch, terms given back as [..., batch].

    `dims` is the rank of the targets of one batch: 2 for [batch, outputs], 1 for class labels.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    dims: int

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        extra = target.dim() - self.dims
        if extra == 0:
            return self.loss(prediction, target)
        return self.loss(prediction.flatten(0, extra), target.flatten(0, extra)).unflatten(0, target.shape[: extra + 1])
