"""The cache folder, and files that are replaced only once they are complete."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lossbench.core.errors import ConfigError


def cache_folder() -> Path:
    """The folder for what outlives a run: downloads, generated data, checkpoints.

    LOSSBENCH_CACHE, or the user's cache; where that cannot be written, a temporary folder, with one warning.
    Raises: ConfigError where no temporary folder can be made either.
    """
    return _writable(_cache_name())


def cached(name: str) -> Path:
    """The path of a file in the cache; a cache that is read-only is still read."""
    with contextlib.suppress(OSError, RuntimeError):
        if (path := Path(_cache_name()).expanduser() / name).exists():
            return path
    return cache_folder() / name


def _cache_name() -> str:
    import platformdirs

    return os.environ.get("LOSSBENCH_CACHE") or str(platformdirs.user_cache_path("lossbench"))


TEMPORARY_CACHE = "LOSSBENCH_TEMPORARY_CACHE"  # worker processes use the same temporary folder


@cache
def _writable(name: str) -> Path:
    import tempfile

    try:
        folder = Path(name).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        reason = getattr(error, "strerror", None) or error
    if folder_name := os.environ.get(TEMPORARY_CACHE):
        return Path(folder_name)
    try:
        temporary = tempfile.mkdtemp(prefix="lossbench-")
    except OSError as error:
        raise ConfigError(
            f"LOSSBENCH_CACHE={name}: cannot be written ({reason}), nor can a temporary folder: {error}\n"
            "LOSSBENCH_CACHE=FOLDER sets one that can be written"
        ) from error
    atexit.register(_remove, Path(temporary))
    os.environ[TEMPORARY_CACHE] = temporary
    print(
        f"the cache {name} cannot be written ({reason}): nothing is saved for later calls; "
        "LOSSBENCH_CACHE=FOLDER sets another",
        file=sys.stderr,
    )
    return Path(temporary)


def _remove(temporary: Path) -> None:
    """Remove a temporary cache, unless it holds entries that are not recorded yet."""
    if not any(temporary.glob("spool/*/*.jsonl")):
        shutil.rmtree(temporary, ignore_errors=True)


def stamp(path: str) -> str:
    """What differs once a file is changed: its size and time; empty for what is no file here."""
    try:
        status = Path(path).expanduser().stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to; its file replaces `path` at the end, so that a kill leaves the older file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
