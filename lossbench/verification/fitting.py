"""Nets that are nothing but free numbers, trained by the engine to a loss's minimum, with no model in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lossbench.core import DatasetInfo, Split
from lossbench.engine import FitResult, Nets, Plan, Replica, fit
from lossbench.runs import builders
from lossbench.verification.claims import Loss

OptimizerFactory = Callable[..., Optimizer]
ADAM: OptimizerFactory = partial(torch.optim.Adam, lr=0.1)


class Free(nn.Module):
    """A net with a free number for every bin and output.

    Shapes: inputs, one-hot of the bin, [batch, bins]; result [batch, outputs].
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(start.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """The free numbers of each example's bin."""
        return inputs @ self.values


def info(task_type: str, split: Split, classes: int = 0, **more: object) -> DatasetInfo:
    """The dataset information that a task needs of generated data."""
    shapes = tuple(split.inputs.shape[1:]), tuple(split.targets.shape[1:])
    metadata = {"source": "made", "licence": "none needed", "fingerprint": "", **more}
    return DatasetInfo("truth", task_type, *shapes, classes=tuple(map(str, range(classes))), **metadata)  # type: ignore[arg-type]


def trained(
    task_type: str,
    losses: Sequence[Loss],
    nets: Sequence[Nets],
    splits: Sequence[Split],
    about: DatasetInfo,
    *,
    steps: int,
    optimizer: OptimizerFactory = ADAM,
) -> list[FitResult]:
    """Train one stack of replicas, each with its own loss, nets and data.

    Every step uses all examples; the learning rate follows a cosine. The nets are left as they are after the last step.
    """
    replicas = [
        Replica(builders.task(task_type, loss, about), net, _optimizers(net, optimizer), split, split, 0)
        for loss, net, split in zip(losses, nets, splits, strict=True)
    ]
    plan = Plan(steps, len(splits[0]), eval_every=steps, record_every=steps, schedule="cosine")
    return fit(replicas, plan)


def minimisers(
    task_type: str, losses: Sequence[Loss], split: Split, start: Tensor, *, steps: int = 1000, classes: int = 0
) -> Tensor:
    """The minimum of each loss on these data, [loss, bins, outputs], searched from `start` [bins, outputs]."""
    nets = [Nets(model=Free(start)) for _ in losses]
    trained(task_type, losses, nets, [split] * len(losses), info(task_type, split, classes), steps=steps)
    return torch.stack([net.model.values.detach() for net in nets])  # type: ignore[union-attr, operator]


def bernoulli(etas: Sequence[float], each: int = 100) -> Split:
    """A bin for every η with `each` examples, of which exactly the share η is of class 1."""
    inputs = torch.eye(len(etas), dtype=torch.float64).repeat_interleave(each, 0)
    labels = [int(row < round(eta * each)) for eta in etas for row in range(each)]
    return Split(inputs, torch.tensor(labels))


def labelled(counts: Sequence[int]) -> Split:
    """One bin, with this many examples of each class."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Split(torch.ones(len(labels), 1, dtype=torch.float64), labels)


def _optimizers(nets: Nets, factory: OptimizerFactory) -> dict[str, Optimizer]:
    return {name: factory(player.parameters()) for name, player in nets.named_children()}
