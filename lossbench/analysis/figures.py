"""Figures of a report. Users name losses, and plotly interprets markup in text, so names are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from html import escape as _escape
from html import unescape
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.colors import qualitative

from lossbench.analysis import level
from lossbench.analysis.answer import by_mean
from lossbench.analysis.axes import Axis, axis
from lossbench.analysis.verdict import Verdict

escape = partial(_escape, quote=False)  # plotly would show &quot; literally
SEEDS = 100  # of each loss, of which curves and dots are drawn
ROW = 34  # pixels per loss in a chart with a row per loss
DOTS = 0.13  # distance of a loss's dots above the middle of its row, and of its mean below it
LINE = 17  # pixels of a line of a name
LETTERS = 20  # per line of a name: what fits on a phone beside a figure
LEGEND = 3  # lines of a legend for which no extra height is needed
TITLE = 28  # letters per line of an axis's title
INK, FAINT, REFERENCE = "#1d2733", "#c4ccd4", "#7d8790"
DASHES = ("dash", "dot")  # of references
DRAWN = ("scatter", "heatmap")
APART = ("geo", "polar", "scene", "ternary")  # of a template: maps, spheres and solids


def colours(verdict: Verdict) -> dict[str, str]:
    """Each contender's colour, as in MLflow; distinct ones for settings of one loss, which share a colour there."""
    own = dict(zip(verdict.leaderboard["loss"], verdict.leaderboard["colour"], strict=True))
    if len(set(own.values())) == len(own):
        return own
    return {loss: qualitative.Dark24[place % 24] for place, loss in enumerate(verdict.chosen)}


