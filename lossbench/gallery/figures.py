"""Drawings as plotly figures: their layout, and the numbers that a page shows as its sliders move."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lossbench.gallery.curves import Array, Drawing
from lossbench.runs.provenance import colour
from lossbench.tasks.views import View

INK, DIM, LINE = "#1d2733", "#5c6873", "#dde3e8"
DASHES = ("solid", "dash", "dot")
SOFT = (1.0, 0.75, 0.75)  # opacity of the cases
HEIGHT = 250
SPARE = 1.12  # length of an overlay's axis, relative to its curves
LEAST = 1e-3  # share of the steepest slope; a smaller slope counts as none


def name(drawing: Drawing) -> str:
    """The id of a drawing on a page."""
    return f"{drawing.entry.name}-{drawing.view.name}"


def spec(drawing: Drawing) -> dict[str, Any]:
    """A drawing as a page needs it: numbers [*knobs, case, x] as base64 of float32."""
    view = drawing.view
    return {
        "loss": drawing.entry.name,
        "title": view.title,
        "colour": colour(drawing.entry.name),
        "cases": list(view.cases),
        "dashes": DASHES[: len(view.cases)],
        "soft": SOFT[: len(view.cases)],
        "knobs": [{"name": k.name, "labels": k.labels, "at": k.at, "words": k.words} for k in drawing.knobs],
        "x": packed(np.array(drawing.x)),
        "y": packed(drawing.values),
        "g": packed(drawing.gradients),
        "layout": frame(view.axis),
    }


def packed(numbers: Array) -> str:
    """Base64 of float32, in the byte order of every browser."""
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def frame(axis: str) -> dict[str, Any]:
    """The layout of one figure."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=HEIGHT,
        margin={"l": 46, "r": 8, "t": 6, "b": 40},
        font={"family": "system-ui, sans-serif", "size": 12, "color": DIM},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        hoverlabel={"bgcolor": "#fff", "bordercolor": LINE, "font": {"color": INK}},
        showlegend=False,
    )
    quiet = {"gridcolor": "#eef1f4", "zerolinecolor": "#c4ccd4", "zerolinewidth": 1, "linecolor": LINE, "nticks": 7}
    figure.update_xaxes(title={"text": axis, "standoff": 6}, fixedrange=True, hoverformat=".3g", **quiet)
    figure.update_yaxes(fixedrange=True, automargin=True, hoverformat=".4g", **quiet)
    layout: dict[str, Any] = figure.to_plotly_json()["layout"]
    return {**layout, "template": {}}


def overlays(drawn: Iterable[Drawing]) -> list[dict[str, Any]]:
    """An overlay for each view that at least two of these drawings share."""
    by_view: dict[str, list[Drawing]] = {}
    for drawing in drawn:
        by_view.setdefault(drawing.view.name, []).append(drawing)
    return [overlay(shared) for shared in by_view.values() if len(shared) > 1]


def overlay(shared: Sequence[Drawing]) -> dict[str, Any]:
    """Losses of one view at their default settings, in its first case, scaled to slope 1 at one place."""
    view = shared[0].view
    scales = [scale(drawing, view) for drawing in shared]
    return {
        "title": view.title,
        "case": next(iter(view.cases)),
        "at": f"{view.at:g}",
        "layout": frame(view.axis),
        "losses": [
            {"id": name(drawing), "loss": drawing.entry.name, "colour": colour(drawing.entry.name), "scale": factor}
            for drawing, factor in zip(shared, scales, strict=True)
        ],
        "ranges": {
            "scaled": {what: most(shared, what, scales) for what in ("y", "g")},
            "plain": {what: most(shared, what, [1.0] * len(shared)) for what in ("y", "g")},
        },
    }


def scale(drawing: Drawing, view: View) -> float:
    """One over the slope at `view.at`, or over the steepest slope where the loss is flat there."""
    slopes = np.abs(drawing.default[1][0])
    there, steepest = float(np.interp(view.at, drawing.x, slopes)), float(np.nanmax(slopes))
    slope = there if there > LEAST * steepest else steepest
    return 1 / slope if slope > 0 else 1.0


def most(shared: Sequence[Drawing], what: str, scales: Sequence[float]) -> list[float]:
    """The range of an axis that fits most curves; one that outgrows the others by far leaves it."""
    curves = [drawing.default[what == "g"][0] * factor for drawing, factor in zip(shared, scales, strict=True)]
    lows, highs = ([float(ends(curve)) for curve in curves] for ends in (np.nanmin, np.nanmax))
    low, high = _middling(lows, -1), _middling(highs, 1)
    margin = (SPARE - 1) * (high - low or 1)
    return [low - margin, high + margin]


def _middling(ends: Sequence[float], sign: int) -> float:
    """The furthest end, limited to two and a half times the median end."""
    signed = np.array(ends) * sign
    limit = 2.5 * max(float(np.median(signed)), 0.4)
    return sign * float(min(signed.max(), limit))
