"""Metrics over steps, and metrics over settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lossbench.analysis import axes
from lossbench.analysis.figures import SEEDS, colours, escape, plain, wrapped
from lossbench.analysis.histories import histories
from lossbench.analysis.verdict import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient

WIDE = 100  # ratio of the largest to the smallest value above which an axis is logarithmic
BAND = (0.1, 0.5, 0.9)  # quantiles over seeds: the lower end of a curve's band, its middle and its upper end


def bands(verdict: Verdict, client: MlflowClient) -> dict[str, dict[str, pd.DataFrame]]:
    """Median and band of each contender over steps, by metric: the primary first, train losses before their parts."""
    runs = verdict.runs.groupby("contender", sort=False).head(SEEDS)
    trained = sorted((c for c in runs if c.startswith("train/")), key=lambda name: (not name.endswith("/loss"), name))
    watched = [f"val/{name}" for name, _, _ in [verdict.metric, *verdict.metrics]]
    metrics = [m for m in dict.fromkeys([*watched, *trained]) if m in runs]
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for metric in metrics:
        points = histories(client, runs["run_id"], metric).merge(runs[["run_id", "contender"]], on="run_id")
        by_loss = {loss: band(rows) for loss, rows in points.groupby("contender", sort=False)}
        if any(len(band) > 1 for band in by_loss.values()):  # a metric that is computed once, at the end, has no curve
            found[metric] = {loss: by_loss[loss] for loss in verdict.chosen if loss in by_loss}
    return found


def band(points: pd.DataFrame) -> pd.DataFrame:
    """The median and the ends of the band at each step, from a table of run, step and value."""
    table = points.pivot(index="step", columns="run_id", values="value")
    quantile = np.nanquantile if table.isna().to_numpy().any() else np.quantile
    return pd.DataFrame(quantile(table, BAND, axis=1).T, index=table.index, columns=["low", "median", "high"])


def curves(
    verdict: Verdict, bands: dict[str, dict[str, pd.DataFrame]], axis: str, *, seconds: bool = False
) -> go.Figure:
    """A metric over steps or seconds, median and band; with several metrics, the page shows one of them at a time.

    `bands`: the band of each contender, by metric. Seconds are steps times the contender's median step time.
    """
    hues, board = colours(verdict), verdict.leaderboard.set_index("loss")
    traces = []
    drawn = np.concatenate([spread["median"] for by_loss in bands.values() for spread in by_loss.values()])
    logarithmic = axis != "validation" and drawn.min() > 0 and drawn.max() > WIDE * drawn.min()
    for place, (metric, by_loss) in enumerate(bands.items()):
        part = axes.axis(*((one[["median"]], one[["low", "high"]]) for one in by_loss.values()))
        for loss, spread in by_loss.items():
            x = spread.index.to_numpy(np.float32)  # seven digits are enough for a screen, in half the bytes
            if seconds:
                x = x * np.float32(board.loc[loss, "ms a step"] / 1000)
            low, middle, high = (spread[name].to_numpy(np.float32) for name in ("low", "median", "high"))
            common = {"meta": metric, "visible": place == 0, "legendgroup": loss}
            if not logarithmic:
                traces += [go.Scatter(**far, **common) for far in _far(x, low, high, part, hues[loss])]
                low, high = part.place(low), part.place(high)
            around = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([high, low[::-1]]), "fill": "toself"}
            faint = f"rgba({','.join(str(int(hues[loss][i : i + 2], 16)) for i in (1, 3, 5))},0.15)"
            quiet = {"line": {"width": 0}, "fillcolor": faint, "hoverinfo": "skip", "showlegend": False}
            traces.append(go.Scatter(**around, **quiet, **common, mode="lines"))
            line = {"color": hues[loss]}
            traces.append(go.Scatter(x=x, y=middle, line=line, name=wrapped(loss), **common, mode="lines"))
    figure = go.Figure(traces)
    figure.update_xaxes(title="seconds of training" if seconds else "optimizer step")
    figure.update_yaxes(title=escape(axis), type="log" if logarithmic else None)
    return plain(figure, 380)


def _far(x: Any, low: Any, high: Any, part: axes.Axis, colour: str) -> Iterator[dict[str, Any]]:
    """A triangle where a band reaches farthest beyond either edge of the axis."""
    for end, at, symbol in ((low, low.argmin(), "triangle-down"), (high, high.argmax(), "triangle-up")):
        if part.outside(end[at]):
            yield {
                "x": [x[at]],
                "y": [part.place(end[at])],
                "mode": "markers",
                "marker": {"color": colour, "size": 10, "symbol": symbol},
                "hovertext": f"the band reaches {end[at]:.4g}",
                "hoverinfo": "text",
                "showlegend": False,
            }


def sensitivity(verdict: Verdict, parameter: str, table: pd.DataFrame) -> go.Figure:
    """Test metric over a swept setting, a line per loss. `table`: loss, value, mean, low, high (may be missing)."""
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
            name=wrapped(str(loss)),
        )
    low, high = table["value"].min(), table["value"].max()
    spread = numbers.notna().all() and low > 0 and high / low > 20
    figure.update_xaxes(title=escape(parameter), type="log" if spread else None)
    figure.update_yaxes(title=f"test {escape(verdict.unit)} {verdict.metric[1]}")
    return plain(figure, 340)
