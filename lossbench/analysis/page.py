"""The report as one HTML file that needs no network."""

from __future__ import annotations

import platform
import re
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, Any

from lossbench.analysis import (
    across_panel,
    answer,
    confidence,
    curves,
    figures,
    level,
    matrices,
    panels,
    pictures,
    references,
    sensitivity,
    stats,
    tables,
)
from lossbench.analysis.histories import POINTS
from lossbench.analysis.report import Report
from lossbench.analysis.tuning.panel import panel
from lossbench.analysis.verdict import COSTS, STREAM, Verdict

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup
    from mlflow import MlflowClient
    from plotly.graph_objects import Figure

PACKAGES = ("lossbench", "mlflow", "numpy", "pandas", "plotly", "scipy")
SHOWN = 3  # metrics that fit on a screen beside the primary one; the others are hidden at first
CELL = 38  # pixels of a matrix's cell that can hold a number
LISTED = 60  # pairs in the table; the CSV has all
FAILURES = 200  # runs without a result in the table; the CSV has all


class _Figures:
    """The figures of a page as JSON, by the id of the element in which each is drawn.

    Plotly escapes `<` and `/` in the JSON, so that no name can end the script element.
    """

    def __init__(self) -> None:
        self.drawn: dict[str, str] = {}
        self._numbers = count(1)

    def __call__(self, figure: Figure | None) -> str:
        if figure is None:
            return ""
        name = f"figure-{next(self._numbers)}"
        self.drawn[name] = figure.to_json()
        return name


def page(report: Report, client: MlflowClient) -> str:
    """The whole page, with plotly's script inlined."""
    from plotly.offline import get_plotlyjs

    drawn = _Figures()
    datasets = [
        _dataset(verdict, sentence, report, client, drawn)
        for verdict, sentence in zip(report.verdicts, report.sentences, strict=True)
    ]
    runs = report.records.runs
    return _template().render(
        name=report.records.name,
        title=report.records.question or f"Which loss on {answer.listed([v.dataset for v in report.verdicts])}?",
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        started=datetime.fromtimestamp(runs["start"].min() / 1000).strftime("%Y-%m-%d %H:%M"),
        runs=len(runs),
        trials=sum(len(tuning.trials) for tuning in report.tunings.values()),
        datasets=datasets,
        variations={verdict.population.variation for verdict in report.verdicts},
        across=_across(report, drawn),
        remarks=report.remarks,
        commands=list(dict.fromkeys(report.records.commands)),
        codes=sorted(set(runs["code"]) - {""}),
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        numbers={
            "points": POINTS,
            "drawn": figures.SEEDS,
            "resamples": confidence.RESAMPLES,
            "exact": stats.EXACT,
            "seed": STREAM,
            "pairs": level.PAIRS,
            "cell": CELL,
            "metrics": SHOWN,
            "rarest": f"{2 / 2 ** (level.PAIRS - 1):.4f}",
        },
        figures=drawn.drawn,
        plotly=get_plotlyjs(),
    )


@cache
def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["breakable"] = _breakable
    return environment.from_string(files("lossbench.analysis").joinpath("page.html").read_text(encoding="utf-8"))


def _breakable(text: str) -> Markup:
    """A text whose names may be broken after `_` and `.`."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_.])(?=[^\W\d])", r"\1<wbr>", str(escape(text))))


def _dataset(verdict: Verdict, sentence: str, report: Report, client: MlflowClient, drawn: _Figures) -> dict[str, Any]:
    main = report.records.main
    part = main.only(main.runs[main.runs["dataset"] == verdict.dataset])
    tuning = report.tunings.get(verdict.dataset)
    some = bool(verdict.values.notna().to_numpy().any())
    several = len(verdict.chosen) > 1
    bands = curves.bands(verdict, client) if some else {}
    own = {m: b for m, b in bands.items() if m.startswith("train/") and "grad_norm" not in m}
    norms = {m: b for m, b in bands.items() if "grad_norm" in m}
    watched = {m: b for m, b in bands.items() if m.startswith("val/")}
    timed = watched and verdict.leaderboard["ms a step"].notna().any()
    return {
        "name": verdict.dataset,
        "sentence": sentence,
        "verdict": verdict,
        "colours": figures.colours(verdict),
        "seeds_figure": drawn(figures.seeds(verdict) if some else None),
        "board": list(panels.board(verdict)),
        "references": list(panels.references(verdict)),
        "of_references": references.sentence(verdict),
        "intervals": bool(verdict.leaderboard[f"{verdict.metric[0]} low"].notna().any()),
        "others": [metric for metric in verdict.metrics if metric != verdict.metric],
        "costs": [c for c in (*COSTS.values(), "own parameters") if (verdict.leaderboard[c] > 0).any()],
        "baseline_figure": drawn(figures.baseline(verdict) if some and several else None),
        "margin": answer.amount(verdict.margin),
        "margin_of": answer.margin_of(verdict),
        "against": list(panels.pairs(verdict.against(verdict.baseline))) if several else [],
        "pairs_figure": drawn(matrices.pairs(verdict) if some and several else None),
        "pairs": list(panels.pairs(others := panels.others(verdict)))[:LISTED],
        "all_pairs": len(others),
        "tuning": panel(tuning, drawn) if tuning else {},
        "curves": list(watched),
        "steps_figure": drawn(curves.curves(verdict, watched, "validation") if watched else None),
        "seconds_figure": drawn(curves.curves(verdict, watched, "validation", seconds=True) if timed else None),
        "own": list(own),
        "own_figure": drawn(curves.curves(verdict, own, "as recorded") if own else None),
        "norms": list(norms),
        "norms_figure": drawn(curves.curves(verdict, norms, "norm of the gradient") if norms else None),
        "mean_losses_figure": drawn(matrices.mean_losses(verdict)),
        "sensitivity": _sensitivity(verdict, part, drawn),
        "failures": list(panels.failures(part.runs))[:FAILURES],
        "all_failures": int((part.runs["outcome"] != "finished").sum()),
        "ranks": panels.ranks(verdict),
        "pictures": pictures.pictures(verdict, client),
    }


def _across(report: Report, drawn: _Figures) -> dict[str, Any]:
    found = report.across
    if found is None:
        return {}
    same = len({verdict.metric for verdict in report.verdicts}) == 1
    swept = sensitivity.over_data(report.records.main, report.verdicts) if same else {}
    figures = [drawn(curves.sensitivity(report.verdicts[0], name, table)) for name, table in swept.items()]
    return across_panel.panel(found, report.verdicts, drawn) | {"swept": figures}


def _sensitivity(verdict: Verdict, part: Any, drawn: _Figures) -> dict[str, Any]:
    parameters = sensitivity.swept(part)
    if not parameters or not verdict.settings[verdict.metric[0]].notna().any():
        return {}
    name = verdict.metric[0]
    losses = part.runs.drop_duplicates("label").set_index("label")["loss"]
    figures = [
        (parameter, drawn(curves.sensitivity(verdict, parameter, table)))
        for parameter in parameters
        if (table := sensitivity.over(part, verdict, parameter))["value"].nunique() > 1
    ]
    board = [
        {"loss": r["loss"], "n": r["n"], "failures": r["outcomes"], "value": tables.spread(r, name), "sort": r[name]}
        for _, r in verdict.settings.iterrows()
    ]
    near = sensitivity.near_best(verdict, losses).to_dict("records")
    return {
        "figures": figures,
        "near": near,
        "board": board,
        "per_cent": sensitivity.NEAR,
        "chosen": set(verdict.chosen.values()),
    }
