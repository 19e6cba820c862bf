"""The tables of a report's page, as rows for its template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis import answer, level
from lossbench.analysis.records import FAILED
from lossbench.analysis.verdict import COSTS, Verdict


def board(verdict: Verdict) -> Iterator[dict[str, Any]]:
    """The leaderboard, a row per contender."""
    for _, row in verdict.leaderboard.iterrows():
        cells = {name: _mean(row, name, row[f"{name} low"], row[f"{name} high"]) for name, _, _ in verdict.metrics}
        costs = {c: row[c] for c in (*COSTS.values(), "own parameters")}
        yield {**row.to_dict(), "cells": cells, "best": row["loss"] in verdict.starred, "costs": costs}


def references(verdict: Verdict) -> Iterator[dict[str, Any]]:
    """The references, a row each, without intervals."""
    for _, row in verdict.references.iterrows():
        cells = {name: _mean(row, name, np.nan, np.nan) for name, _, _ in verdict.metrics}
        yield {"name": row["loss"], "n": row["n"], "cells": cells}


def _mean(row: pd.Series, name: str, low: float, high: float) -> dict[str, Any]:
    """The mean of a metric as texts, with its deviation and interval where it has these."""
    mean, deviation, n = (row[f"{name}{what}"] for what in ("", " sd", " n"))
    width = high - low
    return {
        "sort": "" if mean != mean else mean,
        "mean": answer.amount(mean, deviation if deviation == deviation else np.nan),
        "sd": "" if deviation != deviation else f"± {answer.amount(deviation)}",
        "limits": "" if low != low else f"[{answer.amount(low, width)}, {answer.amount(high, width)}]",
        "missing": row["n"] - n,
    }


def others(verdict: Verdict) -> pd.DataFrame:
    """The pairs without the baseline; those with it have their own table."""
    return verdict.differences[(verdict.differences[["a", "b"]] != verdict.baseline).all(axis=1)]


def pairs(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Differences between pairs of losses as texts, a row per pair."""
    for _, row in table.iterrows():
        width = row["high"] - row["low"]
        yield {
            "a": row["a"],
            "b": row["b"],
            "n": row["n"],
            "difference": answer.amount(row["difference"], width),
            "limits": "–"
            if width != width
            else f"[{answer.amount(row['low'], width)}, {answer.amount(row['high'], width)}]",
            **{p: "–" if row[p] != row[p] else f"{row[p]:.3g}" for p in ("p", "p_holm", "p_all")},
            "improvement": "–" if row["improvement"] != row["improvement"] else f"{100 * row['improvement']:.0f} %",
            "better": row["improvement"],
            "detectable": answer.amount(row["detectable"]),
            "significant": row["p_all"] <= level.ALPHA,
            "answer": _answer(row),
            "sort": row["difference"],
        }


def _answer(row: pd.Series) -> str:
    """Whether the two differ, are equal within the margin, both (a small difference), or neither is shown."""
    if row["p_all"] != row["p_all"]:
        return "–"
    different, equal = row["p_all"] <= level.ALPHA, row["p_equal"] <= level.ALPHA
    if different and equal:
        return "different, by less than the margin"
    return "different" if different else "equal" if equal else "not decided"


def failures(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The runs without a result."""
    for row in runs[runs["outcome"] != "finished"].itertuples():
        step = "" if row.step != row.step else f"{row.step:.0f}"
        yield {
            "label": row.label,
            "seed": row.seed,
            "outcome": row.outcome,
            "step": step,
            "error": row.error,
        }


def ranks(verdict: Verdict) -> list[dict[str, Any]]:
    """Where runs failed: mean ranks with failures last, beside ranks by the mean of finished runs; else empty."""
    if not verdict.runs["outcome"].isin(FAILED).any():
        return []
    complete = verdict.values.mean().rank(ascending=not verdict.higher_is_better)
    order = verdict.ranks.mean().sort_values()
    return [
        {
            "loss": loss,
            "rank": f"{rank:.2f}",
            "complete": "–" if complete[loss] != complete[loss] else f"{complete[loss]:.0f}",
            "failed": int(verdict.failed[loss].sum()),
            "best": loss in verdict.starred_ranked,
        }
        for loss, rank in order.items()
    ]
