"""`list`: the catalogue."""

from __future__ import annotations

import argparse
from pathlib import Path

from lossbench.cli.options import Parser
from lossbench.config.arguments import Arguments
from lossbench.core import ConfigError

TASK = "task._target_="  # a task from outside, whose losses are listed


def list_losses(arguments: list[str]) -> None:
    """`list [dataset=X] [--html FILE] [--config-dir FOLDER]`: the catalogue, or what fits a dataset; or as a page."""
    asked = _list_arguments(arguments)
    from lossbench import terminal
    from lossbench.config import catalogue, choices, families
    from lossbench.config.task_types import chosen, named

    entries, title = catalogue.losses(asked.folders), "losses"
    found = families.families(entries)
    if asked.dataset:
        task_type = asked.task or chosen(choices.composed([f"dataset={asked.dataset}"], asked.folders))
        title = f"losses that fit {asked.dataset} ({named(task_type)})"
        found = families.families([entry for entry in entries if entry.fits(task_type)], guests=False)
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
        raise ConfigError(f"list: --html {asked.html}: cannot be written: {error.strerror}") from error
    terminal.out().print(f"gallery: {Path(asked.html).absolute()}")


def _list_arguments(arguments: list[str]) -> argparse.Namespace:
    from lossbench.config import choices

    parser = Parser(
        "python -m lossbench list",
        usage="%(prog)s [dataset=DATASET] [options]",
        description="The catalogue of losses, by family; with a dataset, those that fit it.",
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="dataset=DATASET", help="only what fits this dataset")
    parser.add_argument("--html", metavar="FILE", help="draw every loss and its gradient on a page instead")
    add_folder(parser)
    asked = parser.parse_intermixed_args(arguments)
    asked.folders = choices.folders(of_folder(asked.config_dir))
    for word in asked.words:
        known = word.startswith(("dataset=", TASK)) or word in ("losses", "datasets", "models")  # it shows all of them
        if not known:
            choice = choices.chosen_by(word, asked.folders)
            said = choice if choice.startswith("dataset=") else "dataset=…"
            raise ConfigError(f"list: {word} is not understood; list, or list {said}")
    named = [word for word in asked.words if word.startswith("dataset=")]
    asked.dataset = named[-1].partition("=")[2] if named else ""
    asked.task = next((word.partition("=")[2] for word in reversed(asked.words) if word.startswith(TASK)), "")
    if named and not asked.dataset:
        raise ConfigError("list: dataset=: wants a name; without it, every loss is listed")
    return asked


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="also what this folder of configurations holds")


def of_folder(folder: str | None) -> Arguments:
    return Arguments((("--config-dir", folder),) if folder else (), (), ())
