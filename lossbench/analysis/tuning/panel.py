"""The section on tuning of a report's page, as values for its template."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lossbench.analysis import answer, level
from lossbench.analysis.tuning import charts, recipes
from lossbench.analysis.tuning.gains import NEAR, Tuning
from lossbench.analysis.tuning.importances import FEWEST, importances

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def panel(tuning: Tuning, drawn: Callable[[Figure | None], str]) -> dict[str, Any]:
    """The values of the template's section; `drawn` adds a figure to the page and returns its id."""
    parameters = list(dict.fromkeys(name for search in tuning.searches for name in search.space))
    figures = [drawn(charts.effect(tuning, name)) for name in parameters if name in tuning.trials]
    verdict = tuning.verdicts.get("tuned") or next(iter(tuning.verdicts.values()), None)
    return {
        "sentence": tuning.sentence,
        "metric": verdict.metric if verdict else tuning.metric,
        "scored": tuning.metric,
        "arms": list(arms(tuning)),
        "matched": "matched" in tuning.verdicts,
        "default": "default" in tuning.verdicts,
        "after_tuning": [(f"{a} and {b}", state) for (a, b), state in tuning.after_tuning.items()],
        "budget": list(budget(tuning)),
        "over_budget": drawn(charts.over_budget(tuning)),
        "banded": all(search.independent for search in tuning.searches),
        "samplers": answer.listed(sorted({search.sampler for search in tuning.searches})),
        "effects": [figure for figure in figures if figure],
        "importances": _importances(tuning, parameters),
        "parameters": parameters,
        "fewest": FEWEST,
        "near": NEAR,
        "recipes": [_recipe(search, tuning.dataset) for search in tuning.searches],
        "hues": {search.loss: "#666666" for search in tuning.searches} | charts.hues(tuning),
    }


def arms(tuning: Tuning) -> Iterator[dict[str, Any]]:
    """Tuned runs against runs at default settings, a row per loss."""
    for row in tuning.arms.to_dict("records"):
        width = row["high"] - row["low"]
        ranks = [_rank(row[f"{arm} rank"]) for arm in ("default", "tuned")]
        yield {
            "loss": row["loss"],
            **{arm: _mean(row, arm) for arm in ("default", "tuned", "matched")},
            "difference": _cell(row["difference"], answer.amount(row["difference"], width), _limits(row, "")),
            "p": _cell(row["p_holm"], "–" if math.isnan(row["p_holm"]) else f"{row['p_holm']:.3g}"),
            "significant": row["p_holm"] <= level.ALPHA and not row["alike"],
            "ranks": " → ".join(ranks),
            "rank": row["tuned rank"],
            "note": "all its trials scored alike: no gain" if row["alike"] else "",
        }


def _mean(row: dict[str, Any], arm: str) -> dict[str, Any]:
    failed = row[f"{arm} failures"]
    text = answer.amount(row[arm], row[f"{arm} high"] - row[f"{arm} low"])
    return _cell(row[arm], text, _limits(row, f"{arm} "), f"{failed} without a result" if failed else "")


def _limits(row: dict[str, Any], arm: str) -> str:
    low, high = row[f"{arm}low"], row[f"{arm}high"]
    return "" if math.isnan(low) else f"[{answer.amount(low, high - low)}, {answer.amount(high, high - low)}]"


def _cell(value: float, text: str, *below: str) -> dict[str, Any]:
    return {"sort": "" if math.isnan(value) else value, "text": text, "below": [part for part in below if part]}


def _rank(rank: float) -> str:
    return "–" if math.isnan(rank) else f"{rank:g}"


def budget(tuning: Tuning) -> Iterator[dict[str, Any]]:
    """The cost and the results of each loss's search."""
    for row in tuning.budget.to_dict("records"):
        width = abs(row["fresh score"] - row["best score"]) or abs(row["best score"]) / 100
        yield {
            **row,
            "steps": _cell(row["steps"], f"{row['steps']:,.0f}"),
            "seconds": _cell(row["seconds"], f"{row['seconds']:,.1f}"),
            **{name: _share(row[name]) for name in ("near its best", "near the best")},
            **{name: _cell(row[name], answer.amount(row[name], width)) for name in ("best score", "fresh score")},
        }


def _share(share: float) -> dict[str, Any]:
    return _cell(share, "–" if math.isnan(share) else f"{100 * share:.0f} %")


def _importances(tuning: Tuning, parameters: list[str]) -> list[dict[str, Any]]:
    rows = []
    for search in tuning.searches:
        own = tuning.trials[tuning.trials["study"] == search.study]
        found = importances(search, own, tuning.higher_is_better)
        if found:
            rows.append({"loss": search.loss, "cells": [_share(found.get(name, math.nan)) for name in parameters]})
    return rows


def _recipe(search: Any, dataset: str) -> dict[str, Any]:
    name = recipes.name(search, dataset)
    default = search.chosen is None
    return {"loss": search.loss, "name": name, "default": default, "command": recipes.command(search),
            "yaml": recipes.experiment(search)}  # fmt: skip
