"""The standard error of the mean of paired differences where seeds are not independent, and tests by Student's t.

The mean of differences over seeds says how losses compare on *these* examples. How they compare on others is known less
well, however many seeds there are, where all of them share one data set or one test split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, Any]
ROUNDING = 1e-9  # a spread below this, relative to the mean, counts as zero


@dataclass(frozen=True)
class Error:
    """A mean of `pairs` differences, its standard error and degrees of freedom.

    `floor` is the part of the error that no number of seeds removes.
    """

    mean: float
    error: float
    freedom: float
    pairs: int
    floor: float

    @property
    def none(self) -> bool:
        """Whether all differences are the same, so that their spread is unknown."""
        return self.error <= ROUNDING * abs(self.mean)

    def p(self) -> float:
        """The two-sided p of no difference; for differences that are all the same, that of a sign-flip test."""
        from scipy.special import stdtr

        if self.none:
            return 1.0 if self.mean == 0 else 2.0 ** (1 - self.pairs)
        return float(2 * stdtr(self.freedom, -abs(self.mean) / self.error))

    def interval(self, alpha: float) -> tuple[float, float]:
        """The interval of all differences that the test would not reject at alpha."""
        from scipy.special import stdtrit

        reach = 0.0 if self.none else float(stdtrit(self.freedom, 1 - alpha / 2)) * self.error
        return self.mean - reach, self.mean + reach

    def p_equal(self, margin: float) -> float:
        """The p of a difference as large as the margin or larger, by two one-sided tests.

        Source: Schuirmann 1987, A comparison of the two one-sided tests procedure, J. Pharmacokin. Biopharm. 15.
        """
        from scipy.special import stdtr

        if self.none:
            return 2.0**-self.pairs if abs(self.mean) < margin else 1.0
        return float(stdtr(self.freedom, (abs(self.mean) - margin) / self.error))

    def detectable(self, alpha: float, power: float) -> float:
        """The smallest difference that this many seeds detect with this power."""
        return self.reach(alpha, power) * self.error

    def reach(self, alpha: float, power: float) -> float:
        """The size, in standard errors, of a difference that the test detects with this power."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, 1 - alpha / 2) + stdtrit(self.freedom, power))


def resplit(d: Floats, overlap: float) -> Error:
    """The corrected resampled t test for differences [seed] between random splits, or folds, of one data set.

    error² = s² (1/n + overlap),  n − 1 degrees of freedom,  overlap = test examples ÷ training examples

    Splits share examples, so that two differences correlate by about the share of the examples that is tested on.
    Source: Nadeau & Bengio 2003, Inference for the generalization error, Machine Learning 52; for folds that are
    repeated, Bouckaert & Frank 2004, Evaluating the replicability of significance tests, PAKDD.
    """
    n, spread = len(d), float(d.std(ddof=1))
    return Error(float(d.mean()), spread * np.sqrt(1 / n + overlap), n - 1, n, spread * np.sqrt(overlap))


def crossed(d: Floats, left_out: Floats) -> Error:
    """The error of differences [seed] on one test split, from the same with each part of it left out, [seed, part].

    error² = S + E − I,  S = s²/n,  E = (G − 1)/G Σ (d_g − mean of d_g)²,  I = max(0, (mean E of one seed − E)/(n − 1))

    Seeds and examples are crossed: S is the variance due to seeds; E, a delete-a-group jackknife over the G parts, that
    due to examples (d_g: mean over seeds without part g); and I, which both contain, that of their interaction. Degrees
    of freedom are Welch and Satterthwaite's.
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
    """The jackknife variance of values that each leave out one part of the examples, [part]."""
    return (len(values) - 1) / len(values) * float(np.square(values - values.mean()).sum())
