"""Clauses on meaning: a loss uses the target, does not depend on how classes are numbered, and leads to the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from lossbench.contract.batches import apart, pair
from lossbench.contract.calling import Broken, NotAsked, Trial, for_player
from lossbench.contract.samples import at_random, undecided
from lossbench.tasks.samples import Sample

STEPS, STRIDE = 10, 0.05


def target(trial: Trial) -> str:
    """Other targets give other losses."""
    sample = at_random(trial.task_type, trial.outputs_per_target)
    other = replace(sample, target=trial.task.other(sample.target))
    first, second = (trial.per_example(batch, trial.players[0]) for batch in (sample, other))
    if not torch.equal(first, second):
        return f"other targets change losses by up to {(first - second).abs().max().item():.3g}"
    if trial.task.target_unused:
        raise NotAsked(trial.task.target_unused)
    raise Broken(f"the same losses whatever the target{for_player(trial.players[0])}", "use the second argument")


def gradient(trial: Trial) -> str:
    """The gradient reaches the prediction."""
    sizes = []
    for player in trial.players:
        _, slope = trial.pull(at_random(trial.task_type, trial.outputs_per_target), player)
        if not slope.abs().sum() > 0:
            raise Broken(
                f"it is 0 everywhere{for_player(player)}",
                "use no detach, round, argmax or comparison between the prediction and the per-example losses",
            )
        sizes.append(f"{slope.abs().mean().item():.3g}{for_player(player)}")
    return f"of mean size {', '.join(sizes)}"


def classes(trial: Trial) -> str:
    """Losses are the same if classes and their counts are numbered in another way."""
    renamed = _renamed(trial)
    sample = at_random(trial.task_type, trial.outputs_per_target)
    per_example, moved = trial.per_example(sample), trial.per_example(renamed(sample))
    if apart(per_example, moved):
        raise Broken(
            f"an example has loss {pair(per_example, moved)} once classes are numbered in another way",
            "find what belongs to a class by its index from 0, the same for logits, labels and counts",
        )
    return "whatever their numbers"


def _renamed(trial: Trial) -> Callable[[Sample], Sample]:
    if trial.learns:
        raise NotAsked("what it learns for each class has an initial value of its own")
    why_not = trial.task.renumbered(at_random(trial.task_type, trial.outputs_per_target), trial.card)
    if isinstance(why_not, str):
        raise NotAsked(why_not)
    return lambda sample: trial.task.renumbered(sample, trial.card)


def padding(trial: Trial) -> str:
    """Padding has no gradient."""
    filler = trial.task.filler
    if filler is None:
        raise NotAsked("its task has no padding")
    sample = at_random(trial.task_type, trial.outputs_per_target)
    _, pull = trial.pull(sample)
    filled = sample.target == filler
    if pull[filled].any():
        raise Broken(
            f"up to {pull[filled].abs().max().item():.3g} of gradient at padding (target {filler})",
            f"leave it out: losses.masked_fill(target == {filler}, 0), and a mean over the other tokens",
        )
    return f"no gradient at {int(filled.sum())} padding tokens"


def counts(trial: Trial) -> str:
    """For a loss that takes class counts: the rarer a class, the larger the losses of its examples."""
    if not (trial.card and "class_counts" in trial.card.needs):
        raise NotAsked("it does not take class counts")
    sample = undecided(trial.task_type, trial.outputs_per_target)
    labels = torch.arange(len(sample.counts))
    per_example = trial.per_example(
        replace(sample, prediction=sample.prediction[: len(labels)], target=labels, noise=())
    )
    by_count = torch.tensor(sample.counts).argsort(descending=True)
    from_commonest = per_example[by_count]
    if not (from_commonest.diff() > 0).all():
        by_size = ", ".join(f"{n}: {loss:.3g}" for n, loss in zip(sample.counts, per_example.tolist(), strict=True))
        raise Broken(
            f"undecided, an example of a class of n has loss ({by_size})",
            "class_counts[k] is the count of class k, from 0",
        )
    return (
        f"{from_commonest[0].item():.3g} … {from_commonest[-1].item():.3g} from the commonest to the rarest, undecided"
    )


def descent(trial: Trial) -> str:
    """Ten steps of descent lower the mean loss and bring every prediction nearer its target."""
    lowered = []
    for player in trial.players:
        sample = start = undecided(trial.task_type, trial.outputs_per_target, player)
        mean_losses = []
        for _ in range(STEPS):
            per_example, pull = trial.pull(sample, player)
            mean_losses.append(per_example.mean().item())
            sample = sample.moved(player, sample.leaf(player) - STRIDE * pull / pull.abs().max().clamp(min=1e-300))
        mean_losses.append(trial.per_example(sample, player).mean().item())
        near, far = (trial.task.distance(batch, player) for batch in (sample, start))
        if near is None:
            raise NotAsked("its task does not say how far predictions are from what they should be")
        closer = near < far
        if not (trial.learns or (closer.any() if trial.task.one_nearer else closer.all())):
            raise Broken(
                f"ten steps leave {int((~closer).sum())} of {closer.numel()} no nearer the target{for_player(player)}",
                "look for a wrong sign, swapped arguments, or a part of the targets that is left out",
            )
        if not mean_losses[-1] < mean_losses[0]:
            raise Broken(
                f"the mean loss went from {mean_losses[0]:.4g} to {mean_losses[-1]:.4g}{for_player(player)}",
                "correct its gradient",
            )
        lowered.append(f"{mean_losses[0]:.4g} → {mean_losses[-1]:.4g}{for_player(player)}")
    return f"mean loss {', '.join(lowered)}"


def scale(trial: Trial) -> str:
    """Mean loss and gradient of undecided predictions, by which learning rates of losses can be compared."""
    scales = []
    for player in trial.players:
        per_example, pull = trial.pull(undecided(trial.task_type, trial.outputs_per_target, player), player)
        size = pull.flatten(1).norm(dim=1).mean() if pull.dim() > 1 else pull.abs().mean()
        name = "" if player == "model" else f"{player} "
        scales.append(f"{name}{per_example.mean().item():.4g}, slope {size.item():.3g}")
    silent = trial.task.undecided(at_random(trial.task_type, trial.outputs_per_target), trial.players[0]) is not None
    where = "undecided" if silent else "at random"
    return f"{where}: {'; '.join(scales)}"
