"""How much better each loss is than the baseline: its effect on each dataset, pooled over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import level, stats
from lossbench.analysis.verdict import Verdict

LEAST = 3  # datasets with an effect, below which effects are not pooled
BY_DATASET = ["loss", "dataset", "effect", "low", "high", "error", "n", "failed", "skipped"]
POOLED = ["effect", "low", "high", "p", "tau", "i2", "new_low", "new_high"]


@dataclass(frozen=True)
class Effects:
    """Relative improvements over the baseline, in per cent of its mean; positive is better.

    `by_dataset` has a row per loss and dataset: loss, dataset, effect, low, high (95 % interval on that dataset),
    error (its standard error), n (seeds on which both have a value), failed (failed runs of the loss, which do not
    count in the effect), skipped (why there is no effect; empty where there is one).
    `pooled` has a row per loss: loss, datasets (those with an effect), the results of `pool`, missing below three
    datasets, and p_holm, p after Holm's correction over the losses.
    """

    baseline: str
    by_dataset: pd.DataFrame
    pooled: pd.DataFrame


def effects(verdicts: Sequence[Verdict], baseline: str, losses: Sequence[str]) -> Effects:
    """Each loss against the baseline, by dataset and pooled; every verdict must have all of these losses."""
    rows = [
        {"loss": loss, "dataset": verdict.dataset, **effect(verdict, loss, baseline)}
        for loss in losses
        if loss != baseline
        for verdict in verdicts
    ]
    table = pd.DataFrame(rows, columns=BY_DATASET)
    known = {loss: rows[rows["skipped"] == ""] for loss, rows in table.groupby("loss", sort=False)}
    pooled = pd.DataFrame(
        [
            {"loss": loss, "datasets": len(rows), **pool(rows["effect"].to_numpy(), rows["error"].to_numpy())}
            for loss, rows in known.items()
        ],
        columns=["loss", "datasets", *POOLED],
    )
    tested = pooled["p"].notna()
    pooled["p_holm"] = np.nan
    if tested.any():
        pooled.loc[tested, "p_holm"] = stats.holm(pooled.loc[tested, "p"].to_numpy())
    return Effects(baseline, table, pooled)


def effect(verdict: Verdict, loss: str, baseline: str) -> dict[str, Any]:
    """The effect of a loss on one dataset, a row of `Effects.by_dataset`.

    effect = ±100 · d̄ / b̄,  error = 100 / b̄ · (high − low) / (2 t(.975; n − 1))

    d̄ with its interval is the verdict's paired difference, b̄ the baseline's mean over the same seeds. The error follows
    from the interval, so that it reflects the test behind it; the interval of a sign-flip test of six seeds is wider
    than Student's, and the error a quarter larger. The uncertainty of b̄ itself is neglected.
    """
    from scipy.special import stdtrit

    row = verdict.difference(loss, baseline)
    mean = verdict.values.loc[verdict.values[loss].notna(), baseline].mean()
    found = {"n": int(row["n"]), "failed": int(verdict.failed[loss].sum())}
    if not np.isfinite(row["low"]):
        return {**found, "skipped": f"both finished on {found['n']} seeds, too few for an interval"}
    if mean <= 0:
        return {**found, "skipped": f"the mean of {baseline} is not above zero"}
    scale = (100 if verdict.higher_is_better else -100) / mean
    low, high = sorted((scale * row["low"], scale * row["high"]))
    error = (high - low) / (2 * float(stdtrit(row["n"] - 1, 1 - level.ALPHA / 2)))
    return {**found, "effect": scale * row["difference"], "low": low, "high": high, "error": error, "skipped": ""}


def pool(effects: np.ndarray[Any, Any], errors: np.ndarray[Any, Any]) -> dict[str, float]:
    """The mean effect over a population of datasets, of which these k are a sample, by a random-effects model.

    y_i = μ + u_i + e_i,  u_i ~ N(0, τ²),  e_i ~ N(0, error_i²)

    effect, low, high: ȳ ± t(.975; k − 1) s/√k, the Hartung–Knapp–Sidik–Jonkman interval for equal weights, and p of
    no effect.  tau: √max(0, s² − mean error²), the spread of datasets beyond that due to seeds (Hedges & Olkin).
    i2: τ²/s², its share.  new_low, new_high: ȳ ± t(.975; k − 1) s √(1 + 1/k), the expected range of the effect on a new
    dataset: it holds the measured effect with probability .95, .91 where errors differ much, and the true one more
    often.

    Every dataset counts alike, as with ranks. Weights by precision would rest on errors that are themselves estimated
    from a few seeds: with five seeds, the 95 % interval of ten datasets then covers μ with 91 %, this one with 95 %.
    Missing for fewer than three effects.
    Source: Hedges & Olkin, Statistical Methods for Meta-Analysis, 1985, ch. 9; Shuster 2010, Empirical vs natural
    weighting in random effects meta-analysis, Statistics in Medicine 29.
    """
    from scipy.special import stdtr, stdtrit

    k = len(effects)
    if k < LEAST:
        return dict.fromkeys(POOLED, np.nan)
    mean, variance = float(effects.mean()), float(effects.var(ddof=1))
    between = max(0.0, variance - float(np.square(errors).mean()))
    error = np.sqrt(variance / k)
    reach = float(stdtrit(k - 1, 1 - level.ALPHA / 2))
    return {
        "effect": mean,
        "low": mean - reach * error,
        "high": mean + reach * error,
        "p": float(2 * stdtr(k - 1, -abs(mean) / error)) if error > 0 else float(mean == 0),
        "tau": np.sqrt(between),
        "i2": between / variance if variance > 0 else 0.0,
        "new_low": mean - reach * np.sqrt(variance * (1 + 1 / k)),
        "new_high": mean + reach * np.sqrt(variance * (1 + 1 / k)),
    }
