"""Foreign networks: constructor arguments from the data, and grey pictures for nets that need colour."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lossbench.core import DatasetInfo
from lossbench.models.columns import OneHot, one_hot_width

OFFERED_TO_ANY = ("num_classes", "in_chans")
"""Arguments to try on a constructor that takes `**kwargs` and does not name them."""


def offers(
    constructor: Callable[..., Any], info: DatasetInfo, outputs: int, generator: torch.Generator
) -> tuple[dict[str, Any], set[str]]:
    """Arguments for a constructor from the data, by its own names for them; and which of these are only tried.

    `inputs` is the shape of one example, `in_features` how many numbers that is, `in_channels` (timm: `in_chans`) how
    many come first in it. `outputs` (`out_features`, `out_channels`, `num_classes`, smp: `classes`) is how many numbers
    the task needs per example, pixel or token. `generator` is the stream of the seed's initial weights. `columns` are
    those of a table; without that name, the others describe inputs whose categories are one-hot: see `reading`.
    """
    try:
        parameters = inspect.signature(constructor).parameters
    except (TypeError, ValueError):  # some constructors written in C have no signature
        return {}, set()
    named = {name for name, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    inputs = info.inputs if "columns" in named or not _categories(info) else (one_hot_width(info.columns),)
    known: dict[str, Any] = {
        "inputs": inputs,
        "columns": info.columns,
        "outputs": outputs,
        "generator": generator,
        "in_features": math.prod(inputs),
        "vocabulary": len(info.vocabulary),
        "length": info.targets[0] if info.targets else 0,
    }
    if inputs:
        known |= dict.fromkeys(("in_channels", "in_chans"), inputs[0])
    if outputs:  # identities have none
        known |= dict.fromkeys(("out_features", "out_channels", "num_classes", "classes"), outputs)
    tried = set()
    if any(one.kind == one.VAR_KEYWORD for one in parameters.values()):
        tried = {name for name in OFFERED_TO_ANY if name in known} - named
    return {name: value for name, value in known.items() if name in named | tried}, tried


def reading(net: nn.Module, constructor: Callable[..., Any], info: DatasetInfo) -> nn.Module:
    """The net, wrapped in `OneHot` where a table has categories and its constructor does not ask for `columns`."""
    try:
        asks = "columns" in inspect.signature(constructor).parameters
    except (TypeError, ValueError):
        asks = False
    return OneHot(net, info.columns) if _categories(info) and not asks else net


def inner(model: Any) -> Any:
    """The net inside `OneHot` or `Coloured`, whose layers have the names that it gave them; any other model itself."""
    return inner(model.net) if isinstance(model, OneHot | Coloured) else model


def _categories(info: DatasetInfo) -> bool:
    return any(column.levels for column in info.columns)


class Coloured(nn.Module):
    """A net for pictures of three channels, given grey ones as three equal channels.

    Shapes: inputs [batch, 1, height, width]; result as the net's.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures: Tensor) -> Any:
        """The net's outputs for grey pictures [batch, 1, height, width]."""
        return self.net(pictures.expand(*pictures.shape[:-3], 3, *pictures.shape[-2:]))


def fitted(net: nn.Module, info: DatasetInfo) -> nn.Module:
    """The net with lazy parameters initialised, wrapped in `Coloured` if pictures are grey and it only takes colour."""
    if any(is_lazy(parameter) for parameter in net.parameters()):
        with torch.no_grad():
            net.eval()(torch.zeros(2, *info.inputs))
        net.train()
    grey = len(info.inputs) == 3 and info.inputs[0] == 1
    if grey and not _takes(net, info.inputs) and _takes(net, (3, *info.inputs[1:])):
        return Coloured(net)
    return net


@torch.no_grad()
def _takes(net: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        copy.deepcopy(net).eval()(torch.zeros(2, *shape))
    except Exception:  # nets raise anything for a shape that they do not take
        return False
    return True
