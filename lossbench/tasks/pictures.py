"""Pictures of a run, drawn by matplotlib: PNG files of some 20 kB, which any viewer shows without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lossbench.tasks.views import LOGITS, Case, View, per_example, steps

CLASSES = 10  # of a picture of a loss
NAMED = 20  # classes that have room for their names and counts
INK, QUIET, WARN = "#1f4e79", "#9aa5b1", "#c8553d"


def prediction_against_truth(
    truth: NDArray[Any], guess: NDArray[Any], outliers: NDArray[np.bool_] | None, unit: str
) -> Figure:
    """Each example of the test split, outliers marked; on the diagonal the two agree."""
    figure, axes = _blank(f"truth{f' [{unit}]' if unit else ''}", f"prediction{f' [{unit}]' if unit else ''}")
    inlier = np.ones(len(truth), bool) if outliers is None else ~outliers
    axes.scatter(truth[inlier], guess[inlier], s=8, alpha=0.4, color=INK, linewidths=0, label="inlier")
    if not inlier.all():
        axes.scatter(truth[~inlier], guess[~inlier], s=14, color=WARN, marker="x", linewidths=0.8, label="outlier")
        axes.legend(frameon=False)
    among = truth[inlier] if inlier.any() else truth
    axes.locator_params(nbins=5)  # each tick takes two milliseconds
    ends = [min(guess.min(), among.min()), max(guess.max(), among.max())]
    axes.plot(ends, ends, color=QUIET, linewidth=1)
    return figure


def confusion_matrix(y: NDArray[Any], guess: NDArray[Any], classes: Sequence[str]) -> Figure:
    """Counts of the test split: rows are the truth, columns the answer; shades are shares of a row."""
    n = len(classes)
    counts = np.bincount(y * n + guess, minlength=n * n).reshape(n, n)
    figure, axes = _blank("answer", "truth")
    figure.set_layout_engine("constrained")  # names of classes take what room they need
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(n, n) if n <= NAMED else ():
        ink = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=ink, fontsize=8)
    ticks = range(0, n, -(-n // NAMED))
    axes.set_xticks(ticks, [classes[k] for k in ticks])
    axes.set_yticks(ticks, [classes[k] for k in ticks])
    return figure


def precision_recall(curves: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], threshold: float | None) -> Figure:
    """Precision over recall for each class (targets 0/1, scores), with the point of the tuned threshold."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _blank("recall", "precision")
    for name, (y, scores) in curves.items():
        if not y.any():
            continue
        precision, recall, thresholds = precision_recall_curve(y, scores)
        area = average_precision_score(y, scores)
        (line,) = axes.plot(recall, precision, linewidth=1.4, label=f"{name}, area {area:.3f}")
        if threshold is not None:
            at = min(int(np.searchsorted(thresholds, threshold)), len(thresholds) - 1)
            axes.plot(recall[at], precision[at], "o", color=line.get_color(), label="threshold tuned on validation")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    if 0 < len(axes.lines) <= NAMED:
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def reliability(curves: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_]]], bins: int = 15) -> Figure:
    """Accuracy over confidence, (confidence, correct) for each curve; dots grow with the examples in their bin."""
    figure, axes = _blank("confidence", "accuracy")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
    for (name, (confidence, correct)), colour in zip(curves.items(), (WARN, INK), strict=False):
        index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        count = np.bincount(index, minlength=bins)
        full = count > 0
        x, y = (np.bincount(index, values, bins)[full] / count[full] for values in (confidence, correct.astype(float)))
        axes.plot(x, y, color=colour, linewidth=1, label=name)
        axes.scatter(x, y, s=10 + 90 * count[full] / count.max(), color=colour, linewidths=0)
    low = min(float(confidence.min()) for confidence, _ in curves.values())
    axes.set(xlim=(low, 1.01), ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    return figure


def _blank(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 4.2), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.16, "right": 0.97, "bottom": 0.13, "top": 0.97})
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _residual(loss: Any, x: Tensor) -> Tensor:
    return per_example(loss(x[:, None], torch.zeros_like(x)[:, None]))


def _residual_beside(second: float) -> Case:
    """A residual with a second output of the net beside it, from which its spread follows."""

    def case(loss: Any, x: Tensor) -> Tensor:
        return per_example(loss(torch.stack([x, torch.full_like(x, second)], -1), torch.zeros_like(x)[:, None]))

    return case


def _logit(label: int) -> Case:
    return lambda loss, x: per_example(loss(x, torch.full(x.shape, label)))


def _class(label: int, others: float = 0.0) -> Case:
    """Sweeps the label's logit; one rival has 0 and the other classes `others`."""

    def case(loss: Any, x: Tensor) -> Tensor:
        rest = x.new_full((len(x), CLASSES), others)
        rest[:, (label + 1) % CLASSES] = 0
        logits = torch.where(torch.arange(CLASSES) == label, x[:, None], rest)
        return per_example(loss(logits, torch.full(x.shape, label)))

    return case


def residual_views(two: bool) -> tuple[View, ...]:
    """Views of losses of a residual; with several second numbers for losses that take two per output."""
    cases = {f"ρ = {second:g}": _residual_beside(second) for second in (0.0, 3.0, -2.0)} if two else {"": _residual}
    return (View("residual", "regression", "residual", "residual r", steps(-8, 8, 97), 1.0, cases),)


def binary_views(counted: bool) -> tuple[View, ...]:
    """Views of losses of a logit; with the counts for losses that take class counts."""
    more = (" (100 examples)", " (900 examples)") if counted else ("", "")
    cases = {f"y = 1{more[0]}": _logit(1), f"y = 0{more[1]}": _logit(0)}
    return (View("binary", "binary", "binary", "logit z", LOGITS, 0.0, cases),)


def multiclass_views(counted: bool) -> tuple[View, ...]:
    """Views of losses of a logit per class; of a common and a rare class for losses that take class counts."""
    if counted:
        cases = {"the commonest class (5,000)": _class(0), "the rarest class (50)": _class(CLASSES - 1)}
    else:
        cases = {"nine rivals": _class(0), "one rival": _class(0, -6.0)}
    axis = "logit of the true class over rivals"
    return (View("multiclass", "multiclass", "multi-class", axis, LOGITS, 0.0, cases),)
