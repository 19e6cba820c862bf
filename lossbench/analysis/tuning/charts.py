"""Figures of a search: score over budget, and over each parameter that was searched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative

from lossbench.analysis.curves import WIDE
from lossbench.analysis.figures import INK, escape, plain, wrapped
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import best_of, trial_table
from lossbench.analysis.tuning.gains import Tuning

ROOM = 0.08  # share of an axis beyond the scores, in the middle of which failed trials are drawn


def hues(tuning: Tuning) -> dict[str, str]:
    """Each loss's colour, as in MLflow; distinct ones where losses share a colour there."""
    own = dict(zip(tuning.trials["loss"], tuning.trials["colour"], strict=True))
    if len(set(own.values())) == len(own):
        return own
    return {search.loss: qualitative.Dark24[place % 24] for place, search in enumerate(tuning.searches)}


def over_budget(tuning: Tuning) -> go.Figure | None:
    """Median of the best of k random trials with its band, or the best so far of other trials, a line per loss."""
    lines = {}
    for search in tuning.searches:
        own = tuning.trials[tuning.trials["study"] == search.study]
        scores = trial_table.scores(own, tuning.higher_is_better)
        if np.isfinite(scores).any():
            lines[search.loss] = _line(search, scores, tuning.higher_is_better)
    if not lines:
        return None
    seen = np.concatenate([line[["low", "middle", "high"]].to_numpy().ravel() for line in lines.values()])
    axis = Axis(seen[np.isfinite(seen)])
    figure, colours = go.Figure(), hues(tuning)
    for loss, line in lines.items():
        known = line.dropna(subset=["middle"])
        banded = line.dropna(subset=["low", "high"])
        common = {"legendgroup": loss, "line": {"color": colours[loss]}}
        if len(banded) > 1:
            low, high = (banded[end].clip(*axis.ends) for end in ("low", "high"))
            x, y = [*banded.index, *banded.index[::-1]], [*high, *low[::-1]]
            quiet = {"line": {"width": 0}, "fillcolor": _faint(colours[loss]), "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(x=x, y=y, fill="toself", mode="lines", **(common | quiet))
        mode = "lines" if len(known) > 1 else "markers"
        figure.add_scatter(x=known.index, y=known["middle"], mode=mode, name=wrapped(loss), **common)
    figure.update_xaxes(title="trials")
    figure.update_yaxes(title=f"validation {escape(tuning.metric[0])} {tuning.metric[1]}", **axis.drawn)
    return plain(figure, 360)


def _line(search: Search, scores: pd.Series, higher: bool) -> pd.DataFrame:
    """By number of trials: middle, and for random trials low and high."""
    if search.independent:
        return best_of.curve(list(scores), higher).rename(columns={"median": "middle"})
    best = scores.cummax() if higher else scores.cummin()
    middle = best.where(np.isfinite(best)).to_numpy()
    index = pd.Index(np.arange(1, len(scores) + 1), name="k")
    return pd.DataFrame({"middle": middle, "low": np.nan, "high": np.nan}, index=index)


def effect(tuning: Tuning, parameter: str) -> go.Figure | None:
    """A dot per trial, its score over one parameter; the chosen one ringed, failed trials as crosses at the edge."""
    spaces = {s.study: s for s in tuning.searches if parameter in s.space}
    trials = trial_table.counted(tuning.trials[tuning.trials["study"].isin(spaces)]).dropna(subset=[parameter])
    if trials["score"].isna().all():
        return None
    axis, colours = Axis(trials["score"].dropna().to_numpy()), hues(tuning)
    choices = [choice for search in spaces.values() for choice in search.space[parameter].get("choices", ())]
    failed = axis.failed(tuning.higher_is_better)
    figure = go.Figure()
    for (study, scored), rows in trials.groupby(["study", trials["score"].notna()], sort=False):
        search = spaces[str(study)]
        dots = {"color": colours[search.loss], "symbol": "circle" if scored else "x", "size": 8, "opacity": 0.75}
        figure.add_scatter(
            x=[_text(value) for value in rows[parameter]] if choices else rows[parameter],
            y=rows["score"].fillna(failed),
            mode="markers",
            marker=dots | {"line": _rings(rows["number"] == search.chosen)},
            name=wrapped(search.loss),
            legendgroup=search.loss,
            showlegend=bool(scored),
            hovertext=[_hover(search.loss, row, parameter) for row in rows.to_dict("records")],
            hoverinfo="text",
        )
    figure.update_xaxes(title=escape(parameter), **_across(list(spaces.values()), parameter, choices))
    figure.update_yaxes(title=f"validation {escape(tuning.metric[0])} {tuning.metric[1]}", **axis.drawn)
    return plain(figure, 340)


def _rings(chosen: pd.Series) -> dict[str, Any]:
    return {"color": INK, "width": [3 if ring else 0 for ring in chosen]}


def _across(spaces: Sequence[Search], parameter: str, choices: Sequence[Any]) -> dict[str, Any]:
    """Plotly's options for a parameter's axis: its choices in their order, or its range on its scale."""
    if choices:
        return {"type": "category", "categoryorder": "array", "categoryarray": [_text(choice) for choice in choices]}
    limits = [search.space[parameter] for search in spaces]
    if not any(space.get("log") for space in limits):
        return {"type": "linear"}
    low, high = min(space["low"] for space in limits), max(space["high"] for space in limits)
    return {"type": "log", "exponentformat": "power", "dtick": 1 if high > 50 * low else None}


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def _hover(loss: str, row: dict[str, Any], parameter: str) -> str:
    score = row["outcome"] if math.isnan(row["score"]) else f"{row['score']:.5g}"
    return f"{escape(loss)}, trial {row['number']}: {escape(parameter)} {_text(row[parameter])}, {score}"


class Axis:
    """An axis for these numbers, logarithmic where they span more than two powers of ten."""

    def __init__(self, seen: Sequence[float] | np.ndarray[Any, Any]) -> None:
        self.seen = low, high = float(np.min(seen)), float(np.max(seen))
        self.log = low > 0 and high > WIDE * low
        if self.log:
            room = ROOM * math.log10(high / low)
            self.ends = low / 10**room, high * 10**room
        else:
            room = ROOM * (high - low) or abs(high) * ROOM or 1.0
            self.ends = low - room, high + room

    def failed(self, higher_is_better: bool) -> float:
        """The position of trials without a score: beyond the worst score."""
        seen, end = (pair[0 if higher_is_better else 1] for pair in (self.seen, self.ends))
        return math.sqrt(seen * end) if self.log else (seen + end) / 2

    @property
    def drawn(self) -> dict[str, Any]:
        """Plotly's options for the axis."""
        ends = [math.log10(end) for end in self.ends] if self.log else list(self.ends)
        return {"type": "log" if self.log else "linear", "range": ends}


def _faint(colour: str) -> str:
    return f"rgba({','.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))},0.15)"
