"""Names that a store accepts."""

from __future__ import annotations

import re
from functools import cache

NAME_LENGTH = 250  # characters that every store accepts


@cache
def record_name(name: str) -> str:
    """A name that a store accepts for a metric or a parameter: other characters become underscores.

    `/` separates the parts of a name; an empty part, or one of dots alone, becomes underscores too.
    """
    parts = (re.sub(r"[^\w.: -]", "_", part).strip() for part in name.split("/"))
    return "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts)[:NAME_LENGTH]
