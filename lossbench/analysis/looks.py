"""Sequential comparisons: what one that looks repeatedly, and stops once decided, may claim at each look.

Each look spends a part of the total error of 5 %, so that whenever a comparison stops, the probability of any false
claim is below 5 %, however the looks depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import level, stats
from lossbench.analysis.population import Population

AT = (6, 10, 16, 25, 40)  # numbers of seeds at which to look
P = ["p", "p_holm", "p_all", "p_equal"]


@dataclass(frozen=True)
class Look:
    """A look at this many seeds: the part of the 5 % that it may spend, and the losses that go on after it."""

    seeds: int
    level: float
    going: tuple[str, ...] = ()


def looks(most: int, population: Population) -> list[Look]:
    """All looks up to `most` seeds, at levels that add up to 5 %.

    5 % · ln(1 + (e − 1) n/most) has been spent by a look at n seeds. Where so few seeds cannot reach a p as small as
    their part, such as sign flips of six, the part is left to the next look.
    Source: Lan & DeMets 1983, Discrete sequential boundaries for clinical trials, Biometrika 70.
    """
    at = [n for n in AT if n < most] + [most]
    found, spent = [], 0.0
    for n in at:
        total = level.ALPHA * math.log1p((math.e - 1) * n / most)
        too_few = not population.limited and 2.0 ** (1 - n) > total - spent
        found.append(Look(n, 0.0 if too_few else total - spent))
        spent = spent if too_few else total
    return found


def differences(
    values: pd.DataFrame,
    look_at: Sequence[Look],
    compare: Callable[[pd.DataFrame, float], pd.DataFrame],
) -> pd.DataFrame:
    """`stats.differences` over all looks: those of the last, with p corrected for all of them.

    `compare` gives them for the values of some seeds at a level. p: the smallest of p · 5 % / level, a weighted
    Bonferroni correction, over the looks at which the difference had its final sign. Intervals are the last look's, at
    its level. Seeds count from 0.
    """
    numbers = pd.to_numeric(values.index.to_series(), errors="coerce").to_numpy()
    seen: list[pd.DataFrame] = []
    for look in look_at:
        if not look.level or not (numbers < look.seeds).any():
            continue
        found = compare(values[numbers < look.seeds], look.level)
        seen.append(found.assign(**(found[P] * (level.ALPHA / look.level)).clip(upper=1)))
        if look.seeds >= numbers.max() + 1:
            break
    if not seen:
        return compare(values, level.ALPHA).assign(**dict.fromkeys(P, np.nan))
    last = seen[-1]
    side = np.sign(last["difference"])
    consistent = [one[[*P[:3]]].where(np.sign(one["difference"]) == side) for one in seen]
    smallest = {name: pd.concat([one[name] for one in consistent], axis=1).min(axis=1) for name in P[:3]}
    equal = pd.concat([one["p_equal"] for one in seen], axis=1).min(axis=1)
    return last.assign(**smallest, p_equal=equal)


def open_pairs(table: pd.DataFrame, best: str, losses: Sequence[str], *, higher_is_better: bool) -> list[str]:
    """The losses that are shown neither to be worse than the best nor to equal it within the margin."""
    found = []
    for loss in losses:
        if loss == best:
            continue
        pair = table[((table["a"] == loss) & (table["b"] == best)) | ((table["a"] == best) & (table["b"] == loss))]
        equal = bool((pair["p_equal"] <= level.ALPHA).any())
        if not equal and not stats.worse(table, loss, best, higher_is_better=higher_is_better):
            found.append(loss)
    return found


def read(recorded: Sequence[Mapping[str, Any]]) -> list[Look]:
    """The looks of a record."""
    return [Look(int(one["seeds"]), float(one["level"]), tuple(one["going"])) for one in recorded]
