"""From a configuration to the networks, with the seed's initial weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn

from lossbench.config.task_types import TASK_TYPES, load, named
from lossbench.core import ConfigError, DatasetInfo, Net, stream
from lossbench.datasets import remarks
from lossbench.engine import Nets
from lossbench.engine.randomness import seeded
from lossbench.models import foreign
from lossbench.models.initial import start_at, widen
from lossbench.runs.builders.targets import called, import_target


def nets(cfg: DictConfig, info: DatasetInfo, seed: int, outputs_per_target: int = 1) -> Nets:
    """The players with the seed's initial weights, the same for every loss, whatever generator they use.

    Where a loss takes several numbers per target, the first starts like the only one of other losses, the rest at 0.

    Raises: ConfigError for a model that cannot be built, or that does not fit the loss.
    """
    with seeded(seed, "init"):
        model = _construct(cfg, info, seed)
        if isinstance(model, nn.Module):
            model = foreign.reading(model, import_target(cfg._target_, "model._target_="), info)
        if isinstance(model, nn.Module) and not _ours(cfg._target_):
            model = foreign.fitted(model, info)
            if isinstance(model, foreign.Coloured):
                remarks.say(f"{cfg._target_}: needs colour; grey pictures reach it as three equal channels")
    players = Nets(**model) if isinstance(model, Mapping) else Nets(model=model)
    players.initial = players.hash()  # before a setting or a loss changes the last layer on purpose
    if cfg.get("prior") is not None:
        start_at(_head(model, "its bias would start at model.prior"), prior_of(cfg.prior, info))
    if outputs_per_target > 1:
        _widen(model, info, outputs_per_target)
    return players


def _construct(cfg: DictConfig, info: DatasetInfo, seed: int) -> Any:
    """Call the target with the properties of the data that its signature names, unless a setting gives them."""
    constructor = import_target(cfg._target_, "model._target_=")
    outputs = load(info.task_type).outputs(info)
    from_data, optional = foreign.offers(constructor, info, outputs, stream(seed, "init"))
    from_data = {name: value for name, value in from_data.items() if name not in cfg}
    columns = {name: from_data.pop(name) for name in ("columns",) if name in from_data}
    while True:
        try:
            model = called("model", cfg, columns, drop=("prior",), **from_data)
            break
        except ConfigError as error:
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if refused is None or refused[1] not in optional:
                raise
            optional.discard(refused[1])
            from_data.pop(refused[1], None)
    if not isinstance(model, nn.Module | Mapping):
        raise ConfigError(f"model: {cfg._target_} returns a {type(model).__name__}; a torch.nn.Module works")
    return model


def _ours(target: str) -> bool:
    return target.partition(".")[0] == "lossbench"


def _widen(model: Any, info: DatasetInfo, outputs_per_target: int) -> None:
    if not load(info.task_type).several_heads:
        works, this = ", ".join(name for name in TASK_TYPES if load(name).several_heads), named(info.task_type)
        raise ConfigError(
            f"loss: takes {outputs_per_target} numbers per target, which works for {works}, and this is {this}"
        )
    net, head = foreign.inner(model), _head(model, f"the loss takes {outputs_per_target} numbers per target of it")
    if not isinstance(head, nn.Linear):
        raise ConfigError(
            f"model: the head of {type(net).__name__} is not linear; the loss takes {outputs_per_target} numbers"
        )
    net.head = widen(head, outputs_per_target)


def prior_of(prior: Any, info: DatasetInfo) -> float | list[float]:
    """The prior of the positive class, or of each class; `auto` takes the shares in the training split.

    Raises: ConfigError for a prior that does not fit this task type, and for `auto` where a class has no example.
    """
    allowed, this = load(info.task_type).prior, named(info.task_type)
    if prior == "auto" and not allowed:
        raise ConfigError(f"model.prior=auto: a prior belongs to classes, and this is a {this}; leave it null")
    if prior != "auto":
        if allowed != "one":
            raise ConfigError(
                f"model.prior={prior}: one probability fits a binary problem, this is {this}; auto or null"
            )
        return float(prior)
    total = sum(info.class_counts)
    if 0 in info.class_counts:
        absent = info.classes[info.class_counts.index(0)]
        raise ConfigError(f"model.prior=auto: class {absent} has no example in the training split, so its prior is 0")
    shares = [count / total for count in info.class_counts]
    return shares[1] if load(info.task_type).outputs(info) == 1 else shares


def _head(model: Any, why: str) -> nn.Linear | nn.Conv2d:
    net: Net = foreign.inner(model)
    if not isinstance(getattr(net, "head", None), nn.Linear | nn.Conv2d):
        raise ConfigError(f"model: {type(net).__name__} has no linear layer named head; {why}")
    return net.head
