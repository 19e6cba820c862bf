"""Names that a store takes."""

from __future__ import annotations

import re
from functools import cache

NAME_LENGTH = 250  # of what a store takes


@cache
def record_name(name: str) -> str:
    """A name that a store takes for a metric or a parameter: what it does not take becomes an underscore.

    `/` parts a name, and no part of it is empty or leads out of it.
    """
    parts = (re.sub(r"[^\w.: -]", "_", part).strip() for part in name.split("/"))
    return "/".join("_" * max(1, len(part)) if not part.strip(".") else part for part in parts)[:NAME_LENGTH]
