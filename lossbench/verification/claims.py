"""What a truth is: a claim about losses, its source, and the numbers measured to check it."""

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
    """One number of a truth: its expected value, its measured value, and the range that is accepted.

    `interval` is the 95 % interval of the measurement, where chance is involved. Where only a bound is claimed,
    `expected` is the bound and the range has no other end.
    """

    what: str
    expected: float
    measured: float
    low: float
    high: float
    interval: tuple[float, float] | None = None

    @property
    def holds(self) -> bool:
        """Whether the measured value lies in the accepted range."""
        return math.isfinite(self.measured) and self.low <= self.measured <= self.high

    @property
    def expectation(self) -> str:
        """The expectation as text: a bound, or a value with its tolerance."""
        if math.isinf(self.low):
            return f"≤ {number(self.high)}"
        if math.isinf(self.high):
            return f"≥ {number(self.low)}"
        return f"{number(self.expected)} ± {number(self.high - self.expected)}"


def near(
    what: str, expected: float, measured: float, within: float, interval: tuple[float, float] | None = None
) -> Finding:
    """A number that must be as expected, with the tolerance `within`."""
    return Finding(what, expected, measured, expected - within, expected + within, interval)


def below(what: str, bound: float, measured: float) -> Finding:
    """A number that must be at most the bound."""
    return Finding(what, bound, measured, -math.inf, bound)


def above(what: str, bound: float, measured: float) -> Finding:
    """A number that must be at least the bound."""
    return Finding(what, bound, measured, bound, math.inf)


def number(value: float) -> str:
    """A number with four decimal places, or with two significant digits where these would not show it."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2g}"


@dataclass(frozen=True)
class Line:
    """Points of a picture, joined by a line unless they are `dots`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture of the measurements; `square` where both axes have the same unit."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    square: bool = False


@dataclass(frozen=True)
class Losses:
    """The losses of the catalogue by name; `instead` replaces some of them by the dotted path of another."""

    instead: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, name: str, task_type: str, **changed: Any) -> Loss:
        """The loss at its default settings, apart from those that are changed."""
        return builders.loss(self._settings(name, changed), task_type)

    def of_run(self, name: str, info: DatasetInfo, nets: Nets, **changed: Any) -> Loss:
        """The same with what it receives in a run, such as the class counts."""
        return builders.loss_of_run(self._settings(name, changed), info, nets, 0)

    def _settings(self, name: str, changed: Mapping[str, Any]) -> DictConfig:
        path = schema.CONFIGS / "loss" / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError(error_messages.missing("loss", name, [file.stem for file in path.parent.glob("*.yaml")]))
        defaults: Any = OmegaConf.to_container(OmegaConf.load(path))
        target = {"_target_": self.instead[name]} if name in self.instead else {}
        return OmegaConf.create({**defaults, **changed, **target})


Measure: TypeAlias = Callable[[Losses], Iterator[Finding | Picture]]


@dataclass(frozen=True)
class Truth:
    """A claim with its number in the list of truths, and the function that measures it."""

    number: int
    name: str
    title: str
    claim: str
    source: str
    measure: Measure

    def __call__(self, losses: Losses | None = None) -> list[Finding | Picture]:
        """Measure it on these losses, those of the catalogue by default."""
        return list(self.measure(losses or Losses()))


def truth(*, number: int, title: str, source: str) -> Callable[[Measure], Truth]:
    """A decorator that turns a measuring function into a truth with its name; its docstring is the claim."""

    def decorate(measure: Measure) -> Truth:
        claim = " ".join((measure.__doc__ or "").split())
        return Truth(number, measure.__name__, title, claim, source, measure)

    return decorate
