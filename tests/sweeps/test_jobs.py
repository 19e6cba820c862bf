"""Jobs that share a sibling's configuration are, number for number, what Hydra composes for each alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from lossbench.config import checks, run_key, schema
from lossbench.config.settings import Settings, Shared
from lossbench.core import ConfigError
from lossbench.sweeps import composing
from lossbench.sweeps.jobs import Jobs, composed

HUNDRED = [["loss=mae", f"seed={seed}"] for seed in range(100)]
SHARED = [
    HUNDRED,
    [[f"train.clip_norm={c}", f"optimizer.lr={r}", "seed=2"] for c in (1, 0.5) for r in (1, "1e-3")],
    [["train.record_every=${train.eval_every}", f"train.eval_every={n}"] for n in (2, 3)],
    [[f"tuning.trial={n}", "tuning.arm=trial", "tuning.study=s", f"loss.delta={n}", "loss=huber"] for n in (1, 2)],
    [["dataset.seed=5", f"seed={seed}", "train.steps=5", f"margin={seed}"] for seed in (1, 2)],
    [[f"dataset.seed={own}", f"seed={seed}"] for own in (1, 2) for seed in (3, 4)],
]
ALONE = [
    [["experiment_name=run_${seed}", f"seed={seed}"] for seed in (1, 2)],
    [["experiment_name=${hydra:job.num}", f"seed={seed}"] for seed in (1, 2)],
    [[f"dataset.outliers.fraction={share}", "seed=3"] for share in (0, 0.5)],
    [["experiment_name=\\${seed}", f"seed={seed}"] for seed in (1, 2)],
    [[f"experiment_name={name}", "seed=3"] for name in (3, 4)],
]


@pytest.fixture
def context(monkeypatch):
    schema.register()
    monkeypatch.setenv("LOSSBENCH_SWEEP", "/nowhere")
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield SimpleNamespace(config_loader=loader), loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)


def alone(context, master, overrides, number):
    """Hydra's configuration of one job, and its run's, resolved."""
    job = composed(context, master, overrides, number)
    cfg = context.config_loader.load_sweep_config(master, list(overrides))
    checks.check_job(cfg, cfg.hydra)
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.resolve(cfg)
    return job, cfg


@pytest.mark.parametrize("jobs", [*SHARED, *ALONE])
def test_a_job_has_the_settings_and_the_key_of_what_hydra_composes(jobs, context):
    compose = Jobs(*context)
    made = [compose(overrides, number) for number, overrides in enumerate(jobs)]
    for number, job in list(enumerate(made))[:: len(jobs) - 1]:
        own, cfg = alone(*context, jobs[number], number)
        assert job.settings.key("l") == run_key.key(cfg, "l")
        assert [*job.settings.flat().items()] == [*run_key.flat(cfg).items()]
        assert OmegaConf.to_container(job.cfg, resolve=True) == OmegaConf.to_container(cfg, resolve=True)
        assert [type(value) for value in job.settings.flat().values()] == [type(v) for v in run_key.flat(cfg).values()]
        assert job.names == own.names
        whole, expected = (OmegaConf.to_container(one, resolve=False)["hydra"] for one in (job.whole(), own.hydra))
        assert whole == expected


@pytest.mark.parametrize(("jobs", "shares"), [*((jobs, True) for jobs in SHARED), *((jobs, False) for jobs in ALONE)])
def test_jobs_share_all_that_no_number_decides(jobs, shares, context):
    compose = Jobs(*context)
    made = [compose(overrides, number) for number, overrides in enumerate(jobs)]
    assert len({id(job.settings.shared) for job in made}) == (1 if shares else len(jobs))


def test_a_number_out_of_range_is_blamed_on_its_job(context):
    compose = Jobs(*context)
    compose(["seed=1", "optimizer.lr=0.1"], 0)
    with pytest.raises(ConfigError, match=r"optimizer\.lr=0: has to be above 0\nin the job seed=2 optimizer\.lr=0;"):
        compose(["seed=2", "optimizer.lr=0"], 1)


def test_a_configuration_is_made_when_it_is_needed_and_dropped(context):
    compose = Jobs(*context)
    job = [compose(overrides, number) for number, overrides in enumerate(HUNDRED)][-1]
    cfg = job.cfg
    assert job.cfg is cfg
    job.settings.update("train.steps", 7)
    assert cfg.train.steps == 7
    job.settings.drop()
    assert job.cfg is not cfg
    assert job.cfg == cfg


@pytest.mark.parametrize("text", ["${.seed}", "${..seed}", "x${a.seed}", "${oc.select:a.seed}", "${a}", "${b}"])
def test_whatever_may_depend_on_a_number_is_not_shared(text):
    cfg = OmegaConf.create({"seed": 2, "a": {"seed": 1, "d": text if ".seed" in text else 0}, "b": "${a}"})
    if text == "${a}":
        cfg.c = text
    assert Shared(cfg, {"a.seed": 1}).own({"a.seed": 3}) is None
    assert Shared(OmegaConf.create({"lr": 2, "a": {"seed": 1}, "b": "${lr}"}), {"a.seed"}).own({"a.seed": 3})


def test_the_settings_of_a_given_configuration_keep_it():
    cfg = OmegaConf.create({"seed": 1, "train": {"steps": 5}, "loss": "${seed}"})
    settings = Settings.of(cfg)
    settings.drop()
    assert settings.cfg is cfg
    assert (settings["loss"], settings["train.steps"], settings.get("no")) == (1, 5, None)


def test_one_job_of_each_pattern_is_left():
    assert composing.one_of_each([*HUNDRED, ["loss=mse", "seed=3"], ["dataset.train=3"], ["dataset.train=4"]]) == [
        HUNDRED[0], ["loss=mse", "seed=3"], ["dataset.train=3"], ["dataset.train=4"],
    ]  # fmt: skip
