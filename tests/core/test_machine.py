"""What a container leaves of the machine: the files of control groups, laid out as either version has them."""

import os
from pathlib import Path

import pytest

from lossbench.core import machine

LIMITED = 1 << 30


@pytest.fixture
def proc(tmp_path):
    """A process in a group below another, of version 1, 2 or both; `limits` are files of the groups by path."""

    def make(mounts, lines, limits):
        for name, text in limits.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "mountinfo").write_text(
            "".join(
                f"3{k} 31 0:2{k} / {tmp_path}/cgroup/{place} rw shared:9 - {task_type} {task_type} rw,{options}\n"
                for k, (task_type, place, options) in enumerate(mounts)
            )
        )
        (tmp_path / "cgroup").mkdir(exist_ok=True)
        (tmp_path / "self").mkdir()
        (tmp_path / "mountinfo").rename(tmp_path / "self" / "mountinfo")
        (tmp_path / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / "self"

    return make


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


FIRST = [("cgroup", "cpu,cpuacct", "cpu,cpuacct"), ("cgroup", "memory", "memory")]
SECOND = [("cgroup2", "", "nsdelegate")]
BOTH = [*FIRST, ("cgroup2", "unified", "nsdelegate")]


@pytest.mark.parametrize(
    ("mounts", "lines", "limits", "cores"),
    [
        pytest.param(SECOND, ["0::/a/b"], {"a/b/cpu.max": "300000 100000\n"}, 3, id="2"),
        pytest.param(SECOND, ["0::/a/b"], {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, 1, id="2, above"),
        pytest.param(SECOND, ["0::/../../x"], {"cpu.max": "250000 100000"}, 2, id="2, seen from inside"),
        pytest.param(SECOND, ["0::/"], {}, 8, id="2, none"),
        pytest.param(SECOND, ["0::/"], {"cpu.max": "9900000 100000"}, 8, id="2, more than there are"),
        pytest.param(
            FIRST,
            ["4:cpu,cpuacct:/docker/x", "2:memory:/"],
            {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2,
            id="1, seen from inside",
        ),
        pytest.param(
            FIRST,
            ["4:cpu,cpuacct:/x"],
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "-1", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            8,
            id="1, none",
        ),
        pytest.param(
            BOTH,
            ["0::/", "4:cpu,cpuacct:/x"],
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "400000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            4,
            id="both",
        ),
    ],
)
def test_cores_are_those_of_the_quota(proc, mounts, lines, limits, cores):
    assert machine.cores(proc(mounts, lines, limits)) == cores


@pytest.mark.parametrize(
    ("mounts", "line", "limits"),
    [
        (
            SECOND,
            "0::/a",
            {"a/memory.max": f"{LIMITED}", "a/memory.current": "300", "a/memory.stat": "anon 100\ninactive_file 200\n"},
        ),
        (
            FIRST,
            "2:memory:/docker/x",
            {
                "memory/memory.limit_in_bytes": f"{LIMITED}",
                "memory/memory.usage_in_bytes": "300",
                "memory/memory.stat": "inactive_file 0\ntotal_inactive_file 200\n",
            },
        ),
    ],
)
def test_memory_is_what_the_limit_leaves(proc, mounts, line, limits):
    assert machine.memory(proc(mounts, [line], limits)) == LIMITED - 100


def test_elsewhere_the_machine_is_all_there_is(tmp_path):
    assert machine.cores(tmp_path) == 8
    assert machine.memory(tmp_path) > 0


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(tmp_path):
    """As /proc/mounts lists them, with spaces escaped; a later mount on the same point covers an earlier one."""
    shared = tmp_path / "home dir" / "me"
    shared.mkdir(parents=True)
    escaped = str(shared.parent).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(
        f"overlay / overlay rw 0 0\nserver:/export {escaped} ext4 rw 0 0\nserver:/export {escaped} nfs4 rw 0 0\n"
    )
    assert machine.filesystem(shared, tmp_path) == "nfs4"
    assert machine.filesystem(tmp_path, tmp_path) == "overlay"
    assert machine.filesystem(shared, shared) == ""
    assert machine.filesystem(Path("/proc")) == "proc"
