"""What the command line does beside training: `check`, `list`, `report`, `ui`, and what `compare` stands for."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from lossbench.arguments import Arguments
from lossbench.core import BadInput, demand

SEEDS = 100_000  # of a comparison, all of which are composed before the first one trains
COMPARE = """usage: python -m lossbench compare dataset=DATASET [losses=a,b] [seeds=10] [tune=TRIALS] [key=value …]
       python -m lossbench compare dataset=DATASET [losses=a,b] seeds=auto [most=40] [margin=0.01] [key=value …]

Train these losses, by default all that fit, on the same data with the same seeds; then a table and report.html.
With tune, each loss is searched with so many trials first. With seeds=auto, as many seeds as it takes, at most so
many, until each loss is worse than the best, or equal to it within the margin (in the metric's unit; by default 1 % of
the first loss's mean). Settings and options are those of a run: see --help."""


def compare(arguments: list[str]) -> list[str] | None:
    """`compare dataset=X [losses=a,b] [seeds=10] [tune=20] …`: a multirun over these losses, by default all that fit.

    With `tune`, each of them is searched with so many trials first.
    """
    from lossbench import choices

    asked = choices.read(arguments)
    if ("--help", "") in asked.options:
        print(COMPARE)
        return None
    if asked.bare:
        raise BadInput(_stray_of_compare(asked))
    seeds = asked.value("seeds") or "10"
    auto = seeds == "auto"
    if not auto and asked.value("most") is not None:
        raise BadInput(f"most={asked.value('most')}: belongs to seeds=auto, which trains as many as it takes")
    if auto and asked.value("tune") is not None:
        raise BadInput(f"tune={asked.value('tune')}: tuned runs have a number of seeds; leave seeds=auto or tune out")
    if not auto and not (seeds.isdigit() and 1 <= int(seeds) <= SEEDS):
        raise BadInput(
            f"seeds={seeds}: how many paired seeds, at least 1, at most {SEEDS:,}, or auto; certain ones are 'seed=3,5'"
        )
    if asked.value("seed") == "":
        raise BadInput("seed=: wants numbers with commas between; without it, there are ten")
    for mine, ours in (("losses", "loss"), ("seeds", "seed")):
        if None not in (asked.value(mine), asked.value(ours)):
            raise BadInput(f"{mine}={asked.value(mine)}: and {ours}={asked.value(ours)}; give one of them")
    rest = asked.without("losses", "seeds", "tune", "loss", "seed", "most")
    losses, more = asked.value("losses") if asked.value("loss") is None else asked.value("loss"), []
    if losses == "":
        raise BadInput("losses=: wants names with commas between; without it, every loss that fits is trained")
    if losses is None:
        losses = ",".join(_fitting(asked, rest))
        if not any(word.startswith("hydra/launcher=") for word in rest):  # others know no such setting
            more = ["hydra.launcher.leave_out=true"]
    if (tune := asked.value("tune")) is not None:
        if not tune.isdigit() or int(tune) < 1:
            raise BadInput(f"tune={tune}: how many trials of each loss, at least 1")
        more += ["hydra/sweeper=fair", f"hydra.sweeper.trials={tune}"]
    options = [word for option in asked.options for word in option if word and option[0] != "--multirun"]
    if auto:
        chosen = ["hydra/sweeper=sequential", f"hydra.sweeper.most={asked.value('most') or 40}"]
        return ["-m", *options, *more, *chosen, *rest, f"loss={losses}"]
    seed = f"seed={asked.value('seed') or f'range({seeds})'}"
    return ["-m", *options, *more, *rest, f"loss={losses}", seed]


def _fitting(asked: Arguments, words: list[str]) -> list[str]:
    """Every loss that fits the data, what the data bring first: others are compared with it."""
    from lossbench import catalogue, choices

    places = choices.folders(asked)
    study = [word for word in words if word.startswith("experiment=")]
    named = asked.value("dataset")
    wanted = [[f"dataset={name}"] for name in named.split(",")] if named is not None else [[]]
    data = [choices.composed([*study, *words], places) for words in wanted]
    usual = str(data[0].hydra.runtime.choices.loss)
    kinds = {str(asked.value("dataset.kind") or cfg.dataset.kind) for cfg in data}
    fitting = [entry.name for entry in catalogue.losses(places) if kinds <= set(entry.kinds)]
    if not fitting:
        raise BadInput(
            f"dataset={named}: no loss fits {' and '.join(sorted(kinds))} problems alike; compare each alone"
        )
    return sorted(fitting, key=lambda name: name != usual)


def _stray_of_compare(asked: Arguments) -> str:
    from lossbench import choices

    word = asked.bare[0]
    choice = choices.chosen_by(word.split(",")[0], choices.folders(asked))
    if choice.startswith("loss="):
        return f"compare {word}: say compare losses={word}"
    if choice:
        return f"compare {word}: say compare {choice}"
    return f"compare: {word} is not understood; compare dataset=… losses=a,b seeds=10"


def list_losses(arguments: list[str]) -> None:
    """`list [dataset=X] [--html FILE] [--config-dir FOLDER]`: the catalogue, or what fits a dataset; or as a page."""
    asked = _list_arguments(arguments)
    from lossbench import catalogue, choices, families, terminal

    entries, title = catalogue.losses(asked.folders), "losses"
    found = families.families(entries)
    if asked.dataset:
        kind = str(choices.composed([f"dataset={asked.dataset}"], asked.folders).dataset.kind)
        title = f"losses that fit {asked.dataset} ({kind})"
        found = families.families([entry for entry in entries if kind in entry.kinds], guests=False)
    if asked.html is None:
        terminal.out().print(terminal.catalogue(found, title))
        for group in () if asked.dataset else ("dataset", "model", "optimizer", "experiment"):
            terminal.out().print(f"{group}s: {', '.join(choices.names(group, asked.folders))}", soft_wrap=True)
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
    from lossbench import choices

    parser = _Parser(
        "python -m lossbench list",
        usage="%(prog)s [dataset=DATASET] [options]",
        description="The catalogue of losses, by family; with a dataset, those that fit it.",
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="dataset=DATASET", help="only what fits this dataset")
    parser.add_argument("--html", metavar="FILE", help="draw every loss and its gradient on a page instead")
    _add_folder(parser)
    asked = parser.parse_intermixed_args(arguments)
    asked.folders = choices.folders(_of_folder(asked.config_dir))
    for word in asked.words:
        if not word.startswith("dataset=") and word not in ("losses", "datasets", "models"):  # it shows all of them
            choice = choices.chosen_by(word, asked.folders)
            said = choice if choice.startswith("dataset=") else "dataset=…"
            raise BadInput(f"list: {word} is not understood; list, or list {said}")
    named = [word for word in asked.words if word.startswith("dataset=")]
    asked.dataset = named[-1].partition("=")[2] if named else ""
    if named and not asked.dataset:
        raise BadInput("list: dataset=: wants a name; without it, every loss is listed")
    return asked


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="also what this folder of configurations holds")


