"""A cache on disk for generated data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lossbench.core import atomic_path, cache_folder, cached
from lossbench.datasets.remarks import say
from lossbench.datasets.splits import fingerprint


def remembered(name: str, key: dict[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` returns, computed once for each name and key; the file's name is a hash of both.

    Written beside its place and moved there whole, so that a killed or concurrent run leaves no half file, and read
    against its checksum. A cache that cannot be read or written costs time, not the run.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:20]
    file = f"{name}-{digest}.safetensors"
    tensors = _read(cached(file))
    if tensors is None:
        tensors = make()
        _write(cache_folder() / file, tensors)
    return tensors


def _read(path: Path) -> dict[str, Tensor] | None:
    """What a file holds, None where it is not there or no longer what was written."""
    try:
        with safe_open(path, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.offset_keys()}
            if (opened.metadata() or {}).get("sha256") == _checksum(tensors):
                return tensors
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError):
        pass
    say(f"{path}: damaged, or of an earlier version: made afresh")
    return None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished:
            save_file(tensors, unfinished, {"sha256": _checksum(tensors)})
    except (OSError, SafetensorError) as error:
        say(f"{path.parent}: data cannot be kept there, and are made again by later calls: {error}")


def _checksum(tensors: dict[str, Tensor]) -> str:
    return fingerprint(*(tensors[name] for name in sorted(tensors))) + " ".join(sorted(tensors))
