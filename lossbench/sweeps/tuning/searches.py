"""The searches of a fair comparison, one a loss and comparison: made and checked before anything trains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from lossbench.analysis.tuning import recipes
from lossbench.config import run_key
from lossbench.config.overrides import key
from lossbench.config.redaction import HELD, redacted
from lossbench.config.schema import Names
from lossbench.core import ConfigError, Metric
from lossbench.runs import provenance
from lossbench.runs.experiment import Experiment
from lossbench.runs.identity import TRIAL
from lossbench.sweeps import launch
from lossbench.sweeps.fitting import Faults
from lossbench.sweeps.one_at_a_time import Datasets
from lossbench.sweeps.own import distribute
from lossbench.sweeps.tuning import apart, draws
from lossbench.sweeps.tuning import space as spaces
from lossbench.sweeps.tuning.budget import Budget
from lossbench.sweeps.tuning.request import Request
from lossbench.sweeps.tuning.space import Space
from lossbench.sweeps.tuning.study import Study, open_storage

SEARCHED_ON = 10_000  # the first seed of a search: its data, weights and batches are none of a final run's
CHOICES = ("loss", "loss._target_", "dataset", "dataset._target_", "experiment")  # that have names of their own
SAMPLERS = ("random", "quasi", "tpe", "grid")


@dataclass(frozen=True, eq=False)
class Search:
    """One loss under the settings of one comparison.

    `words` are the overrides of all its runs, `job` what they compose; `seeds` has one a data split; `asked` is what a
    record says of how it was searched. `parted`: what final runs test on is kept from it by `dataset.stage`.
    """

    words: list[str]
    parted: bool
    job: launch.Job
    space: Space
    seeds: list[int]
    primary: Metric
    study: Study
    asked: Mapping[str, Any]

    @property
    def cfg(self) -> DictConfig:
        return self.job.cfg

    @property
    def names(self) -> Names:
        return self.job.names

    def said(self, stage: str) -> list[str]:
        """The overrides of its runs in a stage, `search` or `final`."""
        return apart.kept(self.words, stage) if self.parted else self.words

    @property
    def steps(self) -> int:
        """Of one trial, over all its splits."""
        return int(self.cfg.train.steps) * len(self.seeds)

    @property
    def label(self) -> str:
        own = [redacted(word) for word in self.words if key(word) not in (*CHOICES, *HELD)]
        return " ".join([self.names.loss, "on", self.names.dataset, *own])


def prepared(
    context: HydraContext,
    config: DictConfig,
    asked: Request,
    budget: Budget,
    given: Mapping[str, Any],
    datasets: Datasets,
) -> list[Search]:
    """Every search, its study opened. `given` are the sweeper's settings.

    Raises: ConfigError for whatever cannot be searched or trained.
    """
    if given["sampler"] not in SAMPLERS:
        raise ConfigError(f"hydra.sweeper.sampler={given['sampler']}: unknown; choose {', '.join(SAMPLERS)}")
    for name, least in (("splits", 1), ("seeds", 1), ("initial", 1), ("seed", 0)):
        if not isinstance(given[name], int) or given[name] < least:
            raise ConfigError(f"hydra.sweeper.{name}={given[name]}: a whole number, at least {least}")
    seeds = list(islice((seed for seed in count(SEARCHED_ON) if seed not in asked.seeds), given["splits"]))
    faults, candidates = Faults(config), []
    words = distribute(context.config_loader, config, [[*o, *loss] for o in asked.comparisons for loss in asked.losses])
    for number, own in enumerate(words):
        with faults.of(own):
            candidates.append(_candidate(context, config, own, (seeds[0], asked.seeds[0]), asked, datasets, number))
    _refuse_unused(asked, faults.without(candidates))
    for one in candidates:
        with faults.of(one.overrides):
            for both in _ends(one.space):
                said = [f"{name}={recipes.word(value)}" for name, value in both.items()]
                _try(launch.composed(context, config, [*one.job.overrides, *said], 0), datasets)
    kept = faults.without(candidates)
    faults.tell()
    storage = open_storage(given["storage"] or "sqlite:///tuning.db")
    return [_search(one, seeds, budget, given, storage, datasets) for one in kept]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One loss to be searched: the overrides of all its runs, the first of these, and what is searched."""

    overrides: list[str]
    parted: bool
    job: launch.Job
    space: Space