def _of_folder(folder: str | None) -> Arguments:
    return Arguments((("--config-dir", folder),) if folder else (), (), ())


def report(arguments: list[str]) -> None:
    """`report [COMPARISON|EXPERIMENT] …`: the report again, from MLflow alone; or on standard output."""
    asked = _report_arguments(arguments)
    from lossbench import terminal, tracking

    store = tracking.Store(_recorded(asked.uri))
    from lossbench.analysis import document, report, tables
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
        report.save(page(made, store.client), Path(asked.output))
    except OSError as error:
        raise BadInput(f"report: --output {asked.output}: cannot be written: {error.strerror}") from error
    terminal.report(made)
    terminal.out().print(f"report: {Path(asked.output).absolute()}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        verb = self.prog.split()[-1]
        if found := re.match(r"unrecognized arguments: --?([\w.]+)(?:=| |$)(.*)", message):
            near = difflib.get_close_matches(f"--{found[1]}", self._option_string_actions, n=1, cutoff=0.75)
            hint = f"nearest: {near[0]}" if near else f"settings have no dashes; perhaps {found[1]}={found[2] or '…'}"
            raise BadInput(f"{verb}: --{found[1]}: no such option; {hint}\n{self.prog} --help says what there is")
        raise BadInput(f"{verb}: {message}\n{self.prog} --help says what there is")


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
    parser.add_argument(
        "--margin", metavar="AMOUNT", help="a difference that nobody cares about; default: 1 %% of the baseline's mean"
    )
    parser.add_argument("--allow-mixed", action="store_true", help="accept several code revisions or data")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="default: report.html")
    tables = parser.add_mutually_exclusive_group()
    for kind in ("csv", "latex", "markdown"):
        text = f"print the table as {kind} instead"
        tables.add_argument(f"--{kind}", action="store_const", dest="table", const=kind, help=text)
    text = "print all of it as JSON instead, as lossbench/analysis/report.schema.json describes it"
    tables.add_argument("--json", action="store_const", dest="table", const="json", help=text)
    asked = parser.parse_args([a for a in arguments if a not in settings])
    if asked.margin is not None:
        demand("report: --margin", asked.margin, lambda v: v >= 0, "0 or above, in the metric's unit")
        asked.margin = float(asked.margin)
    asked.uri = settings[-1].partition("=")[2] if settings else None
    return asked


