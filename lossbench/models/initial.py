"""Initial weights from a generator, since torch's layers draw theirs from the global one."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import skip_init


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


def widen(head: nn.Linear, outputs_per_target: int) -> nn.Linear:
    """A last layer of so many times the outputs: the first are those of `head`, the others start at 0."""
    like = head.weight
    wide: nn.Linear = skip_init(
        nn.Linear,
        head.in_features,
        outputs_per_target * head.out_features,
        bias=head.bias is not None,
        device=like.device,
        dtype=like.dtype,
    )
    with torch.no_grad():
        for name, drawn in head.named_parameters():
            wide.get_parameter(name).zero_()[: len(drawn)] = drawn
    return wide


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
