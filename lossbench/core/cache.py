"""Where what is kept between runs is written, and how a file is replaced only when it is whole."""

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
    """Where what is kept between runs is written: downloads, generated data, checkpoints.

    LOSSBENCH_CACHE, or the user's cache; where that cannot be written, a temporary folder, which is said once.
    Raises: ConfigError where no temporary folder can be had either.
    """
    return _writable(_named_cache())


def cached(name: str) -> Path:
    """Where a file that is kept between runs would be read: in the cache, also where that can be read only."""
    with contextlib.suppress(OSError, RuntimeError):
        if (there := Path(_named_cache()).expanduser() / name).exists():
            return there
    return cache_folder() / name


def _named_cache() -> str:
    import platformdirs

    return os.environ.get("LOSSBENCH_CACHE") or str(platformdirs.user_cache_path("lossbench"))


INSTEAD = "LOSSBENCH_TEMPORARY_CACHE"  # what worker processes use, too


@cache
def _writable(named: str) -> Path:
    import tempfile

    try:
        folder = Path(named).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # the latter without a home
        why = getattr(error, "strerror", None) or error
    if instead := os.environ.get(INSTEAD):
        return Path(instead)
    try:
        temporary = tempfile.mkdtemp(prefix="lossbench-")
    except OSError as error:
        raise ConfigError(
            f"LOSSBENCH_CACHE={named}: cannot be written ({why}), and nor can a temporary folder: {error}\n"
            "LOSSBENCH_CACHE= takes a folder that can be written"
        ) from error
    atexit.register(_remove, Path(temporary))
    os.environ[INSTEAD] = temporary
    print(
        f"the cache {named} cannot be written ({why}): nothing is kept for later calls; "
        "LOSSBENCH_CACHE= takes another folder",
        file=sys.stderr,
    )
    return Path(temporary)


def _remove(temporary: Path) -> None:
    """Remove a temporary cache, unless something in it still waits to be recorded."""
    if not any(temporary.glob("spool/*/*.jsonl")):
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside a path to write to, whose file takes the path's place at the end: a kill leaves the older one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
