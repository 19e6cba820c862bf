"""What a picture takes where one example is not enough: a batch of embeddings, noise that stands still."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.core import LossOutput, stream

DIMENSIONS, IDENTITIES = 3, 2
ASIDE, OWN = 20.0, 30.0  # degrees from an identity's first photo to its second; from the anchor to its own kind


class Still:
    """Noise that is the same along a curve, so that only what is swept moves it; within a batch it may vary."""

    done = 10**9  # steps behind it: whatever warms up has

    def __init__(self, varied: bool = False) -> None:
        self._generator = stream(0, "gallery")
        self._varied = varied

    def own(self) -> Still:
        return self

    def normal(self, *shape: int) -> Tensor:
        return self._alike(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._alike(torch.rand, shape)

    def _alike(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        rows = shape[0] if self._varied else 1
        return draw((rows, *shape[1:]), generator=self._generator, dtype=torch.float64).expand(shape)


def embedded(own: bool) -> Callable[[Any, Tensor], Tensor]:
    """An embedding at an angle to the anchor: of its own kind, or of another.

    A loss with centres is given that embedding alone, at an angle to its own centre or to another's. Others see a
    batch of two identities with two photos each; those that are not swept keep away from each other.
    """

    def case(loss: Any, x: Tensor) -> Tensor:
        angle = torch.deg2rad(x[0])
        if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
            given = loss(direction(angle)[None], torch.tensor([0 if own else 1]))
        else:
            given = loss(photos(angle, own), torch.tensor([0, 0, 1, 1]))
        return LossOutput.of(given).per_example

    return case


def photos(angle: Tensor, own: bool) -> Tensor:
    """Anchor and its like, another and its like: [4, 3] unit vectors, of which one pair's angle is swept."""
    still = torch.zeros_like(angle)
    aside = torch.deg2rad(still + ASIDE)
    if own:
        return torch.stack(
            [direction(still), direction(angle), direction(still, still + 1.3), direction(aside, still + 1.5)]
        )
    like = direction(-torch.deg2rad(still + OWN))
    return torch.stack([direction(still), like, direction(angle), direction(angle, aside)])


def direction(angle: Tensor, height: Tensor | None = None) -> Tensor:
    """The unit vector at an angle from the first axis, so high above the plane that it turns in."""
    up = torch.zeros_like(angle) if height is None else height
    return torch.stack([angle.cos() * up.cos(), angle.sin() * up.cos(), up.sin()])


def centred(loss: Any) -> Any:
    """A loss with learnable centres, with these on the first axis and the last."""
    places = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    if isinstance(loss, nn.Module):
        by_shape: Mapping[Any, Tensor] = {places.shape: places, places.T.shape: places.T}
        with torch.no_grad():
            for parameter in loss.double().parameters():
                if parameter.shape in by_shape:
                    parameter.copy_(by_shape[parameter.shape])
    return loss
