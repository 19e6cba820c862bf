"""`list`: the catalogue of losses."""

from __future__ import annotations

import argparse
from pathlib import Path

from lossbench.cli.options import Parser
from lossbench.config.arguments import Arguments
from lossbench.core import ConfigError

TASK = "task._target_="  # a foreign task, whose losses are listed


def list_losses(arguments: list[str]) -> None:
    """`list [dataset=X] [--html FILE] [--config-dir FOLDER]`: print the catalogue, or write it as a page.

    With a dataset, only the losses that fit it.
    """
    options = _list_arguments(arguments)
    from lossbench import terminal
    from lossbench.config import catalogue, choices, families
    from lossbench.config.task_types import chosen, named

    entries, title = catalogue.losses(options.folders), "losses"
    found = families.families(entries)
    if options.dataset:
        task_type = options.task or chosen(choices.composed([f"dataset={options.dataset}"], options.folders))
        title = f"losses that fit {options.dataset} ({named(task_type)})"
        found = families.families([entry for entry in entries if entry.fits(task_type)], guests=False)
    if options.html is None:
        terminal.out().print(terminal.catalogue(found, title))
        for group in () if options.dataset else ("dataset", "model", "optimizer", "experiment"):
            terminal.out().print(f"{group}s: {', '.join(choices.names(group, options.folders))}", soft_wrap=True)
        return
    from lossbench.gallery.page import page

    try:
        with (
            Path(options.html).open("w", encoding="utf-8") as file,  # fails before the half minute that drawing takes
            terminal.bar("gallery", sum(len(family.members) for family in found)) as bar,
        ):
            file.write(page(found, title, lambda name: bar.advance(1, 0)))
    except OSError as error:
        raise ConfigError(f"list: --html {options.html}: cannot be written: {error.strerror}") from error
    terminal.out().print(f"gallery: {Path(options.html).absolute()}")


def _list_arguments(arguments: list[str]) -> argparse.Namespace:
    from lossbench.config import choices

    parser = Parser(
        "python -m lossbench list",
        usage="%(prog)s [dataset=DATASET] [options]",
        description="The catalogue of losses, by family; with a dataset, only those that fit it.",
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar="dataset=DATASET", help="only the losses that fit this dataset")
    parser.add_argument("--html", metavar="FILE", help="write a page that plots every loss and its gradient instead")
    add_folder(parser)
    options = parser.parse_intermixed_args(arguments)
    options.folders = choices.folders(folder_arguments(options.config_dir))
    for word in options.words:
        known = word.startswith(("dataset=", TASK)) or word in ("losses", "datasets", "models")  # these list everything
        if not known:
            choice = choices.chosen_by(word, options.folders)
            hint = choice if choice.startswith("dataset=") else "dataset=…"
            raise ConfigError(f"list: {word}: no such setting; write list, or list {hint}")
    datasets = [word for word in options.words if word.startswith("dataset=")]
    options.dataset = datasets[-1].partition("=")[2] if datasets else ""
    options.task = next((word.partition("=")[2] for word in reversed(options.words) if word.startswith(TASK)), "")
    if datasets and not options.dataset:
        raise ConfigError("list: dataset=: has to be a name; without it, every loss is listed")
    return options


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the option --config-dir."""
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="also use the configurations of this folder")


def folder_arguments(folder: str | None) -> Arguments:
    """The value of --config-dir as parsed arguments."""
    return Arguments((("--config-dir", folder),) if folder else (), (), ())
