"""Seeds until decided: what a comparison that looks again and again, and stops, may claim at each look.

Each look spends a part of the 5 % that all of them may cost together, so that whenever a comparison stops, the chance
of any false claim stays below 5 %, however the looks depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import stats
from lossbench.analysis.population import Population

AT = (6, 10, 16, 25, 40)  # seeds, at which to look
P = ["p", "p_holm", "p_all", "p_equal"]


@dataclass(frozen=True)
class Look:
    """At so many seeds, with the part of the 5 % that it may spend; the losses that were `going` on from there."""

    seeds: int
    level: float
    going: tuple[str, ...] = ()


def looks(most: int, population: Population) -> list[Look]:
    """All looks up to `most` seeds, at levels that add up to 5 %.

    5 % · ln(1 + (e − 1) n/most) has been spent by a look at n seeds. Where so few seeds cannot get a p as small as
    their part, as sign flips of six cannot, they leave it to the next look.
    Source: Lan & DeMets 1983, Discrete sequential boundaries for clinical trials, Biometrika 70.
    """
    at = [n for n in AT if n < most] + [most]
    found, spent = [], 0.0
    for n in at:
        may = stats.ALPHA * math.log1p((math.e - 1) * n / most)
        reach = not population.limited and 2.0 ** (1 - n) > may - spent
        found.append(Look(n, 0.0 if reach else may - spent))
        spent = spent if reach else may
    return found


def differences(
    values: pd.DataFrame,
    look_at: Sequence[Look],
    compare: Callable[[pd.DataFrame, float], pd.DataFrame],
) -> pd.DataFrame:
    """`stats.differences` over all looks: the last one's, but p as if there had been one look.

    `compare` gives them for the values of some seeds at a level. p: the smallest of p · 5 % / level, a weighted
    Bonferroni correction, over the looks at which the difference had the sign that it has at last. Intervals are the
    last look's, at its level. Seeds count from 0.
    """
    numbers = pd.to_numeric(values.index.to_series(), errors="coerce").to_numpy()
    seen: list[pd.DataFrame] = []
    for look in look_at:
        if not look.level or not (numbers < look.seeds).any():
            continue
        found = compare(values[numbers < look.seeds], look.level)
        seen.append(found.assign(**(found[P] * (stats.ALPHA / look.level)).clip(upper=1)))
        if look.seeds >= numbers.max() + 1:
            break
    if not seen:
        return compare(values, stats.ALPHA).assign(**dict.fromkeys(P, np.nan))
    last = seen[-1]
    side = np.sign(last["difference"])
    kept = [one[[*P[:3]]].where(np.sign(one["difference"]) == side) for one in seen]
    smallest = {name: pd.concat([one[name] for one in kept], axis=1).min(axis=1) for name in P[:3]}
    equal = pd.concat([one["p_equal"] for one in seen], axis=1).min(axis=1)
    return last.assign(**smallest, p_equal=equal)


def open_pairs(table: pd.DataFrame, best: str, losses: Sequence[str], *, higher_is_better: bool) -> list[str]:
    """Losses that are neither worse than the best nor equal to it within the margin, as far as these pairs tell."""
    found = []
    for loss in losses:
        if loss == best:
            continue
        pair = table[((table["a"] == loss) & (table["b"] == best)) | ((table["a"] == best) & (table["b"] == loss))]
        equal = bool((pair["p_equal"] <= stats.ALPHA).any())
        if not equal and not stats.worse(table, loss, best, higher_is_better=higher_is_better):
            found.append(loss)
    return found


def read(told: Sequence[Mapping[str, Any]]) -> list[Look]:
    """From a record."""
    return [Look(int(one["seeds"]), float(one["level"]), tuple(one["going"])) for one in told]
