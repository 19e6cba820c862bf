"""The outcome of `verify` as one HTML file that needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape as _escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative

from lossbench import __version__
from lossbench.verification.claims import Finding, Picture, number
from lossbench.verification.verify import Outcome, last_line

INK, FAINT, GOOD, BAD = "#1d2733", "#dde3e8", "#2c7a4b", "#b4302d"
FAR = 2.5  # tolerances: a mark farther from its expectation is drawn at the edge
ROW, FRAME = 24, 80  # pixels of each row, and around all of them
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": INK}


def page(outcomes: Sequence[Outcome]) -> str:
    """The whole page, with plotly's script inlined."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(
        files("lossbench.verification").joinpath("page.html").read_text(encoding="utf-8")
    )
    drawn: dict[str, str] = {}  # plotly escapes < and / in these, so that none of them ends the script element

    def plot(figure: go.Figure) -> str:
        drawn[f"figure-{len(drawn)}"] = figure.to_json()
        return list(drawn)[-1]

    return template.render(
        outcomes=[_outcome(outcome, plot) for outcome in outcomes],
        summary=last_line(outcomes),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        version=__version__,
        figures=drawn,
        plotly=get_plotlyjs(),
    )


def _outcome(outcome: Outcome, plot: Any) -> dict[str, Any]:
    around = [finding for finding in outcome.findings if _bounded(finding)]
    return {
        "truth": outcome.truth,
        "holds": outcome.holds,
        "fault": outcome.fault,
        "seconds": outcome.seconds,
        "rows": [(f.what, f.expectation, number(f.measured), _interval(f), f.holds) for f in outcome.findings],
        "distances": plot(distances(around)) if around else "",
        "pictures": [(picture.title, plot(drawing(picture)), picture.square) for picture in outcome.pictures],
    }


def distances(findings: Sequence[Finding]) -> go.Figure:
    """The distance of each number from its expectation, in units of its tolerance, with its interval."""
    figure = go.Figure()
    figure.add_vrect(x0=-1, x1=1, fillcolor="#eef5ee", line_width=0, layer="below")
    figure.add_vline(x=0, line_color=INK, line_width=1)
    rows = list(range(len(findings), 0, -1))
    for row, finding in zip(rows, findings, strict=True):
        if finding.interval:
            ends = [_clipped(_distance(finding, end)) for end in finding.interval]
            line = {"color": _colour(finding), "width": 2}
            figure.add_scatter(x=ends, y=[row, row], mode="lines", line=line, hoverinfo="skip")
    figure.add_scatter(
        x=[_clipped(_distance(finding, finding.measured)) for finding in findings],
        y=rows,
        mode="markers",
        marker={"color": [_colour(f) for f in findings], "size": 9, "symbol": [_symbol(f) for f in findings]},
        hovertext=[f"{_text(f.what)}<br>expected {f.expectation}, measured {number(f.measured)}" for f in findings],
        hoverinfo="text",
    )
    figure.update_xaxes(range=[-FAR - 0.1, FAR + 0.1], title="measured − expected, in tolerances", zeroline=False)
    labels = [_text(finding.what) for finding in findings]
    figure.update_yaxes(tickvals=rows, ticktext=labels, range=[0.3, len(rows) + 0.7], showgrid=False, automargin=True)
    return _framed(figure, ROW * len(rows) + FRAME)


def drawing(picture: Picture) -> go.Figure:
    """A picture of a truth as a figure."""
    figure = go.Figure()
    for line, colour in zip(picture.lines, qualitative.Dark24 * len(picture.lines), strict=False):
        mode = "markers" if line.dots else "lines"
        name = _text(line.name)
        figure.add_scatter(x=line.x, y=line.y, mode=mode, name=name, line={"color": colour, "width": 1.5})
    figure.update_xaxes(title=_text(picture.x))
    figure.update_yaxes(title=_text(picture.y))
    if picture.square:
        figure.update_yaxes(scaleanchor="x", scaleratio=1)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "yanchor": "bottom", "y": 1.02})
    return _framed(figure, 560 if picture.square else 420)


def _framed(figure: go.Figure, height: int) -> go.Figure:
    figure.update_xaxes(gridcolor=FAINT, linecolor=FAINT)
    figure.update_yaxes(gridcolor=FAINT, linecolor=FAINT)
    figure.update_layout(
        height=height, font=FONT, plot_bgcolor="#fff", margin={"l": 10, "r": 20, "t": 20, "b": 50, "pad": 6}
    )
    if figure.layout.showlegend is None:
        figure.update_layout(showlegend=False)
    return figure


def _bounded(finding: Finding) -> bool:
    return math.isfinite(finding.low) and math.isfinite(finding.high)


def _distance(finding: Finding, value: float) -> float:
    return (value - finding.expected) / (finding.high - finding.expected)


def _clipped(distance: float) -> float:
    return max(-FAR, min(FAR, distance)) if not math.isnan(distance) else FAR


def _symbol(finding: Finding) -> str:
    distance = _distance(finding, finding.measured)
    if math.isnan(distance):
        return "x"
    return "circle" if abs(distance) <= FAR else "triangle-right" if distance > 0 else "triangle-left"


def _colour(finding: Finding) -> str:
    return GOOD if finding.holds else BAD


def _interval(finding: Finding) -> str:
    return " … ".join(map(number, finding.interval)) if finding.interval else "–"


def _text(text: str) -> str:
    """A text without markup, which plotly would interpret."""
    return _escape(text, quote=False)
