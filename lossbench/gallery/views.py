"""What is swept to see a loss of each task type: numbers along x, and what the loss is given at each of them.

A case takes a loss, as its task calls it, and the swept numbers [n]; it returns terms [n]. A loss whose terms depend on
the whole batch is given one number at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.config.catalogue import Entry
from lossbench.core import LossOutput, card_of
from lossbench.core.latent_code import LatentCode
from lossbench.gallery.batches import Still, embedded

Case = Callable[[Any, Tensor], Tensor]

CLASSES = 10
COUNTS = {"binary": (900, 100), "multiclass": (5000, 3000, 1800, 1100, 650, 400, 230, 140, 80, 50)}
SURE = 4.0  # the logit of a pixel that is right
CROWD = 32  # codes of a batch, where a loss wants many of them
SIDE = 12  # pixels of the object in a strip of four times that


@dataclass(frozen=True)
class View:
    """A picture of losses of a kind. In an overlay their slopes are matched at `at`."""

    name: str
    task_type: str
    title: str
    axis: str
    x: tuple[float, ...]
    at: float
    cases: Mapping[str, Case]


def views(entry: Entry) -> list[View]:
    """The pictures of a loss: those of its own kind, and for classifiers of all it fits."""
    card = entry.card
    home = [task_type for task_type in entry.task_types if task_type in ("binary", "multiclass")] or list(
        entry.task_types[:1]
    )
    counted, two = "class_counts" in card.needs, card.outputs_per_target > 1
    return [VARIANTS.get((view.name, counted, two), view) for task_type in home for view in VIEWS.get(task_type, ())]


def _steps(low: float, high: float, n: int) -> tuple[float, ...]:
    return tuple(round(step, 9) for step in torch.linspace(low, high, n, dtype=torch.float64).tolist())


def _terms(given: Tensor | LossOutput) -> Tensor:
    return LossOutput.of(given).per_example


def whole(loss: Any) -> bool:
    """Whether it looks at the whole batch, and so is called at one number at a time."""
    card = card_of(loss)
    return card is not None and card.batch


def _residual(loss: Any, x: Tensor) -> Tensor:
    return _terms(loss(x[:, None], torch.zeros_like(x)[:, None]))


def _residual_beside(second: float) -> Case:
    """With a second number of the net beside it, which tells its spread."""

    def case(loss: Any, x: Tensor) -> Tensor:
        return _terms(loss(torch.stack([x, torch.full_like(x, second)], -1), torch.zeros_like(x)[:, None]))

    return case


def _logit(label: int) -> Case:
    return lambda loss, x: _terms(loss(x, torch.full(x.shape, label)))


def _class(label: int, others: float = 0.0) -> Case:
    """The label's logit is swept; one rival has 0 and the other classes `others`."""

    def case(loss: Any, x: Tensor) -> Tensor:
        rest = x.new_full((len(x), CLASSES), others)
        rest[:, (label + 1) % CLASSES] = 0
        logits = torch.where(torch.arange(CLASSES) == label, x[:, None], rest)
        return _terms(loss(logits, torch.full(x.shape, label)))

    return case


def _pixels(inside: bool) -> Case:
    """The probability on the object, or off it, is swept; the other pixels are right."""

    def case(loss: Any, x: Tensor) -> Tensor:
        mask = torch.zeros(len(x), SIDE, SIDE, dtype=torch.bool)
        mask[:, :6, :6] = True
        swept = torch.logit(x)[:, None, None].expand(mask.shape)
        right = torch.where(mask, SURE, -SURE).to(x.dtype)
        return _terms(loss(torch.where(mask == inside, swept, right), mask.to(x.dtype)))

    return case


def _mask(grows: bool) -> Case:
    """A predicted stripe slides across the true one, in widths of it, or changes its width by a factor e^x."""

    def case(loss: Any, x: Tensor) -> Tensor:
        columns = torch.arange(4 * SIDE, dtype=x.dtype) - 2 * SIDE + 0.5
        centre, half = (torch.zeros_like(x), x.exp() * SIDE / 2) if grows else (x * SIDE, torch.full_like(x, SIDE / 2))
        logits = 2 * (half[:, None] - (columns - centre[:, None]).abs())
        mask = (columns.abs() < SIDE / 2).to(x.dtype).expand(len(x), -1)
        return _terms(loss(logits[:, None], mask[:, None]))

    return case


def _box(places: tuple[int, ...]) -> Case:
    """These of the four offsets are swept, the true box being the anchor."""

    def case(loss: Any, x: Tensor) -> Tensor:
        chosen = torch.tensor([float(place in places) for place in range(4)], dtype=x.dtype)
        offsets = x[:, None] * chosen
        return _terms(loss(offsets, torch.zeros_like(offsets)))

    return case


