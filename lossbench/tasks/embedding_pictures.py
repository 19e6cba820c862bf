"""Pictures of embeddings: nearest neighbours, maps, and how well two photos are distinguished."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from lossbench.metrics import retrieval
from lossbench.tasks.views import Case, View, per_example, steps

ASIDE, OWN = 20.0, 30.0  # degrees between an identity's first and second photo; between the anchor and its own identity

INK, QUIET, RIGHT, WRONG = "#1f4e79", "#9aa5b1", "#2e8540", "#c8553d"
QUERIES, NEAREST = 8, 5
MARKERS = "os^DvPX*"  # in addition to colours, which are too few for many identities


def nearest_neighbours(photos: NDArray[Any], embeddings: NDArray[Any], labels: NDArray[Any]) -> Figure:
    """A row for each of the first identities: the photo whose nearest are wrong most often, and those nearest.

    Above each its cosine; a green frame is right, a dashed red one wrong.
    """
    neighbours = retrieval.neighbours(embeddings, NEAREST)
    wrong = (labels[neighbours] != labels[:, None]).sum(1)
    hardest = [max(np.flatnonzero(labels == name), key=lambda k: wrong[k]) for name in np.unique(labels)[:QUERIES]]
    u = retrieval.unit(embeddings)
    figure = Figure(figsize=(1.05 * (1 + NEAREST), 1.3 * len(hardest) + 0.2), dpi=90)
    grid = figure.subplots(len(hardest), 1 + NEAREST, squeeze=False)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.97, hspace=0.22, wspace=0.08)
    for query, (first, *rest) in zip(hardest, grid, strict=True):
        _photo(first, photos[query], "query", None)
        near = neighbours[query]
        for axes, k in zip(rest, near, strict=False):
            _photo(axes, photos[k], f"{u[query] @ u[k]:.3f}", bool(labels[k] == labels[query]))
        for axes in rest[len(near) :]:
            axes.set_axis_off()
    return figure


def roc(cosines: NDArray[Any], same: NDArray[np.bool_]) -> Figure:
    """True over false accepts of verification, with the points that the metrics read."""
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(5, 4.2), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.14, "right": 0.97, "bottom": 0.13, "top": 0.97})
    axes.set(xlabel="false accepts", ylabel="true accepts", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
    verified = retrieval.verification(cosines, same)
    if same.any() and not same.all():
        false, true, _ = roc_curve(same, cosines)
        axes.plot(false, true, color=INK, linewidth=1.4, label=f"area {verified.auc:.3f}")
    axes.plot(verified.eer, 1 - verified.eer, "o", color=WRONG, label=f"equal error rate {verified.eer:.3f}")
    axes.plot(0.01, verified.tar_at_far, "s", color=RIGHT, label=f"at 1 % false accepts {verified.tar_at_far:.3f}")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def maps(embeddings: NDArray[Any], labels: NDArray[Any]) -> dict[str, Callable[[], Figure]]:
    """Embeddings of length one in two dimensions: by PCA, and by UMAP where it is installed."""
    u = retrieval.unit(embeddings)
    figures = {"map": lambda: _scatter(_principal(u), labels, "principal component")}
    if find_spec("umap") is not None and len(u) > 3:
        figures["map_umap"] = lambda: _scatter(_umap(u), labels, "UMAP")
    return figures


def _principal(u: NDArray[Any]) -> NDArray[Any]:
    """Coordinates along the two directions of greatest variance, with signs that do not depend on the solver."""
    centred = u - u.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    two = np.zeros((2, u.shape[1]))
    two[: min(2, len(directions))] = directions[:2]
    largest = two[np.arange(2), np.abs(two).argmax(1)]
    return centred @ (two * np.where(largest < 0, -1, 1)[:, None]).T


def _umap(u: NDArray[Any]) -> NDArray[Any]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        from umap import UMAP

        return UMAP(n_neighbors=min(15, len(u) - 1), metric="cosine", random_state=0, n_jobs=1).fit_transform(u)


def _scatter(xy: NDArray[Any], labels: NDArray[Any], axis: str) -> Figure:
    figure = Figure(figsize=(5.2, 4.6), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.13, "right": 0.97, "bottom": 0.11, "top": 0.97})
    axes.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2")
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(nbins=5)
    for k, name in enumerate(np.unique(labels)):
        mine = xy[labels == name]
        axes.scatter(
            mine[:, 0],
            mine[:, 1],
            s=18,
            color=f"C{k % 10}",
            marker=MARKERS[k // 10 % len(MARKERS)],
            alpha=0.8,
            linewidths=0,
        )
    return figure


def _photo(axes: Axes, photo: NDArray[Any], title: str, right: bool | None) -> None:
    axes.imshow(photo.mean(0), cmap="gray")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=7, pad=2)
    axes.spines[:].set(
        color=QUIET if right is None else RIGHT if right else WRONG,
        linewidth=1 if right is None else 3,
        linestyle="-" if right is None or right else "--",
    )


def _embedded(own: bool) -> Case:
    """An embedding at an angle to the anchor: of its own identity, or of another.

    A loss with centres gets that embedding alone, at an angle to its own centre or to another's. Others see a
    batch of two identities with two photos each; those that are not swept stay apart.
    """

    def case(loss: Any, x: Tensor) -> Tensor:
        angle = torch.deg2rad(x[0])
        if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
            output = loss(_direction(angle)[None], torch.tensor([0 if own else 1]))
        else:
            output = loss(_photos(angle, own), torch.tensor([0, 0, 1, 1]))
        return per_example(output)

    return case


def _photos(angle: Tensor, own: bool) -> Tensor:
    """An anchor, another photo of it, and two of another identity: unit vectors [4, 3]; one pair's angle is swept."""
    still = torch.zeros_like(angle)
    aside = torch.deg2rad(still + ASIDE)
    if own:
        return torch.stack(
            [_direction(still), _direction(angle), _direction(still, still + 1.3), _direction(aside, still + 1.5)]
        )
    like = _direction(-torch.deg2rad(still + OWN))
    return torch.stack([_direction(still), like, _direction(angle), _direction(angle, aside)])


def _direction(angle: Tensor, height: Tensor | None = None) -> Tensor:
    """The unit vector at an angle from the first axis, at an angle `height` above the plane."""
    up = torch.zeros_like(angle) if height is None else height
    return torch.stack([angle.cos() * up.cos(), angle.sin() * up.cos(), up.sin()])


def views() -> tuple[View, ...]:
    """Views of losses of embeddings: one is rotated away from the anchor, or from a centre."""
    cases = {"its own kind": _embedded(True), "another kind": _embedded(False)}
    return (View("angle", "embedding", "angle", "angle to anchor or centre, degrees", steps(3, 177, 30), 60.0, cases),)
