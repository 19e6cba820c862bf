"""What the planner finds out by trial: within memory, and turns for whatever does not stack."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lossbench.config.schema import Names
from lossbench.core import machine
from lossbench.engine import trial
from lossbench.runs import builders
from lossbench.runs.experiment import Experiment
from lossbench.runs.run import Run
from lossbench.sweeps import timing
from lossbench.sweeps.planning import SEQUENTIAL

COUNTED = """
from torch import nn
import torch

class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, prediction, target):
        self.calls += 1
        return (prediction - target).abs().mean(-1)

calls = []

def moody(prediction, target):
    calls.append(1)
    if len(calls) > 5:
        raise RuntimeError("enough")
    return (prediction - target).abs().mean(-1)
"""


@pytest.fixture
def runs(here, configured, monkeypatch):
    (here / "odd.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(str(here))

    def make(*words, n=12):
        cfgs = [configured("regression", "train.steps=200", f"seed={seed}", *words) for seed in range(n)]
        return [Run(cfg, Names("regression", "mlp", "x", "adam")) for cfg in cfgs]

    return make


def datasets(cfg):
    return builders.splits(cfg.dataset)


@pytest.mark.parametrize("room", [1, 3, 7])
def test_stacks_keep_within_memory(room, runs, monkeypatch):
    asked, tried = runs(), []
    experiment = Experiment(asked[0].cfg)
    need = trial.nbytes(experiment.replica(lambda step, values: None), experiment.plan)
    monkeypatch.setattr(machine, "memory", lambda: (room * need + need // 2) / timing.SHARE["cpu"])
    step_s = trial.step_s

    def watched(replicas, *arguments, **settings):
        tried.append(len(replicas))
        return step_s(replicas, *arguments, **settings)

    monkeypatch.setattr(trial, "step_s", watched)
    assert timing.fastest(asked, datasets).size <= room
    assert max(tried, default=1) <= room


@pytest.mark.parametrize(
    "words",
    [["loss._target_=odd.Counted"], ["loss._target_=odd.moody"], ["optimizer._target_=torch.optim.Adafactor"]],
    ids=["keeps something", "fails later", "optimizer by tensor"],
)
def test_what_does_not_stack_takes_turns(words, runs):
    if "Adafactor" in words[0]:
        words = [*words, "~optimizer.betas"]
    assert timing.fastest(runs(*words), datasets).size == 1


def test_one_run_needs_no_trial(runs):
    assert timing.fastest(runs(n=1), lambda cfg: pytest.fail("made data")) == SEQUENTIAL


def test_a_trial_trains_nothing(runs):
    asked = runs(n=4)
    before = Experiment(asked[0].cfg).nets.snapshot()
    timing.fastest(asked, datasets)
    after = asked[0].build().nets
    assert isinstance(after, nn.Module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.state_dict().items())
