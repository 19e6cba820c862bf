"""Figures with a row and a column per loss: pairs of losses, and models under losses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lossbench.analysis import level
from lossbench.analysis.answer import amount, by_mean
from lossbench.analysis.figures import escape, longest, plain, row_height, wrapped
from lossbench.analysis.verdict import Verdict

LETTER = 6  # pixels per letter of a vertical name
FAINTEST = 0.4  # the strength of colour of the smallest significant difference
BETTER, WORSE = "#5b93cb", "#d9824f"
NONE = "#eef1f4"
LOW, HIGH = "#6f9fce", "#dfa27f"
LABELLED = 16  # losses, at most, for which the cells of a matrix show numbers


def pairs(verdict: Verdict) -> go.Figure | None:
    """Row minus column, each pair once, the better mean in the row.

    Coloured where the corrected p is at most 5 %, the stronger the larger the difference: blue where the row is better.
    White, and in brackets, where the difference is not significant; grey where no test compared the two.
    """
    order = [loss for loss in by_mean(verdict) if verdict.values[loss].notna().any()]
    if len(order) < 3 or verdict.differences["p_all"].isna().all():
        return None  # a single pair is in the table
    rows, columns = order[:-1], order[1:]
    found = {(a, b): verdict.difference(a, b) for a, b in combinations(order, 2)}
    largest = verdict.differences["difference"].abs().max()
    scale = (1 if verdict.higher_is_better else -1) / (largest or 1)
    shade = [[_shade(found.get((a, b)), scale) for b in columns] for a in rows]
    text = [[_cell(found.get((a, b))) if len(order) <= LABELLED else "" for b in columns] for a in rows]
    hover = [[_hover(found.get((a, b))) for b in columns] for a in rows]
    return _matrix(shade, text, hover, rows, columns, [[0, WORSE], [0.5, "#ffffff"], [1, BETTER]], (-1, 1))


def _shade(row: pd.Series | None, scale: float) -> float | None:
    """The colour of a difference, from -1 to 1; 0 is white."""
    if row is None or np.isnan(row["p_all"]):
        return None
    size = scale * row["difference"]
    return 0.0 if row["p_all"] > level.ALPHA else float(np.sign(size) * (FAINTEST + (1 - FAINTEST) * abs(size)))


def _cell(row: pd.Series | None) -> str:
    if row is None or np.isnan(row["p_all"]):
        return ""
    difference = amount(row["difference"], row["high"] - row["low"])
    return difference if row["p_all"] <= level.ALPHA else f"({difference})"


def _hover(row: pd.Series | None) -> str:
    if row is None:
        return ""
    difference = (
        f"{escape(row['a'])} − {escape(row['b'])}: {row['difference']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
    )
    return f"{difference}<br>p {row['p']:.3g}, Holm {row['p_holm']:.3g}, step-down {row['p_all']:.3g}, {row['n']} pairs"


def mean_losses(verdict: Verdict) -> go.Figure | None:
    """Every trained model (row) under every loss (column), coloured by its place within the column.

    Equal mean losses have one colour, and a column of equal mean losses is white.
    """
    columns = sorted(c for c in verdict.runs if c.startswith("test_loss/"))
    done = verdict.runs[verdict.runs["outcome"] == "finished"]
    if not columns or done.empty:
        return None
    table = done.groupby("contender")[columns].mean().reindex(by_mean(verdict)).dropna(how="all")
    places = table.rank(axis=0, method="dense") - 1
    shade = np.where(table.nunique() == 1, 0.5, places / places.max().clip(lower=1))
    names = [column.removeprefix("test_loss/") for column in columns]
    few = len(names) <= LABELLED
    text = [[f"{value:.3g}" if few else "" for value in row] for row in table.to_numpy()]
    hover = [
        [
            f"trained with {escape(str(loss))}: mean loss {value:.5g} under {escape(name)}"
            for name, value in zip(names, row, strict=True)
        ]
        for loss, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    scale = [[0, LOW], [0.5, "#ffffff"], [1, HIGH]]
    return _matrix(shade, text, hover, list(table.index), names, scale, (0, 1))


def _matrix(
    shade: Any, text: Any, hover: Any, rows: Sequence[str], columns: Sequence[str], scale: Any, limits: tuple[int, int]
) -> go.Figure:
    heat = go.Heatmap(
        z=shade, text=text, hovertext=hover, hoverinfo="text", texttemplate="%{text}", showscale=False,
        colorscale=scale, zmin=limits[0], zmax=limits[1], xgap=2, ygap=2,
        textfont_size=11,
    )  # fmt: skip
    figure = go.Figure(heat)
    names, tops = ([wrapped(name) for name in these] for these in (rows, columns))
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False)
    figure.update_xaxes(tickvals=list(range(len(tops))), ticktext=tops, side="top", showgrid=False)
    if len(tops) > LABELLED:
        figure.update_xaxes(tickangle=-90)
    return plain(figure, 130 + row_height(names) * len(rows) + LETTER * longest(tops)).update_layout(plot_bgcolor=NONE)
