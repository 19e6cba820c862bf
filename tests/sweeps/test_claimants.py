"""One comparison from several processes: each run is trained once, whoever dies."""

from __future__ import annotations

import math
import os
import signal
import time

import pytest
from recorded import numbers
from small import SMALL

from lossbench.tracking.claims import OF, close_ledger

# stacks of one batch size each, so that there is something to share out
GRID = ["loss=mse,huber", "seed=range(3)", f"train.batch_size={','.join(str(16 + n) for n in range(10))}"]
WORDS = ["-m", *GRID, "dataset=regression", *SMALL["regression"], "train.steps=60", "train.eval_every=30"]


def name_of(store, seconds=60):
    """The comparison that has begun."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := store.find({"lossbench.kind": "comparison"}):
            return found[0].data.tags["lossbench.comparison"]
        time.sleep(0.1)
    raise AssertionError("no comparison began")


def until_finished(store, count, seconds=90):
    deadline = time.monotonic() + seconds
    while sum(run.info.status == "FINISHED" for run in store.find({"lossbench.kind": "run"})) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def by_key(store):
    found = {}
    for run in store.find({"lossbench.kind": "run"}):
        found.setdefault(run.data.tags["lossbench.key"], []).append(run)
    return found


@pytest.mark.parametrize("leader_dies", [False, True], ids=["members die", "the leader dies"])
def test_four_claimants_of_whom_some_die_train_each_run_once(process, lossbench, store, leader_dies):
    lead = process(*WORDS)
    name = name_of(store)
    members = [process(*WORDS, "--comparison", name) for _ in range(3)]
    until_finished(store, 6)
    killed = [lead] if leader_dies else members[:2]
    for one in killed:
        one.kill()
        time.sleep(0.5)
    left = [one for one in (lead, *members) if one not in killed]
    for one in left:
        out, err = one.communicate(180)
        assert one.returncode == 0, out + err
    shared = by_key(store)
    assert len(shared) == 60
    assert all([run.info.status for run in found] == ["FINISHED"] for found in shared.values())
    (comparison,) = store.find({"lossbench.kind": "comparison"})
    assert comparison.info.status == "FINISHED"
    alone = lossbench(*WORDS, "experiment_name=alone")
    assert alone.code == 0, alone.err
    for key, found in by_key(store).items():
        one, other = (numbers(store, run) for run in found)
        assert one.keys() == other.keys(), key
        for metric in one:
            for (step, a), (again, b) in zip(one[metric], other[metric], strict=True):
                assert step == again
                assert metric.startswith(("time/", "memory/")) or math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5), metric


def test_a_member_that_is_interrupted_gives_its_runs_back(process, store):
    lead = process(*WORDS)
    member = process(*WORDS, "--comparison", name_of(store))
    until_finished(store, 6)
    member.send_signal(signal.SIGINT)
    member.communicate(60)
    out, err = lead.communicate(180)
    assert lead.returncode == 0, out + err
    kinds = [run.info.status for found in by_key(store).values() for run in found]
    assert kinds == ["FINISHED"] * 60


def test_without_its_claims_a_comparison_stops_in_a_line_and_the_same_command_continues_it(process, store):
    lead = process(*WORDS)
    member = process(*WORDS, "--comparison", name_of(store))
    deadline = time.monotonic() + 60
    while not [run for run in store.find({OF: name_of(store)}) if len(set(run.data.params.values())) == 2]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    close_ledger(store, name_of(store))
    for one in (lead, member):
        out, err = one.communicate(60)
        assert one.returncode == 2, out + err
        assert len(err.splitlines()) == 1, err
        assert "the same command" in err
    again = process(*WORDS)
    out, err = again.communicate(180)
    assert again.returncode == 0, out + err
    assert "continuing" in out
    kinds = [run.info.status for found in by_key(store).values() for run in found]
    assert kinds == ["FINISHED"] * 60


def test_a_member_whose_file_is_another_is_refused(process, store, here):
    """It would train every run once more, on other data."""
    rows = "".join(f"{n % 7},{n % 5},{n % 3}\n" for n in range(300))
    words = ["compare", "target=c", "losses=mse,mae", "seeds=8", "train.steps=3000", "dataset.type=regression"]
    for folder in ("one", "other"):
        (here / folder).mkdir()
        (here / folder / "rows.csv").write_text(f"a,b,c\n{rows}", encoding="utf-8")
        os.utime(here / folder / "rows.csv", (1, 1) if folder == "one" else (2, 2))
    uri = f"tracking.uri=sqlite:///{here}/mlflow.db"
    os.chdir(here / "one")
    lead = process(*words, "dataset.path=rows.csv", "dataset=table", uri)
    name = name_of(store)
    os.chdir(here / "other")
    member = process(*words, "dataset.path=rows.csv", "dataset=table", uri, "--comparison", name)
    out, err = member.communicate(60)
    assert member.returncode == 2, out + err
    assert name in err
    os.utime("rows.csv", (1, 1))
    member = process(*words, "dataset.path=rows.csv", "dataset=table", uri, "--comparison", name)
    for one in (lead, member):
        out, err = one.communicate(120)
        assert one.returncode == 0, out + err
    assert [len(found) for found in by_key(store).values()] == [1] * 16


def test_what_cannot_be_joined_is_refused_in_a_line(lossbench, store):
    none = lossbench(*WORDS, "--comparison", "regression-1")
    assert none.code == 2
    assert "regression-1" in none.err
    assert lossbench(*WORDS[:2], "seed=0", "dataset=regression", *SMALL["regression"], "train.steps=2").code == 0
    name = name_of(store)
    over = lossbench(*WORDS, "--comparison", name)
    assert over.code == 2
    assert name in over.err
    single = lossbench("dataset=regression", *SMALL["regression"], "--comparison", name)
    assert single.code == 2
    assert "compare" in single.err
