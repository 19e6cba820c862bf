"""The jobs of a multirun, composed and checked; those that differ in numbers only share all else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import filter_overrides
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from lossbench import terminal
from lossbench.config import checks
from lossbench.config.overrides import key
from lossbench.config.redaction import HELD, redacted
from lossbench.config.schema import Names
from lossbench.config.settings import Settings, Shared
from lossbench.core import ConfigError
from lossbench.sweeps import composing
from lossbench.sweeps.stacks import Datasets

COMPOSING = Lock()  # Hydra holds the configuration that it composes in a global
MOST = 200  # runs of a comparison that leave files unless tracking.artifacts is set


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a multirun: its number among them, its settings, and what Hydra composed for it or for a sibling."""

    hydra: DictConfig
    settings: Settings
    names: Names
    overrides: Sequence[str]
    number: int

    @property
    def cfg(self) -> DictConfig:
        """The configuration of its run."""
        return self.settings.cfg

    def whole(self) -> DictConfig:
        """What Hydra composes for this very job, as callbacks of the user's own are given it."""
        job = copy.deepcopy(self.hydra)
        OmegaConf.set_readonly(job.hydra, False)
        with open_dict(job):
            for name, value in self.settings.own.items():
                OmegaConf.update(job, name, value)
            composing.rename(job, self.overrides)
            job.hydra.job.id, job.hydra.job.num = str(self.number), self.number
        OmegaConf.set_readonly(job.hydra, True)
        return job


class Jobs:
    """Composes jobs; those that differ from an earlier one in numbers only hold nothing but their numbers."""

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self._context, self._config = context, config
        self._siblings: dict[tuple[str, ...], Job] = {}

    def __call__(self, overrides: Sequence[str], number: int) -> Job:
        """One job, checked. Raises: ConfigError that names it."""
        pattern, numbers = composing.apart(overrides)
        sibling = self._siblings.get(pattern)
        own = sibling.settings.shared.own(numbers) if sibling else None
        if sibling is None or own is None:
            job = self._siblings[pattern] = composed(self._context, self._config, overrides, number)
            return job
        settings = Settings(sibling.settings.shared, own)
        try:
            checks.check_numbers(settings.tree())
        except ConfigError as error:
            raise blame(error, overrides) from error
        return Job(sibling.hydra, settings, sibling.names, overrides, number)


def composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> Job:
    """One job as Hydra composes it, checked. Raises: ConfigError that names the job."""
    with COMPOSING:
        return _composed(context, config, overrides, number)


def _composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> Job:
    job = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = str(number)
        job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    try:
        names = checks.check_job(job, job.hydra)
    except ConfigError as error:
        raise blame(error, overrides) from error
    cfg = copy.deepcopy(job)  # with the types of its settings
    with open_dict(cfg):
        del cfg["hydra"]
    shared = Shared(cfg, composing.apart(overrides)[1])
    OmegaConf.resolve(cfg)
    return Job(job, Settings(shared, cfg=cfg if shared.literal else None), names, overrides, number)


def count_steps(job: Job, datasets: Datasets) -> None:
    """Set `train.steps` where epochs are asked for, which needs the data. Raises: ConfigError."""
    if job.settings["train.epochs"] is not None:
        datasets.count_steps(job.cfg)
        job.settings.update("train.steps", job.cfg.train.steps)
        job.settings.drop()


def leave_files(jobs: Sequence[Job], before: int = 0) -> None:
    """Where a comparison has many runs and nothing is asked for, none leaves files; a line says so.

    `before` is the number of runs that were launched before these.
    """
    asked = [job.settings for job in jobs if job.settings["tracking.artifacts"] is None]
    free = [settings for settings in asked if not settings["tracking.model"]]
    if before + len(jobs) <= MOST or not free:
        return
    for settings in free:
        settings.update("tracking.artifacts", "none")
    if before <= MOST:
        terminal.out().print(
            f"more than {MOST} runs: they leave no pictures, weights and predictions; tracking.artifacts=all (or "
            "weights) keeps them"
        )


def blame(error: ConfigError, overrides: Sequence[str]) -> ConfigError:
    """The error with the overrides of the job that it is about."""
    words = " ".join(redacted(word) for word in filter_overrides(overrides) if key(word) not in HELD)
    return ConfigError(f"{error}\nin the job {words}; nothing was trained")
