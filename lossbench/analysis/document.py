"""The report as one document for programs; `report.schema.json` describes it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from itertools import combinations
from typing import Any

import pandas as pd

from lossbench import __version__
from lossbench.analysis.across import Across
from lossbench.analysis.records import Metrics
from lossbench.analysis.report import Report
from lossbench.analysis.tuning import recipes
from lossbench.analysis.tuning.gains import Tuning
from lossbench.analysis.verdict import COSTS, FINISHED, Verdict

SCHEMA = 2  # grows with changes that an older reader would misunderstand; additions do not count
OF_REFERENCE = ("mean", "sd", "n")
SPREAD = {"mean": "", "sd": " sd", "low": " low", "high": " high", "n": " n"}


def text(report: Report) -> str:
    """The document as JSON; numbers that are not finite become null."""
    return json.dumps(_plain(document(report)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The contents of a report as plain values."""
    records = report.records
    return {
        "schema": SCHEMA,
        "name": records.name,
        "question": records.question or None,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "lossbench": __version__,
        "commands": list(dict.fromkeys(records.commands)),
        "datasets": [_dataset(report, *pair) for pair in zip(report.verdicts, report.sentences, strict=True)],
        "across": _across(report.across),
        "remarks": [{"about": one.about, "text": one.text, "concern": one.concern} for one in report.remarks],
    }


def _dataset(report: Report, verdict: Verdict, sentence: str) -> dict[str, Any]:
    runs = report.records.main.runs
    runs = runs[(runs["dataset"] == verdict.dataset) & ~runs["repeated"]]
    ends = {label: group["outcome"].value_counts().to_dict() for label, group in runs.groupby("label")}
    found = {
        "dataset": verdict.dataset,
        "metric": _metric(verdict.metric),
        "metrics": [_metric(metric) for metric in verdict.metrics],
        "sentence": sentence,
        "decided": verdict.decided,
        "best": verdict.starred,
        "baseline": verdict.baseline,
        "paired": verdict.paired,
        "variation": verdict.population.variation or None,
        "population": verdict.population.words or None,
        "overlap": verdict.population.overlap,
        "margin": verdict.margin,
        "looks": [{"seeds": look.seeds, "level": look.level, "going": look.going} for look in verdict.looked],
        "leaderboard": list(_rows(verdict.leaderboard, verdict.metrics, ends, verdict.chosen)),
        "differences": verdict.differences.to_dict("records"),
        "settings": list(_rows(verdict.settings, verdict.metrics, ends)),
    }
    if len(verdict.references):
        found["references"] = list(_references(verdict))
    tuning = report.tunings.get(verdict.dataset)
    return found | ({"tuning": _tuning(tuning)} if tuning else {})


def _references(verdict: Verdict) -> Iterator[dict[str, Any]]:
    """What no loss predicted on the same splits."""
    for row in verdict.references.to_dict("records"):
        metrics = {
            name: {what: row[f"{name}{SPREAD[what]}"] for what in OF_REFERENCE} for name, _, _ in verdict.metrics
        }
        yield {"reference": row["loss"], "runs": row["n"], "metrics": metrics}


def _across(found: Across | None) -> dict[str, Any] | None:
    """What several datasets show together."""
    if found is None:
        return None
    ranking, effects = found.ranking, found.effects
    pairs = combinations(ranking.pairwise.columns, 2)
    return {
        "datasets": ranking.datasets,
        "left_out": ranking.left_out,
        "ranks": ranking.ranks.rename_axis("loss").reset_index().to_dict("records"),
        "friedman": ranking.friedman,
        "pairs": [{"a": a, "b": b, "p": ranking.pairwise.loc[a, b]} for a, b in pairs],
        "baseline": effects and effects.baseline,
        "effects": _named(effects.pooled) if effects else [],
    }


def _metric(metric: tuple[str, str, str]) -> dict[str, Any]:
    """Name, direction (whether higher or lower is better) and unit."""
    name, arrow, unit = metric
    return {"name": name, "direction": "higher" if arrow == "↑" else "lower", "unit": unit or None}


def _rows(
    board: pd.DataFrame, metrics: Metrics, ends: dict[str, dict[str, int]], labels: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """`ends`: how many runs have each outcome, by label; `labels`: the label of each row, where it is not its loss."""
    for row in board.to_dict("records"):
        outcomes = ends[(labels or {}).get(row["loss"], row["loss"])]
        yield {
            "loss": row["loss"],
            "setting": row["setting"],
            "runs": row["runs"],
            "finished": row["n"],
            "failures": {outcome: count for outcome, count in outcomes.items() if outcome != FINISHED},
            "metrics": {name: {what: row[f"{name}{end}"] for what, end in SPREAD.items()} for name, _, _ in metrics},
            "costs": {metric.partition("/")[2]: row[title] for metric, title in COSTS.items()}
            | {"own_parameters": row["own parameters"]},
        }


def _tuning(tuning: Tuning) -> dict[str, Any]:
    return {
        "sentence": tuning.sentence,
        "arms": _named(tuning.arms),
        "budget": _named(tuning.budget),
        "after_tuning": [{"a": a, "b": b, "difference": state} for (a, b), state in tuning.after_tuning.items()],
        "chosen": [
            {"loss": search.loss, "settings": dict(search.settings), "command": recipes.command(search)}
            for search in tuning.searches
        ],
    }


def _named(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, with underscores for spaces in the names of columns."""
    return table.rename(columns=lambda name: name.replace(" ", "_")).to_dict("records")


def _plain(value: Any) -> Any:
    """A value in JSON's types: no numpy, and None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
