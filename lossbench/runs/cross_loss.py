"""Losses side by side: a trained model's mean loss under every loss that fits, and the gradients of a loss."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from lossbench.config import catalogue
from lossbench.config.task_types import load
from lossbench.core import (
    DatasetInfo,
    LossOutput,
    Outputs,
    Split,
    Targets,
    Task,
    card_of,
    each_tensor,
    stream,
    tensors_of,
)
from lossbench.runs import builders
from lossbench.tasks.adapting import adapted

EXAMPLES = 32  # in a probe
NUMBERS = 256  # of its gradient that are recorded


def prediction(outputs: Outputs) -> Tensor | None:
    """The part of a task's outputs that its loss compares with the target; None where losses take more than that."""
    return outputs if isinstance(outputs, Tensor) else outputs.get("prediction")


def mean_losses(
    folders: tuple[Path, ...], info: DatasetInfo, outputs: Outputs, targets: Targets, weights: Tensor | None = None
) -> dict[str, float]:
    """The mean loss of these outputs under every loss of these folders that fits, each at the settings of its file.

    Left out are losses that fail, and losses without a meaningful value here: one that learns and was not trained, one
    of whole batches, one that needs the nets, and one that takes several numbers per output. With
    weights of examples the mean is weighted, and losses that cannot be weighted are left out.
    """
    values: dict[str, float] = {}
    predicted = prediction(outputs)
    task = load(info.task_type)
    if predicted is None or not task.one_by_one:
        return values
    with torch.inference_mode():
        for name, loss in _losses(folders, info.task_type).items():
            with contextlib.suppress(Exception):
                outputs_of_net = task.outputs(info)
                bound = adapted(_with_class_counts(loss, info), info.task_type, info.targets, outputs_of_net).loss
                copies = (each_tensor(one, torch.clone) for one in (predicted, targets))  # some losses write into them
                returned = builders.task(info.task_type, bound, info).loss(*copies)
                values[name] = _mean(LossOutput.of(returned).per_example, loss, weights)
    return values


def _mean(per_example: Tensor, loss: Callable[..., Tensor], weights: Tensor | None) -> float:
    if weights is None:
        return per_example.mean().item()
    card = card_of(loss)
    if per_example.shape != weights.shape or (card is not None and card.batch):
        raise ValueError("examples cannot be weighted")
    return ((per_example.double() * weights).sum() / weights.double().sum()).item()


@cache
def _losses(folders: tuple[Path, ...], task_type: str) -> dict[str, Callable[..., Tensor]]:
    losses = {}
    for path in catalogue.files(folders):
        with contextlib.suppress(Exception):  # a file that this run does not use
            entry = catalogue.entry(path)
            if entry.fits(task_type) and entry.card.outputs_per_target == 1:
                file = OmegaConf.create({"_target_": entry.target, **entry.parameters})
                # class counts differ from run to run: see _with_class_counts
                losses[entry.name] = builders.loss(file, task_type, {"class_counts": tuple})
    return {name: loss for name, loss in losses.items() if not isinstance(loss, torch.nn.Module)}


def _with_class_counts(loss: Callable[..., Tensor], info: DatasetInfo) -> Callable[..., Tensor]:
    """The loss with the class counts of this training split, where its card says that it needs them."""
    card = card_of(loss)
    if card is None or "class_counts" not in card.needs:
        return loss
    if not builders.counts_fit(info, card):
        raise ValueError("counts of other classes than the loss sees")
    return partial(loss, class_counts=info.class_counts)


def probe(task: Task, shape: Sequence[int], split: Split, device: torch.device) -> str:
    """Per-example losses and their gradient on random predictions, as JSON.

    The predictions, of this shape per example, are the same for every seed; the targets are spread over those of the
    training split. Two losses whose gradients here are equal up to a factor train the same model. Empty for a loss that
    fails on such predictions.
    """
    n = len(split)
    sizes = torch.stack([target.reshape(n, -1).double().sum(1) for target in tensors_of(split.targets)])
    order = sizes.sum(0).argsort(stable=True)
    count = min(EXAMPLES, n)
    places = order[torch.linspace(0, n - 1, count).long()]
    chosen = each_tensor(split.targets, lambda target: target[places].to(device))
    card = card_of(task.loss)
    if card and card.outputs_per_target > 1:
        shape = (*shape[:-1], card.outputs_per_target * shape[-1])
    predictions = (2 * torch.randn(count, *shape, generator=stream(0, "probe"))).to(device).requires_grad_(True)
    try:
        per_example = LossOutput.of(task.loss(predictions, chosen)).per_example
        (gradient,) = torch.autograd.grad(per_example.sum(), predictions)
    except Exception:  # a loss may raise anything on predictions that no net made
        return ""
    flat = gradient.flatten()
    flat = flat[torch.linspace(0, len(flat) - 1, min(NUMBERS, len(flat))).long()]
    return json.dumps({"per_example": _plain(per_example.detach().flatten()), "gradient": _plain(flat)})


def _plain(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
