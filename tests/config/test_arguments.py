"""Options and settings of a command line, told apart as Hydra's own parser does it."""

from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser

from lossbench.config import arguments

LINES = [
    ["-m", "loss=mse,mae", "--config-dir", "mine", "seed=0,1"],
    ["loss=mse", "--config-dir=mine", "-c", "job", "--resolve"],
    ["--info", "defaults", "loss=mse"],
    ["--info", "loss=mse"],
    ["~model.prior", "-cd", "mine", "+x=1", "++y=-2", "--package", "loss"],
    ["--multirun", "--multirun", "x=-m"],
    ["-sc", "install=bash"],
]


@pytest.mark.parametrize("line", LINES)
def test_hydra_reads_what_was_meant(line):
    asked = arguments.read(line, lambda name, value: "")
    parsed = get_args_parser().parse_args(asked.words())
    assert parsed.overrides == list(asked.settings)
    for option, value in asked.options:
        found = getattr(parsed, option.lstrip("-").replace("-", "_"))
        assert found == (value or True)


def test_every_option_of_hydra_is_known():
    known = {**arguments.FLAGS, **arguments.VALUED, **arguments.BOTH, "--version": ""}
    del known[arguments.JOIN]  # ours
    of_hydra = {word for action in get_args_parser()._actions for word in action.option_strings}
    assert {word for pair in known.items() for word in pair if word} == of_hydra
