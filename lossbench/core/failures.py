"""Whose fault an error is: a run that its loss ended is ranked last, one that the machine ended is missing."""

from __future__ import annotations

import errno
from collections.abc import Iterator

MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENODEV,
    errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH,
}  # fmt: skip
"""Error numbers of disks, memory and networks; a missing file is the fault of the code that opens it."""

STORES = {"mlflow", "sqlalchemy", "sqlite3", "psycopg2", "psycopg", "requests", "urllib3"}
"""Packages that write records."""

NO_MEMORY = ("not enough memory: you tried to allocate", "can't allocate memory", "out of memory")
GPU = ("cuda error", "cublas_status_alloc_failed", "cudnn_status_alloc_failed")
ASSERTED = "device-side assert"  # an index out of range in a loss or a net


class MachineFault(RuntimeError):
    """A run in another process that the machine ended, or whose process it ended."""


def outcome(error: BaseException) -> str:
    """The outcome of a run that this error ended: `killed` by its user, `error` of the machine, else `failed`."""
    if isinstance(error, KeyboardInterrupt):
        return "killed"
    return "error" if any(map(_of_the_machine, _causes(error))) else "failed"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its chain of causes, which may be circular."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__


def _of_the_machine(error: BaseException) -> bool:
    names = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(error).__mro__}
    if isinstance(error, MemoryError | MachineFault | ConnectionError | TimeoutError) or STORES & {n for n, _ in names}:
        return True
    if names & {("torch", "OutOfMemoryError"), ("concurrent", "BrokenExecutor")}:
        return True
    if isinstance(error, OSError):
        return error.errno in MACHINE
    message = str(error).lower()
    if not isinstance(error, RuntimeError) or ASSERTED in message:
        return False
    return any(words in message for words in (*NO_MEMORY, *GPU))


def one_line(error: BaseException) -> str:
    """The error's type and the last line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
