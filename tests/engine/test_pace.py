"""How many threads train: by the size of what is trained, and fewer only while others have the cores."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine.toys import Toy, assert_equal, plan, train

from lossbench.core import Split, stream
from lossbench.engine import Nets, pace, trial
from lossbench.losses import cross_entropy
from lossbench.models import CNN


@pytest.fixture(autouse=True)
def _two_threads():
    with pace.using(2):
        yield


@pytest.fixture
def _always_waiting(monkeypatch):
    monkeypatch.setattr(pace, "LOOK_S", 0)
    monkeypatch.setattr(pace, "LONGEST_S", 0)
    monkeypatch.setattr(pace, "RETURN_S", 0)
    monkeypatch.setattr(pace, "SHARE", float("inf"))
    monkeypatch.setattr(trial, "MEAN_S", 0)


def test_small_nets_train_on_one_thread_and_others_on_all():
    small = Toy(cross_entropy, task_type="multiclass").made()
    assert pace.threads(small, plan(), 8) == 1
    nets = Nets(model=CNN((1, 32, 32), 3, stream(0, "init"), widths=(64, 64)))
    images = Split(torch.zeros(64, 1, 32, 32), torch.zeros(64, dtype=torch.long))
    optimizers = {"model": torch.optim.SGD(nets.parameters(), lr=0.1)}
    large = replace(small, nets=nets, optimizers=optimizers, train=images, validation=images)
    assert pace.threads(large, plan(), 8) == 8
    assert pace.threads(large, plan(), 1) == 1


@pytest.mark.usefixtures("_always_waiting")
def test_looking_changes_no_number(monkeypatch):
    monkeypatch.setattr(pace, "FEWER", 0)
    looked = []
    monkeypatch.setattr(trial, "mean_s", lambda *a, mean_s=trial.mean_s, **k: looked.append(1) or mean_s(*a, **k))
    toys = [Toy()]
    replica = toys[0].made()
    (expected,) = train(toys, plan())
    watched = pace.Pace([replica], plan(), lambda: False, lambda steps, threads: pytest.fail("changed"))
    (found,) = train(toys, plan(), stop=watched)
    assert looked
    assert_equal(found, expected)


@pytest.mark.usefixtures("_always_waiting")
def test_fewer_while_it_pays_and_all_again_afterwards(monkeypatch):
    took = {1: 1.0, 2: 4.0}
    monkeypatch.setattr(trial, "mean_s", lambda replicas, plan, *, threads: took[threads])
    changes = []
    asked = pace.Pace([], plan(), lambda: False, lambda *change: changes.append(change))
    for _ in range(3):
        asked()
    assert torch.get_num_threads() == 1
    took |= {2: 0.7}
    for _ in range(3):
        asked()
    assert torch.get_num_threads() == 2
    assert changes == [(0, 1), (3, 2)]
