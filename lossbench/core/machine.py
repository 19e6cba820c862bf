"""What this process may use of the machine: cores and memory, as affinity and control groups allow."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc/self")


def cores(proc: Path = PROC) -> int:
    """How many threads can run at once; of a part of a core nobody can make use, since all threads wait for one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu", proc):
        with contextlib.suppress(
            OSError, ValueError
        ):  # the root has no limit, and says "max" or -1 where there is none
            quota, period = _quota(group)
            if quota > 0:
                count = min(count, quota // period)
    return max(1, count)


def memory(proc: Path = PROC) -> int:
    """Bytes that are free now."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for group in _groups("memory", proc):
        with contextlib.suppress(OSError, ValueError):
            free = min(free, _unused(group))
    return max(0, free)


def _quota(group: Path) -> tuple[int, int]:
    """Microseconds of all cores together, in each period of so many."""
    if (both := group / "cpu.max").exists():
        quota, period = both.read_text(encoding="ascii").split()
        return int(quota), int(period)
    return _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")


def _unused(group: Path) -> int:
    """What a limit of memory leaves; files that were read count as free, since they give way."""
    newer = (group / "memory.max").exists()
    names = ("memory.max", "memory.current") if newer else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = (_number(group / name) for name in names)
    told = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    return limit - used + int(told.get("total_inactive_file", told.get("inactive_file", 0)))


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _groups(controller: str, proc: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in, from its own up, of either version."""
    try:
        mounts = [line.split() for line in (proc / "mountinfo").read_text(encoding="utf-8").splitlines()]
        lines = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for mount in mounts:
            task_type, options = mount[mount.index("-") + 1], mount[-1].split(",")
            first = controller in controllers.split(",") and controller in options
            if (task_type == "cgroup2" and not controllers) or (task_type == "cgroup" and first):
                top = Path(mount[4])
                own = top / place.strip("/")
                yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def where() -> str:
    """This machine since it was started, and this container of it: where a number of a process means that process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text(encoding='ascii').strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        import psutil

        return f"{socket.gethostname()} {psutil.boot_time():.0f}"


def name() -> str:
    """The same, short enough for the name of a file."""
    return hashlib.sha256(where().encode()).hexdigest()[:12]


def started(pid: int) -> str:
    """When a process started, by the system's own count; empty where there is none, or only what is left of one."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if told[0] in "ZX" else told[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self").exists():
        return ""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""