def _pixel(target: float) -> Case:
    """One pixel's x̂ is swept; the posterior is the prior."""

    def case(loss: Any, x: Tensor) -> Tensor:
        x = x.expand(CROWD) if whole(loss) else x
        nothing = torch.zeros_like(x)[:, None]

        def decoded(z: Tensor) -> Tensor:
            return torch.logit(x).repeat_interleave(len(z) // len(x))[:, None]

        return _terms(loss(LatentCode(nothing, nothing, decoded, Still(whole(loss))), torch.full_like(nothing, target)))

    return case


def _latent(sigma: float) -> Case:
    """One unit's μ is swept at a given σ; the decoder does not look at it."""

    def case(loss: Any, x: Tensor) -> Tensor:
        mean = x[:, None].expand(CROWD, 1) if whole(loss) else x[:, None]
        log_variance = torch.full_like(mean, sigma).log() * 2
        code = LatentCode(mean, log_variance, torch.zeros_like, Still(varied=whole(loss)))
        return _terms(loss(code, torch.full_like(mean, 0.5)))

    return case


def _critic(of: str) -> Case:
    """A score is swept, of a real picture or of a fake one; the other has 0. The critic's own slope is 1 throughout."""

    def case(loss: Any, x: Tensor) -> Tensor:
        real, fake = torch.ones_like(x).detach()[:, None], -torch.ones_like(x).detach()[:, None]

        def scores(at: Tensor) -> Tensor:
            side = at[..., 0].detach()
            swept = side > 0 if of == "real" else side < 0
            return at[..., 0] - side.sign() + torch.where(swept, x, 0.0)

        if of == "generator":
            return _terms(loss.generator(scores, real, fake))
        return _terms(loss.critic(scores, real, fake, Still()))

    return case


def _slope(loss: Any, x: Tensor) -> Tensor:
    """The critic is linear, D(t) = slope · t; the pictures are at 0."""
    nothing = torch.zeros_like(x)[:, None]
    return _terms(loss.critic(lambda at: x * at[..., 0], nothing, nothing.clone(), Still()))


SCORES = {"critic, real at D": "real", "critic, fake at D": "fake", "generator, fake at D": "generator"}
SHARES, LOGITS, NEAR = _steps(0.01, 0.99, 81), _steps(-6, 6, 81), _steps(-2, 2, 81)
VIEWS: dict[str, tuple[View, ...]] = {
    "regression": (View("residual", "regression", "residual", "residual r", _steps(-8, 8, 97), 1.0, {"": _residual}),),
    "binary": (View("binary", "binary", "binary", "logit z", LOGITS, 0.0, {"y = 1": _logit(1), "y = 0": _logit(0)}),),
    "multiclass": (
        View(
            *("multiclass", "multiclass", "multi-class", "logit of the true class over rivals"),
            *(LOGITS, 0.0, {"nine rivals": _class(0), "one rival": _class(0, -6.0)}),
        ),
    ),
    "boxes": (
        View(
            "boxes",
            "boxes",
            "boxes",
            "shift in sides, or log of side",
            NEAR,
            0.5,
            {"slides": _box((0,)), "grows": _box((2, 3))},
        ),
    ),
    "segmentation": (
        View(
            *("pixels", "segmentation", "probability", "probability in a region", SHARES, 0.5),
            {"on the object": _pixels(True), "off the object": _pixels(False)},
        ),
        View(
            *("masks", "segmentation", "overlap", "shift in widths, or log of width", NEAR, 0.5),
            {"slides": _mask(False), "grows": _mask(True)},
        ),
    ),
    "autoencoder": (
        View(
            *("pixel", "autoencoder", "pixel", "predicted pixel x̂", SHARES, 0.25),
            {"x = 1": _pixel(1.0), "x = 0": _pixel(0.0), "x = .3": _pixel(0.3)},
        ),
        View(
            *("latent", "autoencoder", "latent", "mean μ of a latent unit", _steps(-3, 3, 61), 1.0),
            {f"σ = {sigma:g}": _latent(sigma) for sigma in (1.0, 0.5, 0.1)},
        ),
    ),
    "gan": (
        View(
            *("scores", "gan", "scores", "critic's score D", _steps(-4, 4, 81), -1.0),
            {name: _critic(of) for name, of in SCORES.items()},
        ),
        View("slope", "gan", "penalty", "slope of the critic", _steps(0, 3, 61), 2.0, {"critic": _slope}),
    ),
    "embedding": (
        View(
            *("angle", "embedding", "angle", "angle to anchor or centre, degrees"),
            *(_steps(3, 177, 30), 60.0, {"its own kind": embedded(True), "another kind": embedded(False)}),
        ),
    ),
}
"""The pictures of each task type."""

_residuals, _classes, _two = VIEWS["regression"][0], VIEWS["multiclass"][0], VIEWS["binary"][0]
VARIANTS: dict[tuple[str, bool, bool], View] = {
    ("residual", False, True): View(
        *("residual", "regression", "residual", "residual r", _residuals.x, 1.0),
        {f"ρ = {second:g}": _residual_beside(second) for second in (0.0, 3.0, -2.0)},
    ),
    ("multiclass", True, False): View(
        *("multiclass", "multiclass", "multi-class", "logit of the true class over rivals", LOGITS, 0.0),
        {"the commonest class (5,000)": _class(0), "the rarest class (50)": _class(9)},
    ),
    ("binary", True, False): View(
        *("binary", "binary", "binary", "logit z", LOGITS, 0.0),
        {"y = 1 (100 examples)": _logit(1), "y = 0 (900 examples)": _logit(0)},
    ),
}
"""Pictures of losses that count classes, or take two numbers an output: by view, counts, two numbers."""
