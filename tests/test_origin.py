"""What a record says of where it came from."""

import os
import subprocess
import sys

from lossbench import catalogue, origin
from lossbench.settings import CONFIGS


def test_a_process_is_gone_once_it_has_ended():
    host = origin.process().rpartition(":")[0]
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not origin.gone(f"{host}:{child.pid}")
    child.communicate(b"\n")
    assert origin.gone(f"{host}:{child.pid}")
    assert not origin.gone(origin.process())
    assert not origin.gone(f"{host}:1") or os.getpid() == 1
    assert not origin.gone("another-machine:1")


def test_each_loss_has_its_colour():
    names = [entry.name for entry in catalogue.losses([CONFIGS])]
    colours = [origin.colour(name) for name in names]
    assert len(set(colours)) == len(names)
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in colours)
    assert origin.colour("somebody_elses") == origin.colour("somebody_elses")


def test_a_command_can_be_typed_again_and_holds_no_password(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "-m", "seed=range(3)", "tracking.uri=postgresql://me:secret@host/db"])
    assert origin.command() == "python -m lossbench -m 'seed=range(3)' tracking.uri=postgresql://me:…@host/db"
