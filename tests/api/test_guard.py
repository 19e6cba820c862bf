"""A call leaves the process as it was: alone, twice, in a thread, inside an application of Hydra, and interrupted."""

import logging
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

import lossbench as door
from lossbench.api.guard import undisturbed


def state():
    """What belongs to the whole process, and the caller relies on."""
    import matplotlib

    return {
        "arguments": list(sys.argv),
        "environment": {
            k: v for k, v in os.environ.items() if k.startswith(("LOSSBENCH_", "HYDRA_", "OMP_", "MLFLOW_T"))
        },
        "folder": Path.cwd(),
        "path": list(sys.path),
        "main": sys.modules["__main__"],
        "streams": (sys.stdout, sys.stderr),
        "handlers": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
        "logging": [(one.level, one.disabled, list(one.handlers)) for one in (logging.root, logging.getLogger("mine"))],
        "warnings": list(warnings.filters),
        "threads": torch.get_num_threads(),
        "strict": torch.are_deterministic_algorithms_enabled(),
        "backend": matplotlib.get_backend(auto_select=False),
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg),
        "resolvers": dict(BaseContainer._resolvers),
        "schema": ConfigStore.instance().repo.get("schema.yaml"),
        "draws": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()),  # noqa: NPY002
    }


@pytest.fixture
def mine(monkeypatch):
    """Settings of the caller's own in everything that a call touches."""
    import matplotlib

    logger, backend = logging.getLogger("mine"), matplotlib.get_backend(auto_select=False)
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    logger.setLevel(logging.ERROR)
    monkeypatch.setattr(sys, "argv", ["mine.py", "--lr", "3"])
    monkeypatch.setenv("LOSSBENCH_COMPARISON", "mine")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    warnings.filterwarnings("ignore", message="mine")
    ConfigStore.instance().store(name="schema", node={"mine": 1})
    OmegaConf.register_new_resolver("now", lambda pattern: "mine", replace=True)
    matplotlib.use("svg")
    yield
    ConfigStore.instance().repo.pop("schema.yaml")
    logging.root.removeHandler(handler)
    if backend:
        matplotlib.use(backend)


def test_everything_is_as_before(mine, tiny, here):
    door.train(dataset="regression", settings=tiny, quiet=True)  # imports what it needs
    before = state()
    door.compare(dataset="regression", losses=["mse", "mae"], seeds=2, settings=tiny, quiet=True)
    assert state() == before
    with pytest.raises(door.ConfigError):
        door.compare(dataset="regression", losses="mse", seeds=1, settings={"train.step": 1}, quiet=True)
    assert state() == before


def disturbed():
    """A call that changes what it finds, and fails."""
    with undisturbed(["dataset=regression"]):
        logging.getLogger("mine").disabled = True
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(True, warn_only=True)
        os.environ["LOSSBENCH_SWEEP"] = "there"
        ConfigStore.instance().store(name="schema", node={})
        assert sys.argv == ["mine.py", "dataset=regression"]
        raise ZeroDivisionError


def test_a_call_that_fails_is_undone(mine):
    before = state()
    with pytest.raises(ZeroDivisionError):
        disturbed()
    assert state() == before
    assert not logging.root.manager.disable


def test_several_threads_take_turns(tiny, here):
    found, begun = {}, door.train(dataset="regression", settings=tiny, quiet=True)

    def call(seed):
        found[seed] = door.train(dataset="regression", seed=seed, settings=tiny, quiet=True)

    before = state()
    threads = [threading.Thread(target=call, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state() == before
    assert found[0].metrics == begun.metrics
    assert found[1].metrics != begun.metrics


def test_a_comparison_in_a_thread(tiny, here):
    found = []
    asked = {"dataset": "regression", "losses": ["mse", "mae"], "seeds": 2, "settings": tiny}
    thread = threading.Thread(target=lambda: found.append(door.compare(**asked, quiet=True)))
    thread.start()
    thread.join()
    assert set(found[0].runs["outcome"]) == {"finished"}


def test_inside_an_application_of_hydra(tiny, here, monkeypatch, tmp_path):
    import hydra

    (tmp_path / "mine.yaml").write_text("lr: 3\nhydra: {output_subdir: null, run: {dir: .}}\n", encoding="utf-8")
    seen = []

    @hydra.main(version_base="1.2", config_path=str(tmp_path), config_name="mine")
    def main(cfg):
        before = HydraConfig.get().job.name, GlobalHydra.instance().hydra, hydra.version.getbase()
        result = door.train(dataset="regression", settings=tiny, quiet=True)
        assert (HydraConfig.get().job.name, GlobalHydra.instance().hydra, hydra.version.getbase()) == before
        seen.append((cfg.lr, result.outcome, OmegaConf.create({"lr": "${hydra:job.name}"}).lr))

    monkeypatch.setattr(sys, "argv", ["mine.py", "hydra/job_logging=none", "hydra/hydra_logging=none"])
    try:
        main()
    finally:
        GlobalHydra.instance().clear()
    ((lr, outcome, name),) = seen
    assert (lr, outcome) == (3, "finished")
    assert name


def test_an_interrupted_comparison_continues(tiny, here, store, capsys):
    flag = here / "stop"

    def stops(prediction, target):
        if flag.exists() and signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # while runs train
            flag.unlink()
            signal.raise_signal(signal.SIGINT)
        return (prediction - target).square().mean(-1)

    asked = {"dataset": "regression", "losses": ["mse", stops], "seeds": 2, "settings": {**tiny, "train.steps": 30}}
    flag.touch()
    with pytest.raises(KeyboardInterrupt):
        door.compare(**asked)
    assert not flag.exists()
    assert "the same call continues" in capsys.readouterr().err
    (killed,) = store.find({"lossbench.kind": "comparison"})
    assert killed.info.status == "KILLED"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    found = door.compare(**asked)
    (comparison,) = store.find({"lossbench.kind": "comparison"})
    assert comparison.info.run_id == killed.info.run_id
    assert comparison.info.status == "FINISHED"
    assert "continuing" in capsys.readouterr().out
    assert found.leaderboard["n"].tolist() == [2, 2]
