"""The settings that the trials of a search try, where no trial depends on the results of earlier ones.

Every parameter has its own stream of random numbers, derived from a hash: parameters that two losses share get the same
values trial by trial, so that luck is shared, and a longer search continues a shorter one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from itertools import islice, product
from typing import Any, TypeAlias

from lossbench.core import ConfigError
from lossbench.sweeps.tuning.space import Choices, Dimension, Space

SHUFFLED = 16  # bits of a trial's number

Draw: TypeAlias = "Callable[[int], dict[str, Any]]"
"""The settings of the trial of this number."""


def random(space: Space, seed: int) -> Draw:
    """Independent random draws, as confidence bands over budgets require."""

    def draw(number: int) -> dict[str, Any]:
        return {name: dimension.at(_digest(seed, name, number) / 2**64) for name, dimension in space.items()}

    return draw


def quasi(space: Space, seed: int) -> Draw:
    """A scrambled van der Corput sequence for each parameter: any number of trials covers each range evenly."""
    from scipy.stats.qmc import Sobol

    def draw(number: int) -> dict[str, Any]:
        found = {}
        for name, dimension in space.items():
            sequence = Sobol(1, scramble=True, rng=_digest(seed, name, 0))
            place = _shuffled(seed, name, number)
            before = sequence.fast_forward(place) if place else sequence
            found[name] = dimension.at(float(before.random(1)[0, 0]))
        return found

    return draw


def _shuffled(seed: int, name: str, number: int) -> int:
    """The place of a trial in the sequence: each aligned block of 2^m numbers is permuted within itself.

    Without this the sequences of two parameters would run in step, and their points lie on a line.
    """
    flips = (_digest(seed, f"{name}/{bit}", number >> bit + 1) & 1 for bit in range(SHUFFLED))
    return number ^ sum(flip << bit for bit, flip in enumerate(flips))


def grid(space: Space, seed: int, trials: int) -> Draw:
    """As many points of a grid as there are trials, in random order; the levels include the ends of every range.

    The number of levels per parameter is the smallest that gives enough points.

    Raises: ConfigError where the parameters are all choices and give fewer points than there are trials.
    """
    levels = 1
    while math.prod(len(_levels(dimension, levels)) for dimension in space.values()) < trials:
        levels += 1
        if levels > trials:
            most = math.prod(len(_levels(dimension, levels)) for dimension in space.values())
            raise ConfigError(f"hydra.sweeper.trials={trials}: the grid has {most} points, of {', '.join(space)}")
    axes = [_levels(dimension, levels) for dimension in space.values()]
    count = math.prod(map(len, axes))
    order = sorted(range(count), key=lambda point: _digest(seed, "grid", point))

    def draw(number: int) -> dict[str, Any]:
        point = next(islice(product(*axes), order[number], None))
        return dict(zip(space, point, strict=True))

    return draw


def _levels(dimension: Dimension, count: int) -> list[Any]:
    if isinstance(dimension, Choices):
        return list(dimension.choices)
    return [dimension.at(level / (count - 1) if count > 1 else 0.5) for level in range(count)]


def _digest(seed: int, name: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()[:8], "big")
