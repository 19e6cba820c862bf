"""The sliders of a loss: its parameters over their search ranges, and its choices between words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from lossbench.config.catalogue import Entry, ranges

MOST, FEWEST, LONGEST = 81, 3, 13  # settings of a loss; fewest and most values of a parameter
SLOW = 24  # settings of a loss that is called once for each point of a curve
FACTOR = 20.0  # a range whose ends are further apart is logarithmic, as in a search


@dataclass(frozen=True)
class Knob:
    """A parameter and the values at which it is drawn; `at` is the index of its default."""

    name: str
    values: tuple[Any, ...]
    at: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The values as a slider shows them."""
        return tuple(f"{v:.3g}" if isinstance(v, float) else "none" if v is None else str(v) for v in self.values)

    @property
    def words(self) -> bool:
        """Whether its values are words rather than numbers."""
        return all(isinstance(value, str) for value in self.values)


def knobs(entry: Entry, task_type: str) -> tuple[Knob, ...]:
    """The knobs of a loss on a task type: words first, then numbers, with as many values as the budget allows."""
    searched = {n: r for n, r in ranges(entry.card, task_type).items() if n in entry.parameters}
    chosen = {name: words for name, words in _choices(entry.target).items() if name in entry.parameters}
    budget = SLOW if slow(entry) else MOST
    budget //= math.prod(len(words) for words in chosen.values())
    each = max(FEWEST, min(LONGEST, int(budget ** (1 / max(1, len(searched))))))
    result = [Knob(name, words, words.index(str(entry.parameters[name]))) for name, words in chosen.items()]
    for name, (low, high) in searched.items():
        default = entry.parameters[name]
        values = through(low, high, each, default)
        result.append(Knob(name, values, values.index(default)))
    return tuple(result)


def slow(entry: Entry) -> bool:
    """Whether it takes the whole batch, so that it is called once for each point of a curve."""
    return entry.card.batch and not entry.card.replica_batched


def through(low: float, high: float, n: int, default: Any) -> tuple[Any, ...]:
    """`n` numbers from low to high, evenly or by logarithm, with the default; first if it is no number."""
    logarithmic = low > 0 and high / low > FACTOR
    steps: Sequence[float] = (np.geomspace if logarithmic else np.linspace)(low, high, n).tolist()
    rounded = [float(f"{step:.3g}") for step in steps]
    if isinstance(default, bool) or not isinstance(default, int | float):
        return (default, *rounded)
    nearest = min(rounded, key=lambda step: abs(step - default))
    others = [step for step in rounded if step != nearest or step in (low, high)]
    return tuple(sorted({*others, default}))


def _choices(target: str) -> dict[str, tuple[str, ...]]:
    """The parameters of a loss that take one of a few words, and these words."""
    module, _, name = target.rpartition(".")
    loss = getattr(import_module(module), name)
    hints = get_type_hints(getattr(loss, "__init__") if isinstance(loss, type) else loss)  # noqa: B009
    return {
        name: get_args(hint)
        for name, hint in hints.items()
        if get_origin(hint) is Literal and all(isinstance(word, str) for word in get_args(hint))
    }
