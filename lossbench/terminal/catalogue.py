"""The catalogue of losses as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lossbench.config.catalogue import Entry
    from lossbench.config.families import Family


def catalogue(families: Sequence[Family], title: str) -> Group:
    """One table per family: each loss with its task types, parameters and ranges, equation, and when to use it."""
    return Group(Text(title, "italic"), *(part for family in families for part in _family(family)))


def _family(family: Family) -> Iterator[RenderableType]:
    yield Text(f"\n{family.title}", "bold reverse")
    if family.members:
        table = Table(show_lines=True, show_header=False, expand=True)
        for ratio in (3, 5, 7):
            table.add_column(overflow="fold", ratio=ratio)
        for entry in family.members:
            table.add_row(*_loss(entry))
        yield table
    if family.guests:
        names = ", ".join(f"{guest.name} ({guest.family})" for guest in family.guests)
        yield Text(f"{'also fit' if family.members else 'fit'}: {names}")


def _loss(entry: Entry) -> tuple[Text, Text, Text]:
    """The cells of a loss: name and parameters; meaning and equation; when to use it, and what to beware of."""
    sections, search = entry.described.sections, entry.card.search
    ranges = {name: f" ({low:g}\u00a0…\u00a0{high:g})" for name, (low, high, *_) in search.items()}
    values = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in entry.parameters.items()}
    settings = "".join(f"\n{name}={value}{ranges.get(name, '')}" for name, value in values.items())
    fits = [task_type for task_type in entry.task_types if task_type != entry.family]
    return (
        Text.assemble((entry.name, "bold"), (f" \n{', '.join(fits)}" if fits else "", "dim"), settings),
        Text.assemble(entry.described.meaning, "\n", (entry.described.equation, "cyan")),
        Text.assemble(
            *(("use it when: ", "green"), sections.get("Use it when", "–"), "\n"),
            *(("beware: ", "yellow"), sections.get("Beware", "–")),
        ),
    )
