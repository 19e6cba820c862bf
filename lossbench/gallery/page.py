"""The gallery as one HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lossbench import __version__
from lossbench.config.catalogue import Entry
from lossbench.config.families import Family
from lossbench.core import ConfigError
from lossbench.gallery import figures, prose
from lossbench.gallery.curves import Drawing, drawings
from lossbench.gallery.tree import tree
from lossbench.runs.provenance import colour

FEW = 6  # losses: fewer make no tree


@dataclass(frozen=True)
class DrawnFamily:
    """A family with the drawings of its losses; `missing` says why a loss has none."""

    family: Family
    pictures: dict[str, list[Drawing]]
    missing: dict[str, str]

    @property
    def overlays(self) -> list[dict[str, Any]]:
        """The overlays of the family's drawings, one for each view that several share."""
        return figures.overlays(drawing for drawings in self.pictures.values() for drawing in drawings)


def draw(families: Iterable[Family], progress: Callable[[str], None] = lambda name: None) -> list[DrawnFamily]:
    """Draw every loss of these families; `progress` is called with the name of the next one."""
    return [_draw(family, progress) for family in families]


def _draw(family: Family, progress: Callable[[str], None]) -> DrawnFamily:
    pictures: dict[str, list[Drawing]] = {}
    missing = {}
    for entry in family.members:
        progress(entry.name)
        try:
            pictures[entry.name] = _pictures(entry)
        except Exception as error:  # whatever somebody's loss does
            missing[entry.name] = " ".join(f"{error}".split()) or type(error).__name__
    return DrawnFamily(family, pictures, missing)


def _pictures(entry: Entry) -> list[Drawing]:
    if not entry.described.card:
        raise ConfigError("it has no card that says what it fits")
    return drawings(entry)


def data(families: Sequence[DrawnFamily]) -> str:
    """The numbers of all figures as JSON, escaped so that it can stand in a script."""
    drawings = [drawing for one in families for pictures in one.pictures.values() for drawing in pictures]
    content = {
        "drawings": {figures.name(drawing): figures.spec(drawing) for drawing in drawings},
        "overlays": {f"{one.family.name}-{k}": o for one in families for k, o in enumerate(one.overlays)},
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def page(families: Sequence[Family], title: str, progress: Callable[[str], None] = lambda name: None) -> str:
    """The whole page, plotly's script inlined once."""
    from plotly.offline import get_plotlyjs

    pictures = draw(families, progress)
    losses = [entry for family in families for entry in family.members]
    return render(
        "page.html",
        title=title,
        families=pictures,
        losses=len(losses),
        tree=tree(families) if len(losses) >= FEW else None,
        tree_svg=tree_svg(families, lambda name: f"#{name}"),
        colour=colour,
        figures=figures,
        version=__version__,
        css=text("gallery.css"),
        script=text("gallery.js"),
        data=data(pictures),
        plotly=get_plotlyjs(),
    )


def tree_svg(families: Sequence[Family], where: Callable[[str], str]) -> str:
    """The family tree as SVG; each loss links to `where(name)`."""
    return render("tree.html", tree=tree(families), where=where)


def render(name: str, **context: Any) -> str:
    """A template of this package, rendered with this context; values are escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"] = prose.html
    return environment.from_string(text(name)).render(**context)


def text(name: str) -> str:
    """The text of a file of this package."""
    return files("lossbench.gallery").joinpath(name).read_text(encoding="utf-8")
