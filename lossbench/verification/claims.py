"""What a truth is: a claim about losses, its source, and the numbers that are measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from omegaconf import DictConfig, OmegaConf

from lossbench.config import error_messages, schema
from lossbench.core import ConfigError, DatasetInfo
from lossbench.engine import Nets
from lossbench.runs import builders

Loss: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Finding:
    """One number of a truth: what was expected, what came out, and from where to where it may lie.

    `interval` is that of the measurement, 95 %, where chance has a part in it. A bound has no other side: it is
    expected at the bound, and may lie as far beyond as it likes.
    """

    what: str
    expected: float
    measured: float
    low: float
    high: float
    interval: tuple[float, float] | None = None

    @property
    def holds(self) -> bool:
        return math.isfinite(self.measured) and self.low <= self.measured <= self.high

    @property
    def asked(self) -> str:
        """What was expected, in words."""
        if math.isinf(self.low):
            return f"≤ {number(self.high)}"
        if math.isinf(self.high):
            return f"≥ {number(self.low)}"
        return f"{number(self.expected)} ± {number(self.high - self.expected)}"


def near(
    what: str, expected: float, measured: float, within: float, interval: tuple[float, float] | None = None
) -> Finding:
    """A number that has to be as expected, to so much."""
    return Finding(what, expected, measured, expected - within, expected + within, interval)


def below(what: str, bound: float, measured: float) -> Finding:
    return Finding(what, bound, measured, -math.inf, bound)


def above(what: str, bound: float, measured: float) -> Finding:
    return Finding(what, bound, measured, bound, math.inf)


def number(value: float) -> str:
    """To four places, or to two figures where these would show none."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2g}"


@dataclass(frozen=True)
class Line:
    """Points of a picture, joined unless they are `dots`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class Picture:
    """What a truth looks like, drawn from what was measured; `square` where both axes are of one unit."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    square: bool = False


@dataclass(frozen=True)
class Losses:
    """The losses of the catalogue by name, from their files; `instead` has another's dotted path stand for one."""

    instead: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, name: str, task_type: str, **changed: Any) -> Loss:
        """The loss with the settings of its file, but for those that are changed."""
        return builders.loss(self._settings(name, changed), task_type)

    def of_run(self, name: str, info: DatasetInfo, nets: Nets, **changed: Any) -> Loss:
        """The same with what a run brings it: counts of the classes."""
        return builders.loss_of_run(self._settings(name, changed), info, nets, 0)

    def _settings(self, name: str, changed: Mapping[str, Any]) -> DictConfig:
        path = schema.CONFIGS / "loss" / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError(error_messages.missing("loss", name, [file.stem for file in path.parent.glob("*.yaml")]))
        told: Any = OmegaConf.to_container(OmegaConf.load(path))
        target = {"_target_": self.instead[name]} if name in self.instead else {}
        return OmegaConf.create({**told, **changed, **target})


Measure: TypeAlias = Callable[[Losses], Iterator[Finding | Picture]]


@dataclass(frozen=True)
class Truth:
    """A claim with its number in the list of truths, and how it is measured."""

    number: int
    name: str
    title: str
    claim: str
    source: str
    measure: Measure

    def __call__(self, losses: Losses | None = None) -> list[Finding | Picture]:
        return list(self.measure(losses or Losses()))


def truth(*, number: int, title: str, source: str) -> Callable[[Measure], Truth]:
    """Make a truth of the function that measures it: named like it, claiming what its docstring says."""

    def made(measure: Measure) -> Truth:
        claim = " ".join((measure.__doc__ or "").split())
        return Truth(number, measure.__name__, title, claim, source, measure)

    return made