def ui(arguments: list[str]) -> None:
    """`ui [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…] [port=5000]`: MLflow's UI on a store, on loopback, at a run."""
    parser = _Parser(
        "python -m lossbench ui",
        usage="%(prog)s [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…] [port=5000]",
        description="MLflow's UI on a store, on loopback; it opens at a run, a comparison or an experiment.",
    )
    parser.add_argument("words", nargs="*", metavar="RUN|COMPARISON|EXPERIMENT", help="default: all experiments")
    arguments = parser.parse_args(arguments).words
    from lossbench import tracking

    asked = dict(a.split("=", 1) for a in arguments if "=" in a)
    run_ids = [a for a in arguments if "=" not in a]
    unknown = [a for a in asked if a not in ("tracking.uri", "port")] + run_ids[1:]
    if unknown:
        raise BadInput(f"ui: {unknown[0]} is not understood; ui [RUN|COMPARISON|EXPERIMENT] [tracking.uri=…]")
    uri = _recorded(asked.get("tracking.uri"))
    page = tracking.Store(uri).path(run_ids[0]) if run_ids else "experiments"
    if uri.startswith("http"):
        print(tracking.page(uri, page))
    else:
        tracking.serve(uri, asked.get("port", "5000"), page)


def check(arguments: list[str]) -> None:
    """`check my_module.my_loss [kind=…] [setting=…]`: the contract tests on a loss; exit 1 where it does not fit."""
    parser = _Parser(
        "python -m lossbench check",
        usage="%(prog)s my_module.my_loss | NAME [kind=KIND] [setting=value …]",
        description="The contract of a loss, clause by clause, on somebody's own or one of the catalogue.",
        allow_abbrev=False,
    )
    parser.add_argument("loss", nargs="+", metavar="my_module.my_loss", help="or the name of one of the catalogue")
    _add_folder(parser)
    asked = parser.parse_intermixed_args(arguments)
    from lossbench import choices, terminal

    folders = choices.folders(_of_folder(asked.config_dir))
    from lossbench.contract import checking, table

    checked = checking.check(asked.loss, folders)
    table.show(checked, terminal.out())
    if checked.unfit:
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

    if asked.html is not None:
        _written(asked.html, "", "verify: --html", mode="a")  # before the minutes that measuring takes
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

    uri = tracking.resolve(_store(store))
    tracking.reach(uri)
    console, failed = terminal.out(), False
    for study in empirical.chosen(names):
        judged = studies.judged(study, uri)
        console.print(studies.table(judged))
        failed |= not judged.holds
    if failed:
        raise SystemExit(1)


def _written(path: str, text: str, setting: str, mode: str = "w") -> None:
    """Raises: BadInput for a file that cannot be written."""
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BadInput(f"{setting} {path}: cannot be written: {error.strerror}") from error


def _store(asked: str | None) -> str:
    """The address that was asked for, or the default one."""
    return asked if asked is not None else os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def _recorded(asked: str | None) -> str:
    """The store that was asked for, or the default one. Raises: BadInput where nothing is recorded there yet."""
    from lossbench import tracking

    uri = tracking.resolve(_store(asked))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise BadInput(f"tracking.uri={uri}: nothing is recorded there yet; train something first, or name a store")
    tracking.reach(uri)
    return uri


VERBS: dict[str, Any] = {
    "check": check,
    "compare": compare,
    "list": list_losses,
    "report": report,
    "ui": ui,
    "verify": verify,
}
