"""Learnable centres in known places, so that losses that have them can be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

DIMENSIONS = 3


def centred(loss: Any) -> Any:
    """The loss with its learnable centres, if it has any, set on the first axis and the last."""
    places = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    if isinstance(loss, nn.Module):
        by_shape: Mapping[Any, Tensor] = {places.shape: places, places.T.shape: places.T}
        with torch.no_grad():
            for parameter in loss.double().parameters():
                if parameter.shape in by_shape:
                    parameter.copy_(by_shape[parameter.shape])
    return loss
