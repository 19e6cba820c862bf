"""Autoencoders: pictures to codes and back, measured by one likelihood whatever trained them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
    stream,
)
from lossbench.core.latent_code import LatentCode
from lossbench.datasets.splits import check_pictures
from lossbench.metrics import frechet_distance
from lossbench.tasks.samples import LATENT, PIXELS, Sample, normal
from lossbench.tasks.views import View

AT_ONCE = 2048  # pictures decoded at once when a likelihood is estimated, which bounds memory
WALK = 15  # pictures on a side of the grid of latents
ACTIVE = 0.01  # variance over the data of a unit's mean, from which the unit is in use
DECODER = torch.randn(LATENT, PIXELS, generator=stream(0, "contract/decoder"), dtype=torch.float64)  # made up


@dataclass(frozen=True)
class Autoencoder(TaskType):
    """An encoder, a decoder and a prior. The decoder's outputs are read as logits of pixels, whatever the loss.

    The likelihood is primary: log p(x) by importance sampling, a bound that tightens with the samples, `watched` of
    them during training and `importance` in the report. For grey pixels it is a cross-entropy, and no density.
    """

    loss: Any
    info: DatasetInfo
    features: Any = None
    importance: int = 500
    watched: int = 20

    models = ("vae", "vae_conv")
    prior = "classes"
    layers = ("model.encoder", "model.decoder")
    one_by_one = False
    target_unused = "it depends on the code alone, which is computed from the picture"
    one_nearer = True

    def __post_init__(self) -> None:
        for name, samples in (("importance", self.importance), ("watched", self.watched)):
            if not (isinstance(samples, int) and samples >= 1):
                raise ConfigError(f"task.{name}={samples}: samples a picture, a whole number from 1")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The importance-weighted negative log-likelihood is primary."""
        return (
            Metric(  # estimated, so that nothing keeps it above 0
                "nll", f"negative log-likelihood, importance-weighted by {self.importance} samples", False, "nats"
            ),
            Metric("elbo", "evidence lower bound", True, "nats", range=(-math.inf, 0.0)),
            Metric("kl", "divergence of the codes from the prior", False, "nats", range=POSITIVE),
            Metric("active_units", "latent units whose mean varies over the data", True, range=POSITIVE),
            Metric("reconstruction_mse", "mean squared error of a pixel decoded from the mean", False, range=SHARE),
            Metric(
                "fid_cnn",
                "Fréchet distance of samples from the prior, features of a small network",
                False,
                range=POSITIVE,
            ),
        )

    def step(self, nets: Any, batch: Split, noise: Noise) -> Iterator[tuple[str, Tensor | LossOutput]]:
        """Pictures are binarized at random first, where `info.binarize` says so."""
        pictures = self._binarized(batch.inputs, noise)
        yield "model", self.loss(_encode(nets, pictures, noise.own()), pictures.flatten(-len(self.info.inputs)))

    def predict(self, nets: Any, batch: Split, noise: Noise, *, closely: bool = False) -> dict[str, Tensor]:
        """For each picture its bounds, the mean of its code, its reconstruction and a sample from the prior."""
        pictures = self._binarized(batch.inputs, noise)
        code = _encode(nets, pictures, noise)
        decoded = code.decode(code.mean).sigmoid()
        sample = code.decode(noise.normal(*code.mean.shape).to(pictures.dtype)).sigmoid()
        bounds = _bounds(code, pictures.flatten(1), self.importance if closely else self.watched)
        return {
            **bounds,
            "mean": code.mean,
            "error": (decoded - pictures.flatten(1)).square().mean(-1),
            "reconstruction": decoded.view_as(pictures),
            "sample": sample.view_as(pictures),
            "input": pictures,
        }

    def measure(self, outputs: Mapping[str, Tensor], targets: Tensor) -> dict[str, float]:
        mean = outputs["mean"].double()
        return {
            **{name: outputs[name].double().mean().item() for name in ("nll", "elbo", "kl")},
            "active_units": float((mean.var(0, correction=0) > ACTIVE).sum()),
            "reconstruction_mse": outputs["error"].double().mean().item(),
        }

    def report(
        self, outputs: Mapping[str, Tensor], targets: Tensor, calibration: Mapping[str, float]
    ) -> dict[str, float]:
        """Adds the Fréchet distance of samples from the prior to the test pictures."""
        seen = self.features
        return {
            **self.measure(outputs, targets),
            "fid_cnn": frechet_distance(seen.of_real(targets), seen.of(outputs["sample"])),
        }

    def pictures(self, seen: TrainedModel) -> Pictures:
        from lossbench.tasks import image_pictures

        outputs: Any = seen.outputs["test"]
        watched: Any = seen.glimpses
        labels = seen.splits.test.metadata.get("label")
        figures = {
            "reconstructions": lambda: image_pictures.beside(outputs["input"], outputs["reconstruction"]),
            "samples": lambda: image_pictures.grid(outputs["sample"]),
            "samples_over_training": lambda: image_pictures.over_training({s: o["sample"] for s, o in watched.items()}),
            "latent_grid": lambda: image_pictures.grid(
                _walk(seen.nets, outputs["mean"], self.info.inputs), columns=WALK, rows=WALK
            ),
            "latent_scatter": lambda: image_pictures.scatter(outputs["mean"], labels),
        }
        return Pictures(figures)

    @staticmethod
    def outputs(info: DatasetInfo) -> int:
        return len(info.classes)

    @classmethod
    def shapes(
        cls, nets: Any, info: DatasetInfo, examples: Split, outputs_per_target: int
    ) -> Iterator[tuple[str, Shape, Shape]]:
        """The encoder gives two numbers for each latent unit; the decoder takes one and gives a picture."""
        code, n = nets.model.encoder(examples.inputs), len(examples)
        latent = code.shape[-1] // 2
        yield "'s encoder", tuple(code.shape), (n, 2 * latent)
        picture = nets.model.decoder(code[:, :latent])
        yield "'s decoder", tuple(picture.flatten(1).shape), (n, math.prod(info.inputs))

    @staticmethod
    def check(info: DatasetInfo, name: str, split: Split) -> None:
        """Pictures need grey values from 0 to 1 and labels; points of a mixture do not."""
        if not info.mixture_means:
            check_pictures(info, name, split)

    @classmethod
    def batch(cls, size: int, outputs_per_target: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Codes, each a mean and a log-variance side by side, and pixels."""
        codes = normal(random, size, 2 * LATENT)
        return codes, torch.rand(size, PIXELS, generator=random, dtype=torch.float64)

    @classmethod
    def undecided(cls, sample: Sample, player: str) -> Sample | None:
        """None: a code of 0 says as much as any other."""
        return None

    @classmethod
    def extremes(cls, sample: Sample, far: Tensor, outputs_per_target: int) -> Iterator[Sample]:
        """Means at all far values, with log-variances of 0, 20 and −20."""
        pairs = torch.cartesian_prod(far, torch.tensor([0.0, 20.0, -20.0], dtype=torch.float64))
        pixels = torch.linspace(0, 1, PIXELS, dtype=torch.float64).expand(len(pairs), PIXELS)
        yield Sample(cls.name, pairs.repeat_interleave(LATENT, 1), pixels)

    @classmethod
    def on_sample(cls, loss: Any, sample: Sample, player: str, noise: Any) -> Any:
        """The prediction is split into mean and log-variance, with a fixed linear decoder beside them."""
        mean, log_variance = sample.prediction.chunk(2, -1)
        decoder = DECODER.to(mean.dtype)
        return loss(LatentCode(mean, log_variance, lambda latent: latent @ decoder, noise), sample.target)

    @classmethod
    def distance(cls, sample: Sample, player: str) -> Tensor:
        """How badly a picture is decoded, and how far the code is from the prior; one of them has to fall."""
        mean, log_variance = sample.prediction.detach().split(LATENT, -1)
        unlike = F.binary_cross_entropy_with_logits(mean @ DECODER, sample.target)
        return torch.stack([unlike, (mean.square() + log_variance.exp() - 1 - log_variance).mean()])

    @classmethod
    def views(cls, counted: bool, two: bool) -> tuple[View, ...]:
        from lossbench.tasks.image_pictures import code_views

        return code_views()

    def _binarized(self, pictures: Tensor, noise: Noise) -> Tensor:
        """Grey pictures as they are, or each pixel drawn as 0 or 1 with its grey value as probability."""
        if not self.info.binarize:
            return pictures
        shape = (pictures.shape[-len(self.info.inputs) - 1], *self.info.inputs)
        return (noise.uniform(*shape) < pictures).to(pictures.dtype)


def _encode(nets: Any, pictures: Tensor, noise: Noise) -> LatentCode:
    mean, log_variance = nets.model.encoder(pictures).chunk(2, -1)
    return LatentCode(mean, log_variance, nets.model.decoder, noise)


def _bounds(code: LatentCode, pictures: Tensor, samples: int) -> dict[str, Tensor]:
    """For each picture the importance-weighted bound from `samples` samples, the ELBO over them, and the divergence.

    −log p(x) ≤ −log 1/k Σ p(x|z) p(z) / q(z|x), in rounds of few enough samples for memory.

    Shapes: code of a batch, pictures [batch, pixels]; results [batch].
    """
    batch = len(pictures)
    divergence = code.divergence().sum(-1)
    weights, explained, left = torch.full_like(divergence, -math.inf), torch.zeros_like(divergence), samples
    while left:
        now = min(left, max(1, AT_ONCE // batch))
        noise, latent, logits = code.draw(now)
        target = pictures.unsqueeze(1).expand_as(logits)
        log_p = -F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)
        weights = torch.logaddexp(weights, (log_p + code.log_ratio(noise, latent)).logsumexp(1))
        explained, left = explained + log_p.sum(1), left - now
    return {"nll": math.log(samples) - weights, "elbo": explained / samples - divergence, "kl": divergence}


def _walk(nets: Any, means: Tensor, shape: tuple[int, ...], side: int = WALK) -> Tensor:
    """Pictures decoded over the two units that vary most, at quantiles of the prior; the others stay at 0."""
    device = next(nets.parameters()).device
    ticks = torch.special.ndtri(torch.linspace(0.02, 0.98, side, dtype=torch.float64)).float()
    varied = means.var(0, correction=0).argsort(descending=True).tolist()
    first, second = varied[0], varied[min(1, len(varied) - 1)]
    latent = torch.zeros(side, side, means.shape[1])
    latent[..., first] = ticks
    latent[..., second] = ticks[:, None].flip(0)
    return nets.model.decoder(latent.flatten(0, 1).to(device)).sigmoid().view(-1, *shape).cpu()
