"""The generated pages of the documentation: one per family, from the docstrings, with the gallery's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lossbench.config.catalogue import Entry
from lossbench.config.families import Family
from lossbench.gallery import figures, prose
from lossbench.gallery.page import DrawnFamily, data, draw, text, tree_svg
from lossbench.gallery.tree import setting

CARD = """
.drawn, .shapes, .grown { background: #fff; color: #1d2733; padding: .6rem .8rem; border-radius: .4rem; }
svg.tree a { text-decoration: none; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 640px) { .grown { display: none; } }
"""
SCRIPTS = "../_static/plotly.min.js", "../_static/losses/{}.js", "../_static/gallery.js"


def write(families: Sequence[Family], docs: Path) -> None:
    """Write all pages into a folder of documentation: under `losses`, and what their figures need under `_static`."""
    from plotly.offline import get_plotlyjs

    pages = draw(families)
    contents = {docs / "losses" / f"{one.family.name}.md": page(one, families) for one in pages}
    contents |= {
        docs / "_static" / "losses" / f"{one.family.name}.js": f"const gallery = {data([one])};" for one in pages
    }
    contents[docs / "losses" / "index.md"] = index(families)
    contents[docs / "_static" / "plotly.min.js"] = get_plotlyjs()
    contents[docs / "_static" / "gallery.js"] = text("gallery.js")
    contents[docs / "_static" / "gallery.css"] = text("gallery.css") + CARD
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # unchanged files keep their time, so that Sphinx does not build them again
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")


def index(families: Sequence[Family]) -> str:
    """The page of all families: the tree, and every loss with one sentence."""
    homes = _homes(families)
    lines = [
        "# The losses",
        "",
        _raw(f'<div class="grown">{tree_svg(families, lambda n: f"{homes[n]}.html#{_id(n)}")}</div>'),
    ]
    for family in families:
        lines += ["", f"## [{family.title}]({family.name}.md)", ""]
        lines += [
            f"- {_link(entry.name, homes)}: {prose.markdown(entry.described.meaning)}" for entry in family.members
        ]
        if family.guests:
            lines += [f"- {_also(family, homes)}"]
    pages = "\n".join(family.name for family in families)
    lines += [
        "",
        f"```{{toctree}}\n:hidden:\n\n{pages}\n```",
        "",
        _raw('<script src="../_static/gallery.js"></script>'),
    ]
    return "\n".join(lines) + "\n"


def page(one: DrawnFamily, families: Sequence[Family]) -> str:
    """The page of one family: its losses drawn together, then each with its equation, figures and parameters."""
    family, homes = one.family, _homes(families)
    lines = [f"# {family.title}", "", prose.markdown(family.about)]
    if family.guests:
        lines += ["", _also(family, homes)]
    if one.overlays:
        ids = " ".join(f"{family.name}-{place}" for place in range(len(one.overlays)))
        lines += ["", _raw(f'<div class="shapes" data-ids="{ids}"></div>')]
        lines += ["", "All losses are at their default settings. Click a name to hide its curve."]
    for entry in family.members:
        lines += ["", *_loss(entry, one, homes)]
    scripts = "".join(f'<script src="{source.format(family.name)}"></script>' for source in SCRIPTS)
    return "\n".join([*lines, "", _raw(scripts) if family.members else ""]).rstrip() + "\n"


def _loss(entry: Entry, one: DrawnFamily, homes: dict[str, str]) -> Iterator[str]:
    described = entry.described
    yield f"({_id(entry.name)})=\n## {prose.plain(entry.name)}\n\n{prose.markdown(described.meaning)}"
    if described.equation:
        yield f"\n```text\n{described.equation}\n```"
    if one.pictures.get(entry.name):
        ids = " ".join(figures.name(drawing) for drawing in one.pictures[entry.name])
        yield "\n" + _raw(f'<div class="drawn" data-ids="{ids}"></div>')
    yield f"\nFits {', '.join(entry.task_types)}.\n"
    yield from _parameters(entry)
    for title, paragraph in described.sections.items():
        yield f"\n**{title}:** {prose.markdown(paragraph)}"
    limits = entry.card.limits
    if limits:
        others = [
            f"{_link(other, homes)} at {prose.plain(setting(at))}" if at else _link(other, homes)
            for other, at in limits.items()
        ]
        yield f"\n**Limits**, up to a constant factor: {'; '.join(others)}."


def _parameters(entry: Entry) -> Iterator[str]:
    if not entry.parameters:
        return
    search = entry.card.search
    yield "| parameter | default | searched |\n|---|---|---|"
    for name, value in entry.parameters.items():
        low, high, *task_types = search.get(name, ("", ""))
        where = f" ({', '.join(task_types[0])})" if task_types else ""
        searched = f"{low:g} … {high:g}{where}" if name in search else "–"
        yield f"| `loss.{name}` | {'null' if value is None else value} | {searched} |"


def _also(family: Family, homes: dict[str, str]) -> str:
    names = ", ".join(_link(guest.name, homes) for guest in family.guests)
    return f"{'Also fit' if family.members else 'These fit'}: {names}."


def _link(name: str, homes: dict[str, str]) -> str:
    """A link to a loss if it has a page, otherwise its name."""
    return f"[{prose.plain(name)}](#{_id(name)})" if name in homes else prose.plain(name)


def _homes(families: Sequence[Family]) -> dict[str, str]:
    return {entry.name: family.name for family in families for entry in family.members}


def _id(name: str) -> str:
    return f"loss-{name.replace('_', '-')}"


def _raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```"
