"""Features of images from a small classifier: the space in which samples are compared with real images."""

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

WIDTH = 64  # features per image
PLAN = Plan(steps=600, batch_size=128, eval_every=100, record_every=100, schedule="cosine")
LEAST = 0.1  # of the root mean square deviation: the smallest scale of a feature
CHUNK = 2048  # images per call


class Classifier(nn.Module):
    """A convolutional classifier; its last hidden layer, divided by `scale`, gives the features.

    Shapes: images [batch, channels, height, width]; result [batch, classes].
    """

    scale: Tensor

    def __init__(self, inputs: tuple[int, ...], classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.sight = nn.Sequential(CNN(inputs, WIDTH, generator), nn.ReLU())
        self.register_buffer("scale", torch.ones(WIDTH))
        self.head = MLP((WIDTH,), classes, generator, hidden=())

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        return self.head(self.sight(images))


class Features:
    """Features and classes of images from a classifier that is trained on the labels of the training split.

    It is trained on first use, and cached under the data's fingerprint. Metrics that use it compare only under the
    same hash, which every record has.
    """

    def __init__(self, splits: Splits, device: torch.device) -> None:
        self._splits, self._device = splits, device
        self._real: tuple[Tensor, Tensor] | None = None

    @property
    def used(self) -> bool:
        """Whether the classifier has been used."""
        return "_classifier" in self.__dict__

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the classifier's weights and their names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._classifier.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def of(self, images: Tensor) -> Tensor:
        """Features [n, 64] of images [n, channels, height, width]."""
        return self._each(self._classifier.sight, images) / self._classifier.scale.cpu()

    def of_real(self, images: Tensor) -> Tensor:
        """As `of`, with the features of the latest images cached."""
        if self._real is None or self._real[0] is not images:
            self._real = (images, self.of(images))
        return self._real[1]

    def classes(self, images: Tensor) -> Tensor:
        """The predicted class of each image, [n]."""
        return self._each(self._classifier, images).argmax(-1)

    @torch.inference_mode()
    def _each(self, net: nn.Module, images: Tensor) -> Tensor:
        return torch.cat([net(chunk.to(self._device)).cpu() for chunk in images.split(CHUNK)])

    @cached_property
    @torch.inference_mode(False)  # it may have to be trained, even if the caller only infers
    def _classifier(self) -> Classifier:
        info = self._splits.info
        classifier = Classifier(info.inputs, len(info.classes), stream(0, "features"))
        key = {"data": info.fingerprint, "code": Path(__file__).read_text(encoding="utf-8")}
        classifier.load_state_dict(remembered("features", key, lambda: self._trained(classifier)))
        return classifier.to(self._device)

    @torch.enable_grad()
    def _trained(self, classifier: Classifier) -> dict[str, Tensor]:
        train, validation = (
            Split(split.inputs, split.metadata["label"]) for split in (self._splits.train, self._splits.validation)
        )
        task: Any = Multiclass(cross_entropy, replace(self._splits.info, task_type="multiclass", targets=()))
        optimizer_steps = {"model": torch.optim.Adam(classifier.parameters(), lr=2e-3)}
        fit([Replica(task, Nets(model=classifier), optimizer_steps, train, validation, seed=0)], PLAN)
        with torch.no_grad():
            features = torch.cat([classifier.sight(images) for images in train.inputs.split(CHUNK)]).double()
            spread = features.std(0)
            # the deviation of a unit that is rarely active is tiny: one sample that activates it would dominate
            classifier.scale.copy_(spread.clamp(min=LEAST * spread.square().mean().sqrt()))
        return {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
