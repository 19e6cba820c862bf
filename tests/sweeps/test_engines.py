"""What other machines cannot train or record is refused before anything trains; how large their stacks are."""

from __future__ import annotations

import pytest

from lossbench.config.schema import Names
from lossbench.core import ConfigError
from lossbench.core.given import give
from lossbench.runs.run import Run
from lossbench.sweeps import timing
from lossbench.sweeps.engines import checks, remote
from lossbench.sweeps.stacks import Datasets


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["tracking.uri=sqlite:///mlflow.db"], "docker compose"),
        (["tracking.uri=postgresql://mlflow@db/mlflow"], "docker compose"),
        (["tracking.uri=postgresql://mlflow@db/mlflow", "tracking.location=files"], "files"),
    ],
)
def test_a_store_of_one_machine_is_refused_with_what_would_work(configured, settings, word):
    with pytest.raises(ConfigError, match=word):
        checks.shared([configured("regression", *settings)], "two machines")


@pytest.mark.parametrize(
    "settings",
    [
        ["tracking.uri=http://server:5000"],
        ["tracking.uri=postgresql://mlflow@db/mlflow", "tracking.location=s3://bucket/files"],
    ],
)
def test_a_store_that_all_reach_is_taken(configured, settings):
    checks.shared([configured("regression", *settings)], "two machines")


def test_an_object_of_this_process_trains_here_only(configured):
    def mine(prediction, target):
        return (prediction - target).abs().mean(-1)

    cfg = configured("regression", f"loss._target_={give(mine, 'mine', 'abc123')}")
    with pytest.raises(ConfigError, match="mine"):
        checks.importable([cfg], "ray")


def test_every_process_gets_a_stack_before_any_gets_two(configured, store):
    runs = [Run(configured("regression", f"seed={seed}"), names()) for seed in range(12)]
    found = timing.on_workers(runs, Datasets(), slots=4, threads=1)
    assert 1 <= found.size <= 3
    assert found.workers == 4


def test_another_version_there_is_a_fault_of_the_machine(monkeypatch):
    place = remote.Place.here()
    monkeypatch.setattr(remote, "__version__", "0.0.0")
    with pytest.raises(RuntimeError, match=r"0\.0\.0"):
        place.enter()


def names():
    return Names("regression", "mlp", "mse", "adam")
