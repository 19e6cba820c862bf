"""Pictures of image models: grids of samples and reconstructions; scatter plots of codes and of points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lossbench.core.latent_code import LatentCode
from lossbench.tasks.pictures import INK, QUIET
from lossbench.tasks.views import SHARES, Case, Still, View, per_example, steps, whole

CROWD = 32  # codes of a batch, where a loss needs the whole batch
SCORES = {"critic, real at D": "real", "critic, fake at D": "fake", "generator, fake at D": "generator"}

TIMES = 8  # steps of training that are drawn
ACROSS = 12  # samples at each step


def grid(images: Tensor, *, columns: int = 12, rows: int = 12) -> Figure:
    """The first images, as many as fit: images [n, channels, height, width] of 0 … 1."""
    return _figure(_tiles(images[: columns * rows], columns))


def beside(inputs: Tensor, reconstructions: Tensor, *, pairs: int = 12, rows: int = 4) -> Figure:
    """Rows of inputs, each above the row of their reconstructions; as many as fill whole rows."""
    pairs = min(pairs, len(inputs))
    count = min(rows, len(inputs) // pairs) * pairs
    both = [tensor[:count].split(pairs) for tensor in (inputs, reconstructions)]
    return _figure(_tiles(torch.cat([image for pair in zip(*both, strict=True) for image in pair]), pairs))


def over_training(glimpses: Mapping[int, Tensor]) -> Figure:
    """A row for each of a few steps: samples from the same latents."""
    chosen = some(glimpses)
    figure = _figure(_tiles(torch.cat([images[:ACROSS] for images in chosen.values()]), min(ACROSS, _least(chosen))))
    axes = figure.axes[0]
    height = next(iter(chosen.values())).shape[-2] + 1
    axes.set_axis_on()
    axes.set_yticks([height * (row + 0.5) for row in range(len(chosen))], [f"step {step}" for step in chosen])
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    return figure


def scatter(codes: Tensor, labels: Tensor | None, *, most: int = 3000) -> Figure:
    """The two units that vary most, one dot per picture, coloured by class."""
    units = codes.var(0, correction=0).argsort(descending=True)[:2].tolist()
    units = units if len(units) == 2 else units * 2
    figure = Figure(figsize=(5, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    x, y = (_array(codes[:most, unit]) for unit in units)
    if labels is None:
        axes.scatter(x, y, s=6, color=INK, linewidths=0)
    else:
        dots = axes.scatter(x, y, s=6, c=_array(labels[:most]), cmap="tab10", vmin=-0.5, vmax=9.5, linewidths=0)
        figure.colorbar(dots, ax=axes, ticks=range(10), label="class")
    axes.set(xlabel=f"mean of latent unit {units[0]}", ylabel=f"mean of latent unit {units[1]}")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def points(real: Tensor, samples: Mapping[str, Tensor]) -> Figure:
    """Samples over real points of the plane, one panel each; its title says how many samples lie outside it."""
    columns = min(4, len(samples))
    rows = -(-len(samples) // columns)
    side = 4.2 if columns == 1 else 2.3
    figure = Figure(figsize=(side * columns, side * rows), dpi=110, layout="constrained")
    truth = _array(real)
    reach = 1.25 * np.abs(truth).max()
    for axes, (name, cloud) in zip(figure.subplots(rows, columns, squeeze=False).flat, samples.items(), strict=False):
        axes.scatter(truth[:, 0], truth[:, 1], s=4, color=QUIET, linewidths=0, label="real")
        dots = _array(cloud)
        axes.scatter(*dots.T, s=4, color=INK, alpha=0.5, linewidths=0, label="samples")
        beyond = f"{(np.abs(dots) > reach).any(1).mean():.0%} beyond" if (np.abs(dots) > reach).any() else ""
        title = ", ".join(filter(None, (name, beyond)))
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title, xticks=[], yticks=[])
    for axes in figure.axes[len(samples) :]:
        axes.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=2)
    return figure


def some(glimpses: Mapping[int, Any]) -> dict[int, Any]:
    """The glimpses at a few steps, spread over training, with the first and the last."""
    steps = list(glimpses)
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(TIMES, len(steps))).round().astype(int))
    return {steps[index]: glimpses[steps[index]] for index in chosen}


def _least(glimpses: Mapping[int, Tensor]) -> int:
    return min(len(images) for images in glimpses.values())


def _tiles(images: Tensor, columns: int) -> NDArray[Any]:
    """Images [n, channels, height, width] in rows, a light line between them: [rows·(height+1), …, channels]."""
    cells = _array(images.clamp(0, 1)).transpose(0, 2, 3, 1)
    rows = -(-len(cells) // columns)
    n, height, width, channels = cells.shape
    sheet = np.full((rows * columns, height + 1, width + 1, channels), 0.85)
    sheet[:n, :height, :width] = cells
    return sheet.reshape(rows, columns, *sheet.shape[1:]).swapaxes(1, 2).reshape(rows * (height + 1), -1, channels)


def _figure(sheet: NDArray[Any]) -> Figure:
    height, width = sheet.shape[:2]
    figure = Figure(figsize=(5, max(1.0, 5 * height / width)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    return figure


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().float().numpy()


def _pixel(target: float) -> Case:
    """Sweeps one pixel's x̂; the posterior is the prior."""

    def case(loss: Any, x: Tensor) -> Tensor:
        x = x.expand(CROWD) if whole(loss) else x
        nothing = torch.zeros_like(x)[:, None]

        def decoded(z: Tensor) -> Tensor:
            return torch.logit(x).repeat_interleave(len(z) // len(x))[:, None]

        return per_example(
            loss(LatentCode(nothing, nothing, decoded, Still(whole(loss))), torch.full_like(nothing, target))
        )

    return case


def _latent(sigma: float) -> Case:
    """Sweeps one unit's μ at a given σ; the decoder does not depend on it."""

    def case(loss: Any, x: Tensor) -> Tensor:
        mean = x[:, None].expand(CROWD, 1) if whole(loss) else x[:, None]
        log_variance = torch.full_like(mean, sigma).log() * 2
        code = LatentCode(mean, log_variance, torch.zeros_like, Still(varied=whole(loss)))
        return per_example(loss(code, torch.full_like(mean, 0.5)))

    return case


def code_views() -> tuple[View, ...]:
    """Views of losses of autoencoders: over a decoded pixel, and over a latent unit's mean."""
    pixels = {"x = 1": _pixel(1.0), "x = 0": _pixel(0.0), "x = .3": _pixel(0.3)}
    units = {f"σ = {sigma:g}": _latent(sigma) for sigma in (1.0, 0.5, 0.1)}
    return (
        View("pixel", "autoencoder", "pixel", "predicted pixel x̂", SHARES, 0.25, pixels),
        View("latent", "autoencoder", "latent", "mean μ of a latent unit", steps(-3, 3, 61), 1.0, units),
    )


def _critic(of: str) -> Case:
    """Sweeps the score of a real picture or of a fake one; the other has 0. The critic's slope is 1 throughout."""

    def case(loss: Any, x: Tensor) -> Tensor:
        real, fake = torch.ones_like(x).detach()[:, None], -torch.ones_like(x).detach()[:, None]

        def scores(at: Tensor) -> Tensor:
            side = at[..., 0].detach()
            swept = side > 0 if of == "real" else side < 0
            return at[..., 0] - side.sign() + torch.where(swept, x, 0.0)

        if of == "generator":
            return per_example(loss.generator(scores, real, fake))
        return per_example(loss.critic(scores, real, fake, Still()))

    return case


def _slope(loss: Any, x: Tensor) -> Tensor:
    """The critic is linear, D(t) = slope · t; the pictures are at 0."""
    nothing = torch.zeros_like(x)[:, None]
    return per_example(loss.critic(lambda at: x * at[..., 0], nothing, nothing.clone(), Still()))


def score_views() -> tuple[View, ...]:
    """Views of losses of two players: over the critic's scores, and over its slope."""
    scores = {name: _critic(of) for name, of in SCORES.items()}
    return (
        View("scores", "gan", "scores", "critic's score D", steps(-4, 4, 81), -1.0, scores),
        View("slope", "gan", "penalty", "slope of the critic", steps(0, 3, 61), 2.0, {"critic": _slope}),
    )
