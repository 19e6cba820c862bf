"""From a configuration to the networks, with the seed's initial weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn

from lossbench.core import ConfigError, DatasetInfo, Net, stream
from lossbench.datasets import remarks
from lossbench.engine import Nets
from lossbench.engine.randomness import seeded
from lossbench.models import foreign
from lossbench.models.initial import start_at, widen
from lossbench.runs.builders.targets import call, import_target


def nets(cfg: DictConfig, info: DatasetInfo, seed: int, outputs_per_target: int = 1) -> Nets:
    """The players with the seed's initial weights, the same for every loss, whatever stream they are drawn from.

    Where a loss takes several numbers an output, the first of them start as the one that others take, the rest at 0.
    """
    with seeded(seed, "init"):
        made = _constructed(cfg, info, seed)
        if isinstance(made, nn.Module) and not _ours(cfg._target_):
            made = foreign.fitted(made, info)
            if isinstance(made, foreign.Coloured):
                remarks.say(f"{cfg._target_}: wants colour; grey pictures reach it as three equal channels")
    players = Nets(**made) if isinstance(made, Mapping) else Nets(model=made)
    players.initial = players.hash()  # before a setting or a loss makes a last layer start otherwise on purpose
    if cfg.get("prior") is not None:
        start_at(_head(made, "its bias would start at model.prior"), prior_of(cfg.prior, info))
    if outputs_per_target > 1:
        _widen(made, info, outputs_per_target)
    return players


def _constructed(cfg: DictConfig, info: DatasetInfo, seed: int) -> Any:
    """What the target gives, told what its signature names of what the data know, unless a setting says otherwise."""
    constructor = import_target(cfg._target_, "model._target_=")
    given, tried = foreign.offers(constructor, info, stream(seed, "init"))
    given = {name: value for name, value in given.items() if name not in cfg}
    while True:
        try:
            made = call("model", cfg, drop=("prior",), **given)
            break
        except ConfigError as error:
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if refused is None or refused[1] not in tried:
                raise
            tried.discard(refused[1])
            given.pop(refused[1], None)
    if not isinstance(made, nn.Module | Mapping):
        raise ConfigError(f"model: {cfg._target_} gives a {type(made).__name__}; a torch.nn.Module works")
    return made


def _ours(target: str) -> bool:
    return target.partition(".")[0] == "lossbench"


def _widen(model: Any, info: DatasetInfo, outputs_per_target: int) -> None:
    if info.task_type != "regression":
        raise ConfigError(
            f"loss: takes {outputs_per_target} numbers an output, which works for regression, "
            f"and this is {info.task_type}"
        )
    head = _head(model, f"the loss takes {outputs_per_target} numbers an output of it")
    if not isinstance(head, nn.Linear):
        raise ConfigError(
            f"model: the head of {type(model).__name__} is no linear layer; the loss takes {outputs_per_target} numbers"
        )
    model.head = widen(head, outputs_per_target)


def prior_of(prior: Any, info: DatasetInfo) -> float | list[float]:
    if prior != "auto":
        return float(prior)
    total = sum(info.class_counts)
    if 0 in info.class_counts:
        absent = info.classes[info.class_counts.index(0)]
        raise ConfigError(f"model.prior=auto: class {absent} has no example in the training split, so its prior is 0")
    shares = [count / total for count in info.class_counts]
    return shares[1] if info.outputs == 1 else shares


def _head(model: Any, why: str) -> nn.Linear | nn.Conv2d:
    net: Net = model
    if not isinstance(getattr(net, "head", None), nn.Linear | nn.Conv2d):
        raise ConfigError(f"model: {type(model).__name__} has no linear layer named head; {why}")
    return net.head
