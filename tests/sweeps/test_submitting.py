"""What is submitted is checked first, and shows no password to others on the machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from small import SMALL

from lossbench.sweeps import comparison

SHORT = ["dataset=regression", *SMALL["regression"], "seeds=2", "train.steps=20"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["losses=mse,l1"], "smooth_l1"),
        (["losses=mse", "train.stpes=5"], "train.steps"),
        (["losses=mse", "train.steps=-5"], "train.steps"),
        (["losses=mse", "--comparison", "other"], "compare"),
        (["losses=mse", "hydra/launcher=basic"], "slurm"),
        (["losses=mse", "hydra/launcher=ray", "hydra.launcher.slots=0"], "slots"),
    ],
)
def test_what_cannot_train_is_refused_before_anything_begins(lossbench, store, words, word):
    said = lossbench("submit", *SHORT, *words)
    assert said.code == 2
    assert word in said.err
    assert not store.find({"lossbench.kind": "comparison"})


def test_a_password_is_in_no_command_line(lossbench, store):
    """The storage of a search does not exist: what counts is how the process that leads is called."""
    storage = "hydra.sweeper.storage=postgresql://me:unspoken@127.0.0.1:9/none"
    said = lossbench("submit", *SHORT, "losses=mse", "tune=2", storage)
    assert said.code == 0, said.err
    (record,) = store.find({"lossbench.kind": "comparison"})
    pid = json.loads(record.data.tags[comparison.JOB])["id"]
    assert "unspoken" not in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8") + said.out + str(record.data.tags)
    name = record.data.tags["lossbench.comparison"]
    deadline = time.monotonic() + 60
    while "failed" not in (told := lossbench("status", name).out):
        assert time.monotonic() < deadline, told
        time.sleep(0.5)
    assert "unspoken" not in told
    assert "Traceback" not in told


def test_a_table_of_ones_own_is_submitted_as_it_is_compared(lossbench, store, here):
    rows = "".join(f"{n % 7},{n % 5},{'yes' if n % 3 else 'no'}\n" for n in range(300))
    (here / "mine.csv").write_text(f"a,b,outcome\n{rows}", encoding="utf-8")
    said = lossbench("submit", "mine.csv", "target=outcome", "losses=bce,focal", "seeds=1", "train.steps=5")
    assert said.code == 0, said.err
    (record,) = store.find({"lossbench.kind": "comparison"})
    name = record.data.tags["lossbench.comparison"]
    assert name.startswith("mine-")
    deadline = time.monotonic() + 60
    while f"{name}: finished" not in (told := lossbench("status", name).out):
        assert time.monotonic() < deadline, told
        time.sleep(0.5)
    assert "2 of 2 runs" in told


def test_a_comparison_that_a_terminal_goes_on_with_is_that_terminals(lossbench, store):
    """Neither status nor cancel asks the job that led it before."""
    words = [*SHORT, "losses=mse,huber"]
    assert lossbench("compare", *words).code == 0
    (record,) = store.find({"lossbench.kind": "comparison"})
    store.client.set_tag(record.info.run_id, comparison.JOB, json.dumps({"launcher": "slurm", "id": "1"}))
    store.client.set_terminated(record.info.run_id, "KILLED")
    assert lossbench("compare", *reversed(words)).code == 0  # the order of words does not matter
    (record,) = store.find({"lossbench.kind": "comparison"})
    assert comparison.JOB not in record.data.tags
