"""Figures over several datasets: the critical-difference diagram, and forests of effects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count

import pandas as pd
import plotly.graph_objects as go

from lossbench.analysis.across import Ranking
from lossbench.analysis.figures import FAINT, INK, escape, plain
from lossbench.analysis.pooling import Effects

LINE, GAP, BAR, TOP = 16, 10, 10, 14  # pixels: of a line, between names, of a bar, from the axis to the first bar
WIDE = 20  # characters of a name on one line, so that a phone has room for the axis
BREAK = (None, None)  # ends a line in a trace of many
POOLED, NEW = "<b>all together</b>", "a new dataset"


def critical_difference(ranking: Ranking, hues: Mapping[str, str]) -> go.Figure:
    """Average ranks on an axis, the best left; lines lead to the names, bars join losses that do not differ.

    All names stand on one side, the best on top, so that no line crosses another and a narrow screen has room.
    Source: Demšar 2006, figure 1.
    """
    average, names = ranking.ranks["rank"], list(ranking.ranks.index)
    bars = _levels([(average[clique[0]], average[clique[-1]]) for clique in ranking.cliques], len(names))
    labels = [f"{_broken(name)}  {rank:.2f} " for name, rank in average.items()]
    heights = [GAP + LINE * (1 + label.count("<br>")) for label in labels]
    band = TOP + BAR * (1 + max((level for *_, level in bars), default=-1))
    rows = [height / 2 - band - sum(heights[: place + 1]) for place, height in enumerate(heights)]
    left, right = 0.9, len(names) + 0.1
    figure = go.Figure()
    leaders = [(x, y) for r, row in zip(average, rows, strict=True) for x, y in ((left, row), (r, row), (r, 0), BREAK)]
    joined = [at for a, b, level in bars for at in ((a, -TOP - BAR * level), (b, -TOP - BAR * level), BREAK)]
    for points, colour, width in ((leaders, FAINT, 1.5), (joined, INK, 5)):
        if points:
            x, y = zip(*points, strict=True)
            line = {"color": colour, "width": width}
            figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        x=average,
        y=rows,
        mode="markers",
        marker={"color": [hues[name] for name in names], "size": 9},
        hovertext=[f"{escape(name)}: average rank {rank:.2f}" for name, rank in average.items()],
        hoverinfo="text",
        showlegend=False,
    )
    figure.update_xaxes(title="average rank", side="top", range=[left, right])
    figure.update_yaxes(tickvals=rows, ticktext=labels, range=[-band - sum(heights), 0], showline=False, ticks="")
    return plain(figure, round(60 + band + sum(heights)))


def _levels(bars: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float, int]]:
    """Each bar, lengthened a little at both ends, with the first level on which it touches no other."""
    reach, placed = most / 200, list[tuple[float, float, int]]()
    for start, end in bars:
        low, high = start - reach, end + reach
        level = next(n for n in count() if all(other < low - reach for _, other, at in placed if at == n))
        placed.append((low, high, level))
    return placed


def forest(effects: Effects, hues: Mapping[str, str]) -> go.Figure:
    """The effect of a loss on each dataset, pooled, and its range on a new dataset; the page shows one loss at a time.

    Every trace's `meta` is its loss; the first of `with_effects` is visible.
    """
    rows = {name: -place for place, name in enumerate(dict.fromkeys(effects.by_dataset["dataset"]))}
    labels, together, new = [_broken(name) for name in rows], -len(rows), -len(rows) - 1
    pooled = effects.pooled.set_index("loss")
    figure = go.Figure()
    for loss in with_effects(effects):
        known = effects.by_dataset[(effects.by_dataset["loss"] == loss) & (effects.by_dataset["skipped"] == "")]
        common = {"meta": loss, "visible": loss == with_effects(effects)[0], "showlegend": False, "hoverinfo": "text"}
        hover = [f"{escape(row.dataset)}: {_interval(row.effect, row.low, row.high)}" for row in known.itertuples()]
        marker = {"color": hues[loss], "size": 9, "symbol": "square"}
        figure.add_scatter(
            x=known["effect"],
            y=[rows[name] for name in known["dataset"]],
            error_x=_limits(known, hues[loss]),
            mode="markers",
            marker=marker,
            hovertext=hover,
            **common,
        )
        whole = pooled.loc[[loss]].dropna(subset=["effect"])
        figure.add_scatter(
            x=whole["effect"],
            y=[together] * len(whole),
            error_x=_limits(whole, INK),
            mode="markers",
            marker={"color": INK, "size": 14, "symbol": "diamond"},
            hovertext=[f"together: {_interval(row.effect, row.low, row.high)}" for row in whole.itertuples()],
            **common,
        )
        figure.add_scatter(
            x=whole[["new_low", "new_high"]].to_numpy().ravel(),
            y=[new] * 2 * len(whole),
            mode="lines+markers",
            line={"color": hues[loss], "width": 2},
            marker={"symbol": "line-ns-open", "size": 9},
            hovertext=[f"a new dataset: {limit:.3g} %" for limit in whole[["new_low", "new_high"]].to_numpy().ravel()],
            **common,
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    if effects.pooled["effect"].notna().any():
        figure.add_hline(y=together + 0.5, line={"color": FAINT, "width": 1})
        labels += [POOLED, NEW]
    figure.update_xaxes(title="improvement, %")
    figure.update_yaxes(tickvals=list(range(0, -len(labels), -1)), ticktext=labels, range=[0.4 - len(labels), 0.6])
    return plain(figure, 80 + (len(labels) + 1) * (GAP + LINE * max(1 + label.count("<br>") for label in labels)))


def with_effects(effects: Effects) -> list[str]:
    """The losses that have an effect on at least one dataset."""
    return list(dict.fromkeys(effects.by_dataset.loc[effects.by_dataset["skipped"] == "", "loss"]))


def _broken(name: str) -> str:
    """A name, broken into lines where its words end."""
    lines = [""]
    for word in re.findall(rf"[^\s_]{{0,{WIDE - 1}}}[\s_]|[^\s_]{{1,{WIDE}}}", name):
        lines[-1:] = [lines[-1] + word] if len(lines[-1] + word) <= WIDE else [lines[-1], word]
    return "<br>".join(map(escape, filter(None, lines)))


def _limits(table: pd.DataFrame, colour: str) -> dict[str, object]:
    high, low = table["high"] - table["effect"], table["effect"] - table["low"]
    return {"type": "data", "symmetric": False, "array": high, "arrayminus": low, "color": colour}


def _interval(effect: float, low: float, high: float) -> str:
    return f"{effect:.3g} % [{low:.3g}, {high:.3g}]"
