"""The panel on several datasets: what may be claimed beyond them, and its tables as rows for the page's template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure

from lossbench.analysis import across_figures, level
from lossbench.analysis.across import PAIRWISE, Across, Ranking
from lossbench.analysis.answer import NAMED, listed, p_value
from lossbench.analysis.figures import colours
from lossbench.analysis.pooling import LEAST, Effects
from lossbench.analysis.verdict import Verdict


def panel(across: Across, verdicts: Sequence[Verdict], drawn: Callable[[Figure], str]) -> dict[str, Any]:
    """The values of the template's section; `drawn` adds a figure to the page and returns its id."""
    ranking, effects = across.ranking, across.effects
    hues = {loss: hue for verdict in reversed(verdicts) for loss, hue in colours(verdict).items()}
    losses = across_figures.with_effects(effects) if effects else []
    p = ranking.friedman
    return {
        "claim": claim(across),
        "datasets": ranking.datasets,
        "hues": hues,
        "left_out": ranking.left_out,
        "ranks_figure": drawn(across_figures.critical_difference(ranking, hues)),
        "ranks": list(ranks(ranking, verdicts)),
        "p": None if p != p else p_value(p),
        "cliques": ranking.cliques,
        "pairs": list(pairs(ranking)),
        "pairwise": PAIRWISE,
        "baseline": effects.baseline if effects else "",
        "losses": losses,
        "forest": drawn(across_figures.forest(effects, hues)) if effects and losses else "",
        "pooled": list(pooled(effects)) if effects and losses else [],
        "least": LEAST,
        "skipped": list(skipped(effects)) if effects else [],
        "metrics": len({verdict.metric[0] for verdict in verdicts}),
    }


def claim(across: Across) -> str:
    """What may be claimed about datasets like these, and what may not."""
    n = len(across.ranking.datasets)
    if n < LEAST:
        return (
            "Two datasets allow no claim about others: two are too few to judge how much losses differ from one "
            "dataset to the next. What follows describes these two and no more."
        )
    claims = "; ".join(filter(None, (_ranked(across.ranking), _improved(across.effects))))
    return (
        f"On datasets like these {n}: {claims}. This holds as far as these are a fair sample of those you care about."
    )


def _ranked(ranking: Ranking) -> str:
    if ranking.pairwise.empty:
        return f"no two losses differ significantly by rank, which takes at least {PAIRWISE} datasets"
    behind = {loss: others for loss in ranking.ranks.index if (others := _behind(ranking, loss))}
    if not behind:
        return "no two losses differ significantly by rank"
    first, others = next(iter(behind.items()))
    more = sum(map(len, behind.values())) - len(others)
    return f"{first} ranks significantly ahead of {_few(others)}" + (f" ({more} more pairs differ)" if more else "")


def _few(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    return listed([*names[:NAMED], f"{len(names) - NAMED} more"] if len(names) > NAMED else names)


def _behind(ranking: Ranking, loss: str) -> list[str]:
    order = list(ranking.ranks.index)
    return [other for other in order[order.index(loss) + 1 :] if ranking.pairwise.loc[loss, other] <= level.ALPHA]


def _improved(effects: Effects | None) -> str:
    if effects is None:
        return ""
    significant = effects.pooled[effects.pooled["p_holm"] <= level.ALPHA].sort_values("effect", ascending=False)
    better, worse = significant[significant["effect"] > 0], significant[significant["effect"] < 0]
    claims = [
        f"{row.loss} is significantly better than {effects.baseline} by {row.effect:.3g} % "
        f"{_limits(row.low, row.high)} on average"
        for row in better[:NAMED].itertuples()
    ]
    if len(better) > NAMED:
        claims.append(f"{len(better) - NAMED} more are significantly better")
    if len(worse):
        verb = "is" if len(worse) == 1 else "are"
        claims.append(f"{_few(list(worse['loss']))} {verb} significantly worse than {effects.baseline}")
    return ", ".join(claims) or f"no loss is significantly better or worse than {effects.baseline} on average"


def ranks(ranking: Ranking, verdicts: Sequence[Verdict]) -> Iterator[dict[str, Any]]:
    """The table of ranks, a row per loss."""
    failed = {verdict.dataset: verdict.failed.sum() for verdict in verdicts}
    for loss, row in ranking.ranks.iterrows():
        cells = [
            {"place": f"{place:g}", "failed": int(failed[str(dataset)][loss])}
            for dataset, place in ranking.places[loss].items()
        ]
        limits = _limits(row["low"], row["high"], ".2f") if len(ranking.places) >= PAIRWISE else ""
        yield {"loss": loss, "rank": f"{row['rank']:.2f}", "limits": limits, "cells": cells}


def pairs(ranking: Ranking) -> Iterator[dict[str, Any]]:
    """The table of pairs by rank; empty where there are too few datasets to compare them."""
    if ranking.pairwise.empty:
        return
    for a, b in combinations(ranking.ranks.index, 2):
        apart, p = ranking.ranks.loc[b, "rank"] - ranking.ranks.loc[a, "rank"], ranking.pairwise.loc[a, b]
        yield {"a": a, "b": b, "apart": f"{apart:.2f}", "p": f"{p:.3g}", "significant": p <= level.ALPHA}


def pooled(effects: Effects) -> Iterator[dict[str, Any]]:
    """The table of pooled effects, a row per loss."""
    failed = effects.by_dataset.groupby("loss")["failed"].sum()
    for row in effects.pooled.itertuples():
        known = row.effect == row.effect
        yield {
            "loss": row.loss,
            "datasets": row.datasets,
            "effect": f"{row.effect:+.3g}" if known else "–",
            "limits": _limits(row.low, row.high) if known else "–",
            "p": f"{row.p_holm:.3g}" if known else "–",
            "tau": f"{row.tau:.3g}" if known else "–",
            "i2": f"{100 * row.i2:.0f}" if known else "–",
            "new": _limits(row.new_low, row.new_high) if known else "–",
            "failed": int(failed[row.loss]),
            "significant": row.p_holm <= level.ALPHA,
        }


def skipped(effects: Effects) -> Iterator[str]:
    """The effects that are missing, and why; the datasets with the same reason together."""
    left: pd.DataFrame = effects.by_dataset[effects.by_dataset["skipped"] != ""]
    for (loss, why), rows in left.groupby(["loss", "skipped"], sort=False):
        yield f"{loss} on {listed(list(rows['dataset']))} ({why})"


def _limits(low: float, high: float, spec: str = ".3g") -> str:
    return f"[{low:{spec}}, {high:{spec}}]"
