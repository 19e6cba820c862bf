"""Scripts without a guard, workers, and the objects that no worker has."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lossbench.config import run_key, schema
from lossbench.core import give
from lossbench.sweeps import planning, timing
from lossbench.sweeps.planning import Schedule

SCRIPT = """
print("the script begins", flush=True)
from lossbench.sweeps import timing
from lossbench.sweeps.planning import Schedule
import lossbench
timing.fastest = lambda runs, datasets: Schedule(1, 1, 2)  # two workers, whatever is fastest
losses = ["mse", "script_losses.own"]
found = lossbench.compare(dataset="regression", losses=losses, seeds=1, settings={tiny}, quiet=True)
print(sorted(found.runs["loss"]), set(found.runs["outcome"]))
"""
OWN = """
import os
parent = os.environ["SCRIPT_TEST"]
def own(prediction, target):
    open(parent + "/" + str(os.getpid()), "w").close()
    return (prediction - target).abs().mean(-1)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_runs_once(tiny, here, monkeypatch):
    """Workers train a loss that they can import, and none of them imports the script."""
    seen = here / "seen"
    seen.mkdir()
    monkeypatch.setenv("SCRIPT_TEST", str(seen))
    (here / "script_losses.py").write_text(OWN, encoding="utf-8")
    (here / "script.py").write_text(SCRIPT.replace("{tiny}", repr(tiny)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{Path(schema.HERE).parent}:{here}")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the script begins", "['mse', 'own'] {'finished'}"]
    assert len(list(seen.iterdir())) == 2  # this process tries the loss, a worker trains with it


@pytest.fixture
def schedules(monkeypatch, configured, here):
    """The schedules among which the fastest is chosen, for runs with these settings."""
    asked = []
    monkeypatch.setattr(timing.machine, "cores", lambda: 2)
    monkeypatch.setattr(planning, "START_S", 0.0)

    def choose(measured, runs, steps):
        asked.append(set(measured))
        return Schedule()

    monkeypatch.setattr(planning, "choose", choose)

    def of(*words):
        from lossbench.config.schema import Names
        from lossbench.runs import builders
        from lossbench.runs.run import Run

        cfg = configured("regression", "train.steps=100", "train.batch_size=16", *words)
        names = Names("regression", "mlp", "own", "adam")
        asked.clear()
        timing.fastest([Run(cfg, names), Run(cfg, names)], lambda cfg: builders.splits(cfg.dataset))
        return asked[-1]

    return of


def test_no_worker_gets_what_only_this_process_has(schedules):
    def own(prediction, target):
        return (prediction - target).abs().mean(-1)

    path = give(own, "own", "d1")
    assert any(one.workers for one in schedules("loss=mae"))
    assert not any(one.workers for one in schedules(f"loss._target_={path}"))


@pytest.mark.parametrize(
    "word", ["+loss.miner._target_={}", "+task.metrics=[a.b,{}]", "+dataset.path={}", "+loss.x=[{}]"]
)
def test_given_paths_are_found_wherever_they_stand(word):
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        schema.register()
        cfg = compose("config", [word.format("given.d1.own"), "experiment_name=x"])
        assert run_key.given_paths(run_key.flat(cfg)) == ["given.d1.own"]
        assert not run_key.given_paths(run_key.flat(compose("config", ["experiment_name=given"])))
