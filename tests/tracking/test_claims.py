"""Claims: of several claimants one gets a run, and what a dead one leaves behind is taken over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lossbench import tracking
from lossbench.tracking import claims, entries, lease
from lossbench.tracking.claims import Claimant, close_ledger, open_ledger
from lossbench.tracking.spool import Spool


@pytest.fixture
def ledger(store):
    return open_ledger(store, "one-comparison")


@pytest.fixture
def claimant(store, ledger):
    made = []

    def make():
        made.append(Claimant(store, ledger))
        return made[-1]

    yield make
    for one in made:
        one.leave()


def test_of_rivals_one_gets_each_run(here, ledger):
    """Each has a connection of its own; keys come in the same order, so that all want the same."""
    keys = [f"{number:016x}" for number in range(120)]

    def rival(number):
        own = Claimant(tracking.Store(f"sqlite:///{here}/mlflow.db"), ledger)
        got = [own.take(keys[start : start + 3]) for start in range(0, len(keys), 3)]
        own.leave()
        return set().union(*got)

    with ThreadPoolExecutor(4) as rivals:
        got = list(rivals.map(rival, range(4)))
    assert sum(map(len, got)) >= len(keys)  # those of one that has left are free again
    assert set().union(*got) == set(keys)


def test_a_run_has_one_owner_while_it_is_alive(claimant):
    first, second = claimant(), claimant()
    assert first.take(["a", "b"]) == {"a", "b"}
    assert second.take(["b", "c"]) == {"c"}
    assert first.take(["a", "c"]) == {"a"}  # its own again
    assert not second.taken_over
    first.leave()
    assert second.take(["a", "b", "c"]) == {"a", "b", "c"}
    assert second.taken_over == {"a", "b"}


def test_more_runs_than_one_call_holds(claimant):
    keys = [f"{number}" for number in range(250)]
    first, second = claimant(), claimant()
    assert first.take(keys[:120]) == set(keys[:120])
    assert second.take(keys) == set(keys[120:])


def test_a_dead_process_here_is_known_at_once(store, ledger, claimant, here):
    """Though its number may be somebody else's by now."""
    code = (
        "import sys, os; from lossbench import tracking; from lossbench.tracking.claims import Claimant\n"
        "one = Claimant(tracking.Store(sys.argv[1]), sys.argv[2]); print(one.take(['a']), flush=True); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{here}/mlflow.db", ledger], check=False)
    own = claimant()
    assert own.take(["a"]) == {"a"}
    assert own.taken_over == {"a"}


def test_one_elsewhere_is_given_up_after_a_silence_and_ends_itself(store, ledger, claimant, monkeypatch):
    monkeypatch.setattr(lease, "WATCH_S", 0.5)
    far, near = claimant(), claimant()
    assert far.take(["a"]) == {"a"}
    elsewhere = json.loads(lease.mine()) | {"at": "another machine"}
    store.client.set_tag(ledger, claims.IDENTITY + far.token, json.dumps(elsewhere))
    assert not near.take(["a"])  # seen for the first time
    time.sleep(0.3)
    far._beat()
    assert not near.take(["a"])  # it beats
    time.sleep(0.6)
    assert near.take(["a"]) == {"a"}
    ended = []
    monkeypatch.setattr(claims.os, "_exit", ended.append)
    far._beat()
    assert ended == [1]


def test_silence_that_nobody_could_hear_is_no_death(store, ledger, claimant, monkeypatch):
    """As after an outage of the store, in which nobody can show that it is alive."""
    monkeypatch.setattr(lease, "WATCH_S", 0.6)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    far, near = claimant(), claimant()
    assert far.take(["a"]) == {"a"}
    elsewhere = json.loads(lease.mine()) | {"at": "another machine"}
    store.client.set_tag(ledger, claims.IDENTITY + far.token, json.dumps(elsewhere))
    assert not near.take(["a"])
    for one in (far, near):
        one._heart.stop()
    time.sleep(1.0)
    assert not near.take(["a"])
    until = time.monotonic() + 10
    while not (got := near.take(["a"])) and time.monotonic() < until:
        time.sleep(0.05)
    assert got == {"a"}


def test_a_claim_whose_answer_was_lost_is_one_that_was_taken_over(store, ledger, claimant):
    first, second = claimant(), claimant()
    assert first.take(["a"]) == {"a"}
    first.leave()
    store.client.log_param(ledger, "run.a.2", second.token)
    assert second.take(["a"]) == {"a"}
    assert second.taken_over == {"a"}


def test_a_closed_ledger_accepts_no_claims(store, ledger, claimant):
    own = claimant()
    assert own.take(["a"]) == {"a"}
    close_ledger(store, "one-comparison")
    assert own.take(["b"]) == set()
    assert own.read().closed


def test_a_finished_comparison_leaves_no_ledger_in_sight(store, ledger):
    own = Claimant(store, ledger)
    assert own.take(["a"]) == {"a"}
    own.leave()
    close_ledger(store, "one-comparison")
    assert not store.find({claims.OF: "one-comparison"})


def test_what_is_recorded_late_yields_to_what_another_process_has_finished_since(store, cache):
    tags = {"lossbench.kind": "run", "lossbench.comparison": "one-comparison", "lossbench.key": "a"}
    store.start("late", "since", tags).end("FINISHED")
    token, spool = "f" * 32, Spool.new(store._folder)
    spool.add(entries.create(token, "late", None, "late", tags))
    spool.add({"do": "end", "run": token, "status": "FINISHED", "time": entries.now(), "token": ""})
    spool._open.close()  # as the end of its process does
    spool.release()
    store.adopt()
    assert [run.info.run_name for run in store.find(tags)] == ["since"]
    assert [run.info.run_name for run in store.find({"lossbench.kind": "superseded"})] == ["late"]
