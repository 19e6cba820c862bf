"""Two players: a generator that imitates examples, and a critic that tells them apart."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossbench.config.task_type import Shape, TaskType
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
from lossbench.datasets.splits import check_pictures
from lossbench.metrics import frechet_distance, kernel_distance, parzen_nll, precision_recall, spread
from lossbench.tasks.lifting import Quiet
from lossbench.tasks.samples import PIXELS, Sample, normal
from lossbench.tasks.views import View

FAIR = 0.1  # share of its fair share of the samples from which a mode counts as covered
NEAR = 3.0  # standard deviations of a mode within which a point belongs to it
COLLAPSED = 0.1  # spread at which samples are nearly all the same
KERNEL = 2.0  # deviations: the width of Parzen's windows


@dataclass(frozen=True)
class Gan(TaskType):
    """Compares as many samples with the real examples; the loss has a method for each player.

    Images are compared by the features of a small classifier, whose classes are their modes. Points of the plane are
    compared as they are, and their modes are known. The critic makes `critic_steps` for one of the generator, on the
    same real examples and new fakes.
    """

    loss: Any
    info: DatasetInfo
    features: Any = None
    critic_steps: int = 1

    models = ("gan",)
    prior = "classes"
    players = ("critic", "generator")
    layers = ("generator.latent", "generator", "critic")
    one_by_one = False

    def __post_init__(self) -> None:
        if not (isinstance(self.critic_steps, int) and self.critic_steps >= 1):
            raise ConfigError(
                f"task.critic_steps={self.critic_steps}: steps of the critic to one of the generator, 1 or more"
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Parzen's likelihood is primary for points, the Fréchet distance for images."""
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
        modes = Metric(
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
                modes,
                Metric("near_modes", "share of samples within three deviations of a mode", True, range=SHARE),
                spread,
                precision,
                recall,
            )
        return (
            Metric("fid_cnn", "Fréchet distance, features of a small network", False, range=POSITIVE),
            Metric("kid_cnn", "kernel distance (cubic, unbiased), features of a small network", False),
            modes,
            spread,
            precision,
            recall,
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        """`critic_steps` times the critic, then the generator, each time on new fakes."""
        real = batch.inputs
        size, latent = real.shape[-len(self.info.inputs) - 1], nets.generator.latent
        own = noise.own()
        project = getattr(self.loss, "project", None)
        for _ in range(self.critic_steps):
            with torch.no_grad():  # the critic's step does not train the generator
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
        """The metrics of the samples but for precision and recall, which take long."""
        outputs, targets = outputs.cpu(), targets.cpu()
        if self.info.mixture_means:
            near, modes = self._near(outputs)
            return {
                "parzen_nll": parzen_nll(targets, outputs, width=KERNEL * self.info.scale),
                "modes": float(_covered(modes[near], len(self.info.mixture_means), len(outputs))),
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

    def report(self, outputs: Tensor, targets: Tensor, calibration: Mapping[str, float]) -> dict[str, float]:
        """Adds precision and recall."""
        points = self.info.mixture_means
        real, fake = (targets, outputs) if points else (self.features.of_real(targets), self.features.of(outputs))
        precision, recall = precision_recall(real, fake)
        return {**self.measure(outputs, targets), "precision": precision, "recall": recall}

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import image_pictures

        outputs: Any = seen.outputs["test"]
        watched: Any = seen.glimpses
        if self.info.mixture_means:
            figures = {
                "samples": lambda: image_pictures.points(seen.splits.test.targets, {"": outputs}),
                "samples_over_training": lambda: image_pictures.points(
                    seen.splits.test.targets, {f"step {step}": o for step, o in image_pictures.some(watched).items()}
                ),
            }
            return Pictures(figures)
        figures = {
            "samples": lambda: image_pictures.grid(outputs),
            "samples_over_training": lambda: image_pictures.over_training(watched),
        }
        return Pictures(figures)

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return len(info.classes)

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """The generator gives examples of the data's shape, the critic one score each."""
        inputs, n = examples.inputs, len(examples)
        fake = nets.generator(torch.zeros(n, nets.generator.latent, device=inputs.device))
        yield "'s generator", tuple(fake.shape), tuple(inputs.shape)
        yield "'s critic", tuple(nets.critic(inputs).shape), (n,)

    @staticmethod
    def call(loss: Any) -> Any:
        """A critic's loss that takes no noise is called without."""
        quiet = "noise" not in inspect.signature(getattr(loss, "critic", loss)).parameters
        return Quiet(loss) if quiet else loss

    @staticmethod
    def lacks(loss: Any) -> str:
        """A loss needs a method for each player."""
        both = hasattr(loss, "critic") and hasattr(loss, "generator")
        return "" if both else "the methods critic(D, real, fake) and generator(D, real, fake)"

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Pictures need grey values from 0 to 1 and labels; points of a mixture do not."""
        if not info.mixture_means:
            check_pictures(info, name, split)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fake pictures and real ones."""
        return 3 * normal(random, size, 2, PIXELS // 2), 3 * normal(random, size, 2, PIXELS // 2)

    @staticmethod
    def weights(random: torch.Generator) -> Tensor:
        """Weights and bias of the linear critic."""
        return torch.randn(PIXELS + 1, generator=random, dtype=torch.float64) / PIXELS**0.5

    @classmethod
    def undecided(cls, sample: Sample, player: str) -> Sample:
        """A critic starts at zero where it learns, and is there where a generator learns from it."""
        assert sample.weights is not None
        weights = torch.zeros_like(sample.weights) if player == "critic" else sample.weights
        return replace(sample, prediction=0.1 * sample.prediction, target=sample.target + 1, weights=weights)

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Scores of fake and real pictures at every pair of far values."""
        scores = torch.cartesian_prod(far, far).unsqueeze(-1).expand(-1, -1, PIXELS).unflatten(-1, (2, -1))
        weights = torch.cat([torch.full((PIXELS,), 1 / PIXELS), torch.zeros(1)]).double()
        yield Sample(cls.name, scores[:, 0], scores[:, 1], weights=weights)

    @classmethod
    def on_sample(cls, loss: Any, sample: Sample, player: str, noise: Any) -> Any:
        """Calls the player's method with a linear critic."""
        if player == "critic":
            return loss.critic(_linear(sample), sample.target, sample.prediction, noise)
        return loss.generator(_linear(sample), sample.target, sample.prediction)

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """The score that the player wants to lower: of fakes, negated, or of fakes less real pictures."""
        assert sample.weights is not None
        fake, real = (
            pictures.flatten(1) @ sample.weights[:-1] for pictures in (sample.prediction.detach(), sample.target)
        )
        return (-fake if player == "generator" else (fake - real)).mean()

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.image_pictures import score_views

        return score_views()

    def _near(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Whether each point lies near a mode, and which is the nearest."""
        distance, mode = torch.cdist(points.cpu().double(), torch.tensor(self.info.mixture_means).double()).min(1)
        return distance <= NEAR * self.info.scale, mode


def _linear(sample: Sample) -> Callable[[Tensor], Tensor]:
    """D(x) = w·x + b, of pictures [batch, 2, 3]."""
    weights = sample.weights
    assert weights is not None
    return lambda pictures: pictures.flatten(-2) @ weights[:-1] + weights[-1]


def _covered(modes: Tensor, count: int, samples: int) -> int:
    """How many of `count` modes get their share of the samples; `modes` are those of single samples."""
    return int((torch.bincount(modes, minlength=count) >= FAIR * samples / count).sum())
