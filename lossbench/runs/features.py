"""What a small classifier sees in images: the space in which samples are set beside the real ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.core import Split, Splits, stream
from lossbench.datasets.cache import remembered
from lossbench.engine import Nets, Plan, Replica, fit
from lossbench.losses import cross_entropy
from lossbench.models import CNN, MLP
from lossbench.tasks import Multiclass

WIDTH = 64  # numbers that it says of an image
PLAN = Plan(steps=600, batch_size=128, eval_every=100, record_every=100, schedule="cosine")
LEAST = 0.1  # of the usual deviation: what a number counts as having
CHUNK = 2048  # images at a time


class Eye(nn.Module):
    """A convolutional classifier whose last hidden layer, in its deviations over the training split, is what it sees.

    Shapes: images [batch, channels, height, width]; result [batch, classes].
    """

    scale: Tensor

    def __init__(self, inputs: tuple[int, ...], classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.sight = nn.Sequential(CNN(inputs, WIDTH, generator), nn.ReLU())
        self.register_buffer("scale", torch.ones(WIDTH))
        self.head = MLP((WIDTH,), classes, generator, hidden=())

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.sight(images))


class Features:
    """The last hidden layer of a classifier trained once on the labels of the training split, and its answers.

    It is trained when first asked, and kept in the cache under the data's fingerprint. Figures read from it hold for
    its hash only, which every record has.
    """

    def __init__(self, splits: Splits, device: torch.device) -> None:
        self._splits, self._device = splits, device
        self._real: tuple[Tensor, Tensor] | None = None

    @property
    def used(self) -> bool:
        """Whether anybody has asked."""
        return "_eye" in self.__dict__

    @property
    def hash(self) -> str:
        """SHA-256 of the classifier's weights, its first 16 digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._eye.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def of(self, images: Tensor) -> Tensor:
        """What it sees in images [n, channels, height, width]: [n, 64]."""
        return self._each(self._eye.sight, images) / self._eye.scale.cpu()

    def of_real(self, images: Tensor) -> Tensor:
        """As `of`, remembered for the images of the last call."""
        if self._real is None or self._real[0] is not images:
            self._real = (images, self.of(images))
        return self._real[1]

    def classes(self, images: Tensor) -> Tensor:
        """The class that it takes each image for, [n]."""
        return self._each(self._eye, images).argmax(-1)

    @torch.inference_mode()
    def _each(self, net: nn.Module, images: Tensor) -> Tensor:
        return torch.cat([net(chunk.to(self._device)).cpu() for chunk in images.split(CHUNK)])

    @cached_property
    @torch.inference_mode(False)  # whoever asks: it may have to be trained
    def _eye(self) -> Eye:
        info = self._splits.info
        eye = Eye(info.inputs, len(info.classes), stream(0, "features"))
        key = {"data": info.fingerprint, "code": Path(__file__).read_text(encoding="utf-8")}
        eye.load_state_dict(remembered("features", key, lambda: self._trained(eye)))
        return eye.to(self._device)

    @torch.enable_grad()
    def _trained(self, eye: Eye) -> dict[str, Tensor]:
        train, validation = (
            Split(split.inputs, split.metadata["label"]) for split in (self._splits.train, self._splits.validation)
        )
        task: Any = Multiclass(cross_entropy, replace(self._splits.info, task_type="multiclass", targets=()))
        optimizer_steps = {"model": torch.optim.Adam(eye.parameters(), lr=2e-3)}
        fit([Replica(task, Nets(model=eye), optimizer_steps, train, validation, seed=0)], PLAN)
        with torch.no_grad():
            seen = torch.cat([eye.sight(images) for images in train.inputs.split(CHUNK)]).double()
            spread = seen.std(0)
            # a unit that hardly fires says little: in its own deviations, one sample that wakes it would say all
            eye.scale.copy_(spread.clamp(min=LEAST * spread.square().mean().sqrt()))
        return {name: tensor.contiguous() for name, tensor in eye.state_dict().items()}
