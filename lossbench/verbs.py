"""What the command line does beside training: `check`, `list`, `report`, `ui`, and what `compare` stands for."""

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
    """`list [dataset=X] [--html FILE] [--config-dir FOLDER]`: the catalogue, or what fits a dataset; or as a page."""
    asked = _list_arguments(arguments)
    from lossbench import catalogue, families, settings, terminal

    entries, title = catalogue.losses([settings.CONFIGS, *asked.folders]), "losses"
    found = families.families(entries)
    if asked.dataset:
        kind = _kind(asked.dataset)
        title = f"losses that fit {asked.dataset} ({kind})"
        found = families.families([entry for entry in entries if kind in entry.kinds], guests=False)
    if not asked.html:
        terminal.out().print(terminal.catalogue(found, title))
        return
    from lossbench.gallery.page import page

    try:
        with (
            Path(asked.html).open("w", encoding="utf-8") as file,  # before the half minute that drawing takes
            terminal.bar("gallery", sum(len(family.members) for family in found)) as bar,
        ):
            file.write(page(found, title, lambda name: bar.advance(1, 0)))
    except OSError as error:
        raise BadInput(f"list: --html {asked.html}: cannot be written: {error.strerror}") from error
    terminal.out().print(f"gallery: {Path(asked.html).absolute()}")


def _list_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        "python -m lossbench list",
        usage="%(prog)s [dataset=DATASET] [options]",
        description="The catalogue of losses, by family; with a dataset, those that fit it.",
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="dataset=DATASET", help="only what fits this dataset")
    parser.add_argument("--html", metavar="FILE", help="draw every loss and its gradient on a page instead")
    parser.add_argument("--config-dir", metavar="FOLDER", help="also the losses of this folder of configurations")
    asked = parser.parse_args(arguments)
    unknown = [word for word in asked.words if not word.startswith("dataset=")]
    if unknown:
        raise BadInput(f"list: {unknown[0]} is not understood; list, or list dataset=…")
    asked.dataset = asked.words[-1].partition("=")[2] if asked.words else ""
    asked.folders = [Path(asked.config_dir)] if asked.config_dir else []
    if asked.config_dir and not (asked.folders[0] / "loss").is_dir():
        raise BadInput(f"list: --config-dir {asked.config_dir}: there is no folder loss in it")
    return asked


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
        raise BadInput(f"{self.prog.split()[-1]}: {message}\n{self.prog} --help says what there is")


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


def check(arguments: list[str]) -> None:
    """`check my_module.my_loss [kind=…] [setting=…]`: the contract tests on a loss; exit 1 where it breaks one."""
    parser = _Parser(
        "python -m lossbench check",
        usage="%(prog)s my_module.my_loss | NAME [kind=KIND] [setting=value …]",
        description="The contract of a loss, clause by clause, on somebody's own or one of the catalogue.",
        allow_abbrev=False,
    )
    parser.add_argument("loss", nargs="+", metavar="my_module.my_loss", help="or the name of one of the catalogue")
    asked = parser.parse_args(arguments)
    from lossbench import terminal
    from lossbench.contract import checking, table

    checked = checking.check(asked.loss)
    table.show(checked, terminal.out())
    if checked.broken:
        raise SystemExit(1)


def verify(arguments: list[str]) -> None:
    """`verify [NAME…] [--html FILE]`: the analytical truths; exit 1 where one fails. `--empirical`: of training."""
    store = [a for a in arguments if a.startswith("tracking.uri=")]
    parser = _Parser(
        "python -m lossbench verify",
        usage="%(prog)s [NAME …] [--html FILE] | --empirical [NAME …] [tracking.uri=…]",
        description="What a correct harness must show, measured through its own losses, tasks and engine.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these truths")
    parser.add_argument("--html", metavar="FILE", help="also a page that draws what was measured")
    parser.add_argument("--empirical", action="store_true", help="train what others have published figures of")
    asked = parser.parse_args([a for a in arguments if a not in store])
    if asked.empirical and asked.html:
        raise BadInput("verify: --html draws the analytical truths; each study of --empirical has its report in MLflow")
    if asked.empirical:
        _train_studies(asked.names, store[-1].partition("=")[2] if store else None)
        return
    from lossbench import terminal
    from lossbench.truths import verify as truths

    outcomes = list(truths.all_of(truths.chosen(asked.names)))
    terminal.out().print(truths.table(outcomes))
    if asked.html:
        from lossbench.truths.page import page

        _written(asked.html, page(outcomes), "verify: --html")
        terminal.out().print(f"page: {Path(asked.html).absolute()}")
    terminal.out().print(truths.last_line(outcomes))
    if not all(outcome.holds for outcome in outcomes):
        raise SystemExit(1)


def _train_studies(names: list[str], store: str | None) -> None:
    """Each study trained, unless this code has recorded it already, and judged; exit 1 where a gate fails."""
    from lossbench import terminal, tracking
    from lossbench.truths import empirical, studies

    uri = tracking.resolve(store or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")
    console, failed = terminal.out(), False
    for study in empirical.chosen(names):
        judged = studies.judged(study, uri)
        console.print(studies.table(judged))
        failed |= not judged.holds
    if failed:
        raise SystemExit(1)


def _written(path: str, text: str, setting: str) -> None:
    """Raises: BadInput for a file that cannot be written."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{setting} {path}: cannot be written: {error.strerror}") from error


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


VERBS: dict[str, Any] = {
    "check": check,
    "compare": compare,
    "list": list_losses,
    "report": report,
    "ui": ui,
    "verify": verify,
}
