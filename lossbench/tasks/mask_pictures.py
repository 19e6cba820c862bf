"""Pictures of masks: input, true mask, prediction, and where the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.tasks.pictures import INK, QUIET, WARN
from lossbench.tasks.views import NEAR, SHARES, Case, View, per_example

SURE = 4.0  # the logit of a pixel that is right
STRIPE = 12  # pixels of the object in a strip of four times that

STEPS = 6  # steps of training that are drawn, at most
SIDE = 1.25  # inches of one small picture
ABOVE, BELOW = 0.25, 0.3  # of the titles, of the legend

Floats = NDArray[np.floating]
Masks = NDArray[np.bool_]


def masks(inputs: Floats, true: Masks, p: Floats) -> Figure:
    """A row for each image: input [channels, height, width], true mask, probability, and its errors at .5."""
    rows = [
        [_displayed(image), mask, probability, _errors(probability > 0.5, mask)]
        for image, mask, probability in zip(inputs, true, p, strict=True)
    ]
    figure = _grid(rows, ["input", "mask", "probability", "errors"])
    colours = {"right": QUIET, "false alarm": WARN, "missed": INK}
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def over_training(inputs: Floats, true: Masks, p: Mapping[int, Floats]) -> Figure:
    """A row for each image: input, its probabilities at evenly chosen steps of training, true mask."""
    steps = sorted(p)
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, STEPS).round().astype(int))]
    rows = [[_displayed(inputs[i]), *(p[step][i] for step in steps), true[i]] for i in range(len(true))]
    return _grid(rows, ["input", *(f"step {step:,}" for step in steps), "mask"])


def _grid(rows: Sequence[Sequence[NDArray[Any]]], titles: Sequence[str]) -> Figure:
    """Pictures in 0 … 1, grey or in colour, in rows of equal length; one image, since axes are slow to draw."""
    sheet = np.concatenate([np.concatenate([_framed(picture) for picture in row], 1) for row in rows])
    cell = sheet.shape[1] / len(titles)
    width = SIDE * len(titles)
    pictures = width * len(sheet) / sheet.shape[1]
    figure = Figure(figsize=(width, pictures + ABOVE + BELOW), dpi=110)
    axes = figure.add_axes((0, BELOW / (pictures + ABOVE + BELOW), 1, pictures / (pictures + ABOVE + BELOW)))
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    axes.set_xticks([cell * (i + 0.5) for i in range(len(titles))], titles, fontsize=8)
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def _framed(picture: NDArray[Any]) -> Floats:
    """A picture in colour [height, width, 3], with a line to the right and below."""
    colours = picture if picture.ndim == 3 else np.repeat(picture[..., None].astype(float), 3, 2)
    height, width, _ = colours.shape
    framed = np.full((height + 1, width + 1, 3), to_rgb(QUIET))
    framed[:-1, :-1] = colours
    return framed


def _displayed(image: Floats) -> Floats:
    """An input scaled to its own range for display: [height, width], or with colours last."""
    low, high = image.min(), image.max()
    image = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)


def _errors(predicted: Masks, true: Masks) -> Floats:
    """Colours [height, width, 3]: right objects grey on white, false alarms and misses in strong colours."""
    picture = np.ones((*true.shape, 3))
    for where, colour in ((predicted & true, QUIET), (predicted & ~true, WARN), (~predicted & true, INK)):
        picture[where] = to_rgb(colour)
    return picture


def _pixels(inside: bool) -> Case:
    """Sweeps the probability on the object, or off it; the other pixels are right."""

    def case(loss: Any, x: Tensor) -> Tensor:
        mask = torch.zeros(len(x), STRIPE, STRIPE, dtype=torch.bool)
        mask[:, :6, :6] = True
        swept = torch.logit(x)[:, None, None].expand(mask.shape)
        right = torch.where(mask, SURE, -SURE).to(x.dtype)
        return per_example(loss(torch.where(mask == inside, swept, right), mask.to(x.dtype)))

    return case


def _mask(grows: bool) -> Case:
    """A predicted stripe slides across the true one, in widths of it, or changes its width by a factor e^x."""

    def case(loss: Any, x: Tensor) -> Tensor:
        columns = torch.arange(4 * STRIPE, dtype=x.dtype) - 2 * STRIPE + 0.5
        centre, half = (
            (torch.zeros_like(x), x.exp() * STRIPE / 2) if grows else (x * STRIPE, torch.full_like(x, STRIPE / 2))
        )
        logits = 2 * (half[:, None] - (columns - centre[:, None]).abs())
        mask = (columns.abs() < STRIPE / 2).to(x.dtype).expand(len(x), -1)
        return per_example(loss(logits[:, None], mask[:, None]))

    return case


def views() -> tuple[View, ...]:
    """Views of losses of masks: over a region's probability, and over a stripe that slides or grows."""
    pixels = {"on the object": _pixels(True), "off the object": _pixels(False)}
    masks = {"slides": _mask(False), "grows": _mask(True)}
    return (
        View("pixels", "segmentation", "probability", "probability in a region", SHARES, 0.5, pixels),
        View("masks", "segmentation", "overlap", "shift in widths, or log of width", NEAR, 0.5, masks),
    )
