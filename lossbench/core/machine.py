"""The cores and the memory that this process may use, as affinity and control groups allow."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc/self")


def cores(proc: Path = PROC) -> int:
    """How many threads can run at once, rounded down: all threads would wait for the one on a part of a core."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu", proc):
        with contextlib.suppress(OSError, ValueError):  # no limit: no file, "max" or -1
            quota, period = _quota(group)
            if quota > 0:
                count = min(count, quota // period)
    return max(1, count)


def memory(proc: Path = PROC) -> int:
    """Free memory in bytes."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for group in _groups("memory", proc):
        with contextlib.suppress(OSError, ValueError):
            free = min(free, _unused(group))
    return max(0, free)


def _quota(group: Path) -> tuple[int, int]:
    """The quota over all cores and the length of its period, both in microseconds."""
    if (path := group / "cpu.max").exists():
        quota, period = path.read_text(encoding="ascii").split()
        return int(quota), int(period)
    return _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")


def _unused(group: Path) -> int:
    """Bytes below the memory limit; cached files count as free, since the kernel drops them."""
    version_2 = (group / "memory.max").exists()
    names = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = (_number(group / name) for name in names)
    stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    return limit - used + int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _groups(controller: str, proc: Path) -> Iterator[Path]:
    """The folders of this process's control groups, its own first, then their parents; version 1 or 2."""
    try:
        mounts = [line.split() for line in (proc / "mountinfo").read_text(encoding="utf-8").splitlines()]
        lines = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for mount in mounts:
            filesystem, options = mount[mount.index("-") + 1], mount[-1].split(",")
            matches = controller in controllers.split(",") and controller in options
            if (filesystem == "cgroup2" and not controllers) or (filesystem == "cgroup" and matches):
                top = Path(mount[4])
                own = top / path.strip("/")
                yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def filesystem(folder: Path, proc: Path = PROC) -> str:
    """The kind of file system that a folder lies on, in the system's own word; empty where it does not say."""
    try:
        mounts = [line.split() for line in (proc / "mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:  # not Linux
        return ""
    folder, found = folder.resolve(), ("", "")
    for mount in mounts:
        point = mount[1].replace("\\040", " ")
        if folder.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, mount[2])
    return found[1]


def where() -> str:
    """An identifier of this machine since its boot, and of the container: within it a process id names one process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text(encoding='ascii').strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        import psutil

        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def names() -> set[str]:
    """The names under which this machine may be known."""
    full = socket.gethostname()
    return {full, full.partition(".")[0], socket.getfqdn(), "localhost"}


def name() -> str:
    """A hash of `where`, short enough for the name of a file."""
    return hashlib.sha256(where().encode()).hexdigest()[:12]


def started(pid: int) -> str:
    """When a process started, in the system's own units; empty where there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self").exists():
        return ""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
