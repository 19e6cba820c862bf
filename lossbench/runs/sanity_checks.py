"""Trial calls of a model and a loss before anything is recorded, to tell which of them does not fit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lossbench.config.task_types import load, named
from lossbench.core import ConfigError, DatasetInfo, LossOutput, Split, Task, card_of, stream
from lossbench.core.failures import one_line
from lossbench.engine import Nets, Noise
from lossbench.engine.batches import grouped

FEW = 3  # examples for the trial call of a model
LOUDER = 100.0  # factor on parameters, with which no logits stay between 0 and 1


def model(
    nets: Nets, info: DatasetInfo, train: Split, device: torch.device, target: str, outputs_per_target: int = 1
) -> None:
    """Call each player once as the task does; the loss takes `outputs_per_target` numbers per target.

    Raises: ConfigError, which names the model, for a missing player or layer, an error or a wrong shape.
    """
    task = load(info.task_type)
    fits = f"; model={' or '.join(task.models)} fits" if task.models else ""
    for path in task.layers:
        module: object = nets
        for name in path.split("."):
            module = getattr(module, name, None)
        if module is None:
            problems = f"{named(info.task_type)} problems"
            raise ConfigError(f"model: {target} has no {path.removeprefix('model.')}, which {problems} need{fits}")
    nets = copy.deepcopy(nets)  # a call may change the state of a foreign model
    examples = train[torch.arange(min(FEW, len(train)))].to(device)
    with torch.no_grad():
        try:
            plain = task.layers == ("model",)
            if plain:
                _one_tensor(nets, examples, target)
            nets.eval()
            for part, shape, expected in task.shapes(nets, info, examples, outputs_per_target):
                if shape != expected:
                    raise ConfigError(
                        f"model: {target}{part} returns {list(shape)}, and the task needs {list(expected)}{fits}"
                    )
            if plain and task.logits and _squashed(nets, examples):
                raise ConfigError(
                    f"model: {target} returns probabilities, and every loss here takes logits; leave out its last "
                    "sigmoid or softmax"
                )
        except ConfigError:
            raise
        except Exception as error:  # a foreign module may raise anything
            raise ConfigError(f"model: {target} failed on the first examples: {one_line(error)}{fits}") from error


def _one_tensor(nets: Any, examples: Split, target: str) -> None:
    """Raises: ConfigError for a model that does not return one tensor, in evaluation and in training mode alike."""
    for training in (False, True):
        outputs = nets.train(training).model(examples.inputs)
        if not isinstance(outputs, Tensor):
            when = " while it trains" if training else ""
            raise ConfigError(
                f"model: {target} returns a {type(outputs).__name__}{when}, and has to return a tensor; a module of "
                "your own can call it and return the right one"
            )


def _squashed(nets: Any, examples: Split) -> bool:
    """Whether outputs stay in 0 … 1 when all parameters are multiplied by LOUDER, which changes the nets."""
    for parameter in nets.parameters():
        parameter.mul_(LOUDER)
    outputs = nets.model(examples.inputs)
    return bool(((outputs >= 0) & (outputs <= 1)).all() and outputs.any())


def loss(
    task: Task,
    nets: Nets,
    train: Split,
    device: torch.device,
    batch_size: int,
    per_class: int | None,
    target: str = "",
) -> None:
    """Compute the loss of each player on one batch; `target` is the path of the loss, for messages.

    Raises: ConfigError where the loss fails, or returns neither one number per example nor a single number, and where
    examples have weights and it is no sum over examples.
    """
    unweightable = "so that examples cannot be weighted; leave out dataset.weight"
    card = card_of(task.loss)
    if train.weights is not None and card is not None and card.batch:
        raise ConfigError(f"loss._target_={target}: takes a batch as a whole, {unweightable}")
    nets = copy.deepcopy(nets)  # a step may change their state
    chosen = torch.arange(batch_size)
    if per_class is not None:
        chosen = next(grouped(train.targets, batch_size, per_class, stream(0, "probe")))
    batch = train[chosen].to(device)
    players = [name for name, _ in nets.named_children() if name != "loss"]
    steps = task.step(nets, batch, Noise([0], device))
    if not isinstance(steps, Iterator):
        raise ConfigError(f"task: step returns a {type(steps).__name__}; it yields a player and its losses")
    try:
        for player, output in steps:
            if player not in players:
                raise ConfigError(f"task: step yields losses for {player!r}; there is {' and '.join(players)}")
            per_example = LossOutput.of(output).per_example
            _check_per_example(per_example, player, batch_size)
            if train.weights is not None and not per_example.dim():
                raise ConfigError(f"loss._target_={target}: gives one number a batch, {unweightable}")
    except ConfigError:
        raise
    except Exception as error:  # a foreign loss may raise anything
        raise ConfigError(f"loss: failed on the first batch: {one_line(error)}") from error


def _check_per_example(per_example: object, player: str, batch_size: int) -> None:
    expected = f"per-example losses are [{batch_size}], or one number"
    if not isinstance(per_example, Tensor):
        raise ConfigError(f"loss: returned a {type(per_example).__name__} for the {player}; {expected}, in a tensor")
    if per_example.dim() and per_example.shape != (batch_size,):
        raise ConfigError(
            f"loss: returned {list(per_example.shape)} for the {player} on a batch of {batch_size}; {expected}"
        )
    if not per_example.requires_grad:
        raise ConfigError(f"loss: what it returned for the {player} has no gradient")
