"""What a task gives a loss, made up for each task type: at random, far out, and before anything is learned."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lossbench.core import stream

EXTREMES = (0.0, 20.0, -20.0, 100.0, -100.0, 1e4, -1e4)
COUNTS = (700, 40, 9, 3000, 1)  # examples of each class in a training split
IDENTITIES = (3, 7, 11, 20)  # of a batch; a net gives fewer numbers than these go up to
SEEN = 24  # identities of a training split
CLASSES, OUTPUTS, LATENT, PIXELS, DIMENSIONS = 5, 3, 3, 6, 5
DTYPES = (torch.float32, torch.float64, torch.bfloat16)

Maker = Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sample:
    """Predictions and targets of a batch; of a GAN: fake pictures, real ones, and the weights of a linear critic.

    `noise` says which noise each example gets, so that it moves with the example. `counts` are those of the classes.
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
        """What this player's gradient reaches."""
        if player == "critic":
            assert self.weights is not None
            return self.weights
        return self.prediction

    def moved(self, player: str, leaf: Tensor) -> Sample:
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
        return self.noise or tuple(range(len(self)))

    def to(self, dtype: torch.dtype) -> Sample:
        target = self.target.to(dtype) if self.target.is_floating_point() else self.target
        weights = None if self.weights is None else self.weights.to(dtype)
        return replace(self, prediction=self.prediction.to(dtype), target=target, weights=weights)


def players(task_type: str) -> tuple[str, ...]:
    return ("critic", "generator") if task_type == "gan" else ("model",)


def at_random(task_type: str, outputs_per_target: int = 1, batch: int = 8, seed: int = 7) -> Sample:
    """In double precision; of an embedding, each identity is there at least twice."""
    random = stream(seed, f"contract/{task_type}")
    prediction, target = MAKERS[task_type](batch, outputs_per_target, random)
    weights = None
    if task_type == "gan":
        weights = torch.randn(PIXELS + 1, generator=random, dtype=torch.float64) / PIXELS**0.5
    return Sample(task_type, prediction, target, counts(task_type), weights)


def counts(task_type: str) -> tuple[int, ...]:
    if task_type == "embedding":
        return tuple(1 + 7 * k for k in range(SEEN))
    if task_type in ("binary", "segmentation"):
        return COUNTS[:2]
    return COUNTS if task_type in ("multiclass", "sequence") else ()


def undecided(task_type: str, outputs_per_target: int = 1, player: str = "model") -> Sample:
    """Predictions of zero, and whatever the target may be; where zero says nothing, at random.

    A critic starts at zero where it learns, and is there where a generator learns from it.
    """
    made = at_random(task_type, outputs_per_target)
    if task_type in ("autoencoder", "embedding"):
        return made
    if task_type == "gan":
        assert made.weights is not None
        weights = torch.zeros_like(made.weights) if player == "critic" else made.weights
        return replace(made, prediction=0.1 * made.prediction, target=made.target + 1, weights=weights)
    zeros = torch.zeros_like(made.prediction)
    if task_type == "regression":
        far = made.target.sign() * (1 + made.target.abs())
        return replace(made, prediction=zeros, target=far)
    if task_type == "boxes":  # one number of four to be learned, whichever
        return replace(made, prediction=zeros, target=0.5 * torch.cat([torch.eye(4), -torch.eye(4)]).to(zeros.dtype))
    return replace(made, prediction=zeros)


