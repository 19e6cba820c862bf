"""A comparison drawn for a notebook: HTML that needs no script, in the colours of the page around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import pandas as pd

from lossbench.analysis import figures, tables
from lossbench.analysis.answer import by_mean
from lossbench.analysis.axes import Axis, axis
from lossbench.analysis.report import Report
from lossbench.analysis.verdict import Verdict

WIDTH, LEFT, ROW = 680, 190, 30  # pixels: of the drawing, of the names in it, of a loss
TICKS = 5
LETTERS = 26  # of a name
MOST = 3  # metrics in the table; `leaderboard` has all
FAINT = 'fill-opacity=".7" font-size="12"'


def html(report: Report, remarks: Sequence[str]) -> str:
    """The sentence, the runs as dots that lines join by seed, and the leaderboard of each dataset; then remarks."""
    parts = [
        part
        for verdict, sentence in zip(report.verdicts, report.sentences, strict=True)
        for part in (f"<p><strong>{escape(sentence)}</strong></p>", dots(verdict), board(verdict))
    ]
    parts += [f"<p><strong>beware:</strong> {escape(remark)}</p>" for remark in remarks]
    return f'<div style="max-width:{WIDTH + 120}px">{"".join(parts)}</div>'


def dots(verdict: Verdict) -> str:
    """A row per loss, the best on top: a dot per run, faint lines between runs of one seed, and a bar at the mean."""
    order = [loss for loss in by_mean(verdict) if verdict.values[loss].notna().any()]
    if not order:
        return ""
    values = verdict.values[order]
    scale = axis(*((values[loss].median(), values[loss]) for loss in order))
    height = ROW * len(order) + 44
    parts = [*_ticks(scale, height, verdict), *_lines(values, scale)]
    hues = figures.colours(verdict)
    for place, loss in enumerate(order):
        parts += _row(loss, values[loss].dropna(), scale, _y(place), hues[loss])
    title = escape(f"Each run's test {verdict.unit}, a row per loss; lines join the runs of one seed")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="{title}" style="max-width:100%;height:auto;color:inherit;font:13px system-ui,sans-serif">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def board(verdict: Verdict) -> str:
    """The leaderboard as a table: finished runs, the deciding metric with its interval, and a few more metrics."""
    first = verdict.metric
    more = [metric for metric in verdict.metrics if metric != first][: MOST - 1]
    heads = ["loss", "runs", _heading(first), "95 % interval", *map(_heading, more)]
    heads += ["no result"] if (ended := verdict.leaderboard["outcomes"].any()) else []
    hues = figures.colours(verdict)
    rows = []
    for _, row in verdict.leaderboard.iterrows():
        star = " ★" if row["loss"] in verdict.starred else ""
        name = f"{row['loss']} {row['setting']}".strip()
        label = (
            f'<td style="text-align:left"><span style="color:{hues[row["loss"]]}">■</span> {escape(name)}{star}</td>'
        )
        cells = [str(row["n"]), tables.spread(row, first[0]), tables.limits(row, first[0])]
        cells += [*(tables.spread(row, name) for name, _, _ in more), *([str(row["outcomes"])] if ended else [])]
        rows.append(f"<tr>{label}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    for _, row in verdict.references.iterrows():
        cells = [f"{row['loss']} (reference)", str(row["n"]), tables.spread(row, first[0]), ""]
        cells += [*(tables.spread(row, name) for name, _, _ in more), *([""] if ended else [])]
        rows.append(f'<tr style="opacity:.7">{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>')
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    note = f"{verdict.dataset}: test, mean ± SD over seeds" + (
        "; ★ not distinguishable from the best" * verdict.decided
    )
    return (
        f'<div style="overflow-x:auto"><table style="color:inherit;white-space:nowrap;font-size:.9em">'
        f'<caption style="opacity:.7;text-align:left">{escape(note)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(loss: str, values: pd.Series, scale: Axis, y: float, hue: str) -> Iterator[str]:
    shown = loss if len(loss) <= LETTERS else f"{loss[: LETTERS - 1]}…"
    yield f'<text x="{LEFT - 12}" y="{y + 4:.0f}" text-anchor="end" fill="currentColor">{escape(shown)}'
    yield f"<title>{escape(loss)}</title></text>"
    for seed, value in values.items():
        x, beyond = _at(value, scale), bool(scale.outside(value))
        edge = 'stroke-width="2"' if beyond else 'stroke-opacity=".3"'
        name = escape(f"{loss}, seed {seed}: {value:.5g}{', beyond the axis' * beyond}")
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{hue}" stroke="currentColor" {edge}>'
        yield f"<title>{name}</title></circle>"
    x = _at(values.mean(), scale)
    yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 11:.1f}" y2="{y + 11:.1f}" stroke="currentColor" stroke-width="2">'
    yield f"<title>{escape(f'{loss}: mean {values.mean():.5g}')}</title></line>"


def _lines(values: pd.DataFrame, scale: Axis) -> Iterator[str]:
    for _, row in values.iterrows():
        points = [f"{_at(value, scale):.1f},{_y(place):.1f}" for place, value in enumerate(row) if value == value]
        yield f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor" stroke-opacity=".18"/>'


def _ticks(scale: Axis, height: int, verdict: Verdict) -> Iterator[str]:
    from matplotlib.ticker import MaxNLocator

    low, high = scale.range
    for value in (tick for tick in MaxNLocator(TICKS).tick_values(low, high) if low <= tick <= high):
        x, foot = _x(value, scale), height - 34
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{foot}" stroke="currentColor" stroke-opacity=".12"/>'
        yield f'<text x="{x:.1f}" y="{foot + 14}" text-anchor="middle" fill="currentColor" {FAINT}>{value:.4g}</text>'
    title = escape(f"test {verdict.unit} {verdict.metric[1]}")
    yield f'<text x="{(LEFT + WIDTH) / 2}" y="{height - 4}" text-anchor="middle" fill="currentColor">{title}</text>'


def _x(place: float, scale: Axis) -> float:
    low, high = scale.range
    return LEFT + (WIDTH - LEFT - 16) * (place - low) / (high - low)


def _at(value: float, scale: Axis) -> float:
    """Where a value is drawn: at the edge, if it lies beyond the axis."""
    return _x(float(scale.place(value)), scale)


def _y(place: int) -> float:
    return 6 + ROW * (place + 0.5)


def _heading(metric: tuple[str, str, str]) -> str:
    name, arrow, unit = metric
    return f"{name} {arrow}{f' [{unit}]' if unit else ''}"
