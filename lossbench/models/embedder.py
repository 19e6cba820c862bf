"""A small convolutional network that gives each image a place in space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from lossbench.core import ConfigError
from lossbench.models.cnn import CNN


class Embedder(CNN):
    """The layers of the CNN with an embedding as output. It is not normalised: losses decide what its length means.

    Its size does not depend on the dataset, since identities outside of training are not outputs.

    Shapes: inputs [batch, channels, height, width]; result [batch, dimensions].
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        *,
        dimensions: int = 64,
        widths: Sequence[int] = (16, 32, 64),
        norm: Literal["none", "group"] = "group",
    ) -> None:
        if dimensions < 1:
            raise ConfigError(f"model.dimensions={dimensions}: an embedding has at least one")
        if len(inputs) != 3:
            raise ConfigError(
                f"model=embedder: wants images [channels, height, width], the dataset gives {list(inputs)}"
            )
        super().__init__(inputs, dimensions, generator, widths=widths, norm=norm)
