"""Initial weights from a generator, since torch's layers draw theirs from the global one."""

from __future__ import annotations

import math

import torch
from torch import nn


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight and bias of linear and convolutional layers from U(−1/√fan_in, 1/√fan_in).

    That is torch's own default for these layers; normalisation layers keep their ones and zeros.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def start_at(head: nn.Linear | nn.Conv2d, prior: float | list[float]) -> None:
    """Set the bias of the last layer to the log-odds of a prior, or to the log-priors of several classes.

    −log((1 − π)/π) for one probability of the positive class, log π_k for one a class.
    """
    assert head.bias is not None
    with torch.no_grad():
        if isinstance(prior, float):
            head.bias.fill_(-math.log((1 - prior) / prior))
        else:
            head.bias.copy_(torch.tensor(prior).log())
