"""The runs of a multirun: all of them checked before the first one trains, then trained the fastest schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lossbench import terminal
from lossbench.config import checks
from lossbench.config.overrides import key
from lossbench.config.redaction import HELD, redacted
from lossbench.config.schema import Names
from lossbench.config.task_types import chosen, named
from lossbench.core import ConfigError, without_digest
from lossbench.runs import references
from lossbench.runs.experiment import Experiment
from lossbench.runs.run import Run
from lossbench.sweeps import comparison, composing, planning, scheduler
from lossbench.sweeps.engines import Engine
from lossbench.sweeps.fitting import Faults
from lossbench.sweeps.stacks import Datasets

if TYPE_CHECKING:
    pass

# overrides that have their own place in the line of a run
PLACED = ("loss", "loss._target_", "dataset", "dataset._target_", "seed")


@dataclass(frozen=True)
class Job:
    """One configuration of a multirun: what Hydra composed, and lossbench's part of it, resolved."""

    hydra: DictConfig
    cfg: DictConfig
    names: Names
    overrides: Sequence[str]


def launch(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Sequence[str]],
    first: int,
    engine: Engine,
    *,
    last: bool = True,
) -> list[JobReturn]:
    """Train all jobs; where one fails, the others go on. `last`: no further jobs follow in this comparison.

    Raises: ConfigError for the first job that cannot train, before any of them trains.
    """
    setup_globals()
    ready, datasets, faults = [], Datasets(), Faults(config)
    for number, overrides in enumerate(jobs, start=first):
        with faults.of(overrides):
            ready.append(composed(context, config, overrides, number))
    ready = faults.without(ready)
    _check_primary(ready)
    engine.check([ready[position].cfg for position in planning.distinct([job.cfg for job in ready])])
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening = beside.submit(comparison.open_store, ready[0].cfg)
        for position in planning.distinct([job.cfg for job in ready]):
            with faults.of(ready[position].overrides):
                _try(ready[position], datasets)
        ready = faults.without(ready)
        faults.tell()
        for job in ready:
            datasets.count_steps(job.cfg)
        opening.result()
    try:
        with terminal.board() as board:
            board.expect(len(ready), sum(job.cfg.train.steps for job in ready))
            planned = len(ready) if last and not first else None  # other sweepers add batch after batch
            returns = _trained(context, task, config, ready, engine, datasets, board, planned)
    except KeyboardInterrupt:
        comparison.conclude("KILLED")
        raise
    if last and any(
        returned.status is JobStatus.FAILED for returned in returns
    ):  # the sweeper raises, and Hydra's callback does not run
        comparison.conclude("FAILED")
    return returns


def _check_primary(jobs: Sequence[Job]) -> None:
    """Raises: ConfigError for runs on one dataset that are judged by different metrics."""
    by_dataset: dict[str, dict[str, None]] = {}
    for job in jobs:
        task = f"task.primary={job.cfg.task.get('primary')} of {named(chosen(job.cfg))}"
        by_dataset.setdefault(job.names.dataset, {})[task] = None
    for dataset, tasks in by_dataset.items():
        if len(tasks) > 1:
            raise ConfigError(f"{', '.join(tasks)}: runs on {dataset} are compared by one metric; choose one")


def batch(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Sequence[str]],
    first: int,
    engine: Engine,
    datasets: Datasets,
    board: terminal.Board,
) -> list[JobReturn]:
    """Train some jobs of a search, which itself has checked them, shows their progress and concludes the comparison."""
    ready = list(_siblings(context, config, jobs, first, datasets))
    return _trained(context, task, config, ready, engine, datasets, board)


def _trained(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Job],
    engine: Engine,
    datasets: Datasets,
    board: terminal.Board,
    planned: int | None = None,
) -> list[JobReturn]:
    """Raises: KeyboardInterrupt after Ctrl-C, once all records have ended."""
    name, continues = comparison.begin(config, jobs[0].hydra, jobs[0].cfg)
    places = (int(job.hydra.hydra.job.num) for job in jobs)
    runs = [
        Run(job.cfg, job.names, name, swept, place=place)
        for job, swept, place in zip(jobs, _swept(jobs), places, strict=True)
    ]
    if planned and comparison.leads():
        comparison.note({comparison.PLANNED: str(planned)})
    for job in jobs:
        context.callbacks.on_job_start(config=job.hydra, task_function=task)
    scheduler.train(runs, engine, comparison.claimant(), datasets, board, continues=continues)
    if comparison.leads_now() and (problem := references.record(runs, datasets, datasets.is_table)):
        board.say(problem)
    return _returns(context, jobs, runs)


def composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> Job:
    """One job as Hydra composes it, checked. Raises: ConfigError that names the job."""
    job = context.config_loader.load_sweep_config(config, list(overrides))
    OmegaConf.set_readonly(job.hydra, False)  # read-only where it has run before
    with open_dict(job):
        job.hydra.job.id = str(number)
        job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    try:
        names = checks.check_job(job, job.hydra)
    except ConfigError as error:
        raise blame(error, overrides) from error
    cfg = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
    OmegaConf.resolve(cfg)
    return Job(job, cfg, names, overrides)


def _siblings(
    context: HydraContext, config: DictConfig, jobs: Sequence[Sequence[str]], first: int, datasets: Datasets
) -> Iterator[Job]:
    """The jobs of a search; those that differ from the one before in numbers only share its Hydra configuration.

    Copying that for each of them took a tenth of the time of a search over small nets.
    """
    known: tuple[str, ...] | None = None
    for number, overrides in enumerate(jobs, start=first):
        pattern, numbers = composing.apart(overrides)
        if pattern != known:
            one, known = composed(context, config, overrides, number), pattern
            own: Any = OmegaConf.to_container(OmegaConf.masked_copy(one.hydra, list(one.cfg)))
            datasets.count_steps(one.cfg)
            yield one
            continue
        cfg = OmegaConf.create(own)  # from plain values, many times as fast as a copy
        composing.put(numbers, cfg)
        try:
            checks.check(cfg, one.names)
        except ConfigError as error:
            raise blame(error, overrides) from error
        OmegaConf.resolve(cfg)
        datasets.count_steps(cfg)
        yield Job(one.hydra, cfg, one.names, overrides)


def _try(job: Job, datasets: Datasets) -> None:
    """Raises: ConfigError where the loss fails on a first batch, or for anything else that only the data reveal."""
    try:
        experiment = Experiment(job.cfg, datasets(job.cfg))
    except ConfigError as error:
        raise blame(error, job.overrides) from error
    if experiment.adapted:
        terminal.out().print(f"{without_digest(job.names.loss)} {experiment.adapted}")


def _swept(jobs: Sequence[Job]) -> list[str]:
    """The overrides in which each job differs from another, apart from its loss, dataset and seed."""
    common = set.intersection(*(set(job.overrides) for job in jobs))

    def label(job: Job) -> str:
        arm, trial = job.cfg.tuning.arm, job.cfg.tuning.trial
        if arm:
            return arm if trial is None else f"trial {trial}"
        return " ".join(redacted(o.lstrip("+")) for o in job.overrides if o not in common and key(o) not in PLACED)

    return [label(job) for job in jobs]


def blame(error: ConfigError, overrides: Sequence[str]) -> ConfigError:
    """The error with the overrides of the job that it is about."""
    words = " ".join(redacted(word) for word in filter_overrides(overrides) if key(word) not in HELD)
    return ConfigError(f"{error}\nin the job {words}; nothing was trained")


def _returns(context: HydraContext, jobs: Sequence[Job], runs: Sequence[Run]) -> list[JobReturn]:
    returns, hydras = [], {}
    for job, run in zip(jobs, runs, strict=True):
        if id(job.hydra) not in hydras:  # the jobs of a search share it
            hydras[id(job.hydra)] = OmegaConf.masked_copy(job.hydra, ["hydra"])
        returned = _returned(job, run, hydras[id(job.hydra)])
        context.callbacks.on_job_end(config=job.hydra, job_return=returned)
        returns.append(returned)
    return returns


def _returned(job: Job, run: Run, hydra: DictConfig) -> JobReturn:
    returned = JobReturn(
        overrides=[*map(redacted, job.overrides)],  # Hydra prints them
        cfg=job.cfg,
        hydra_cfg=hydra,
        working_dir=str(Path.cwd()),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.COMPLETED if run.result else JobStatus.FAILED,
    )
    returned.return_value = run.result.objective if run.result else run.error
    return returned
