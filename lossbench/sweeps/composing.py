"""Composes the jobs of a multirun, most of which differ from each other in numbers only."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# not of a dataset, whose task type and name may depend on its settings
NUMBER = re.compile(
    r"((?!dataset\.(?!seed=))[a-z]\w*(?:\.\w+)*)=(?:(-?(?:0|[1-9]\d*))|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e-?\d+)?))"
)


class Composer:
    """Hydra's configuration loader, with a shortcut for jobs that differ from an earlier one in numbers only.

    Hydra reads every file again for each job, and twice: a sweep over a hundred seeds would wait twelve seconds
    before its first step. Here a job copies its sibling and then sets the numbers, which Hydra also does last.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._siblings: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of one job."""
        overrides = tuple(sweep_overrides)
        pattern, numbers = apart(overrides)
        sibling = self._siblings.get(pattern)
        job = _with(sibling, overrides, numbers) if sibling else None
        if job is None:
            job = self._loader.load_sweep_config(master_config, list(overrides))
            self._siblings[pattern] = copy.deepcopy(job)
        return job


def apart(overrides: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int | float]]:
    """The overrides without their numbers, and the numbers."""
    pattern, numbers = [], {}
    for word in overrides:
        found = NUMBER.fullmatch(word)
        if found:
            key, whole, real = found.groups()
            numbers[key] = int(whole) if whole else float(real)
        pattern.append(found[1] if found else word)
    return tuple(pattern), numbers


def one_of_each(jobs: Sequence[list[str]]) -> list[list[str]]:
    """The first of the jobs that differ in numbers only."""
    found: dict[tuple[str, ...], list[str]] = {}
    for overrides in jobs:
        found.setdefault(apart(overrides)[0], overrides)
    return list(found.values())


def _with(sibling: DictConfig, overrides: tuple[str, ...], numbers: Mapping[str, int | float]) -> DictConfig | None:
    """The sibling with other numbers; None where they do not fit, so that Hydra reports why."""
    job = copy.deepcopy(sibling)
    try:
        for key, number in numbers.items():
            OmegaConf.update(job, key, number)
    except OmegaConfBaseException:
        return None
    rename(job, overrides)
    return job


def rename(job: DictConfig, overrides: Sequence[str]) -> None:
    """Replace the overrides of a sibling in Hydra's part of a configuration by a job's own."""
    new = dict(zip(job.hydra.overrides.task, overrides, strict=True))
    job.hydra.overrides.task = list(overrides)
    words = str(job.hydra.job.override_dirname).split(",")
    job.hydra.job.override_dirname = ",".join(new.get(word, word) for word in words)