def extremes(task_type: str, outputs_per_target: int = 1) -> Iterator[Sample]:
    """Every pairing of far predictions with far targets."""
    far = torch.tensor(EXTREMES, dtype=torch.float64)
    if task_type == "regression":
        rows = torch.cartesian_prod(*[far] * (outputs_per_target + 1))
        yield Sample(task_type, rows[:, :-1], rows[:, -1:])
    elif task_type == "binary":
        yield Sample(task_type, far.repeat_interleave(2), torch.arange(2).repeat(len(far)), COUNTS[:2])
    elif task_type == "multiclass":
        logits = torch.cartesian_prod(far, far, far)
        labels = torch.arange(3).repeat(len(logits))
        yield Sample(task_type, logits.repeat_interleave(3, 0), labels, COUNTS[:3])
    elif task_type == "boxes":
        pairs = torch.cartesian_prod(far, far)
        yield Sample(
            task_type, pairs.repeat_interleave(2, 1), torch.tensor([0.1, -0.5, 0.3, 0.0]).double().expand(49, 4)
        )
    elif task_type == "segmentation":
        yield from _far_masks(far)
    elif task_type == "sequence":
        logits = torch.cartesian_prod(far, far, far)
        for tokens in ((1, 2), (2, 0), (0, 0)):  # 0 fills up
            both = torch.stack([logits, logits.flip(0)], 1)
            yield Sample(task_type, both, torch.tensor(tokens).expand(len(logits), 2), COUNTS[:3])
    elif task_type == "embedding":
        yield from _far_embeddings()
    elif task_type == "autoencoder":
        pairs = torch.cartesian_prod(far, torch.tensor([0.0, 20.0, -20.0], dtype=torch.float64))
        pixels = torch.linspace(0, 1, PIXELS, dtype=torch.float64).expand(len(pairs), PIXELS)
        yield Sample(task_type, pairs.repeat_interleave(LATENT, 1), pixels)
    elif task_type == "gan":
        scores = torch.cartesian_prod(far, far).unsqueeze(-1).expand(-1, -1, PIXELS).unflatten(-1, (2, -1))
        weights = torch.cat([torch.full((PIXELS,), 1 / PIXELS), torch.zeros(1)]).double()
        yield Sample(task_type, scores[:, 0], scores[:, 1], weights=weights)


def _far_masks(far: Tensor) -> Iterator[Sample]:
    logits = torch.cartesian_prod(far, far)[:, [0, 1, 1, 0]].unflatten(1, (2, 2))
    for mask in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]):
        yield Sample("segmentation", logits, torch.tensor(mask).view(2, 2).expand(len(far) ** 2, 2, 2), COUNTS[:2])


def _far_embeddings() -> Iterator[Sample]:
    made = at_random("embedding")
    one = made.prediction[:1].expand_as(made.prediction)
    by_identity = made.prediction[: len(IDENTITIES)].repeat(2, 1)
    away = (made.target[:, None] == torch.tensor(IDENTITIES[:2])).any(1)
    opposite = torch.where(away[:, None], one, -one)
    for prediction in (*(size * made.prediction for size in (20, 100, 1e4)), one, by_identity, opposite):
        yield replace(made, prediction=prediction.clone())
    yield replace(made, target=torch.full_like(made.target, IDENTITIES[0]))  # nobody else


def _randn(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64)


def _regression(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    return 2 * _randn(random, batch, outputs_per_target * OUTPUTS), _randn(random, batch, OUTPUTS)


def _binary(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    return 2 * _randn(random, batch), torch.arange(batch) % 2


def _multiclass(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    return 2 * _randn(random, batch, CLASSES), torch.arange(batch) % CLASSES


def _boxes(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    return 0.6 * _randn(random, batch, 4), 0.6 * _randn(random, batch, 4)  # some of them further apart than 1


def _autoencoder(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    codes = _randn(random, batch, 2 * LATENT)
    return codes, torch.rand(batch, PIXELS, generator=random, dtype=torch.float64)


def _gan(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    return 3 * _randn(random, batch, 2, PIXELS // 2), 3 * _randn(random, batch, 2, PIXELS // 2)


def _embedding(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = list(itertools.islice(itertools.cycle(IDENTITIES), batch))
    return 2 * _randn(random, batch, DIMENSIONS), torch.tensor(labels)


def _segmentation(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    masks = (torch.rand(batch, 3, 4, generator=random) < 0.4).long()
    masks[:, 0, 0], masks[:, 2, 3] = 1, 0
    return 2 * _randn(random, batch, 3, 4), masks


def _sequence(batch: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(1, CLASSES, (batch, 4), generator=random)
    return 2 * _randn(random, batch, 4, CLASSES), tokens * (torch.arange(4) <= torch.arange(batch)[:, None] % 4)


MAKERS: dict[str, Maker] = {
    "regression": _regression,
    "binary": _binary,
    "multiclass": _multiclass,
    "boxes": _boxes,
    "autoencoder": _autoencoder,
    "gan": _gan,
    "embedding": _embedding,
    "segmentation": _segmentation,
    "sequence": _sequence,
}
"""A batch of each task type: prediction and target, at random."""
