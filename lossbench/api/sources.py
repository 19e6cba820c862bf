"""Modules whose files changed after they were imported: what would train is not what would be recorded."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from lossbench.core import ConfigError, is_given

_seen: dict[str, tuple[Any, str]] = {}  # the spec, which a reload replaces, and the digest of each module's file


def check(target: str) -> None:
    """Raises: ConfigError where the module of a dotted path is loaded, and its file has changed since it was seen."""
    name = target.rpartition(".")[0]
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if is_given(target) or spec is None or not str(spec.origin).endswith(".py"):
        return
    digest = hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest()
    before, known = _seen.setdefault(name, (spec, digest))
    if before is spec and known != digest:
        raise ConfigError(
            f"{target}: {spec.origin} changed after it was imported; importlib.reload({name}) or a new process works"
        )
    _seen[name] = spec, digest
