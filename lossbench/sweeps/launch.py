"""The runs of a multirun: all of them checked before the first one trains, then trained the fastest way."""

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
from lossbench.config.redaction import HELD, clean, redacted
from lossbench.config.schema import Names
from lossbench.core import ConfigError
from lossbench.runs.earlier import PAUSED
from lossbench.runs.experiment import Experiment
from lossbench.runs.identity import TRIAL
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop
from lossbench.sweeps import comparison, composing, planning, timing, workers
from lossbench.sweeps.fitting import Faults
from lossbench.sweeps.one_at_a_time import Datasets, one_at_a_time

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

# overrides that a line says otherwise, or not at all
PLACED = ("loss", "loss._target_", "dataset", "dataset._target_", "seed")


@dataclass(frozen=True)
class Job:
    """One configuration of a multirun: what Hydra composed, and the part of it that is ours, resolved."""

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
    *,
    last: bool = True,
) -> list[JobReturn]:
    """Train all jobs; one that fails leaves the others to finish. `last`: no more will follow in their comparison.

    Raises: ConfigError for the first job that cannot train, before any of them has.
    """
    setup_globals()
    made, datasets, faults = [], Datasets(), Faults(config)
    for number, overrides in enumerate(jobs, start=first):
        with faults.of(overrides):
            made.append(composed(context, config, overrides, number))
    made = faults.without(made)
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening = beside.submit(comparison.open_store, made[0].cfg)
        for position in planning.kinds([job.cfg for job in made]):
            with faults.of(made[position].overrides):
                _try(made[position], datasets)
        made = faults.without(made)
        faults.tell()
        for job in made:
            datasets.count_steps(job.cfg)
        opening.result()
    try:
        with terminal.board() as board:
            board.expect(len(made), sum(job.cfg.train.steps for job in made))
            returns = _trained(context, task, config, made, datasets, board)
    except KeyboardInterrupt:
        comparison.conclude("KILLED")
        raise
    if last and any(
        returned.status is JobStatus.FAILED for returned in returns
    ):  # the sweeper will raise, and nobody else tell
        comparison.conclude("FAILED")
    return returns


def batch(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Sequence[str]],
    first: int,
    datasets: Datasets,
    board: terminal.Board,
) -> list[JobReturn]:
    """Train some jobs of a search, which has tried them, shows them, and concludes the comparison itself."""
    return _trained(context, task, config, list(_siblings(context, config, jobs, first, datasets)), datasets, board)


def _trained(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Job],
    datasets: Datasets,
    board: terminal.Board,
) -> list[JobReturn]:
    """Raises: KeyboardInterrupt after Ctrl-C, when all records have ended."""
    name, continues = comparison.begin(config, jobs[0].hydra, jobs[0].cfg)
    runs = [Run(job.cfg, job.names, name, swept) for job, swept in zip(jobs, _swept(jobs), strict=True)]
    for job in jobs:
        context.callbacks.on_job_start(config=job.hydra, task_function=task)
    _train(runs, datasets, board, continues=continues)
    return _returns(context, jobs, runs)


def composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> Job:
    """One job as Hydra composes it, checked. Raises: ConfigError that names the job."""
    job = context.config_loader.load_sweep_config(config, list(overrides))
    OmegaConf.set_readonly(job.hydra, False)  # one that has run before
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
    """Jobs of a search, most of which differ in numbers only; those share what Hydra says of the first of them.

    Copying that for each of them took a tenth of a search of small nets.
    """
    known: tuple[str, ...] | None = None
    for number, overrides in enumerate(jobs, start=first):
        kind, numbers = composing.apart(overrides)
        if kind != known:
            one, known = composed(context, config, overrides, number), kind
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
    """Raises: ConfigError where the loss fails on a first batch, or whatever else only shows with the data at hand."""
    try:
        experiment = Experiment(job.cfg, datasets(job.cfg))
    except ConfigError as error:
        raise blame(error, job.overrides) from error
    if experiment.adapted:
        terminal.out().print(f"{job.names.loss} {experiment.adapted}")


def _swept(jobs: Sequence[Job]) -> list[str]:
    """What each job sets otherwise than another, beside its loss, its dataset and its seed, which have places."""
    common = set.intersection(*(set(job.overrides) for job in jobs))

    def told(job: Job) -> str:
        arm, trial = job.cfg.tuning.arm, job.cfg.tuning.trial
        if arm:
            return arm if trial is None else f"trial {trial}"
        return " ".join(redacted(o.lstrip("+")) for o in job.overrides if o not in common and key(o) not in PLACED)

    return [told(job) for job in jobs]


def blame(error: ConfigError, overrides: Sequence[str]) -> ConfigError:
    """What is wrong with a job, and with which."""
    said = " ".join(redacted(word) for word in filter_overrides(overrides) if key(word) not in HELD)
    return ConfigError(f"{error}\nin the job {said}; nothing was trained")


def _train(runs: Sequence[Run], datasets: Datasets, redacted: terminal.Board, *, continues: bool) -> None:
    """Raises: KeyboardInterrupt after Ctrl-C, when all records have ended."""
    with Stop() as stop:
        board = _Board(redacted)
        if continues or any(run.identity.kind == TRIAL for run in runs):
            _take_up(runs, board)
        waiting = [run for run in runs if run.result is None]
        for members in planning.stack_groups([run.cfg for run in waiting]):
            group = [waiting[position] for position in members]
            way = timing.way(group, datasets)
            if way.alone:
                board.say(f"{group[0].names.model} trains one run at a time: in a stack, {way.alone}")
            stacks = planning.parts(group, way.size)
            if way.workers:
                workers.train(stacks, way.workers, board, stop)
            else:
                one_at_a_time(stacks, way.threads, datasets, board, stop)
            if stop():
                return  # and leaving raises


def _take_up(runs: Sequence[Run], board: _Board) -> None:
    """Runs that an earlier call has finished already."""
    siblings: dict[str, Sequence[MlflowRun]] = {}  # a study's trials or a comparison's runs, each asked for once
    for run in runs:
        among = run.identity.siblings
        if str(among) not in siblings:
            siblings[str(among)] = run.store().find(among)
        run.result = run.earlier.finished(run.store(), siblings[str(among)])
        if run.result is not None:
            board.ended(run)
            board.advance(run.cfg.train.steps, 0)


class _Board:
    """Says on the terminal how runs end."""

    def __init__(self, redacted: terminal.Board) -> None:
        self.advance = redacted.advance
        self.training = redacted.training
        self.say = redacted.say
        self._shown = redacted

    def ended(self, run: Run) -> None:
        label = f"{' '.join(filter(None, (run.names.loss, run.swept)))} on {run.names.dataset}, seed {run.cfg.seed}"
        if run.result is not None and run.result.outcome == PAUSED:
            return
        if run.identity.kind == TRIAL:  # of these, only the best is worth a line
            self._shown.count(run.outcome)
        elif run.result is not None:
            self._shown.ended(label, run.result.outcome, terminal.headline(run.result))
        else:
            said = run.outcome if run.outcome == "killed" else f"{run.outcome}: {clean(str(run.error), run.uri)}"
            self._shown.ended(label, run.outcome, said)


def _returns(context: HydraContext, jobs: Sequence[Job], runs: Sequence[Run]) -> list[JobReturn]:
    returns, hydras = [], {}
    for job, run in zip(jobs, runs, strict=True):
        if id(job.hydra) not in hydras:  # which the jobs of a search share
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
