"""Figures of a report. Names of losses are anybody's: they are escaped, since plotly reads markup in text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative

from lossbench.analysis import stats
from lossbench.analysis.answer import amount, by_mean
from lossbench.analysis.verdict import Verdict

ROW = 34  # pixels that a loss takes in a chart with a row a loss
BAND = (0.1, 0.5, 0.9)  # of the seeds: the ends of a curve's band, and its middle
DOTS = 0.13  # how far above its row's middle a loss has its dots, and below it its mean
LABELLED = 16  # losses up to which the cells of a matrix carry numbers
INK, FAINT = "#1d2733", "#c4ccd4"


def colours(verdict: Verdict) -> dict[str, str]:
    """Each contender's colour, as in MLflow; settings of one loss, which share theirs there, are told apart."""
    own = dict(zip(verdict.leaderboard["loss"], verdict.leaderboard["colour"], strict=True))
    if len(set(own.values())) == len(own):
        return own
    return {loss: qualitative.Dark24[place % 24] for place, loss in enumerate(verdict.chosen)}


def seeds(verdict: Verdict) -> go.Figure:
    """A row a loss, the best on top: a dot a seed, grey lines that join runs of one seed, mean and 95 % interval."""
    order = [loss for loss in reversed(by_mean(verdict)) if verdict.values[loss].notna().any()]
    hues, name = colours(verdict), verdict.yardstick[0]
    board = verdict.leaderboard.set_index("loss")
    values = verdict.values[order]
    figure = go.Figure()
    paired = [(row, place) for _, line in values.iterrows() for place, row in [*enumerate(line), (None, None)]]
    figure.add_scatter(
        x=[row for row, _ in paired],
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
            x=known,
            y=[place + DOTS] * len(known),
            mode="markers",
            marker={"color": hues[loss], "size": 6, "opacity": 0.55},
            hovertext=[f"{label}, seed {escape(str(seed))}: {value:.5g}" for seed, value in known.items()],
            hoverinfo="text",
            showlegend=False,
        )
        mean, low, high = (board.loc[loss, f"{name}{what}"] for what in ("", " low", " high"))
        figure.add_scatter(
            x=[mean],
            y=[place - DOTS],
            error_x=_bars(mean, low, high, hues[loss]),
            mode="markers",
            marker={"color": hues[loss], "size": 10, "symbol": "diamond"},
            hovertext=f"{label}: mean {mean:.5g} [{low:.5g}, {high:.5g}]",
            hoverinfo="text",
            showlegend=False,
        )
    figure.update_xaxes(title=f"test {escape(verdict.unit)} {verdict.yardstick[1]}")
    return _rows(figure, order)


def baseline(verdict: Verdict) -> go.Figure:
    """Each loss minus the baseline, with its interval; filled where the corrected p is at most 5 %."""
    table = verdict.against(verdict.baseline)
    order = [loss for loss in reversed(by_mean(verdict)) if loss in table.index and table.loc[loss, "n"] > 0]
    hues = colours(verdict)
    figure = go.Figure()
    for place, loss in enumerate(order):
        row = table.loc[loss]
        real = row["p_all"] <= stats.ALPHA
        figure.add_scatter(
            x=[row["difference"]],
            y=[place],
            error_x=_bars(row["difference"], row["low"], row["high"], hues[loss]),
            mode="markers",
            marker={"color": hues[loss], "size": 10, "symbol": "circle" if real else "circle-open"},
            hovertext=f"{escape(loss)} − {escape(verdict.baseline)}: {row['difference']:.4g} "
            f"[{row['low']:.4g}, {row['high']:.4g}], p {row['p']:.3g}, corrected {row['p_all']:.3g}",
            hoverinfo="text",
            showlegend=False,
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    better = "right" if verdict.higher_is_better else "left"
    figure.update_xaxes(
        title=f"difference to {escape(verdict.baseline)} in test {escape(verdict.unit)} ({better} is better)"
    )
    return _rows(figure, order)


def pairs(verdict: Verdict) -> go.Figure:
    """Row minus column: coloured where the corrected p is at most 5 %, blue where the row is better."""
    order = [loss for loss in by_mean(verdict) if verdict.values[loss].notna().any()]
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
    figure = _matrix(
        shade, text, hover, list(table.index), names, [[0, "#7fb69b"], [0.5, "#f4f5f6"], [1, "#dfa27f"]], (0, 1)
    )
    figure.update_yaxes(title="trained with")
    figure.update_xaxes(title="costs under")
    return figure


def band(points: pd.DataFrame) -> pd.DataFrame:
    """The middle and the ends of the band of one loss at each step, from a table of run, step and value."""
    wide = points.pivot(index="step", columns="run_id", values="value")
    quantile = np.nanquantile if wide.isna().to_numpy().any() else np.quantile
    return pd.DataFrame(quantile(wide, BAND, axis=1).T, index=wide.index, columns=["low", "median", "high"])


def curves(
    verdict: Verdict, bands: dict[str, dict[str, pd.DataFrame]], axis: str, *, seconds: bool = False
) -> go.Figure:
    """A metric over steps or seconds, median and band; with several metrics, the page shows one of them at a time.

    `bands`: for each metric, that of each contender. Seconds are steps times the contender's median time of a step.
    """
    hues, board = colours(verdict), verdict.leaderboard.set_index("loss")
    traces = []
    for shown, (metric, by_loss) in enumerate(bands.items()):
        for loss, spread in by_loss.items():
            x = spread.index.to_numpy(np.float32)  # seven digits are more than a screen shows, in half the bytes
            if seconds:
                x = x * np.float32(board.loc[loss, "ms a step"] / 1000)
            low, middle, high = (spread[name].to_numpy(np.float32) for name in ("low", "median", "high"))
            common = {"mode": "lines", "meta": metric, "visible": not shown, "legendgroup": loss}
            around = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([high, low[::-1]]), "fill": "toself"}
            faint = f"rgba({','.join(str(int(hues[loss][i : i + 2], 16)) for i in (1, 3, 5))},0.15)"
            quiet = {"line": {"width": 0}, "fillcolor": faint, "hoverinfo": "skip", "showlegend": False}
            traces.append(go.Scatter(**around, **quiet, **common))
            traces.append(go.Scatter(x=x, y=middle, line={"color": hues[loss]}, name=escape(loss), **common))
    figure = go.Figure(traces)
    figure.update_xaxes(title="seconds of training" if seconds else "optimizer step")
    figure.update_yaxes(title=escape(axis))
    return _plain(figure, 380)


