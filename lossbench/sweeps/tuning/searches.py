"""The searches of a fair comparison, one per loss and comparison: prepared and checked before anything trains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig

from lossbench.config import run_key
from lossbench.config.overrides import key
from lossbench.config.redaction import HELD, redacted
from lossbench.config.schema import Names
from lossbench.config.words import word
from lossbench.core import ConfigError, Metric
from lossbench.runs import provenance
from lossbench.runs.experiment import Experiment
from lossbench.runs.identity import TRIAL
from lossbench.sweeps import jobs
from lossbench.sweeps.fitting import Faults
from lossbench.sweeps.own import distribute
from lossbench.sweeps.stacks import Datasets
from lossbench.sweeps.tuning import apart, draws
from lossbench.sweeps.tuning import space as spaces
from lossbench.sweeps.tuning.budget import Budget
from lossbench.sweeps.tuning.request import Request
from lossbench.sweeps.tuning.space import Space
from lossbench.sweeps.tuning.study import Study, open_storage

SEARCHED_ON = 10_000  # the first seed of a search: no final run shares its data, weights or batches
CHOICES = ("loss", "loss._target_", "dataset", "dataset._target_", "experiment")  # shown by name, or not at all
SAMPLERS = ("random", "quasi", "tpe", "grid")


@dataclass(frozen=True, eq=False)
class Search:
    """The search of one loss under the settings of one comparison.

    `words` are the overrides of all its runs, `job` what they compose; `seeds` has one seed per data split; `asked` is
    the description of the search that is recorded. `parted`: `dataset.stage` keeps the final test examples from it.
    """

    words: list[str]
    parted: bool
    job: jobs.Job
    space: Space
    seeds: list[int]
    primary: Metric
    study: Study
    asked: Mapping[str, Any]

    @property
    def cfg(self) -> DictConfig:
        """The configuration of its runs."""
        return self.job.cfg

    @property
    def names(self) -> Names:
        """The names of its loss, dataset, model and optimizer."""
        return self.job.names

    def overrides(self, stage: str) -> list[str]:
        """The overrides of its runs in a stage, `search` or `final`."""
        return apart.staged(self.words, stage) if self.parted else self.words

    @property
    def steps(self) -> int:
        """The optimizer steps of one trial, over all its data splits."""
        return int(self.cfg.train.steps) * len(self.seeds)

    @property
    def label(self) -> str:
        """Its loss and dataset, with the settings that the command line gives."""
        own = [redacted(word) for word in self.words if key(word) not in (*CHOICES, *HELD)]
        return " ".join([self.names.loss, "on", self.names.dataset, *own])


def prepared(
    context: HydraContext,
    config: DictConfig,
    asked: Request,
    budget: Budget,
    settings: Mapping[str, Any],
    datasets: Datasets,
) -> list[Search]:
    """All searches, with their studies opened. `settings` are the sweeper's.

    Raises: ConfigError for anything that cannot be searched or trained.
    """
    if settings["sampler"] not in SAMPLERS:
        raise ConfigError(f"hydra.sweeper.sampler={settings['sampler']}: unknown; choose {', '.join(SAMPLERS)}")
    for name, least in (("splits", 1), ("seeds", 1), ("initial", 1), ("seed", 0)):
        if not isinstance(settings[name], int) or settings[name] < least:
            raise ConfigError(f"hydra.sweeper.{name}={settings[name]}: a whole number, at least {least}")
    seeds = list(islice((seed for seed in count(SEARCHED_ON) if seed not in asked.seeds), settings["splits"]))
    faults, candidates = Faults(config), []
    words = distribute(context.config_loader, config, [[*o, *loss] for o in asked.comparisons for loss in asked.losses])
    for number, own in enumerate(words):
        with faults.of(own):
            candidates.append(_candidate(context, config, own, (seeds[0], asked.seeds[0]), asked, datasets, number))
    _refuse_unused(asked, faults.without(candidates))
    for one in candidates:
        with faults.of(one.overrides):
            for both in _ends(one.space):
                ends = [f"{name}={word(value)}" for name, value in both.items()]
                _try(jobs.composed(context, config, [*one.job.overrides, *ends], 0), datasets)
    trainable = faults.without(candidates)
    faults.tell()
    storage = open_storage(settings["storage"] or "sqlite:///tuning.db")
    return [_search(one, seeds, budget, settings, storage, datasets) for one in trainable]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A loss to be searched: the overrides of all its runs, its first job, and the space that is searched."""

    overrides: list[str]
    parted: bool
    job: jobs.Job
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
    """`seeds` are the first seed of the search and the first of the final runs. Raises: ConfigError."""
    searched, final = [*own, f"seed={seeds[0]}", f"tuning.arm={TRIAL}"], [*own, f"seed={seeds[1]}"]
    job = jobs.composed(context, config, searched, number)
    parted = apart.wanted(job.cfg, jobs.composed(context, config, final, number).cfg, datasets)
    if parted:
        job = jobs.composed(context, config, apart.staged(searched, "search"), number)
    datasets.count_steps(job.cfg)
    fixed = asked.fixed | {key(one) for one in own if key(one).startswith("loss.")}  # also those of this loss alone
    return Candidate(own, parted, job, spaces.space(job.cfg, job.names.loss, asked.asked, fixed))


