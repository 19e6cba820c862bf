"""The runs of a multirun: all of them checked before the first one trains, then trained the fastest schedule."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hydra.core.utils import JobReturn, JobRuntime, JobStatus, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from lossbench import terminal
from lossbench.config.overrides import key
from lossbench.config.redaction import redacted
from lossbench.config.task_types import chosen, named
from lossbench.core import ConfigError, without_digest
from lossbench.runs import references
from lossbench.runs.experiment import Experiment
from lossbench.runs.identity import TRIAL
from lossbench.runs.run import Run
from lossbench.sweeps import claiming, comparison, concluding, planning, scheduler
from lossbench.sweeps.engines import Engine
from lossbench.sweeps.fitting import Faults
from lossbench.sweeps.jobs import Job, Jobs, blame, count_steps, leave_files
from lossbench.sweeps.returns import Returned
from lossbench.sweeps.stacks import Datasets

# overrides that have their own place in the line of a run
PLACED = ("loss", "loss._target_", "dataset", "dataset._target_", "seed")


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
    compose, datasets, faults = Jobs(context, config), Datasets(), Faults(config)
    ready = []
    for number, overrides in enumerate(jobs, start=first):
        if not faults.left_out(overrides):
            with faults.of(overrides):
                ready.append(compose(overrides, number))
    ready = faults.without(ready)
    _check_primary(ready)
    engine.check([ready[position].settings.made() for position in planning.distinct([job.settings for job in ready])])
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening = beside.submit(comparison.open_store, ready[0].cfg)
        for position in planning.distinct([job.settings for job in ready]):
            with faults.of(ready[position].overrides):
                _try(ready[position], datasets)
        ready = faults.without(ready)
        faults.tell()
        for job in ready:
            count_steps(job, datasets)
        opening.result()
    leave_files(ready, before=first)
    try:
        with terminal.board() as board:
            board.expect(len(ready), sum(job.settings["train.steps"] for job in ready))
            planned = last and not first  # other sweepers add batch after batch
            returns = _trained(context, task, config, ready, engine, datasets, board, planned=planned)
    except KeyboardInterrupt:
        concluding.conclude("KILLED")
        raise
    if last and any(
        returned.status is JobStatus.FAILED for returned in returns
    ):  # the sweeper raises, and Hydra's callback does not run
        concluding.conclude("FAILED")
    return returns


def _check_primary(jobs: Sequence[Job]) -> None:
    """Raises: ConfigError for runs on one dataset that are judged by different metrics."""
    by_dataset: dict[str, dict[str, None]] = {}
    for job in {id(job.settings.shared): job for job in jobs}.values():
        task = f"task.primary={job.settings.get('task.primary')} of {named(chosen(job.cfg))}"
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
    compose, ready = Jobs(context, config), []
    for number, overrides in enumerate(jobs, start=first):
        ready.append(compose(overrides, number))
        count_steps(ready[-1], datasets)
    leave_files([job for job in ready if job.settings["tuning.arm"] != TRIAL])
    return _trained(context, task, config, ready, engine, datasets, board)


def _trained(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Job],
    engine: Engine,
    datasets: Datasets,
    board: terminal.Board,
    *,
    planned: bool = False,
) -> list[JobReturn]:
    """Raises: KeyboardInterrupt after Ctrl-C, once all records have ended."""
    name, continues = comparison.begin(config, jobs[0].hydra, jobs[0].cfg)
    runs = [
        Run(job.settings, job.names, name, swept, place=job.number)
        for job, swept in zip(jobs, _swept(jobs), strict=True)
    ]
    keys = [run.identity.key for run in runs]
    if planned and comparison.leads():
        comparison.plan(keys)
    for job in jobs if _listened(context) else ():
        context.callbacks.on_job_start(config=job.whole(), task_function=task)
    claimant = comparison.claimant()
    if planned and not comparison.leads():
        comparison.check_plan(keys)
    scheduler.train(runs, engine, claimant, datasets, board, continues=continues)
    claiming.once(runs, claimant)
    if comparison.leads_now() and (problem := references.record(runs, datasets, datasets.is_table)):
        board.say(problem)
    return _returns(context, jobs, runs)


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
    words = {word for job in jobs for word in job.overrides if word not in common and key(word) not in PLACED}
    shown = {word: redacted(word.lstrip("+")) for word in words}

    def label(job: Job) -> str:
        arm, trial = job.settings["tuning.arm"], job.settings["tuning.trial"]
        if arm:
            return arm if trial is None else f"trial {trial}"
        return " ".join(shown[word] for word in job.overrides if word in shown)

    return [label(job) for job in jobs]


def _listened(context: HydraContext) -> bool:
    """Whether callbacks of the user's own follow the jobs; ours does not."""
    return any(type(callback) is not concluding.Comparison for callback in context.callbacks.callbacks)


def _returns(context: HydraContext, jobs: Sequence[Job], runs: Sequence[Run]) -> list[JobReturn]:
    listened, folder, name = _listened(context), str(Path.cwd()), JobRuntime.instance().get("name")
    shown = {word: redacted(word) for word in {word for job in jobs for word in job.overrides}}  # Hydra prints them
    hydras = {
        id(job.hydra): OmegaConf.masked_copy(job.hydra, ["hydra"]) for job in {id(j.hydra): j for j in jobs}.values()
    }
    returns: list[JobReturn] = []
    for job, run in zip(jobs, runs, strict=True):
        whole = job.whole() if listened else None
        returned = Returned(
            job,
            overrides=[shown[word] for word in job.overrides],
            hydra_cfg=OmegaConf.masked_copy(whole, ["hydra"]) if whole else hydras[id(job.hydra)],
            working_dir=folder,
            task_name=name,
            status=JobStatus.COMPLETED if run.result else JobStatus.FAILED,
        )
        returned.return_value = run.result.objective if run.result else run.error
        if whole:
            context.callbacks.on_job_end(config=whole, job_return=returned)
        returns.append(returned)
    return returns
