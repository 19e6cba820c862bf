"""One look at a model and a loss before anything is recorded, so that it is clear which of them does not fit."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from lossbench.config.task_types import load, named
from lossbench.core import ConfigError, DatasetInfo, LossOutput, Split, Task, stream
from lossbench.core.failures import one_line
from lossbench.engine import Nets, Noise
from lossbench.engine.batches import grouped

FEW = 3  # examples that a model is shown
LOUDER = 100.0  # than they are: parameters with which no logit stays between 0 and 1


def model(
    nets: Nets, info: DatasetInfo, train: Split, device: torch.device, target: str, outputs_per_target: int = 1
) -> None:
    """Ask the players once for what a task of this kind wants of them.

    Its loss takes `outputs_per_target` numbers an output.

    Raises: ConfigError that names the model, where it lacks a player or a layer, fails, or gives another shape.
    """
    task = load(info.task_type)
    fits = f"; model={' or '.join(task.models)} fits" if task.models else ""
    for path in task.layers:
        found: object = nets
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is None:
            problems = f"{named(info.task_type)} problems"
            raise ConfigError(f"model: {target} brings no {path.removeprefix('model.')}, which {problems} want{fits}")
    nets = copy.deepcopy(nets)  # a model of somebody's own may keep something of what it sees
    examples = train[torch.arange(min(FEW, len(train)))].to(device)
    with torch.no_grad():
        try:
            plain = task.layers == ("model",)
            if plain:
                _one_tensor(nets, examples, target)
            nets.eval()
            for what, given, wanted in task.shapes(nets, info, examples, outputs_per_target):
                if given != wanted:
                    raise ConfigError(
                        f"model: {target}{what} gives {list(given)}, and the task wants {list(wanted)}{fits}"
                    )
            if plain and task.logits and _squashed(nets, examples):
                raise ConfigError(
                    f"model: {target} gives probabilities, and every loss here takes logits; leave its last sigmoid "
                    "or softmax out"
                )
        except ConfigError:
            raise
        except Exception as error:  # whatever a foreign module does
            raise ConfigError(f"model: {target} failed on the first examples: {one_line(error)}{fits}") from error


def _one_tensor(nets: Any, examples: Split, target: str) -> None:
    """Raises: ConfigError for a model that gives more, at rest or while it trains only, as with auxiliary outputs."""
    for training in (False, True):
        given = nets.train(training).model(examples.inputs)
        if not isinstance(given, Tensor):
            when = " while it trains" if training else ""
            raise ConfigError(
                f"model: {target} gives a {type(given).__name__}{when}, and a tensor is wanted; a module of your own "
                "can call it and return the one that counts"
            )


def _squashed(nets: Any, examples: Split) -> bool:
    """Whether outputs stay in 0 … 1 however large the parameters, which are changed here."""
    for parameter in nets.parameters():
        parameter.mul_(LOUDER)
    given = nets.model(examples.inputs)
    return bool(((given >= 0) & (given <= 1)).all() and given.any())


def loss(task: Task, nets: Nets, train: Split, device: torch.device, batch_size: int, per_class: int | None) -> None:
    """Ask the task once for its terms.

    Raises: ConfigError where the loss fails on a batch, or returns neither one term an example nor one number.
    """
    nets = copy.deepcopy(nets)  # a step may change them
    chosen = torch.arange(batch_size)
    if per_class is not None:
        chosen = next(grouped(train.targets, batch_size, per_class, stream(0, "probe")))
    batch = train[chosen].to(device)
    try:
        for player, given in task.step(nets, batch, Noise([0], device)):
            _checked(LossOutput.of(given).per_example, player, batch_size)
    except ConfigError:
        raise
    except Exception as error:  # whatever a foreign loss does
        raise ConfigError(f"loss: failed on the first batch: {one_line(error)}") from error


def _checked(per_example: object, player: str, batch_size: int) -> None:
    wanted = f"terms are [{batch_size}], or one number"
    if not isinstance(per_example, Tensor):
        raise ConfigError(f"loss: returned a {type(per_example).__name__} for the {player}; {wanted}, in a tensor")
    if per_example.dim() and per_example.shape != (batch_size,):
        raise ConfigError(
            f"loss: returned {list(per_example.shape)} for the {player} on a batch of {batch_size}; {wanted}"
        )
    if not per_example.requires_grad:
        raise ConfigError(f"loss: what it returned for the {player} has no gradient")