def sensitivity(verdict: Verdict, parameter: str, table: pd.DataFrame) -> go.Figure:
    """Test yardstick over a swept setting, a line a loss. `table`: loss, value, mean, low, high (may be missing)."""
    figure = go.Figure()
    numbers = pd.to_numeric(table["value"], errors="coerce")
    table = table.assign(value=numbers if numbers.notna().all() else table["value"].map(lambda v: escape(str(v))))
    hues = dict(zip(verdict.runs["loss"], verdict.runs["colour"], strict=True))
    for loss, rows in table.groupby("loss", sort=False):
        rows = rows.sort_values("value")
        figure.add_scatter(
            x=rows["value"],
            y=rows["mean"],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": rows["high"] - rows["mean"],
                "arrayminus": rows["mean"] - rows["low"],
                "thickness": 1,
            },
            mode="lines+markers",
            line={"color": hues[loss]},
            name=escape(str(loss)),
        )
    low, high = table["value"].min(), table["value"].max()
    spread = numbers.notna().all() and low > 0 and high / low > 20
    figure.update_xaxes(title=escape(parameter), type="log" if spread else None)
    figure.update_yaxes(title=f"test {escape(verdict.unit)} {verdict.yardstick[1]}")
    return _plain(figure, 340)


def critical_difference(ranks: pd.DataFrame, pairwise: pd.DataFrame) -> go.Figure:
    """Average ranks over datasets with their intervals; bars join losses that the pairwise tests cannot tell apart."""
    average = ranks["rank"]
    order = list(average.sort_values(ascending=False).index)
    figure = go.Figure()
    figure.add_scatter(
        x=average[order],
        y=list(range(len(order))),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": (ranks["high"] - average)[order],
            "arrayminus": (average - ranks["low"])[order],
            "thickness": 1,
            "color": FAINT,
        },
        mode="markers+text",
        text=[f" {average[loss]:.2f}" for loss in order],
        textposition="top center",
        marker={"color": INK, "size": 9},
        hoverinfo="x",
        showlegend=False,
    )
    found = cliques(average, pairwise)
    for number, clique in enumerate(found):
        ends = [average[clique[0]], average[clique[-1]]]
        y = -0.7 - 0.3 * number
        figure.add_scatter(
            x=ends, y=[y, y], mode="lines", line={"color": INK, "width": 5}, hoverinfo="skip", showlegend=False
        )
    figure.update_xaxes(title="average rank over the datasets (1 is best)")
    return _rows(figure, order, below=0.3 + 0.3 * len(found))


def cliques(average: pd.Series, pairwise: pd.DataFrame) -> list[list[str]]:
    """The longest runs of neighbours by rank, of two or more, among whom no pair differs."""
    if pairwise.empty:
        return []
    order = list(average.sort_values().index)
    found: list[list[str]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and all(pairwise.loc[order[end], other] > stats.ALPHA for other in order[start:end]):
            end += 1
        if end - start > 1 and not (found and set(order[start:end]) <= set(found[-1])):
            found.append(order[start:end])
    return found


def _bars(mean: float, low: float, high: float, colour: str) -> dict[str, Any] | None:
    if not np.isfinite(low):
        return None
    return {"type": "data", "symmetric": False, "array": [high - mean], "arrayminus": [mean - low], "color": colour}


def _rows(figure: go.Figure, order: Sequence[str], below: float = 0) -> go.Figure:
    names, limits = [escape(loss) for loss in order], [-0.5 - below, len(order) - 0.4]
    figure.update_yaxes(tickvals=list(range(len(order))), ticktext=names, range=limits, showgrid=False)
    return _plain(figure, round(80 + ROW * (len(order) + 1 + below)))


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
    return _plain(figure, 130 + ROW * len(rows))


def _plain(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="simple_white",
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": -0.25},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return figure
