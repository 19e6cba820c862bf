"""The Slurm that other tests use is one, and is gone when they are done."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import pytest
from cluster import slurm as _slurm

HEARD = """
import signal, sys, time
def heard(number, frame):
    print(signal.Signals(number).name, flush=True)
    sys.exit(3)
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, heard)
print("begun", flush=True)
time.sleep(600)
"""


@pytest.fixture
def listening(slurm, tmp_path):
    """A submitted job that says what signal it hears: its number, and the file in which it says so."""
    out = tmp_path / "out"
    (tmp_path / "heard.py").write_text(HEARD)
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nexec {sys.executable} {tmp_path}/heard.py\n")
    job = slurm("sbatch", "--parsable", "--requeue", "--open-mode=append", f"--output={out}", str(script)).strip()
    _until(lambda: out.exists() and "begun" in out.read_text())
    return job, out


def test_submitit_maps_an_array(slurm, tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit")
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    executor = submitit.AutoExecutor(folder=tmp_path, cluster="slurm")
    executor.update_parameters(timeout_min=5, cpus_per_task=1)
    jobs = executor.map_array(math.factorial, [3, 4, 5])
    assert [job.result() for job in jobs] == [6, 24, 120]


def test_a_job_hears_the_signals_that_slurm_sends(slurm, listening):
    job, out = listening
    slurm("scancel", "--signal=USR2", "--batch", job)
    _until(lambda: "SIGUSR2" in out.read_text())
    _until(lambda: "JobState=FAILED" in slurm("scontrol", "show", "job", job))
    assert "ExitCode=3:0" in slurm("scontrol", "show", "job", job)


def test_a_cancelled_job_hears_sigterm(slurm, listening):
    job, out = listening
    slurm("scancel", job)
    _until(lambda: "SIGTERM" in out.read_text())
    _until(lambda: "JobState=CANCELLED" in slurm("scontrol", "show", "job", job))


def test_a_requeued_job_begins_again(slurm, listening):
    job, out = listening
    slurm("scontrol", "requeue", job)
    _until(lambda: out.read_text().count("begun") == 2)
    assert "Restarts=1" in slurm("scontrol", "show", "job", job)
    slurm("scancel", job)


def test_nothing_is_left_of_it():
    if why := _slurm.missing():
        pytest.skip(why)
    with _slurm.running() as slurm:
        folder = slurm.folder
        script = folder / "job.sh"
        script.write_text("#!/bin/bash\ntrap '' TERM\nsleep 600 & sleep 600\n")
        slurm("sbatch", "--output=/dev/null", str(script))
        _until(lambda: slurm("squeue", "--noheader", "--format=%T").strip() == "RUNNING")
        assert _of(folder)
    assert not folder.exists()
    _until(lambda: not _of(folder))


def _of(folder: Path) -> list[str]:
    """The processes that know the folder, from their command or their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in known and int(entry.name) != os.getpid():
            found.append(entry.name)
    return found


def _until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
