"""Clauses on batches: each example has a loss of its own, at its position, the same in any other batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lossbench.contract.calling import Broken, NotAsked, Trial, for_player
from lossbench.contract.samples import at_random

ORDER = [5, 2, 7, 0, 3, 6, 1, 4]  # of a batch of eight


def order(trial: Trial) -> str:
    """A batch in another order has its per-example losses in that order."""
    sample = at_random(trial.task_type, trial.outputs_per_target)
    for player in trial.players:
        per_example, moved = trial.per_example(sample, player), trial.per_example(sample.rows(ORDER), player)
        if apart(moved, per_example[ORDER] if per_example.dim() else per_example):
            raise Broken(
                f"per-example losses change with the order of the batch{for_player(player)}",
                "use no positions in the batch: no weights by position, no sums along the batch",
            )
    return "losses go with their examples" if per_example.dim() else "the same number"


def own(trial: Trial) -> str:
    """An example's loss depends on that example alone, unless the card says batch."""
    if trial.batch:
        raise NotAsked("its card says that it takes the whole batch")
    sample = at_random(trial.task_type, trial.outputs_per_target)
    for player in trial.players:
        alone = torch.cat([trial.per_example(sample.rows([row]), player).reshape(1) for row in range(len(sample))])
        per_example = trial.per_example(sample, player)
        if apart(per_example, alone):
            raise Broken(
                f"an example alone has loss {pair(alone, per_example)} in its batch{for_player(player)}",
                "no mean, sum, sort or norm over the batch; if it needs the whole batch, say so by card(batch=True)",
            )
    return "the same alone as in the batch"


def double(trial: Trial) -> str:
    """Per-example losses are the same in a batch twice as large: the engine alone takes the mean over the batch."""
    if trial.batch:
        raise NotAsked("its card says that it takes the whole batch")
    sample = at_random(trial.task_type, trial.outputs_per_target)
    for player in trial.players:
        per_example = trial.per_example(sample, player)
        twice = trial.per_example(sample.rows([*range(len(sample))] * 2), player)
        if apart(twice, torch.cat([per_example, per_example]) if per_example.dim() else per_example):
            raise Broken(
                f"an example of 8 has loss {pair(per_example, twice[: len(per_example)])} among 16"
                f"{for_player(player)}: a mean taken twice",
                "do not divide by the size of the batch: return per-example losses; the engine takes their mean",
            )
    return "the same in a batch twice as large"


def replicas(trial: Trial) -> str:
    """A loss whose card says replica_batched gives two replicas at once what it gives each of them."""
    if not (trial.card and trial.card.replica_batched):
        raise NotAsked("its card does not say replica_batched: replicas are called one after another, or as one batch")
    two = [
        replace(at_random(trial.task_type, trial.outputs_per_target, seed=seed), noise=tuple(range(8)))
        for seed in (1, 2)
    ]
    two = [replace(sample, weights=two[0].weights) for sample in two]
    both = replace(
        two[0],
        prediction=torch.stack([sample.prediction for sample in two]),
        target=torch.stack([sample.target for sample in two]),
    )
    for player in trial.players:
        singly = torch.stack([trial.per_example(sample, player) for sample in two])
        if apart(trial.per_example(both, player), singly):
            raise Broken(
                f"two replicas at once have other losses than one after the other{for_player(player)}",
                "count axes from the end: tensors are [..., batch, …]; or leave replica_batched out of its card",
            )
    return "two replicas at once have the losses of each"


def pair(one: Tensor, other: Tensor) -> str:
    """Two values, at the place where these tensors differ most, for a message."""
    place = int((one - other).abs().argmax()) if one.shape == other.shape else 0
    return f"{one.flatten()[place].item():.4g}, and {other.flatten()[place].item():.4g}"


def apart(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors differ in shape, or in a value beyond rounding."""
    return one.shape != other.shape or not torch.allclose(one, other, rtol=1e-6, atol=1e-8, equal_nan=True)
