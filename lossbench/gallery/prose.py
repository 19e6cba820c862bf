"""The text of docstrings for a page: escaped, with its code and its links."""

from __future__ import annotations

import re
from functools import partial
from html import escape

CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"https?://[^\s)]+[^\s).,;]")
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$@^:-])")


def html(text: str) -> str:
    """Escaped HTML, with `code` and links."""
    linked = LINK.sub(lambda m: f'<a href="{m[0]}">{_short(m[0])}</a>', escape(text, quote=False))
    return CODE.sub(r"<code>\1</code>", linked)


def markdown(text: str) -> str:
    """Markdown that shows exactly this text, with `code` and links."""
    parts = re.split(f"({CODE.pattern}|{LINK.pattern})", text)
    pieces = []
    for place in range(0, len(parts), 3):  # text, then the match, then the code in it
        pieces.append(plain(parts[place]))
        if place + 1 < len(parts):
            match = parts[place + 1]
            pieces.append(match if match.startswith("`") else f"[{plain(_short(match))}](<{match}>)")
    return "".join(pieces)


plain = partial(SPECIAL.sub, r"\\\1")
"""Markdown in which every character stands for itself."""


def _short(link: str) -> str:
    return re.sub(r"^https?://(www\.)?", "", link)
