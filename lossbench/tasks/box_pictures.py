"""Pictures of boxes: the true box, the predicted one, and how well the two overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from lossbench.core.box_offsets import CROP
from lossbench.tasks.pictures import INK, WARN
from lossbench.tasks.views import NEAR, Case, View, per_example

COLUMNS, ROWS = 6, 4  # of crops of the test split
FEW = 5  # crops that are shown over training
SIDE = 1.25  # inches of one crop
ABOVE, BELOW = 0.25, 0.3  # of the titles, of the legend
TRUE, PREDICTED = "#4be3ff", "#ff5a3c"  # visible on grey, dark or bright

Floats = NDArray[np.floating]
Cell = tuple[Floats, Floats, Floats]
"""A crop [channels, height, width], its true box and the predicted one."""


def boxes(inputs: Floats, true: Floats, predicted: Floats, iou: Floats) -> Figure:
    """The first crops of a split, the same ones for every loss, with both boxes and their IoU."""
    cells = list(zip(inputs, true, predicted, strict=True))[: COLUMNS * ROWS]
    rows = [cells[k : k + COLUMNS] for k in range(0, len(cells), COLUMNS)]
    figure, axes, side = _sheet(rows)
    for k, value in enumerate(iou[: len(cells)]):
        place = side * (k % COLUMNS) + 1, side * (k // COLUMNS + 1) - 2
        axes.text(*place, f"{value:.2f}", color="white", fontsize=7, bbox={"color": "black", "pad": 0.8})
    return figure


def over_training(inputs: Floats, true: Floats, predicted: Mapping[int, Floats]) -> Figure:
    """A row for each crop, with the boxes predicted at evenly chosen steps of training."""
    steps = sorted(predicted)
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, COLUMNS).round().astype(int))]
    crops = range(min(FEW, len(predicted[steps[0]])))
    figure, axes, side = _sheet([[(inputs[k], true[k], predicted[step][k]) for step in steps] for k in crops])
    axes.set_xticks([side * (i + 0.5) for i in range(len(steps))], [f"step {step:,}" for step in steps], fontsize=8)
    return figure


def overlap(iou: Floats, thresholds: Sequence[float]) -> Figure:
    """The share of boxes that reaches each IoU, marked at these thresholds."""
    figure = Figure(figsize=(5, 4.2), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.16, "right": 0.97, "bottom": 0.13, "top": 0.97})
    reached, share = np.sort(iou), 1 - np.arange(len(iou)) / len(iou)
    axes.plot([0, *reached, 1], [1, *share, 0], color=INK, linewidth=1.4, drawstyle="steps-pre")
    for threshold in thresholds:
        at = float((iou >= threshold).mean())
        axes.plot(threshold, at, "o", color=WARN, markersize=4)
        axes.annotate(f"{at:.2f}", (threshold, at), (5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="IoU", ylabel="share of boxes that reach it")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _sheet(rows: Sequence[Sequence[Cell]]) -> tuple[Figure, Axes, int]:
    """Crops in rows, their boxes, and the pixels from one crop to the next; one image, since axes are slow to draw."""
    blank = np.ones_like(_displayed(rows[0][0][0]))
    width = max(map(len, rows))
    pictures = [[_displayed(image) for image, _, _ in row] + [blank] * (width - len(row)) for row in rows]
    image = np.concatenate([np.concatenate(row, 1) for row in pictures])
    height, side = SIDE * len(rows), len(blank)
    figure = Figure(figsize=(SIDE * width, height + ABOVE + BELOW), dpi=110)
    axes = figure.add_axes((0, BELOW / (height + ABOVE + BELOW), 1, height / (height + ABOVE + BELOW)))
    axes.imshow(image, interpolation="nearest", extent=(0, image.shape[1], image.shape[0], 0), aspect="auto")
    for which, colour in ((1, TRUE), (2, PREDICTED)):
        outlines = [_outline(cell[which], x, y, side) for y, row in enumerate(rows) for x, cell in enumerate(row)]
        axes.add_collection(LineCollection(outlines, colors=colour, linewidths=1.3), autolim=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in (("true", TRUE), ("predicted", PREDICTED))]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=8)
    return figure, axes, side


def _outline(box: Floats, column: int, row: int, side: int) -> NDArray[Any]:
    """Corners of a box in pixels of the sheet, one after the other, clipped to its crop."""
    within = np.clip((box / CROP + 0.5) * side, 0.5, side - 0.5)
    x0, y0, x1, y1 = within + side * np.array([column, row, column, row])
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def _displayed(image: Floats) -> Floats:
    """An input as colours [height, width, 3], scaled to its own range, with a line to the right and below."""
    low, high = image.min(), image.max()
    image = np.moveaxis((image - low) / (high - low or 1), 0, -1)
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
    image = image.copy()
    image[-1], image[:, -1] = 1, 1
    return image


def _box(places: tuple[int, ...]) -> Case:
    """Sweeps these of the four offsets; the true box is the anchor."""

    def case(loss: Any, x: Tensor) -> Tensor:
        chosen = torch.tensor([float(place in places) for place in range(4)], dtype=x.dtype)
        offsets = x[:, None] * chosen
        return per_example(loss(offsets, torch.zeros_like(offsets)))

    return case


def views() -> tuple[View, ...]:
    """Views of losses of boxes: a box that slides off its anchor, or grows."""
    cases = {"slides": _box((0,)), "grows": _box((2, 3))}
    return (View("boxes", "boxes", "boxes", "shift in sides, or log of side", NEAR, 0.5, cases),)
