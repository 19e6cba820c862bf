"""Made-up batches as a task gives them to a loss, with sizes that no two axes share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

COUNTS = (700, 40, 9, 3000, 1)  # examples of each class in a training split
CLASSES, OUTPUTS, LATENT, PIXELS, DIMENSIONS = 5, 3, 3, 6, 5


@dataclass(frozen=True)
class Sample:
    """Predictions and targets of a batch; of a GAN: fake pictures, real ones, and the weights of a linear critic.

    `noise` says which noise each example gets, so that it moves with the example. `counts` are the class counts.
    """

    task_type: str
    prediction: Tensor
    target: Tensor
    counts: tuple[int, ...] = ()
    weights: Tensor | None = None
    noise: tuple[int, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.target)

    def leaf(self, player: str) -> Tensor:
        """The tensor that this player's gradient is taken with respect to."""
        if player == "critic":
            assert self.weights is not None
            return self.weights
        return self.prediction

    def moved(self, player: str, leaf: Tensor) -> Sample:
        """The same sample with this player's leaf replaced."""
        return replace(self, weights=leaf) if player == "critic" else replace(self, prediction=leaf)

    def rows(self, index: list[int]) -> Sample:
        """The batch of these examples."""
        return replace(
            self,
            prediction=self.prediction[index],
            target=self.target[index],
            noise=tuple(self.ids[position] for position in index),
        )

    @property
    def ids(self) -> tuple[int, ...]:
        """Which noise each example gets."""
        return self.noise or tuple(range(len(self)))

    def renamed(self, names: tuple[int, ...]) -> Sample:
        """The same sample with its classes, and their counts, under these other numbers."""
        new = torch.tensor(names)
        back = new.argsort()
        counts = tuple(self.counts[k] for k in back.tolist())
        return replace(self, prediction=self.prediction[..., back], target=new[self.target], counts=counts)

    def to(self, dtype: torch.dtype) -> Sample:
        """The same sample in another floating type; integer targets stay as they are."""
        target = self.target.to(dtype) if self.target.is_floating_point() else self.target
        weights = None if self.weights is None else self.weights.to(dtype)
        return replace(self, prediction=self.prediction.to(dtype), target=target, weights=weights)


def normal(random: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in double precision."""
    return torch.randn(shape, generator=random, dtype=torch.float64)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two mean losses are equal, up to rounding."""
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the mean logit of the other classes is above the right one's.

    Shapes: logits [..., classes], labels [...]; result [...].
    """
    right = F.one_hot(labels, logits.shape[-1])
    return (logits * (1 - right)).sum(-1) / max(1, logits.shape[-1] - 1) - (logits * right).sum(-1)
