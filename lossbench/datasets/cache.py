"""Where downloads and generated data are kept between runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def folder() -> Path:
    """The cache of this user, or the value of LOSSBENCH_CACHE."""
    return Path(os.environ.get("LOSSBENCH_CACHE") or platformdirs.user_cache_path("lossbench"))


def remembered(name: str, key: dict[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` returns, made once for each name and key; the file's name is a hash of both.

    Written beside its place and moved there whole, so that a killed or concurrent run leaves no half file.
    A cache that cannot be read or written costs time, not the run.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:20]
    path = folder() / f"{name}-{digest}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        return load_file(path)
    tensors = make()
    with contextlib.suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        save_file(tensors, unfinished)
        unfinished.replace(path)
    return tensors
