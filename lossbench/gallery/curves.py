"""The curves of a loss: values and gradients along the numbers that a view sweeps, over a grid of its parameters.

Nothing is derived here: the loss is called as its task calls it, and differentiated by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from lossbench.config.catalogue import Entry
from lossbench.config.task_types import load
from lossbench.core import ConfigError, stream
from lossbench.gallery.batches import DIMENSIONS, centred
from lossbench.gallery.knobs import Knob, knobs, slow
from lossbench.gallery.views import views
from lossbench.runs import builders
from lossbench.tasks.lifting import lifted
from lossbench.tasks.views import Case, View, whole

Array = NDArray[np.float64]
COARSE, FEW = 3, 40  # a slow loss is drawn at every third point, where a view has more than 40
FLAT = 1e-9  # share of the largest value; a parameter that moves the curve by less has no slider


@dataclass(frozen=True)
class Drawing:
    """A loss in a view, over the numbers x: values and gradients [*knobs, case, x], one axis per knob."""

    entry: Entry
    view: View
    x: tuple[float, ...]
    knobs: tuple[Knob, ...]
    values: Array
    gradients: Array

    @property
    def default(self) -> tuple[Array, Array]:
        """Values and gradients [case, x] at the default settings."""
        place = tuple(knob.at for knob in self.knobs)
        return self.values[place], self.gradients[place]

    @property
    def flat(self) -> bool:
        """Whether the gradient is 0 everywhere, at any setting."""
        return not np.nanmax(np.abs(self.gradients), initial=0) > 0


def drawings(entry: Entry) -> list[Drawing]:
    """The drawings of a loss, without those that are flat."""
    return [drawn for view in views(entry) if not (drawn := drawing(entry, view)).flat]


def drawing(entry: Entry, view: View) -> Drawing:
    """A loss in a view, over the grid of its knobs, without knobs that change nothing.

    Where the loss refuses a setting, values and gradients are NaN.
    """
    axes = knobs(entry, view.task_type)
    x = view.x[::COARSE] if slow(entry) and len(view.x) > FEW else view.x
    names = [knob.name for knob in axes]
    settings = [dict(zip(names, setting, strict=True)) for setting in product(*(knob.values for knob in axes))]
    results = [_curves(entry, view, x, setting) for setting in settings]
    shape = (*(len(knob.values) for knob in axes), len(view.cases), len(x))
    values, gradients = (np.array(arrays).reshape(shape) for arrays in zip(*results, strict=True))
    for axis in reversed(range(len(axes))):
        if _moves(gradients, axis):
            continue
        values, gradients = (array.take(axes[axis].at, axis) for array in (values, gradients))
        axes = axes[:axis] + axes[axis + 1 :]
    return Drawing(entry, view, x, axes, values, gradients)


def _moves(curves: Array, axis: int) -> bool:
    first = curves.take([0], axis)
    return bool(np.nanmax(np.abs(curves - first), initial=0) > FLAT * np.nanmax(np.abs(curves), initial=1))


def _curves(entry: Entry, view: View, x: tuple[float, ...], settings: Mapping[str, Any]) -> tuple[Array, Array]:
    """Values and gradients [case, x] at these settings; NaN where the loss refuses them."""
    try:
        loss = built(entry, view.task_type, settings)
        pairs = [curve(loss, case, x) for case in view.cases.values()]
    except ConfigError:
        nothing = np.full((len(view.cases), len(x)), np.nan)
        return nothing, nothing
    return np.stack([value for value, _ in pairs]), np.stack([gradient for _, gradient in pairs])


def curve(loss: Any, case: Case, x: tuple[float, ...]) -> tuple[Array, Array]:
    """Per-example losses at each x, and their gradient with respect to it."""
    swept = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    per_example = values(loss, case, swept)
    gradient = None
    if per_example.requires_grad:
        (gradient,) = torch.autograd.grad(per_example.sum(), swept, allow_unused=True)
    return per_example.detach().numpy(), (torch.zeros_like(swept) if gradient is None else gradient).numpy()


def values(loss: Any, case: Case, swept: Tensor) -> Tensor:
    """Per-example losses [n] in a case, one call each where they depend on the whole batch."""
    if whole(loss):
        return torch.stack([case(loss, one[None]).mean() for one in swept])
    return case(loss, swept)


def built(entry: Entry, task_type: str, settings: Mapping[str, Any]) -> Any:
    """The loss as its task calls it, with the arguments that a run would give it."""
    brings: dict[str, Callable[[], Any]] = {
        "classes": lambda: load(task_type).drawn_classes,
        "class_counts": lambda: load(task_type).drawn_counts,
        "dimensions": lambda: DIMENSIONS,
        "generator": lambda: stream(0, "loss"),
    }
    file = OmegaConf.create({"_target_": entry.target, **entry.parameters, **settings})
    return lifted(centred(builders.loss(file, task_type, brings)), task_type)
