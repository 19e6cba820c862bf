"""How far the mean of paired differences may be off, where seeds are not independent, and what follows by Student's t.

The mean of differences from seed to seed says what a loss is worth on *these* examples. What it is worth on others is
known less well, however many seeds there are, where all of them share one data set or one test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, Any]
ROUNDING = 1e-9  # a spread below this, relative to the mean, is none


@dataclass(frozen=True)
class Error:
    """A mean of `pairs` differences, its standard error and degrees of freedom.

    `floor` is what remains of the error however many seeds there are.
    """

    mean: float
    error: float
    freedom: float
    pairs: int
    floor: float

    @property
    def none(self) -> bool:
        """Whether every difference is the same: then nothing can be said of how they spread."""
        return self.error <= ROUNDING * abs(self.mean)

    def p(self) -> float:
        """Two-sided, of no difference; of differences that are all one value that of a sign-flip test."""
        from scipy.special import stdtr

        if self.none:
            return 1.0 if self.mean == 0 else 2.0 ** (1 - self.pairs)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))

    def interval(self, alpha: float) -> tuple[float, float]:
        """All the differences that the test would not reject at alpha."""
        from scipy.special import stdtrit

        reach = 0.0 if self.none else float(stdtrit(self.freedom, 1 - alpha / 2)) * self.error
        return self.mean - reach, self.mean + reach

    def p_equal(self, margin: float) -> float:
        """Of a difference as large as the margin or larger, by two one-sided tests.

        Source: Schuirmann 1987, A comparison of the two one-sided tests procedure, J. Pharmacokin. Biopharm. 15.
        """
        from scipy.special import stdtr

        if self.none:
            return 2.0**-self.pairs if abs(self.mean) < margin else 1.0
        return float(stdtr(self.freedom, (abs(self.mean) - margin) / self.error))

    def detectable(self, alpha: float, power: float) -> float:
        """The smallest difference that as many seeds find with this power."""
        return self.reach(alpha, power) * self.error

    def reach(self, alpha: float, power: float) -> float:
        """How many standard errors a difference is that the test finds with this power."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, 1 - alpha / 2) + stdtrit(self.freedom, power))


def resplit(d: Floats, overlap: float) -> Error:
    """The corrected resampled t test, of differences [seed] between random splits, or folds, of one data set.

    error² = s² (1/n + overlap),  n − 1 degrees of freedom,  overlap = test examples ÷ training examples

    Splits share examples, so that two differences correlate by about the share that is tested on.
    Source: Nadeau & Bengio 2003, Inference for the generalization error, Machine Learning 52; for folds that are
    repeated, Bouckaert & Frank 2004, Evaluating the replicability of significance tests, PAKDD.
    """
    n, spread = len(d), float(d.std(ddof=1))
    return Error(float(d.mean()), spread * np.sqrt(1 / n + overlap), n - 1, n, spread * np.sqrt(overlap))


def crossed(d: Floats, left_out: Floats) -> Error:
    """Of differences [seed] on one test split, and the same with each part of its examples left out, [seed, part].

    error² = S + E − I,  S = s²/n,  E = (G − 1)/G Σ (d_g − mean of d_g)²,  I = max(0, (mean E of one seed − E)/(n − 1))

    Seeds and examples are crossed: S is what another n seeds would change, E, a delete-a-group jackknife over the G
    parts, what other examples would (d_g: mean over seeds without part g), and I, which is in both, what the two do
    together. Degrees of freedom are Welch and Satterthwaite's.
    """
    n, parts = left_out.shape
    seeds = float(d.var(ddof=1)) / n
    examples = _jackknife(left_out.mean(0))
    both = max(0.0, (float(np.mean([_jackknife(one) for one in left_out])) - examples) / (n - 1))
    variance = max(seeds + examples - both, seeds, examples)
    terms = seeds**2 / (n - 1) + examples**2 / (parts - 1) + both**2 / ((n - 1) * (parts - 1))
    freedom = variance**2 / terms if terms else n - 1
    floor = max(0.0, examples - both)
    return Error(float(d.mean()), float(np.sqrt(variance)), freedom, n, float(np.sqrt(floor)))


def _jackknife(values: Floats) -> float:
    """Variance of what these are without one part of the examples each, [part]."""
    return (len(values) - 1) / len(values) * float(np.square(values - values.mean()).sum())
