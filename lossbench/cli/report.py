"""`report`: a comparison's report again, from its records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lossbench.cli.options import Parser, recorded
from lossbench.core import ConfigError, require


def report(arguments: list[str]) -> None:
    """`report [COMPARISON|EXPERIMENT] …`: the report again, from MLflow alone; or on standard output."""
    asked = _report_arguments(arguments)
    from lossbench import terminal, tracking

    store = tracking.Store(recorded(asked.uri))
    from lossbench.analysis import document, files, report, tables
    from lossbench.analysis.page import page

    made = report.make(
        store.client,
        asked.name,
        primary=asked.metric,
        baseline=asked.baseline,
        margin=asked.margin,
        allow_mixed=asked.allow_mixed,
    )
    if asked.table:
        texts = {
            "json": lambda: document.text(made),
            "csv": lambda: tables.csv(made.verdicts),
            "latex": lambda: tables.latex(made.verdicts),
            "markdown": lambda: tables.markdown(made.verdicts, made.sentences, made.tunings) + "\n",
        }
        sys.stdout.write(texts[asked.table]())
        return
    try:
        files.save(page(made, store.client), Path(asked.output))
    except OSError as error:
        raise ConfigError(f"report: --output {asked.output}: cannot be written: {error.strerror}") from error
    terminal.report(made)
    terminal.out().print(f"report: {Path(asked.output).absolute()}")


def _report_arguments(arguments: list[str]) -> argparse.Namespace:
    settings = [a for a in arguments if a.startswith("tracking.uri=")]
    parser = Parser(
        "python -m lossbench report",
        usage="%(prog)s [COMPARISON|EXPERIMENT] [options] [tracking.uri=…]",
        description="The report on a comparison (its name or its run's id) or an experiment, from MLflow alone.",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="COMPARISON|EXPERIMENT", help="default: the newest comparison")
    parser.add_argument("--baseline", metavar="LOSS", help="the loss that others are compared with; default: the first")
    parser.add_argument("--metric", metavar="YARDSTICK", help="what decides; default: the primary metric")
    parser.add_argument(
        "--margin", metavar="AMOUNT", help="a difference that nobody cares about; default: 1 %% of the baseline's mean"
    )
    parser.add_argument("--allow-mixed", action="store_true", help="accept several code revisions or data")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="default: report.html")
    tables = parser.add_mutually_exclusive_group()
    for task_type in ("csv", "latex", "markdown"):
        text = f"print the table as {task_type} instead"
        tables.add_argument(f"--{task_type}", action="store_const", dest="table", const=task_type, help=text)
    text = "print all of it as JSON instead, as lossbench/analysis/report.schema.json describes it"
    tables.add_argument("--json", action="store_const", dest="table", const="json", help=text)
    asked = parser.parse_args([a for a in arguments if a not in settings])
    if asked.margin is not None:
        require("report: --margin", asked.margin, lambda v: v >= 0, "0 or above, in the metric's unit")
        asked.margin = float(asked.margin)
    asked.uri = settings[-1].partition("=")[2] if settings else None
    return asked
