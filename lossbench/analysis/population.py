"""What varied from seed to seed, and so to which population claims apply, from the records of runs on one dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import errors
from lossbench.analysis.errors import Error

CAUTIOUS = ("fixed", "resplit", "folds", "fresh")  # of several tags, the first decides, since it claims the least
OF = {
    "fresh": "on new data like these",
    "resplit": "on new examples like these",
    "folds": "on new examples like these",
    "fixed": "on new examples like those of this test set",
}
THESE = "on this test set"
SIGN_FLIPS = "sign-flip test, corrected over all pairs by step-down max-T"
CORRECTED = "corrected resampled t test, after Holm's correction over all pairs"
CROSSED = "t test over seeds and test examples, after Holm's correction over all pairs"


@dataclass(frozen=True)
class Population:
    """Where the data of one dataset's seeds come from.

    `variation` is fresh, resplit, folds or fixed; empty where no record says. `overlap`, for seeds that split one pool:
    test examples ÷ examples for training and selection; else None. `left_out`, for seeds that share their test split:
    each contender's metric with a part of the test examples left out, a row per seed, a column per part; None where it
    is not recorded. `examples` is the size of the whole pool, or of the shared test split; 0 where it is unknown.
    """

    variation: str = ""
    overlap: float | None = None
    left_out: Mapping[str, pd.DataFrame] | None = None
    examples: int = 0

    @property
    def words(self) -> str:
        """The population that a claim applies to, in words; empty where no record says."""
        if self.variation == "fixed" and self.left_out is None:
            return THESE
        return OF.get(self.variation, "")

    @property
    def test(self) -> str:
        """The name of the test for differences, with its correction."""
        return CORRECTED if self.overlap is not None else CROSSED if self.left_out is not None else SIGN_FLIPS

    def error(self, values: pd.DataFrame, a: str, b: str) -> Error:
        """The error of the mean of a − b, from values [seed, contender], where seeds share their data (`limited`)."""
        known = values[[a, b]].notna().all(axis=1).to_numpy()
        d = (values[a] - values[b]).to_numpy(float)[known]
        if self.left_out is None:
            return errors.resplit(d, self.overlap or 0.0)
        return errors.crossed(d, (self.left_out[a] - self.left_out[b]).to_numpy(float)[known])

    def widened(self, values: pd.Series[float], left_out: pd.Series[Any]) -> float:
        """The factor by which the interval of a mean over seeds is wider than if seeds were independent.

        `left_out` has, for each value, those with each part of the test examples left out, where they are recorded.
        """
        n, spread = len(values), float(values.std(ddof=1))
        if self.overlap is not None:
            return float(np.sqrt(1 + n * self.overlap))
        parts = [values for values in left_out if values]
        if self.variation != "fixed" or n < 2 or not spread or len(parts) != n or len(set(map(len, parts))) > 1:
            return 1.0
        return errors.crossed(values.to_numpy(float), np.array(parts, dtype=float)).error / (spread / np.sqrt(n))

    @property
    def limited(self) -> bool:
        """Whether there are differences that no number of seeds would detect."""
        return self.overlap is not None or self.left_out is not None


def population(runs: pd.DataFrame, metric: str, like: pd.DataFrame) -> Population:
    """The population of the runs of one dataset, which have a column `contender`; `like` is a table [seed, contender].

    Seeds whose data are identical have a fixed test split, whatever their tags say; seeds whose data's seed varies
    independently do not. Where no record has the sizes of splits, half of the examples are assumed to be tested on.
    """
    variations = sorted(set(runs["variation"]) & set(CAUTIOUS), key=CAUTIOUS.index)
    prints = runs.loc[(runs["data"] != "") & (runs["seed"] != ""), ["seed", "data"]].drop_duplicates()
    same = prints["seed"].nunique() > 1 and prints["data"].nunique() == 1
    variation = "fixed" if same else next(iter(variations), "")
    if variation == "fixed" and not same and not runs["follows"].all():
        variation = "resplit"
    sizes = [sizes for sizes in runs["sizes"] if sizes]
    if variation in ("resplit", "folds"):
        numbers = [int(seed) for seed in like.index if seed.isdigit()]
        overlaps = [folded(_folds(one), numbers) if variation == "folds" else _overlap(one) for one in sizes]
        return Population(variation, max(overlaps, default=1.0), None, max(map(_pool, sizes), default=0))
    if variation == "fixed":
        tested = max((int(one["test"]) for one in sizes), default=0)
        return Population(variation, None, _left_out(runs, metric, like), tested)
    return Population(variation)


def _overlap(sizes: Mapping[str, int]) -> float:
    """Test examples ÷ all other examples that could have been tested on."""
    return sizes["test"] / max(1, sizes["candidates"] - sizes["test"])


def folded(folds: int, seeds: Sequence[int]) -> float:
    """The overlap of seeds that test on successive folds: ρ/(1 − ρ), where ρ·folds is the mean over pairs of seeds of

    1 for seeds of different rounds, whose test splits share as many examples as random ones do;
    ½ for seeds of one round, whose test splits share none, while their training splits share nearly all.

    The ½ is a margin of safety: with 0, which the test splits alone suggest, equal losses are called different in .043
    to .053 of comparisons where training hardly varies, and more often where it does; with ½, in .017 to .042.
    """
    rounds = np.array([seed // folds for seed in seeds])
    pairs = (rounds[:, None] != rounds)[np.triu_indices(len(rounds), 1)]
    correlation = np.where(pairs, 1, 0.5).mean() / folds if len(pairs) else 1 / folds
    return float(correlation / (1 - correlation))


def _folds(sizes: Mapping[str, int]) -> int:
    return max(2, round(sizes["candidates"] / sizes["test"]))


def _pool(sizes: Mapping[str, int]) -> int:
    return sizes["train"] + sizes["validation"] + sizes["test"]


def _left_out(runs: pd.DataFrame, metric: str, like: pd.DataFrame) -> dict[str, pd.DataFrame] | None:
    """By contender; None unless every finished run has the metric with the same number of parts left out."""
    done = runs[(runs["outcome"] == "finished") & runs["seed"].isin(like.index)]
    found = {(row.contender, row.seed): row.left_out.get(metric) for row in done.itertuples()}
    if not found or not all(found.values()) or len({len(values) for values in found.values()}) > 1:
        return None
    columns = range(len(next(iter(found.values()))))
    return {
        loss: pd.DataFrame([found.get((loss, seed), [float("nan")] * len(columns)) for seed in like.index], like.index)
        for loss in like.columns
    }


def read(tags: Mapping[str, str], params: Mapping[str, str]) -> dict[str, Any]:
    """What a run's record says about its data; `follows`: whether their seed is the run's own."""
    return {
        "follows": params.get("dataset.seed", "") in ("", params.get("seed", "")),
        "variation": tags.get("lossbench.variation", ""),
        "pool": tags.get("lossbench.pool", ""),
        "sizes": json.loads(tags.get("lossbench.sizes", "{}")),
        "left_out": json.loads(tags.get("lossbench.left_out", "{}")),
    }
