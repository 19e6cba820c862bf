"""The folder of a sweep, in which Hydra's launchers and sweepers write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest
from recorded import runs
from small import SMALL

from lossbench.core import machine
from lossbench.tracking import Store

DATA = [*SMALL["regression"], "train.steps=2"]
LOOKS = """
import os
from pathlib import Path
def looks(p, t):
    folder = Path(os.environ["LOSSBENCH_SWEEP"])
    Path("seen").write_text(oct(folder.stat().st_mode & 0o777) if folder.exists() else "none")
    return (p - t).square().mean(-1)
"""


@pytest.fixture
def sweeps(tmp_path, here, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "own cache"))
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "looking", raising=False)
    (here / "looking.py").write_text(LOOKS)
    return tmp_path / "own cache/sweeps"


@pytest.mark.parametrize(("launcher", "seen"), [("basic", "0o700"), ("lossbench", "none")])
def test_it_is_closed_to_others_and_gone_with_the_sweep(launcher, seen, lossbench, here, sweeps):
    said = lossbench("-m", f"hydra/launcher={launcher}", "loss._target_=looking.looks", *DATA)
    assert said.code == 0, said.err
    assert (here / "seen").read_text() == seen
    assert not sweeps.exists() or not list(sweeps.iterdir())


def test_what_killed_sweeps_left_goes_with_the_next(lossbench, sweeps):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ours = f"{machine.name()}-{os.getppid()}"
    for name in (f"{machine.name()}-{ended.pid}", ours, "2026-01-01_00-00-00-000000", "2026-01-02_00-00-00-000000"):
        (sweeps / name).mkdir(parents=True)
        (sweeps / name / "multirun.yaml").write_text("tracking:\n  uri: postgresql://me:secret@host/db\n")
    long_ago = time.time() - 10 * 86_400
    os.utime(sweeps / "2026-01-01_00-00-00-000000", (long_ago, long_ago))
    assert lossbench("-m", "loss=mse", *DATA).code == 0
    assert {path.name for path in sweeps.iterdir()} == {ours, "2026-01-02_00-00-00-000000"}


def test_a_folder_that_was_named_stays(lossbench, here):
    assert lossbench("-m", "loss=mse", "hydra.sweep.dir=mine", *DATA).code == 0
    assert "hydra.sweep.dir=mine" in (here / "mine/multirun.yaml").read_text()
    assert stat.S_ISDIR((here / "mine").stat().st_mode)


def test_a_run_of_another_launcher_looks_for_itself_alone(lossbench, store, monkeypatch):
    """It read all runs of its comparison: of 180, the last ones took twice as long as the first."""
    found, find = [], Store.find

    def counted(self, tags):
        found.append(find(self, tags))
        return found[-1]

    monkeypatch.setattr(Store, "find", counted)
    assert lossbench("-m", "hydra/launcher=basic", "loss=mse", "seed=range(4)", *DATA).code == 0
    assert len(runs(store)) == 4
    assert max(len(some) for some in found[:-1]) <= 1
