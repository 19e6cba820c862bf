"""`report`: the report on a comparison, from its records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lossbench.cli.options import Parser
from lossbench.core import ConfigError, require


def report(arguments: list[str]) -> None:
    """`report [COMPARISON|EXPERIMENT] …`: write the report from MLflow alone, or print its tables."""
    options = _report_arguments(arguments)
    from lossbench import terminal, tracking

    store = tracking.Store(tracking.existing_store(options.uri))
    from lossbench.analysis import document, files, report, tables
    from lossbench.analysis.page import page

    content = report.make(
        store.client,
        options.name,
        primary=options.metric,
        baseline=options.baseline,
        margin=options.margin,
        allow_mixed=options.allow_mixed,
    )
    if options.table:
        texts = {
            "json": lambda: document.text(content),
            "csv": lambda: tables.csv(content.verdicts),
            "latex": lambda: tables.latex(content.verdicts),
            "markdown": lambda: tables.markdown(content.verdicts, content.sentences, content.tunings) + "\n",
        }
        sys.stdout.write(texts[options.table]())
        return
    try:
        files.save(page(content, store.client), Path(options.output))
    except OSError as error:
        raise ConfigError(f"report: --output {options.output}: cannot be written: {error.strerror}") from error
    terminal.report(content)
    terminal.out().print(f"report: {Path(options.output).absolute()}")


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
    parser.add_argument("--metric", metavar="METRIC", help="the metric that decides; default: the primary metric")
    parser.add_argument(
        "--margin", metavar="AMOUNT", help="differences up to it count as equal; default: 1 %% of the baseline's mean"
    )
    parser.add_argument("--allow-mixed", action="store_true", help="accept runs of different code revisions or data")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="default: report.html")
    tables = parser.add_mutually_exclusive_group()
    for form in ("csv", "latex", "markdown"):
        text = f"print the table as {form} instead"
        tables.add_argument(f"--{form}", action="store_const", dest="table", const=form, help=text)
    text = "print the whole report as JSON instead; its schema is lossbench/analysis/report.schema.json"
    tables.add_argument("--json", action="store_const", dest="table", const="json", help=text)
    options = parser.parse_args([a for a in arguments if a not in settings])
    if options.margin is not None:
        require("report: --margin", options.margin, lambda v: v >= 0, "0 or above, in the metric's unit")
        options.margin = float(options.margin)
    options.uri = settings[-1].partition("=")[2] if settings else None
    return options
