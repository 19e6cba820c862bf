"""Losses beside each other: what a trained model costs under every loss that fits, and how a loss pulls on a batch."""

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

EXAMPLES = 32  # of a probe
NUMBERS = 256  # of its gradient that are kept


def prediction(outputs: Outputs) -> Tensor | None:
    """What of a task's outputs its loss takes beside the target; None where losses take more than that."""
    return outputs if isinstance(outputs, Tensor) else outputs.get("prediction")


def mean_losses(folders: tuple[Path, ...], info: DatasetInfo, outputs: Outputs, targets: Targets) -> dict[str, float]:
    """What these outputs cost under every loss of these folders that fits, each at the settings of its file.

    A loss that learns has no value until it is trained with; one that fails here is not the one that trained. One
    of whole batches has none for a split, one that plays with nets none for outputs, and one of several numbers an
    output none for the one that is measured.
    """
    values: dict[str, float] = {}
    predicted = prediction(outputs)
    task = load(info.task_type)
    if predicted is None or not task.one_by_one:
        return values
    with torch.inference_mode():
        for name, loss in _losses(folders, info.task_type).items():
            with contextlib.suppress(Exception):
                called = adapted(_counted(loss, info), info.task_type, info.targets, task.outputs(info)).loss
                given = builders.task(info.task_type, called, info).loss(predicted, targets)
                values[name] = LossOutput.of(given).per_example.mean().item()
    return values


@cache
def _losses(folders: tuple[Path, ...], task_type: str) -> dict[str, Callable[..., Tensor]]:
    made = {}
    for path in catalogue.files(folders):
        with contextlib.suppress(Exception):  # a file that this run does not use
            entry = catalogue.entry(path)
            if entry.fits(task_type) and entry.card.outputs_per_target == 1:
                file = OmegaConf.create({"_target_": entry.target, **entry.parameters})
                made[entry.name] = builders.loss(file, task_type, {"class_counts": tuple})  # for each run: see _counted
    return {name: loss for name, loss in made.items() if not isinstance(loss, torch.nn.Module)}


def _counted(loss: Callable[..., Tensor], info: DatasetInfo) -> Callable[..., Tensor]:
    """The loss with this training split's class counts, where its card says that it needs them."""
    card = card_of(loss)
    if card is None or "class_counts" not in card.needs:
        return loss
    if not builders.counts_fit(info, card):
        raise ValueError("counts of other classes than the loss sees")
    return partial(loss, class_counts=info.class_counts)


def probe(task: Task, shape: Sequence[int], split: Split, device: torch.device) -> str:
    """How the loss pulls on made-up predictions: its terms and their gradient, as JSON of plain numbers.

    The predictions, of this shape an example, are the same whatever the seed; the targets are spread over what
    the training split has. Two losses whose gradients here are the same up to a factor train the same model. Empty
    for a loss that refuses such predictions.
    """
    n = len(split)
    sizes = torch.stack([target.reshape(n, -1).double().sum(1) for target in tensors_of(split.targets)])
    order = sizes.sum(0).argsort(stable=True)
    few = min(EXAMPLES, n)
    places = order[torch.linspace(0, n - 1, few).long()]
    chosen = each_tensor(split.targets, lambda target: target[places].to(device))
    card = card_of(task.loss)
    if card and card.outputs_per_target > 1:
        shape = (*shape[:-1], card.outputs_per_target * shape[-1])
    made = (2 * torch.randn(few, *shape, generator=stream(0, "probe"))).to(device).requires_grad_(True)
    try:
        per_example = LossOutput.of(task.loss(made, chosen)).per_example
        (gradient,) = torch.autograd.grad(per_example.sum(), made)
    except Exception:  # whatever a loss makes of predictions that no net gave
        return ""
    flat = gradient.flatten()
    flat = flat[torch.linspace(0, len(flat) - 1, min(NUMBERS, len(flat))).long()]
    return json.dumps({"per_example": _plain(per_example.detach().flatten()), "gradient": _plain(flat)})


def _plain(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
