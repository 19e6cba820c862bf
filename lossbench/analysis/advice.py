"""What would distinguish two losses: more seeds, or where these share their data, more examples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lossbench.analysis import level, power
from lossbench.analysis.errors import Error
from lossbench.analysis.population import Population

MOST = 1000  # seeds, beyond which advising more of them is of no use


def advice(values: pd.DataFrame, population: Population, a: str, b: str, tests: int) -> str:
    """How many seeds or examples would distinguish a from b with 80 % power, if they differ as much as they seem to.

    `values` has a row per seed and a column per loss; `tests` is the number of pairs that share the error.
    """
    d = (values[a] - values[b]).dropna()
    if len(d) < 2:
        return f"Run at least {level.PAIRS} seeds, as in 'seed=range(10)'."
    if not population.limited:
        needed = power.seeds_needed(d, tests)
        if needed > MOST:
            return "Differences as small as these would need more than a thousand seeds."
        return f"About {needed:.0f} seeds would distinguish {a} from {b}, if they differ as they seem to."
    error = population.error(values, a, b)
    if error.none or not error.mean:
        return f"However many seeds, nothing distinguishes {a} from {b} on these examples."
    reach = error.reach(level.ALPHA / tests, power.POWER)
    seeds = _seeds(error, abs(error.mean) / reach)
    if seeds <= MOST:
        return f"About {seeds:.0f} seeds would distinguish {a} from {b}, if they differ as they seem to."
    needed = (reach * error.error / error.mean) ** 2 * population.examples
    examples = "test examples" if population.left_out is not None else "examples"
    there = f"; there are {population.examples:,}" if population.examples else ""
    if not math.isfinite(needed) or needed > 1e9 or not population.examples:
        return f"More seeds would not distinguish {a} from {b}: the {examples} are too few{there}."
    return (
        f"More seeds would not distinguish {a} from {b}; about {_rounded(needed):,} {examples} would, "
        f"if they differ as they seem to{there}."
    )


def _seeds(error: Error, wanted: float) -> float:
    """How many seeds bring the error down to `wanted`; infinite where its floor is above that."""
    left = wanted**2 - error.floor**2
    own = error.pairs * (error.error**2 - error.floor**2)  # of one seed
    return max(level.PAIRS, float(np.ceil(own / left))) if left > 0 else math.inf


def _rounded(number: float) -> int:
    """A number rounded up to two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / step) * step)
