"""The short cut in composing jobs gives what Hydra gives."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from lossbench.config import schema
from lossbench.sweeps.composing import Composer

SWEEPS = [
    [["loss=mae", "seed=3"], ["loss=mae", "seed=4"], ["loss=mse", "seed=-0"], ["loss=mse", "seed=10"]],
    [
        ["dataset=imbalanced", "loss=focal", f"loss.gamma={g}", f"optimizer.lr={r}"]
        for g in (0, 2.5)
        for r in (1, "1e-3")
    ],
    [["+loss.more=3"], ["+loss.more=4"]],
    [["seed=3", "experiment_name=x"], ["seed=4", "experiment_name=x"], ["seed=4", "experiment_name=7"]],
    [["train.clip_norm=1"], ["train.clip_norm=0.5"], ["train.clip_norm=null"], ["train.clip_norm=1e2"]],
    [["loss=huber", "loss.delta=0.5", "seed=007"], ["loss=huber", "loss.delta=1.5", "seed=1"]],
]


class Counting:
    def __init__(self, loader):
        self.loader, self.composed = loader, 0

    def load_sweep_config(self, *arguments):
        self.composed += 1
        return self.loader.load_sweep_config(*arguments)


@pytest.fixture
def loader(monkeypatch):
    schema.register()
    monkeypatch.setenv("LOSSBENCH_SWEEP", "/nowhere")
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def plain(cfg):
    return OmegaConf.to_container(cfg, resolve=False)


@pytest.mark.parametrize("jobs", SWEEPS)
def test_each_job_is_what_hydra_composes(jobs, loader):
    master = loader.load_configuration("config", ["seed=1,2"], run_mode=RunMode.MULTIRUN)
    composer = Composer(loader)
    for _ in range(2):  # the sweeper asks, and then the launcher
        for job in jobs:
            try:
                expected = plain(loader.load_sweep_config(master, list(job)))
            except ConfigCompositionException as error:
                with pytest.raises(ConfigCompositionException, match=str(error)[:40]):
                    composer.load_sweep_config(master, list(job))
            else:
                assert plain(composer.load_sweep_config(master, list(job))) == expected


def test_a_hundred_seeds_are_composed_once(loader):
    master = loader.load_configuration("config", ["seed=1,2"], run_mode=RunMode.MULTIRUN)
    counting = Counting(loader)
    composer = Composer(counting)
    jobs = [
        composer.load_sweep_config(master, ["loss=mae", f"seed={seed}", "optimizer.lr=1e-2"]) for seed in range(100)
    ]
    assert counting.composed == 1
    assert [job.seed for job in jobs] == list(range(100))
    assert {job.optimizer.lr for job in jobs} == {0.01}


def test_a_value_of_the_wrong_type_fails_as_hydra_says_it(loader):
    master = loader.load_configuration("config", ["seed=1,2"], run_mode=RunMode.MULTIRUN)
    composer = Composer(loader)
    composer.load_sweep_config(master, ["train.steps=10"])
    with pytest.raises(ConfigCompositionException, match=r"train\.steps=2\.5"):
        composer.load_sweep_config(master, ["train.steps=2.5"])
