"""Files searched for a secret, in whatever form it may stand there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, quote_plus


def forms(secret: str) -> set[str]:
    """The secret as it stands and encoded, and parts of it that are words."""
    whole = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote(secret, safe=" +"),
        quote_plus(secret),
        repr(secret)[1:-1],
    }
    return whole | {part for part in re.split(r"[^\w]+", secret) if len(part) >= 5}


def found(secret: str, folder: Path) -> list[str]:
    """Files below a folder that have it, in their names or in their bytes."""
    wanted = [form.encode() for form in forms(secret)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(p) for p in files if any(form in bytes(p) + p.read_bytes() for form in wanted)]
