"""What the command line does beside training: `list`, `report`, `ui`, and what `compare` stands for."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from lossbench.core import BadInput


def compare(arguments: list[str]) -> list[str]:
    """`compare dataset=X [losses=a,b] [seeds=10] [tune=20] …`: a multirun over these losses, by default all that fit.

    With `tune`, each of them is searched with so many trials first.
    """
    from lossbench import catalogue, settings

    asked = dict(a.split("=", 1) for a in arguments if "=" in a and not a.startswith("-"))
    dataset = asked.get("dataset", "regression")
    seeds = asked.get("seeds", "10")
    if not seeds.isdigit() or int(seeds) < 1:
        raise BadInput(f"seeds={seeds}: how many paired seeds, at least 1")
    if "losses" not in asked:
        usual, kind = _loss(dataset), _kind(dataset)  # the usual loss first: others are compared with it
        fitting = [e.name for e in catalogue.losses([settings.CONFIGS]) if kind in e.kinds]
        asked["losses"] = ",".join(sorted(fitting, key=lambda name: name != usual))
    tuned = []
    if "tune" in asked:
        if not asked["tune"].isdigit() or int(asked["tune"]) < 1:
            raise BadInput(f"tune={asked['tune']}: how many trials of each loss, at least 1")
        tuned = ["hydra/sweeper=fair", f"hydra.sweeper.trials={asked['tune']}"]
    rest = [a for a in arguments if a.partition("=")[0] not in ("losses", "seeds", "dataset", "tune")]
    return ["-m", *tuned, f"dataset={dataset}", f"loss={asked['losses']}", f"seed=range({seeds})", *rest]


def list_losses(arguments: list[str]) -> None:
    """`list [dataset=X]`: the catalogue, or what fits a dataset."""
    from lossbench import catalogue, settings, terminal

    unknown = [a for a in arguments if not a.startswith("dataset=")]
    if unknown:
        raise BadInput(f"list: {unknown[0]} is not understood; list, or list dataset=…")
    entries, title = catalogue.losses([settings.CONFIGS]), "losses"
    if arguments:
        dataset = arguments[-1].partition("=")[2]
        kind = _kind(dataset)
        entries, title = [e for e in entries if kind in e.kinds], f"losses that fit {dataset} ({kind})"
    terminal.out().print(terminal.catalogue(entries, title))


def report(arguments: list[str]) -> None:
    """`report [COMPARISON|EXPERIMENT] …`: the report again, from MLflow alone; or a table of it on standard output."""
    asked = _report_arguments(arguments)
    from lossbench import terminal, tracking

    store = tracking.Store(_recorded(asked.uri))
    from lossbench.analysis import report, tables
    from lossbench.analysis.page import page

    made = report.make(
        store.client, asked.name, metric=asked.metric, baseline=asked.baseline, allow_mixed=asked.allow_mixed
    )
    if asked.table:
        texts = {
            "csv": lambda: tables.csv(made.verdicts),
            "latex": lambda: tables.latex(made.verdicts),
            "markdown": lambda: tables.markdown(made.verdicts, made.sentences, made.tunings) + "\n",
        }
        sys.stdout.write(texts[asked.table]())
        return
    try:
        Path(asked.output).write_text(page(made, store.client), encoding="utf-8")
    except OSError as error:
        raise BadInput(f"report: --output {asked.output}: cannot be written: {error.strerror}") from error
    terminal.report(made)
    terminal.out().print(f"report: {Path(asked.output).absolute()}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"report: {message}\npython -m lossbench report --help says what there is")


def _report_arguments(arguments: list[str]) -> argparse.Namespace:
    settings = [a for a in arguments if a.startswith("tracking.uri=")]
    parser = _Parser(
        "python -m lossbench report",
        usage="%(prog)s [COMPARISON|EXPERIMENT] [options] [tracking.uri=…]",
        description="The report on a comparison (its name or its run's id) or an experiment, from MLflow alone.",
        allow_abbrev=False,
    )
    parser.add_argument("name", nargs="?", metavar="COMPARISON|EXPERIMENT", help="default: the newest comparison")
    parser.add_argument("--baseline", metavar="LOSS", help="the loss that others are compared with; default: the first")
    parser.add_argument("--metric", metavar="YARDSTICK", help="what decides; default: the primary yardstick")
    parser.add_argument("--allow-mixed", action="store_true", help="accept several code revisions or data")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="default: report.html")
    tables = parser.add_mutually_exclusive_group()
    for kind in ("csv", "latex", "markdown"):
        text = f"print the table as {kind} instead"
        tables.add_argument(f"--{kind}", action="store_const", dest="table", const=kind, help=text)
    asked = parser.parse_args([a for a in arguments if a not in settings])
    asked.uri = settings[-1].partition("=")[2] if settings else None
    return asked


def ui(arguments: list[str]) -> None:
    """`ui [RUN|COMPARISON] [tracking.uri=…] [port=5000]`: MLflow's UI on a store, light, on loopback, at a run."""
    from lossbench import tracking

    asked = dict(a.split("=", 1) for a in arguments if "=" in a)
    run_ids = [a for a in arguments if "=" not in a]
    unknown = [a for a in asked if a not in ("tracking.uri", "port")] + run_ids[1:]
    if unknown:
        raise BadInput(f"ui: {unknown[0]} is not understood; ui [RUN|COMPARISON] [tracking.uri=…] [port=5000]")
    uri = _recorded(asked.get("tracking.uri"))
    page = tracking.Store(uri).path(run_ids[0]) if run_ids else "experiments"
    if uri.startswith("http"):
        print(tracking.page(uri, page))
    else:
        tracking.serve(uri, asked.get("port", "5000"), page)


def _recorded(asked: str | None) -> str:
    """The store that was asked for, or the default one. Raises: BadInput where nothing is recorded there yet."""
    from lossbench import tracking

    uri = tracking.resolve(asked or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise BadInput(f"tracking.uri={uri}: nothing is recorded there yet; train something first, or name a store")
    tracking.reach(uri)
    return uri


def _kind(dataset: str) -> str:
    """The kind of problem of a dataset."""
    return str(_file(dataset).dataset.kind)


def _loss(dataset: str) -> str:
    """The loss that a dataset brings."""
    brought = [entry["override /loss"] for entry in _file(dataset).get("defaults", []) if "override /loss" in entry]
    return str(brought[0]) if brought else ""


def _file(dataset: str) -> Any:
    """The file of a dataset. Raises: BadInput for one that is not there."""
    from omegaconf import OmegaConf

    from lossbench import complaints, settings

    path = settings.CONFIGS / "dataset" / f"{dataset}.yaml"
    if not path.is_file():
        raise BadInput(complaints.missing("dataset", dataset, [p.stem for p in path.parent.glob("*.yaml")]))
    return OmegaConf.load(path)


VERBS: dict[str, Any] = {"compare": compare, "list": list_losses, "report": report, "ui": ui}
