"""Two players: a generator that imitates examples, and a critic that tells them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.core import (
    POSITIVE,
    SHARE,
    ConfigError,
    DatasetInfo,
    LossOutput,
    Metric,
    Noise,
    Pictures,
    Split,
    TrainedModel,
)
from lossbench.metrics import frechet_distance, kernel_distance, parzen_nll, precision_recall, spread

FAIR = 0.1  # of its fair share of the samples, from which a mode is covered
NEAR = 3.0  # deviations of a mode within which a point is of that mode
COLLAPSED = 0.1  # spread, at which samples are all but one
KERNEL = 2.0  # deviations: the width of Parzen's windows


@dataclass(frozen=True)
class Gan:
    """As many samples as there are real examples, set beside them; the loss has a method a player.

    Images are seen through the features of a small classifier, whose classes are their modes. Points of the plane are
    seen as they are, and their modes are known. The critic takes `critic_steps` for one of the generator, on the same
    real examples and new fakes.
    """

    loss: Any
    info: DatasetInfo
    features: Any = None
    critic_steps: int = 1

    def __post_init__(self) -> None:
        if not (isinstance(self.critic_steps, int) and self.critic_steps >= 1):
            raise ConfigError(
                f"task.critic_steps={self.critic_steps}: steps of the critic to one of the generator, 1 or more"
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        spread = Metric(
            "spread",
            "mean distance between samples, relative to real examples",
            True,
            collapse=COLLAPSED,
            range=POSITIVE,
        )
        precision = Metric("precision", "share of samples within reach of a real example", True, range=SHARE)
        recall = Metric("recall", "share of real examples within reach of a sample", True, range=SHARE)
        known = self.info.mixture_means
        mixture_means = Metric(
            "modes",
            "modes that get at least a tenth of their fair share of samples",
            True,
            range=(0.0, len(known or self.info.classes)),
        )
        if known:
            least = len(known[0]) * math.log(KERNEL * self.info.scale * math.sqrt(2 * math.pi))  # all at one point
            return (
                Metric(
                    "parzen_nll",
                    "negative log-likelihood of real points around the samples, nats",
                    False,
                    range=(least, math.inf),
                ),
                mixture_means,
                Metric("near_modes", "share of samples within three deviations of a mode", True, range=SHARE),
                spread,
                precision,
                recall,
            )
        return (
            Metric("fid_cnn", "Fréchet distance, features of a small network", False, range=POSITIVE),
            Metric("kid_cnn", "kernel distance (cubic, unbiased), features of a small network", False),
            mixture_means,
            spread,
            precision,
            recall,
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        real = batch.inputs
        size, latent = real.shape[-len(self.info.inputs) - 1], nets.generator.latent
        own = noise.own()
        project = getattr(self.loss, "project", None)
        for _ in range(self.critic_steps):
            with torch.no_grad():  # what the critic learns does not move the generator
                fake = nets.generator(noise.normal(size, latent).to(real.dtype))
            yield "critic", self.loss.critic(nets.critic, real, fake, own)
            if project is not None:
                project(nets.critic)
        fake = nets.generator(noise.normal(size, latent).to(real.dtype))
        yield "generator", self.loss.generator(nets.critic, real, fake)

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> Tensor:
        """A sample for every example; under one seed always from the same latents."""
        return nets.generator(noise.normal(len(batch), nets.generator.latent).to(batch.inputs.dtype))

    def measure(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        outputs, targets = outputs.cpu(), targets.cpu()
        if self.info.mixture_means:
            near, mixture_means = self._near(outputs)
            return {
                "parzen_nll": parzen_nll(targets, outputs, width=KERNEL * self.info.scale),
                "modes": float(_covered(mixture_means[near], len(self.info.mixture_means), len(outputs))),
                "near_modes": near.double().mean().item(),
                "spread": spread(outputs) / spread(targets),
            }
        seen, classes = self.features.of(outputs), self.features.classes(outputs)
        real = self.features.of_real(targets)
        return {
            "fid_cnn": frechet_distance(real, seen),
            "kid_cnn": kernel_distance(real, seen),
            "modes": float(_covered(classes, len(self.info.classes), len(outputs))),
            "spread": spread(seen) / spread(real),
        }

    def calibrate(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return {}

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        points = self.info.mixture_means
        real, fake = (targets, outputs) if points else (self.features.of_real(targets), self.features.of(outputs))
        precision, recall = precision_recall(real, fake)
        return {**self.measure(outputs, targets), "precision": precision, "recall": recall}

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import image_pictures

        outputs: Any = seen.outputs["test"]
        watched: Any = seen.glimpses
        if self.info.mixture_means:
            drawn = {
                "samples": lambda: image_pictures.points(seen.splits.test.targets, {"": outputs}),
                "samples_over_training": lambda: image_pictures.points(
                    seen.splits.test.targets, {f"step {step}": o for step, o in image_pictures.some(watched).items()}
                ),
            }
            return Pictures(drawn)
        drawn = {
            "samples": lambda: image_pictures.grid(outputs),
            "samples_over_training": lambda: image_pictures.over_training(watched),
        }
        return Pictures(drawn)

    def _near(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each point lies near a mode, and which is the nearest."""
        distance, mode = torch.cdist(points.cpu().double(), torch.tensor(self.info.mixture_means).double()).min(1)
        return distance <= NEAR * self.info.scale, mode


def _covered(mixture_means: Tensor, there: int, samples: int) -> int:
    return int((torch.bincount(mixture_means, minlength=there) >= FAIR * samples / there).sum())
