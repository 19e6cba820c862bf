"""What a record says of where it came from."""

import itertools
import math
import sys
from operator import truediv

from lossbench.config import catalogue
from lossbench.config.schema import CONFIGS
from lossbench.runs import provenance


def test_each_loss_has_its_colour():
    names = [entry.name for entry in catalogue.losses([CONFIGS])]
    colours = [provenance.colour(name) for name in names]
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in colours)
    assert provenance.colour("somebody_elses") == provenance.colour("somebody_elses")


def test_losses_that_meet_are_told_apart_by_colour():
    """CIE76 distances of those that fit one task type; about 2 is the least that an eye sees side by side."""
    entries = catalogue.losses([CONFIGS])
    for a, b in itertools.combinations(entries, 2):
        if set(a.task_types) & set(b.task_types):
            apart = math.dist(*(lab(provenance.colour(entry.name)) for entry in (a, b)))
            assert apart > 30, (a.name, b.name, apart)


def lab(colour):
    """CIE L*a*b* of an sRGB colour, by its definition under D65."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(w * v for w, v in zip(row, linear, strict=True)) for row in rows]
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in map(truediv, xyz, (0.9505, 1.0, 1.089)))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_a_command_can_be_typed_again_and_holds_no_password(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "-m", "seed=range(3)", "tracking.uri=postgresql://me:secret@host/db"])
    assert provenance.command() == "python -m lossbench -m 'seed=range(3)' 'tracking.uri=postgresql://me:…@host/db'"
