"""The report as one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench.analysis import answer, figures, sensitivity, stats, tables
from lossbench.analysis.histories import POINTS, histories
from lossbench.analysis.records import FAILED
from lossbench.analysis.report import Report
from lossbench.analysis.verdict import COSTS, STREAM, Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from plotly.graph_objects import Figure

PACKAGES = ("lossbench", "mlflow", "numpy", "pandas", "plotly", "scikit-posthocs", "scipy", "statsmodels")
PICTURED = 12  # losses whose pictures stand side by side
WIDTH = 560  # pixels of a picture
PICTURES_MB = 3.0
LISTED = 60  # pairs that are written out as a table; the CSV has all


class _Figures:
    """The figures of a page as JSON, by the id of the element that they are drawn in."""

    def __init__(self) -> None:
        self.drawn: dict[str, str] = {}
        self._numbers = count(1)

    def __call__(self, figure: Figure | None) -> str:
        if figure is None:
            return ""
        name = f"figure-{next(self._numbers)}"
        self.drawn[name] = figure.to_json().replace("<", "\\u003c")  # no name can end the script that it stands in
        return name


def page(report: Report, client: MlflowClient) -> str:
    """The whole page, plotly's script inlined once."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(files("lossbench.analysis").joinpath("page.html").read_text(encoding="utf-8"))
    drawn = _Figures()
    datasets = [
        _dataset(verdict, sentence, report, client, drawn)
        for verdict, sentence in zip(report.verdicts, report.sentences, strict=True)
    ]
    runs = report.records.runs
    return template.render(
        name=report.records.name,
        title=report.records.question or f"Which loss on {answer.listed([v.dataset for v in report.verdicts])}?",
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        started=datetime.fromtimestamp(runs["start"].min() / 1000).strftime("%Y-%m-%d %H:%M"),
        runs=len(runs),
        datasets=datasets,
        across=_across(report, drawn),
        remarks=report.remarks,
        commands=list(dict.fromkeys(report.records.commands)),
        codes=sorted(set(runs["code"]) - {""}),
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        numbers={
            "points": POINTS,
            "resamples": stats.RESAMPLES,
            "exact": stats.EXACT,
            "seed": STREAM,
            "pairs": stats.PAIRS,
        },
        figures=drawn.drawn,
        plotly=get_plotlyjs(),
    )


def _dataset(verdict: Verdict, sentence: str, report: Report, client: MlflowClient, drawn: _Figures) -> dict[str, Any]:
    part = report.records.only(report.records.runs[report.records.runs["dataset"] == verdict.dataset])
    some = bool(verdict.values.notna().to_numpy().any())
    several = len(verdict.chosen) > 1
    bands = _bands(verdict, client) if some else {}
    own = {m: b for m, b in bands.items() if m.startswith("train/") and "grad_norm" not in m}
    norms = {m: b for m, b in bands.items() if "grad_norm" in m}
    watched = {m: b for m, b in bands.items() if m.startswith("val/")}
    return {
        "name": verdict.dataset,
        "sentence": sentence,
        "verdict": verdict,
        "colours": figures.colours(verdict),
        "seeds_figure": drawn(figures.seeds(verdict) if some else None),
        "board": list(_board(verdict)),
        "costs": [c for c in (*COSTS.values(), "own parameters") if verdict.leaderboard[c].notna().any()],
        "baseline_figure": drawn(figures.baseline(verdict) if some and several else None),
        "against": list(_pairs(verdict.against(verdict.baseline))) if several else [],
        "pairs_figure": drawn(figures.pairs(verdict) if some and several else None),
        "pairs": list(_pairs(verdict.differences))[:LISTED],
        "curves": list(watched),
        "steps_figure": drawn(figures.curves(verdict, watched, "validation") if watched else None),
        "seconds_figure": drawn(figures.curves(verdict, watched, "validation", seconds=True) if watched else None),
        "own": list(own),
        "own_figure": drawn(figures.curves(verdict, own, "its own loss") if own else None),
        "norms": list(norms),
        "norms_figure": drawn(figures.curves(verdict, norms, "norm of the gradient") if norms else None),
        "costs_figure": drawn(figures.costs(verdict)),
        "sensitivity": _sensitivity(verdict, part, drawn),
        "failures": list(_failures(part.runs)),
        "ranks": _ranks(verdict),
        "pictures": _pictures(verdict, client),
    }