def _ends(space: Space) -> list[dict[str, Any]]:
    """Settings that cover both ends of every range, and every choice, so that a refused value shows before training."""
    count = max([2, *(len(d.choices) for d in space.values() if isinstance(d, spaces.Choices))])
    return [{name: d.at(place / (count - 1)) for name, d in space.items()} for place in range(count)]


def _try(job: jobs.Job, datasets: Datasets) -> Experiment:
    """Build the experiment of a job. Raises: ConfigError for what only the data reveal."""
    try:
        return Experiment(job.cfg, datasets(job.cfg))
    except ConfigError as error:
        raise jobs.blame(error, job.overrides) from error


def _refuse_unused(asked: Request, found: Sequence[Candidate]) -> None:
    losses = ", ".join(dict.fromkeys(one.job.names.loss for one in found))
    for name in asked.asked:
        if not any(name in one.space for one in found):
            hint = (
                f"; set +{name}=… as well, the value for runs at default settings" if name.startswith("loss.") else ""
            )
            raise ConfigError(f"{name}: cannot be searched: {losses} has no such setting{hint}")
    for one in found:
        if not one.space:
            rate = "" if "lr" in one.job.cfg.optimizer else "; optimizer.lr, where its search starts, is not set"
            raise ConfigError(
                f"loss={one.job.names.loss}: nothing to search: every setting that has a range is set{rate}"
            )


def _search(
    found: Candidate, seeds: list[int], budget: Budget, settings: Mapping[str, Any], storage: Any, datasets: Datasets
) -> Search:
    job, space = found.job, found.space
    sampler, learns = settings["sampler"], settings["sampler"] == "tpe"
    steps = job.cfg.train.steps * len(seeds)
    budget.affords(steps, settings["initial"] if learns else 1)
    experiment = _try(job, datasets)
    asked = {
        "sampler": sampler,
        "splits": len(seeds),
        "pruning": settings["pruning"],
        "space": {name: spaces.as_record(dimension) for name, dimension in space.items()},
    }
    deciding = [run_key.key(job.cfg), provenance.code(), asked, settings["seed"], experiment.splits.info.fingerprint]
    if learns:
        deciding += [settings["initial"], budget.batch]
    if sampler == "grid":
        deciding += [budget.amount]
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    primary = experiment.task.metrics[0]
    study = Study(
        storage,
        f"{job.names.loss}-{digest[:16]}",
        space,
        _draw(sampler, space, settings["seed"], budget),
        higher_is_better=primary.higher_is_better,
        learns_after=settings["initial"] if learns else None,
        seed=settings["seed"],
    )
    return Search(found.overrides, found.parted, job, space, seeds, primary, study, asked)


def _draw(sampler: str, space: Space, seed: int, budget: Budget) -> draws.Draw:
    if sampler == "grid":
        if budget.trials is None:
            raise ConfigError(f"hydra.sweeper.{budget.unit}={budget.amount}: a grid is counted in trials")
        return draws.grid(space, seed, budget.trials)
    return draws.quasi(space, seed) if sampler == "quasi" else draws.random(space, seed)
