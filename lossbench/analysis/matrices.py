"""Figures with a row and a column a loss: pairs of losses, and models under losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lossbench.analysis import stats
from lossbench.analysis.answer import amount, by_mean
from lossbench.analysis.figures import ROW, escape, plain
from lossbench.analysis.verdict import Verdict

LETTER = 6  # pixels of a name that stands on end
LABELLED = 16  # losses up to which the cells of a matrix carry numbers


def pairs(verdict: Verdict) -> go.Figure | None:
    """Row minus column: coloured where the corrected p is at most 5 %, blue where the row is better."""
    order = [loss for loss in by_mean(verdict) if verdict.values[loss].notna().any()]
    if len(order) < 3 or verdict.differences["p_all"].isna().all():
        return None  # a pair has its row in the table
    found = {(a, b): verdict.difference(a, b) for a in order for b in order if a != b}
    sign = 1 if verdict.higher_is_better else -1
    shade = [[_shade(found.get((a, b)), sign) for b in order] for a in order]
    text = [[_cell(found.get((a, b))) if len(order) <= LABELLED else "" for b in order] for a in order]
    hover = [[_hover(found.get((a, b))) for b in order] for a in order]
    return _matrix(shade, text, hover, order, order, [[0, "#d98c6a"], [0.5, "#f4f5f6"], [1, "#6f9fce"]], (-1, 1))


def _shade(row: pd.Series | None, sign: int) -> float | None:
    if row is None or np.isnan(row["p_all"]):
        return None
    return sign * float(np.sign(row["difference"])) * (1.0 if row["p_all"] <= stats.ALPHA else 0.12)


def _cell(row: pd.Series | None) -> str:
    return "" if row is None else amount(row["difference"], row["high"] - row["low"])


def _hover(row: pd.Series | None) -> str:
    if row is None:
        return ""
    said = f"{escape(row['a'])} − {escape(row['b'])}: {row['difference']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
    return f"{said}<br>p {row['p']:.3g}, Holm {row['p_holm']:.3g}, step-down {row['p_all']:.3g}, {row['n']} pairs"


def costs(verdict: Verdict) -> go.Figure | None:
    """Every trained model (row) under every loss (column), coloured by its place within the column."""
    columns = sorted(c for c in verdict.runs if c.startswith("test_loss/"))
    done = verdict.runs[verdict.runs["outcome"] == "finished"]
    if not columns or done.empty:
        return None
    table = done.groupby("contender")[columns].mean().reindex(by_mean(verdict)).dropna(how="all")
    places = table.rank(axis=0)
    shade = ((places - 1) / (places.max() - 1).clip(lower=1)).to_numpy()
    names = [column.removeprefix("test_loss/") for column in columns]
    few = len(names) <= LABELLED
    text = [[f"{value:.3g}" if few else "" for value in row] for row in table.to_numpy()]
    hover = [
        [
            f"trained with {escape(str(loss))}, costs {value:.5g} under {escape(name)}"
            for name, value in zip(names, row, strict=True)
        ]
        for loss, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    scale = [[0, "#7fb69b"], [0.5, "#f4f5f6"], [1, "#dfa27f"]]
    return _matrix(shade, text, hover, list(table.index), names, scale, (0, 1))


def _matrix(
    shade: Any, text: Any, hover: Any, rows: Sequence[str], columns: Sequence[str], scale: Any, limits: tuple[int, int]
) -> go.Figure:
    heat = go.Heatmap(
        z=shade, text=text, hovertext=hover, hoverinfo="text", texttemplate="%{text}", showscale=False,
        colorscale=scale, zmin=limits[0], zmax=limits[1], xgap=2, ygap=2,
    )  # fmt: skip
    figure = go.Figure(heat)
    names, tops = ([escape(name) for name in these] for these in (rows, columns))
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False)
    figure.update_xaxes(tickvals=list(range(len(tops))), ticktext=tops, side="top", showgrid=False)
    if len(tops) > LABELLED:
        figure.update_xaxes(tickangle=-90)
    return plain(figure, 130 + ROW * len(rows) + LETTER * max(map(len, columns), default=0))
