"""The family tree of the catalogue: losses by family around a circle, and lines between a loss and its limit cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench.config.families import Family
from lossbench.runs.provenance import colour

SIZE = 900  # of the picture
RIM = 292  # radius at which losses stand
BAND = 280  # radius of the arc of a family
TITLE = 254  # radius of a family's name
GAP = 1.0  # leaves between families
LETTER = 8.2  # width of a letter of a family's name


@dataclass(frozen=True)
class Leaf:
    """A loss on the rim: where its name stands, and its angle."""

    name: str
    colour: str
    x: float
    y: float
    turn: float
    anchor: str


@dataclass(frozen=True)
class Sector:
    """A family: the arc of its losses, and the one that its name runs along."""

    title: str
    arc: str
    path: str


@dataclass(frozen=True)
class Limit:
    """A loss that equals another at some setting."""

    loss: str
    other: str
    setting: str
    colour: str
    path: str

    @property
    def sentence(self) -> str:
        """This limit as a sentence, such as: huber is mse at delta = 1e+06."""
        return f"{self.loss} is {self.other}{f' at {self.setting}' if self.setting else ''}"


@dataclass(frozen=True)
class Tree:
    """The picture of the families: its size, and all that is drawn in it."""

    size: int
    sectors: tuple[Sector, ...]
    leaves: tuple[Leaf, ...]
    limits: tuple[Limit, ...]


def tree(families: Sequence[Family]) -> Tree:
    """The picture of these families."""
    shown = [family for family in families if family.members]
    widths = [float(len(family.members)) for family in shown]
    total = sum(widths) + GAP * len(shown)
    widths = [max(width, _needed(family, total)) for family, width in zip(shown, widths, strict=True)]
    step = 2 * math.pi / (sum(widths) + GAP * len(shown))
    angles: dict[str, float] = {}
    sectors, at = [], -math.pi / 2
    for family, width in zip(shown, widths, strict=True):
        first, last = at, at + width * step
        sectors.append(Sector(family.title, _arc(BAND, first, last), _along(first, last)))
        each = width * step / len(family.members)
        angles |= {entry.name: first + (place + 0.5) * each for place, entry in enumerate(family.members)}
        at = last + GAP * step
    leaves = tuple(_leaf(name, angle) for name, angle in angles.items())
    return Tree(SIZE, tuple(sectors), leaves, tuple(limits(shown, angles)))


def limits(families: Sequence[Family], angles: Mapping[str, float]) -> list[Limit]:
    """The limit cases on the cards of these losses, where both losses are in the tree."""
    return [
        Limit(entry.name, other, setting(at), colour(entry.name), _across(angles[entry.name], angles[other]))
        for family in families
        for entry in family.members
        for other, at in entry.card.limits.items()
        if other in angles
    ]


def setting(at: Mapping[str, Any]) -> str:
    """Settings in words: gamma = 0, alpha = none."""
    return ", ".join(
        f"{name} = {'none' if v is None else f'{v:g}' if isinstance(v, float) else v}" for name, v in at.items()
    )


def _needed(family: Family, total: float) -> float:
    """The width of a family's name, in leaves."""
    return len(family.title) * LETTER / (2 * math.pi * TITLE / total)


def _point(radius: float, angle: float) -> tuple[float, float]:
    return SIZE / 2 + radius * math.cos(angle), SIZE / 2 + radius * math.sin(angle)


def _arc(radius: float, first: float, last: float, forward: int = 1) -> str:
    (a, b), (c, d) = _point(radius, first), _point(radius, last)
    return f"M{a:.1f},{b:.1f} A{radius},{radius} 0 {int(abs(last - first) > math.pi)} {forward} {c:.1f},{d:.1f}"


def _along(first: float, last: float) -> str:
    """The line along which a name is written, reversed in the lower half so that the name is never upside down."""
    middle = (first + last) / 2
    room = max(last - first, 0.1)
    low, high = middle - room, middle + room
    return _arc(TITLE + 10, high, low, 0) if math.sin(middle) > 0 else _arc(TITLE, low, high)


def _leaf(name: str, angle: float) -> Leaf:
    x, y = _point(RIM, angle)
    left = math.cos(angle) < 0
    turn = math.degrees(angle) + (180 if left else 0)
    return Leaf(name, colour(name), round(x, 1), round(y, 1), round(turn, 2), "end" if left else "start")


def _across(one: float, other: float) -> str:
    """The path from one loss to another; the further apart they are, the nearer it comes to the middle."""
    apart = abs(math.remainder(one - other, 2 * math.pi)) / math.pi
    near = BAND * (0.72 - 0.55 * apart)
    (a, b), (c, d), (e, f), (g, h) = (
        _point(radius, angle) for radius, angle in ((BAND, one), (near, one), (near, other), (BAND, other))
    )
    return f"M{a:.1f},{b:.1f} C{c:.1f},{d:.1f} {e:.1f},{f:.1f} {g:.1f},{h:.1f}"
