"""Clauses on numbers: losses are finite at extremes, and the gradient is the slope."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lossbench.config.task_types import accepted, load
from lossbench.contract.calling import Broken, NotAsked, Replay, Trial, for_player
from lossbench.contract.form import PROBABILITIES, name, probable
from lossbench.contract.samples import DTYPES, at_random, extremes
from lossbench.tasks.samples import Sample

STEP = 1e-6
FAR, PROFIT = 300.0, 50.0  # a loss of logits is bounded from below
LOGS = "it seems to want log-probabilities; take logits, and log_softmax or logsigmoid inside"
FIX = "write it so that nothing overflows: logsigmoid, log_softmax, softplus, expm1; exp(γ·log p) for a power p^γ"


def logits(trial: Trial) -> str:
    """Any number is a logit: the loss has a gradient inside 0 … 1 and outside."""
    if not trial.task.logits:
        raise NotAsked("predictions of this task type are no logits")
    sample = at_random(trial.task_type, trial.outputs_per_target)
    inside = _pulls(trial, probable(sample))
    outside = _pulls(trial, wrong(sample))
    if not _finite(trial, sample):
        where = "finite at probabilities" if _finite(trial, probable(sample)) else "nor is it at probabilities"
        raise Broken(f"not finite at logits outside 0 … 1, {where}", PROBABILITIES)
    if inside and not outside:
        raise Broken("no gradient at wrong logits outside 0 … 1, some at probabilities", PROBABILITIES)
    gained = -trial.per_example(sample.moved("model", -FAR * wrong(sample).prediction)).mean().item()
    if gained > PROFIT:
        raise Broken(f"right logits of {3 * FAR:.0f} have loss {-gained:.4g}, and larger ones still less", LOGS)
    return "a gradient at wrong logits of ±3"


def _finite(trial: Trial, sample: Sample) -> bool:
    return bool(trial.per_example(sample).isfinite().all())


def _pulls(trial: Trial, sample: Sample) -> bool:
    return bool(trial.pull(sample)[1].abs().sum() > 0)


def wrong(sample: Sample) -> Sample:
    """Logits that are sure of the wrong answer."""
    task = load(sample.task_type)
    right = task.right(sample.prediction, sample.target).double()
    return sample.moved("model", -3 * right if task.one_logit else 3 - 6 * right)


def finite(trial: Trial) -> str:
    """Losses and gradients are finite at far predictions, in every floating type."""
    most = _all_finite(trial, "")
    return f"losses up to {most:.3g} at predictions of 0, ±20, ±100, ±1e4"


def ends(trial: Trial) -> str:
    """Losses are finite at both ends of each search range, and a tenth of the way up, where powers are below 1."""
    ranges = search(trial)
    if not ranges:
        raise NotAsked("no search ranges on its card" if trial.card else "no card with search ranges")
    for setting, (low, high) in ranges.items():
        inside = low + (high - low) / 10
        for value in (low, round(inside) if isinstance(low, int) and isinstance(high, int) else inside, high):
            _all_finite(trial.at(**{setting: value}), f" at {setting}={value:g}")
    return "over " + ", ".join(f"{name} {low:g} … {high:g}" for name, (low, high) in ranges.items())


def search(trial: Trial) -> dict[str, tuple[float, float]]:
    """The ranges of the loss's card that hold for this task type."""
    every = trial.card.search if trial.card else {}
    return {
        name: (low, high)
        for name, (low, high, *task_types) in every.items()
        if not task_types or not set(accepted(trial.task_type)).isdisjoint(task_types[0])
    }


def _all_finite(trial: Trial, where: str) -> float:
    most = 0.0
    for dtype in DTYPES:
        for player, sample in _each_extreme(trial):
            far = sample.to(dtype)
            per_example, gradient = trial.pull(far, player)
            for what, values in (("loss", per_example), ("gradient", gradient)):
                if not values.isfinite().all():
                    raise Broken(
                        f"{_describe_not_finite(values, far)} {what}{for_player(player)}{where}, {name(dtype)}", FIX
                    )
            most = max(most, per_example.abs().max().item())
    return most


def _each_extreme(trial: Trial) -> Iterator[tuple[str, Sample]]:
    for sample in extremes(trial.task_type, trial.outputs_per_target):
        for player in trial.players:
            yield player, sample


def _describe_not_finite(values: Tensor, sample: Sample) -> str:
    """Says which value is not finite, and at what prediction and target."""
    rows = (~values.isfinite()).reshape(len(values) if values.dim() else 1, -1).any(1)
    first = values[~values.isfinite()].flatten()[0].item()
    word = "NaN" if first != first else "infinite"
    if len(rows) != len(sample):
        return word
    row = int(rows.nonzero()[0])
    at = [f"{value:g}" for value in sample.prediction[row].flatten().tolist()]
    target = sample.target[row].flatten().tolist()
    return f"at prediction ({', '.join(at)}), target {target[0] if len(target) == 1 else target}: {word}"


def slope(trial: Trial) -> str:
    """The gradient is the slope of the losses, by differences in double precision."""
    off, held = 0.0, False
    for player in trial.players:
        sample = at_random(trial.task_type, trial.outputs_per_target, batch=trial.task.smallest)
        trial.pull(sample, player)  # says so where there is no gradient at all
        gradient = _weighted_gradient(trial, sample, player)
        scale = gradient.abs().max().item()
        error = (gradient - _by_differences(trial, sample, player, None)).abs().max().item()
        if error > 1e-4 * scale + 1e-7:  # what is held fixed on purpose has no slope of its own
            error, held = (gradient - _by_differences(trial, sample, player, Replay())).abs().max().item(), True
        if not error <= 1e-4 * scale + 1e-7:
            raise Broken(
                f"the gradient{for_player(player)} is up to {error:.3g} from the slope, itself up to {scale:.3g}",
                "let autograd compute it, or correct the backward of your torch.autograd.Function",
            )
        off = max(off, error)
    fixed = ", with what it detaches held fixed" if held else ""
    return f"to {off:.1g}{fixed}"


def _weighted_loss(trial: Trial, sample: Sample, player: str) -> Tensor:
    """The sum of the per-example losses, each with a weight of its own, so that errors cannot cancel."""
    per_example = trial.per_example(sample, player)
    return (
        per_example
        * torch.linspace(0.5, 1.5, max(1, per_example.numel()), dtype=per_example.dtype).view(per_example.shape)
    ).sum()


def _weighted_gradient(trial: Trial, sample: Sample, player: str) -> Tensor:
    leaf = sample.leaf(player).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(_weighted_loss(trial, sample.moved(player, leaf), player), leaf)
    return gradient


def _by_differences(trial: Trial, sample: Sample, player: str, replay: Replay | None) -> Tensor:
    leaf = sample.leaf(player)

    def value(at: Tensor) -> float:
        moved = sample.moved(player, at.clone().requires_grad_())
        if replay is None:
            return _weighted_loss(trial, moved, player).item()
        with replay:
            weighted = _weighted_loss(trial, moved, player)
        return weighted.detach().item()

    value(leaf)  # what is replayed is that of this first call
    return _differences(leaf, value, replay)


def _differences(leaf: Tensor, value: Any, replay: Replay | None) -> Tensor:
    slopes = torch.zeros_like(leaf).flatten()
    for place in range(leaf.numel()):
        values = []
        for step in (STEP, -STEP):
            moved = leaf.clone().flatten()
            moved[place] += step
            if replay is not None:
                replay.again()
            values.append(value(moved.view_as(leaf)))
        slopes[place] = (values[0] - values[1]) / (2 * STEP)
    return slopes.view_as(leaf)
