"""Composes the jobs of a multirun, most of which differ from each other in numbers only."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

NUMBER = re.compile(r"([a-z]\w*(?:\.\w+)*)=(?:(-?(?:0|[1-9]\d*))|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e-?\d+)?))")


class Composer:
    """Hydra's configuration loader, with a shortcut for jobs that differ from an earlier one in numbers only.

    Hydra reads every file again for each job, and twice: a sweep over a hundred seeds would wait twelve seconds
    before its first step. Here a job copies its sibling and then sets the numbers, which Hydra also does last.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._siblings: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of one job."""
        overrides = tuple(sweep_overrides)
        if overrides not in self._composed:
            pattern, numbers = apart(overrides)
            sibling = self._siblings.get(pattern)
            job = _with(sibling, overrides, numbers) if sibling else None
            if job is None:
                job = self._siblings[pattern] = self._loader.load_sweep_config(master_config, list(overrides))
            self._composed[overrides] = job
        return self._composed[overrides]


def apart(overrides: Sequence[str]) -> tuple[tuple[str, ...], list[re.Match[str]]]:
    """The overrides without their numbers, and the numbers."""
    numbers = [found for word in overrides if (found := NUMBER.fullmatch(word))]
    names = {found[0]: found[1] for found in numbers}
    return tuple(names.get(word, word) for word in overrides), numbers


def put(numbers: Sequence[re.Match[str]], cfg: DictConfig) -> bool:
    """Set these numbers in a configuration; False where they do not fit."""
    for key, whole, real in (found.groups() for found in numbers):
        try:
            OmegaConf.update(cfg, key, int(whole) if whole else float(real))
        except OmegaConfBaseException:
            return False
    return True


def _with(sibling: DictConfig, overrides: tuple[str, ...], numbers: Sequence[re.Match[str]]) -> DictConfig | None:
    """The sibling with other numbers; None where they do not fit, so that Hydra reports why."""
    job = copy.deepcopy(sibling)
    OmegaConf.set_readonly(job.hydra, False)  # a sibling may have run
    if not put(numbers, job):
        return None
    task = job.hydra.overrides.task
    new = dict(zip(task, overrides, strict=True))
    job.hydra.overrides.task = list(overrides)
    words = str(job.hydra.job.override_dirname).split(",")
    job.hydra.job.override_dirname = ",".join(new.get(word, word) for word in words)
    return job