def wrapped(text: str, letters: int = LETTERS) -> str:
    """A text broken into lines at spaces and punctuation, for plotly, which would cut it off; escaped."""
    parts = []
    while len(text) > letters:
        ends = (max(text.rfind(mark, 0, letters) + 1 for mark in marks) for marks in (" ", "_.,="))
        cut = next((end for end in ends if end > letters // 3), letters)
        parts.append(text[:cut])
        text = text[cut:]
    return "<br>".join(map(escape, [*parts, text]))


def longest(names: Sequence[str]) -> int:
    """The number of letters in the longest line of these names."""
    return max((len(unescape(line)) for name in names for line in name.split("<br>")), default=0)


def row_height(names: Sequence[str]) -> int:
    """The height in pixels of a row with room for any of these names, which may have several lines."""
    return max([ROW, *(LINE * (1 + name.count("<br>")) for name in names)])


def seeds(verdict: Verdict) -> go.Figure:
    """A row per loss, the best on top: a dot per seed, grey lines join runs of one seed, mean and 95 % interval."""
    order = [loss for loss in reversed(by_mean(verdict)) if verdict.values[loss].notna().any()]
    hues, name = colours(verdict), verdict.metric[0]
    board = verdict.leaderboard.set_index("loss")
    values = verdict.values[order]
    values = values[values.notna().cumsum() <= SEEDS]
    spread = [(values[loss].median(), values[loss]) for loss in order]
    means = [(row[name], [row[f"{name} low"], row[f"{name} high"]]) for _, row in board.loc[order].iterrows()]
    scale = axis(*spread, *means)
    figure = go.Figure()
    paired = [
        (row, place)
        for _, line in values.dropna(how="all").iterrows()
        for place, row in [*enumerate(line), (None, None)]
    ]
    figure.add_scatter(
        x=[None if row is None else scale.place(row) for row, _ in paired],
        y=[None if place is None else place + DOTS for _, place in paired],
        mode="lines",
        line={"color": FAINT, "width": 0.8},
        hoverinfo="skip",
        showlegend=False,
    )
    for place, loss in enumerate(order):
        known = values[loss].dropna()
        label = escape(loss)
        figure.add_scatter(
            x=scale.place(known),
            y=[place + DOTS] * len(known),
            mode="markers",
            marker={"color": hues[loss], **_dots(scale, known)},
            cliponaxis=False,
            hovertext=[f"{label}, seed {escape(str(seed))}: {value:.5g}" for seed, value in known.items()],
            hoverinfo="text",
            showlegend=False,
        )
        interval = [board.loc[loss, f"{name}{what}"] for what in ("", " low", " high")]
        hover = "{}: mean {:.5g} [{:.5g}, {:.5g}]".format(label, *interval)
        figure.add_scatter(**_interval(scale, interval, place - DOTS, hues[loss], "diamond", hover))
    for dash, (_, row) in zip(cycle(DASHES), verdict.references.iterrows(), strict=False):
        if np.isfinite(row[name]):
            figure.add_scatter(**_reference(scale, row["loss"], row[name], dash, len(order)))
    title = wrapped(f"test {verdict.unit} {verdict.metric[1]}", TITLE)
    figure.update_xaxes(title=title, range=scale.range)
    return _rows(figure, order)


def _reference(scale: Axis, label: str, mean: float, dash: str, rows: int) -> dict[str, Any]:
    """A broken line at the mean of a reference; at the edge where that is beyond the axis, which does not stretch."""
    beyond = ", beyond the axis" if scale.outside(mean) else ""
    return {
        "x": [scale.place(mean)] * 2,
        "y": [-0.5, rows - 0.4],
        "mode": "lines",
        "line": {"color": REFERENCE, "width": 1.5, "dash": dash},
        "name": wrapped(f"{label} (reference): {mean:.5g}{beyond}", TITLE),
        "hoverinfo": "name",
        "showlegend": True,
    }


def baseline(verdict: Verdict) -> go.Figure | None:
    """Each loss minus the baseline, with its interval; filled where the corrected p is at most 5 %."""
    table = verdict.against(verdict.baseline)
    order = [loss for loss in reversed(by_mean(verdict)) if loss in table.index and table.loc[loss, "n"] > 0]
    if not order:
        return None
    hues = colours(verdict)
    scale = axis((0, []), *((row["difference"], [row["low"], row["high"]]) for _, row in table.loc[order].iterrows()))
    figure = go.Figure()
    for place, loss in enumerate(order):
        row = table.loc[loss]
        significant = row["p_all"] <= level.ALPHA
        hover = (
            f"{escape(loss)} − {escape(verdict.baseline)}: {row['difference']:.4g} "
            f"[{row['low']:.4g}, {row['high']:.4g}], p {row['p']:.3g}, corrected {row['p_all']:.3g}"
        )
        interval = [row["difference"], row["low"], row["high"]]
        symbol = "circle" if significant else "circle-open"
        figure.add_scatter(**_interval(scale, interval, place, hues[loss], symbol, hover))
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    better = "right" if verdict.higher_is_better else "left"
    title = wrapped(f"− {verdict.baseline}, test {verdict.unit}", TITLE)
    figure.update_xaxes(title=f"{title}<br>{better} is better", range=scale.range)
    return _rows(figure, order)


def _dots(scale: Axis, values: pd.Series) -> dict[str, Any]:
    """Markers that are faint for values on the axis, and opaque for outliers at its edge."""
    far = scale.outside(values) != 0
    return {
        "size": np.where(far, 9, 6),
        "opacity": np.where(far, 1, 0.55),
        "symbol": scale.symbols(values, "circle"),
    }


def _interval(scale: Axis, interval: Sequence[float], y: float, colour: str, symbol: str, hover: str) -> dict[str, Any]:
    """A middle with its interval; an end that lies beyond the axis becomes a triangle at its edge."""
    middle, low, high = interval
    x = [middle, *(end for end in (low, high) if scale.outside(end))]
    none = [0] * (len(x) - 1)
    left, right = (abs(scale.place(end) - middle) if np.isfinite(end) else 0 for end in (low, high))
    bars = {"type": "data", "symmetric": False, "array": [right, *none], "arrayminus": [left, *none], "color": colour}
    return {
        "x": scale.place(x),
        "y": [y] * len(x),
        "error_x": bars if np.isfinite(low) else None,
        "mode": "markers",
        "marker": {"color": colour, "size": 10, "symbol": scale.symbols(x, symbol)},
        "cliponaxis": False,
        "hovertext": hover,
        "hoverinfo": "text",
        "showlegend": False,
    }


def _rows(figure: go.Figure, order: Sequence[str]) -> go.Figure:
    names, limits = [wrapped(loss) for loss in order], [-0.5, len(order) - 0.4]
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=names, range=limits, showgrid=False)
    return plain(figure, round(80 + row_height(names) * (len(order) + 1)))


@cache
def _template() -> go.layout.Template:
    """plotly's white one, of what is drawn here: it is checked for, and copied into, each figure."""
    white = plotly.io.templates["simple_white"].to_plotly_json()
    layout = {name: value for name, value in white["layout"].items() if name not in APART}
    return go.layout.Template(layout=layout, data={name: white["data"][name] for name in DRAWN})


def plain(figure: go.Figure, height: int) -> go.Figure:
    """The layout that all figures of a page share; taller where a legend of long names needs the room."""
    names = {trace.name for trace in figure.data if trace.name and trace.showlegend is not False}
    legend = sum(1 + name.count("<br>") for name in names)
    figure.update_layout(
        template=_template(),
        height=height + LINE * max(0, legend - LEGEND),
        margin={"l": 8, "r": 20, "t": 8, "b": 8},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
        },  # below the figure it would overlap the axis's title
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(automargin=True, zeroline=False, title_font_size=13)
    figure.update_yaxes(automargin=True, zeroline=False, title_font_size=13)
    return figure