def _candidate(
    context: HydraContext,
    config: DictConfig,
    own: list[str],
    seeds: tuple[int, int],
    asked: Request,
    datasets: Datasets,
    number: int,
) -> Candidate:
    """`seeds` are the first of the search and of the final runs. Raises: ConfigError."""
    searched, final = [*own, f"seed={seeds[0]}", f"tuning.arm={TRIAL}"], [*own, f"seed={seeds[1]}"]
    job = launch.composed(context, config, searched, number)
    parted = apart.wanted(job.cfg, launch.composed(context, config, final, number).cfg, datasets)
    if parted:
        job = launch.composed(context, config, apart.kept(searched, "search"), number)
    datasets.count_steps(job.cfg)
    return Candidate(own, parted, job, spaces.space(job.cfg, job.names.loss, asked.asked, asked.fixed))


def _ends(space: Space) -> list[dict[str, Any]]:
    """Settings that have both ends of every range, and every choice: what any of them is refused for, shows here."""
    count = max([2, *(len(d.choices) for d in space.values() if isinstance(d, spaces.Choices))])
    return [{name: d.at(place / (count - 1)) for name, d in space.items()} for place in range(count)]


def _try(job: launch.Job, datasets: Datasets) -> Experiment:
    """Raises: ConfigError for what only shows with the data at hand."""
    try:
        return Experiment(job.cfg, datasets(job.cfg))
    except ConfigError as error:
        raise launch.blame(error, job.overrides) from error


def _refuse_unused(asked: Request, found: Sequence[Candidate]) -> None:
    losses = ", ".join(dict.fromkeys(one.job.names.loss for one in found))
    for name in asked.asked:
        if not any(name in one.space for one in found):
            hint = (
                f"; say +{name}=… first, with the value of runs at default settings" if name.startswith("loss.") else ""
            )
            raise ConfigError(f"{name}: to be searched, and {losses} has no such setting{hint}")
    for one in found:
        if not one.space:
            rate = "" if "lr" in one.job.cfg.optimizer else "; optimizer.lr=…, where its search starts, is not given"
            raise ConfigError(
                f"loss={one.job.names.loss}: nothing to search: every setting that has a range is set{rate}"
            )


def _search(
    found: Candidate, seeds: list[int], budget: Budget, given: Mapping[str, Any], storage: Any, datasets: Datasets
) -> Search:
    job, space = found.job, found.space
    sampler, learns = given["sampler"], given["sampler"] == "tpe"
    steps = job.cfg.train.steps * len(seeds)
    budget.affords(steps, given["initial"] if learns else 1)
    experiment = _try(job, datasets)
    asked = {
        "sampler": sampler,
        "splits": len(seeds),
        "pruning": given["pruning"],
        "space": {name: spaces.told(dimension) for name, dimension in space.items()},
    }
    deciding = [run_key.key(job.cfg), provenance.code(), asked, given["seed"], experiment.splits.info.fingerprint]
    if learns:
        deciding += [given["initial"], budget.batch]
    if sampler == "grid":
        deciding += [budget.amount]
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    primary = experiment.task.metrics[0]
    study = Study(
        storage,
        f"{job.names.loss}-{digest[:16]}",
        space,
        _draw(sampler, space, given["seed"], budget),
        higher_is_better=primary.higher_is_better,
        learns_after=given["initial"] if learns else None,
        seed=given["seed"],
    )
    return Search(found.overrides, found.parted, job, space, seeds, primary, study, asked)


def _draw(sampler: str, space: Space, seed: int, budget: Budget) -> draws.Draw:
    if sampler == "grid":
        if budget.trials is None:
            raise ConfigError(f"hydra.sweeper.{budget.unit}={budget.amount}: a grid is counted in trials")
        return draws.grid(space, seed, budget.trials)
    return draws.quasi(space, seed) if sampler == "quasi" else draws.random(space, seed)
