"""From a configuration to the loss, with all that it needs of the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from lossbench.core import TASK_TYPES, Card, ConfigError, DatasetInfo, card_of, stream
from lossbench.engine import Nets
from lossbench.engine.randomness import seeded
from lossbench.runs.builders.targets import call, import_target, instantiated, plain
from lossbench.tasks.adapting import wanted
from lossbench.tasks.lifting import OfIdentities

Loss = Callable[..., Tensor]

BROUGHT = {
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
"""What losses without a card call what a run can bring, where they have no default for it."""


class Unset(ConfigError):
    """A loss has settings without a default, which nobody gives."""


def loss(cfg: DictConfig, task_type: str, brings: Mapping[str, Callable[[], Any]] | None = None) -> Loss:
    """The loss with its hyper-parameters bound; a class is made, a function waits for prediction and target.

    `brings` makes what a card may say that the loss needs of the run. Raises: ConfigError for one that cannot be
        imported, or whose card says that it fits other task types.
    """
    target = import_target(cfg._target_, "loss._target_=")
    card = getattr(target, "card", Card(TASK_TYPES))
    if task_type not in card.task_types:
        raise ConfigError(
            f"loss._target_={cfg._target_}: fits {' and '.join(card.task_types)} problems, not {task_type}"
        )
    given = {need: (brings or {})[need]() for need in card.needs}
    if not hasattr(target, "card"):
        given |= _required(target, cfg, brings or {})
    if isinstance(target, type):
        return _without_more(call("loss", cfg, **given), cfg)
    # not Hydra's own _partial_, which examines its target anew at every call: a fifth of a small net's step
    settings = instantiated("loss", cfg._target_, OmegaConf.create(plain(cfg, drop=("_target_",))))
    return partial(target, **settings, **given)


def _required(target: Any, cfg: DictConfig, brings: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What a foreign loss has no default for, as far as a run knows it. Raises: Unset for what is left."""
    own = _bare(target) if isinstance(target, type) else _bare(target)[2:]
    passed_on = [name for parent in _parents(target) for name in _bare(parent)]
    known = {name: need for need, names in BROUGHT.items() for name in names if need in brings}
    absent = [name for name in own if name not in cfg and name not in known]
    if absent:
        more = " ".join(f"loss.{name}=…" for name in absent)
        raise Unset(f"loss._target_={cfg._target_}: has no default for {', '.join(absent)}; give {more}")
    return {
        name: brings[known[name]]() for name in dict.fromkeys([*own, *passed_on]) if name in known and name not in cfg
    }


def _bare(target: Any) -> list[str]:
    """The parameters without a default."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # written in another language
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _parents(target: Any) -> Iterator[type]:
    """The classes to which a constructor passes on what it does not know."""
    for child, parent in pairwise(getattr(target, "__mro__", ())):
        passes = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(child).parameters.values())
        if not passes or parent in (nn.Module, object):
            return
        yield parent


def _without_more(made: Any, cfg: DictConfig) -> Any:
    """Raises: ConfigError for an object that is called with more than prediction and target."""
    if more := wanted(made):
        raise ConfigError(
            f"loss._target_={cfg._target_}: is called with ({', '.join(more)}), "
            "and a loss gets prediction and target alone"
        )
    return made


def loss_of_run(cfg: DictConfig, info: DatasetInfo, nets: Nets, seed: int) -> Loss:
    """The loss with all that it needs of a run; on embeddings a multi-class loss learns the logits that it reads."""
    brings: dict[str, Callable[[], Any]] = {
        "classes": lambda: _classes(info),
        "class_counts": lambda: _counted(info),
        "dimensions": lambda: dimensions(nets, info),
        "generator": lambda: stream(seed, "loss"),
    }
    with seeded(seed, "loss"):
        made = loss(cfg, info.task_type, brings)
    if info.task_type == "gan" and not (hasattr(made, "critic") and hasattr(made, "generator")):
        raise ConfigError(
            f"loss._target_={cfg._target_}: wants the methods critic(D, real, fake) and generator(D, real, fake)"
        )
    card = card_of(made)
    if info.task_type == "embedding" and card and "multiclass" in card.task_types:
        return OfIdentities(made, **{name: brings[name]() for name in ("classes", "dimensions", "generator")})
    return made


def dimensions(nets: Nets, info: DatasetInfo) -> int:
    """How many numbers the model gives an example, as a loss that learns as many a class has to know."""
    model: Any = nets.model
    with nets.evaluating(), torch.no_grad():
        return int(model(torch.zeros(1, *info.inputs, device=next(nets.parameters()).device)).shape[-1])


def _classes(info: DatasetInfo) -> int:
    if not info.classes:
        raise ConfigError(f"dataset={info.name}: the loss needs a number of classes, and there are none")
    return len(info.classes)


def _counted(info: DatasetInfo) -> tuple[int, ...]:
    """Numbers rather than a tensor: runs of one stack share a call where these are equal. See `engine.stacked_loss`."""
    if not info.classes or len(info.class_counts) != len(info.classes):
        told = f"{len(info.class_counts)} for {len(info.classes)} classes"
        raise ConfigError(f"dataset={info.name}: the loss needs class_counts, and there are {told}")
    if 0 in info.class_counts:
        absent = info.classes[info.class_counts.index(0)]
        raise ConfigError(
            f"dataset={info.name}: class {absent} has no example in the training split, and the loss weighs by counts"
        )
    return info.class_counts


def module_of(loss: Loss) -> nn.Module | None:
    """The loss, or what it is bound around, where that learns or keeps something from step to step."""
    while isinstance(loss, partial):
        held = (*loss.args, *(one for one in loss.keywords.values() if isinstance(one, nn.Module)))
        loss = next((argument for argument in held if callable(argument)), loss.func)
    return loss if isinstance(loss, nn.Module) and loss.state_dict() else None
