"""From a configuration to the loss, with what it needs from the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lossbench.config.task_types import accepted, fits, load, named
from lossbench.core import Card, ConfigError, DatasetInfo, stream
from lossbench.engine import Nets
from lossbench.engine.randomness import seeded
from lossbench.runs.builders.targets import call, import_target, instantiated, plain
from lossbench.tasks.adapting import wanted

Loss = Callable[..., Tensor]

PARAMETER_NAMES = {
    "classes": ("num_classes", "n_classes", "nb_classes", "num_class", "n_class", "class_num", "out_features"),
    "dimensions": (
        "embedding_size",
        "embedding_dim",
        "embed_dim",
        "emb_size",
        "feat_dim",
        "feature_dim",
        "in_features",
    ),
    "class_counts": ("class_counts", "cls_num_list", "samples_per_class", "samples_per_cls", "class_frequency"),
}
"""What a run can pass to a loss without a card: the names of required parameters that mean it."""


class MissingSettings(ConfigError):
    """A loss has required settings that are not given."""


def loss(cfg: DictConfig, task_type: str, brings: Mapping[str, Callable[[], Any]] | None = None) -> Loss:
    """The loss with its hyper-parameters bound: an instance of a class, or a partial of a function.

    `brings` makes the arguments that a card may need from the run.

    Raises: ConfigError for one that cannot be imported, or whose card excludes this task type.
    """
    target = import_target(cfg._target_, "loss._target_=")
    card = getattr(target, "card", None)
    if card is not None and not fits(card.task_types, task_type):
        raise ConfigError(
            f"loss._target_={cfg._target_}: fits {' and '.join(card.task_types)} problems, not {named(task_type)}"
        )
    from_run = {need: (brings or {})[need]() for need in card.needs} if card is not None else {}
    if card is None:
        from_run |= _required(target, cfg, brings or {})
    if isinstance(target, type):
        return _check_call(call("loss", cfg, **from_run), cfg)
    # Hydra's own _partial_ inspects its target at every call, which takes a fifth of a small net's step
    settings = instantiated("loss", cfg._target_, OmegaConf.create(plain(cfg, drop=("_target_",))))
    return partial(_own(target), **settings, **from_run)


def _own(target: Any) -> Any:
    """A function as it is; a copy of any other object, whose state may change with training, for this run alone."""
    return target if inspect.isroutine(target) else deepcopy(target)


def _required(target: Any, cfg: DictConfig, brings: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """The required arguments of a foreign loss that a run can pass. Raises: MissingSettings for the others."""
    own = _required_names(target) if isinstance(target, type) else _required_names(target)[2:]
    inherited = [name for parent in _parents(target) for name in _required_names(parent)]
    known = {name: need for need, names in PARAMETER_NAMES.items() for name in names if need in brings}
    absent = [name for name in own if name not in cfg and name not in known]
    if absent:
        more = " ".join(f"loss.{name}=…" for name in absent)
        raise MissingSettings(f"loss._target_={cfg._target_}: has no default for {', '.join(absent)}; give {more}")
    return {
        name: brings[known[name]]() for name in dict.fromkeys([*own, *inherited]) if name in known and name not in cfg
    }


def _required_names(target: Any) -> list[str]:
    """The parameters without a default; none where there is no signature."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _parents(target: Any) -> Iterator[type]:
    """The parent classes to which a constructor passes unknown keyword arguments."""
    for child, parent in pairwise(getattr(target, "__mro__", ())):
        passes = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(child).parameters.values())
        if not passes or parent in (nn.Module, object):
            return
        yield parent


def _check_call(loss: Any, cfg: DictConfig) -> Any:
    """The same loss. Raises: ConfigError for one that is called with more than prediction and target."""
    if more := wanted(loss):
        raise ConfigError(
            f"loss._target_={cfg._target_}: is called with ({', '.join(more)}), "
            "and a loss gets prediction and target alone"
        )
    return loss


def loss_of_run(cfg: DictConfig, info: DatasetInfo, nets: Nets, seed: int) -> Loss:
    """The loss with what it needs from a run, completed by its task with what is learned beside it.

    Raises: ConfigError for a loss that does not fit the dataset.
    """
    brings: dict[str, Callable[[], Any]] = {
        "classes": lambda: _classes(info),
        "class_counts": lambda: _class_counts(
            info, getattr(import_target(cfg._target_, "loss._target_="), "card", None)
        ),
        "dimensions": lambda: dimensions(nets, info),
        "generator": lambda: stream(seed, "loss"),
    }
    with seeded(seed, "loss"):
        bound = loss(cfg, info.task_type, brings)
    task = load(info.task_type)
    if lacks := task.lacks(bound):
        raise ConfigError(f"loss._target_={cfg._target_}: needs {lacks}")
    completed: Loss = task.completed(bound, brings)
    return completed


def dimensions(nets: Nets, info: DatasetInfo) -> int:
    """How many numbers the model returns per example, for losses with a learnable vector per class."""
    model: Any = nets.model
    with nets.evaluating(), torch.no_grad():
        return int(model(torch.zeros(1, *info.inputs, device=next(nets.parameters()).device)).shape[-1])


def _classes(info: DatasetInfo) -> int:
    if not info.classes:
        raise ConfigError(f"dataset={info.name}: the loss needs classes, and there are none")
    return len(info.classes)


def _class_counts(info: DatasetInfo, card: Card | None) -> tuple[int, ...]:
    """A tuple rather than a tensor, since runs of a stack with equal counts share a call: see `engine.stacked_loss`."""
    if not counts_fit(info, card):
        raise ConfigError(
            f"dataset={info.name}: the loss needs counts of the two classes that it sees, and there are "
            f"{len(info.class_counts)}, of the classes of {named(info.task_type)} problems"
        )
    if not info.classes or len(info.class_counts) != len(info.classes):
        counts = f"{len(info.class_counts)} for {len(info.classes)} classes"
        raise ConfigError(f"dataset={info.name}: the loss needs class_counts, and there are {counts}")
    if 0 in info.class_counts:
        absent = info.classes[info.class_counts.index(0)]
        raise ConfigError(
            f"dataset={info.name}: class {absent} has no example in the training split, and the loss weighs by counts"
        )
    return info.class_counts


def counts_fit(info: DatasetInfo, card: Card | None) -> bool:
    """Whether the dataset's class counts are of the classes that a loss, perhaps one of another task type, sees."""
    if card is None or named(info.task_type) in card.task_types:
        return True
    lenders = [load(task_type) for task_type in accepted(info.task_type) if task_type in card.task_types]
    return len(info.class_counts) == 2 or not all(lender.one_logit for lender in lenders)


def module_of(loss: Loss) -> nn.Module | None:
    """The module that a loss is, or is bound around, if it has parameters or buffers; else None."""
    while isinstance(loss, partial):
        bound = (*loss.args, *(one for one in loss.keywords.values() if isinstance(one, nn.Module)))
        loss = next((argument for argument in bound if callable(argument)), loss.func)
    return loss if isinstance(loss, nn.Module) and loss.state_dict() else None
