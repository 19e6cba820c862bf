"""Who is at work on a record: asked, watched, and taken over by one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lossbench.core.machine import started
from lossbench.tracking import lease

QUIET = [].append


def of(pid, **other):
    told = json.loads(lease.mine()) | {"pid": pid, "started": started(pid)}
    return json.dumps(told | other)


def never():
    raise AssertionError("asked for its heart")


def test_a_process_here_is_asked_of_the_system():
    assert lease.alive(lease.mine(), never, QUIET)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lives = of(child.pid)
    assert lease.alive(lives, never, QUIET)
    assert not lease.alive(of(child.pid, started="1"), never, QUIET)  # its number is somebody else's now
    child.stdin.close()
    deadline = time.monotonic() + 10
    while started(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lease.alive(lives, never, QUIET)  # though its parent has not heard of it
    child.wait()
    assert not lease.alive(lives, never, QUIET)
    assert not lease.alive("a-host:1", never, QUIET)


def test_a_process_elsewhere_is_seen_by_its_heart(monkeypatch):
    """Number 1 of another container is not this one's, whatever the host is called."""
    monkeypatch.setattr(lease, "WATCH_S", 0.3)
    elsewhere = of(1, at="another boot, or another container")
    now = time.time()
    beats = iter([f"{now:.0f}", f"{now + 10:.0f}"])
    assert lease.alive(elsewhere, lambda: next(beats), QUIET)
    assert not lease.alive(elsewhere, lambda: f"{now:.0f}", QUIET)
    asked = iter([f"{now - 5000:.0f}"])
    assert not lease.alive(elsewhere, lambda: next(asked), QUIET)
    assert not lease.alive(elsewhere, lambda: "", QUIET)


@pytest.fixture
def left(store):
    """A record that a process left RUNNING when it ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = of(child.pid)
    child.communicate(b"\n")
    return store.start("leases", "left", {lease.PROCESS: owner, lease.BEAT: lease.now()}).run_id


def test_of_many_that_want_a_record_one_takes_it(store, left, monkeypatch):
    monkeypatch.setattr(lease, "CLAIM_S", 0.5)

    def late(after_s):
        time.sleep(after_s)
        return lease.take(store.client, left, QUIET)

    with ThreadPoolExecutor(6) as many:
        took = [one for one in many.map(late, [0, 0, 0.01, 0.2, 0.4, 0.7]) if one]
    assert len(took) == 1
    tags = store.client.get_run(left).data.tags
    assert tags[lease.PROCESS] == took[0]
    assert not [name for name in tags if name.startswith(lease.CLAIM)]
    assert lease.take(store.client, left, QUIET) is None  # who has it lives


def test_who_claimed_and_died_is_passed_over(store, left, monkeypatch):
    monkeypatch.setattr(lease, "CLAIM_S", 0.05)
    store.client.set_tag(left, f"{lease.CLAIM}0", "whoever")
    assert lease.take(store.client, left, QUIET)


def test_who_was_robbed_ends(here, store, left):
    robbed = f"""
import time
from lossbench import tracking
from lossbench.tracking import lease
lease.BEAT_S = .05
store = tracking.Store("sqlite:///{here}/mlflow.db")
heart = lease.keep(store.client, tracking.Recorder(store, "{left}"), "mine")
print("beating", flush=True)
time.sleep(30)
"""
    store.client.set_tag(left, lease.PROCESS, "mine")
    child = subprocess.Popen([sys.executable, "-c", robbed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "beating\n"
    time.sleep(0.3)
    assert child.poll() is None
    store.client.set_tag(left, lease.PROCESS, "another's")
    _, err = child.communicate(timeout=10)
    assert child.returncode == 1
    assert "taken over" in err