def _board(verdict: Verdict) -> Iterator[dict[str, Any]]:
    for _, row in verdict.leaderboard.iterrows():
        cells = {}
        for name, _, _ in verdict.yardsticks:
            mean, deviation, low, high, n = (row[f"{name}{what}"] for what in ("", " sd", " low", " high", " n"))
            cells[name] = {
                "sort": "" if mean != mean else mean,
                "mean": answer.amount(mean, deviation if deviation == deviation else np.nan),
                "sd": "" if deviation != deviation else f"± {answer.amount(deviation)}",
                "limits": ""
                if low != low
                else f"[{answer.amount(low, high - low)}, {answer.amount(high, high - low)}]",
                "missing": row["n"] - n,
            }
        costs = {c: row[c] for c in (*COSTS.values(), "own parameters")}
        yield {**row.to_dict(), "cells": cells, "best": row["loss"] in verdict.best, "costs": costs}


def _pairs(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for _, row in table.iterrows():
        width = row["high"] - row["low"]
        yield {
            "a": row["a"],
            "b": row["b"],
            "n": row["n"],
            "difference": answer.amount(row["difference"], width),
            "limits": "–"
            if width != width
            else f"[{answer.amount(row['low'], width)}, {answer.amount(row['high'], width)}]",
            **{p: "–" if row[p] != row[p] else f"{row[p]:.3g}" for p in ("p", "p_holm", "p_all")},
            "improvement": "–" if row["improvement"] != row["improvement"] else f"{100 * row['improvement']:.0f} %",
            "detectable": answer.amount(row["detectable"]),
            "real": row["p_all"] <= stats.ALPHA,
            "sort": row["difference"],
        }


def _bands(verdict: Verdict, client: MlflowClient) -> dict[str, dict[str, pd.DataFrame]]:
    """Median and band of each contender, for every metric that is watched over steps; the primary first."""
    runs = verdict.runs
    watched = [f"val/{name}" for name, _, _ in [verdict.yardstick, *verdict.yardsticks]]
    metrics = [m for m in dict.fromkeys([*watched, *sorted(c for c in runs if c.startswith("train/"))]) if m in runs]
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for metric in metrics:
        points = histories(client, runs["run_id"], metric).merge(runs[["run_id", "contender"]], on="run_id")
        by_loss = {loss: figures.band(rows) for loss, rows in points.groupby("contender", sort=False)}
        if any(len(band) > 1 for band in by_loss.values()):  # one point is no curve: what was tuned at the end
            found[metric] = {loss: by_loss[loss] for loss in verdict.chosen if loss in by_loss}
    return found


def _sensitivity(verdict: Verdict, part: Any, drawn: _Figures) -> dict[str, Any]:
    parameters = sensitivity.swept(part)
    if not parameters or not verdict.settings[verdict.yardstick[0]].notna().any():
        return {}
    losses = part.runs.drop_duplicates("label").set_index("label")["loss"]
    shown = [
        (parameter, drawn(figures.sensitivity(verdict, parameter, table)))
        for parameter in parameters
        if (table := sensitivity.over(part, verdict, parameter))["value"].nunique() > 1
    ]
    board = [
        {"loss": r["loss"], "n": r["n"], "failures": r["outcomes"], "value": tables.spread(r, verdict.yardstick[0])}
        for _, r in verdict.settings.iterrows()
    ]
    near = sensitivity.near_best(verdict, losses).to_dict("records")
    return {
        "figures": shown,
        "near": near,
        "board": board,
        "per_cent": sensitivity.NEAR,
        "chosen": set(verdict.chosen.values()),
    }


def _failures(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in runs[runs["outcome"] != "finished"].itertuples():
        step = "" if row.step != row.step else f"{row.step:.0f}"
        yield {
            "label": row.label,
            "seed": row.seed,
            "outcome": row.outcome,
            "step": step,
            "error": row.error,
            "id": row.run_id,
        }


def _ranks(verdict: Verdict) -> list[dict[str, Any]]:
    """Where some runs failed: mean ranks with these last, beside the rank of the mean of those that finished."""
    if not verdict.runs["outcome"].isin(FAILED).any():
        return []
    complete = verdict.values.mean().rank(ascending=not verdict.higher_is_better)
    order = verdict.ranks.mean().sort_values()
    return [
        {
            "loss": loss,
            "rank": f"{rank:.2f}",
            "complete": "–" if complete[loss] != complete[loss] else f"{complete[loss]:.0f}",
            "failed": int(verdict.failed[loss].sum()),
            "best": loss in verdict.best_ranked,
        }
        for loss, rank in order.items()
    ]


def _across(report: Report, drawn: _Figures) -> dict[str, Any]:
    """Average ranks over the datasets, where at least two have two losses in common."""
    tested = {v.dataset: (v.values, v.higher_is_better) for v in report.verdicts if v.values.notna().to_numpy().any()}
    if len(tested) < 2:
        return {}
    common = set.intersection(*(set(values.dropna(axis=1, how="all").columns) for values, _ in tested.values()))
    if len(common) < 2:
        return {}
    ranks, p, pairwise = stats.across(tested, np.random.default_rng(STREAM))
    same = len({verdict.yardstick for verdict in report.verdicts}) == 1
    swept = sensitivity.over_data(report.records, report.verdicts) if same else {}
    return {
        "datasets": list(tested),
        "left_out": sorted(set().union(*(set(values.columns) for values, _ in tested.values())) - common),
        "p": None if p != p else f"{p:.3g}",
        "figure": drawn(figures.critical_difference(ranks, pairwise)),
        "ranks": ranks.reset_index(names="loss").to_dict("records"),
        "cliques": figures.cliques(ranks["rank"], pairwise),
        "swept": [drawn(figures.sensitivity(report.verdicts[0], name, table)) for name, table in swept.items()],
    }


def _pictures(verdict: Verdict, client: MlflowClient) -> dict[str, Any]:
    """The pictures of every loss at one seed, small enough to send: the first seed on which most finished."""
    done = verdict.runs[verdict.runs["outcome"] == "finished"]
    if done.empty:
        return {}
    seeds = verdict.values.notna().sum(axis=1)
    seed = str(seeds.idxmax()) if len(seeds) else done["seed"].iloc[0]
    shown = [loss for loss in answer.by_mean(verdict) if loss in set(done["contender"])][:PICTURED]
    by_name: dict[str, list[tuple[str, str]]] = {}
    size = 0
    for loss in shown:
        for run in done[(done["contender"] == loss) & (done["seed"] == seed)].itertuples():
            for name, picture in _small(client, run.run_id):
                size += len(picture)
                if size <= PICTURES_MB * 2**20:
                    by_name.setdefault(name, []).append((loss, picture))
    return {"seed": seed, "by_name": by_name, "cut": size > PICTURES_MB * 2**20 or len(verdict.chosen) > PICTURED}


def _small(client: MlflowClient, run_id: str) -> Iterator[tuple[str, str]]:
    """The pictures of a run, by name, as data URIs: no wider than the page shows, in a palette."""
    from PIL import Image

    names = [entry.path for entry in client.list_artifacts(run_id, "pictures") if entry.path.endswith(".png")]
    with TemporaryDirectory() as folder:
        for path in names:
            with Image.open(client.download_artifacts(run_id, path, folder)) as picture:
                smaller = picture.convert("RGB")
                smaller.thumbnail((WIDTH, 4 * WIDTH))
                buffer = io.BytesIO()
                smaller.quantize(64).save(buffer, "PNG", optimize=True)
            yield Path(path).stem, f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
