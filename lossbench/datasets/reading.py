"""Files that somebody else wrote, read no further than memory holds."""

from __future__ import annotations

from pathlib import Path

from lossbench.core import ConfigError, machine


def content(path: Path, called: str, growth: int) -> bytes:
    """The bytes of a file, of which each takes so many in memory once it is understood.

    Raises: ConfigError for what is too large, OSError.
    """
    with path.open("rb") as file:
        most = machine.memory() // growth
        found = file.read(most + 1)  # a device has no size, and no end
    if len(found) > most:
        raise ConfigError(f"{called}: more than {most:,} bytes, which would take more memory than is free")
    return found


def fits(path: Path, size: int, what: str) -> None:
    """Raises: ConfigError where less than so many bytes of memory are free."""
    if size > (free := machine.memory()):
        raise ConfigError(f"{path}: {what} would take {size / 1e9:,.0f} GB of memory, and {free / 1e9:,.0f} are free")
