"""The runs of a multirun: all of them checked before the first one trains, then trained the fastest way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from lossbench import settings, terminal
from lossbench.core import BadInput
from lossbench.run import Run
from lossbench.settings import Names
from lossbench.sweeps import comparison, planning, timing, workers
from lossbench.sweeps.turns import Datasets, take_turns
from lossbench.trainee import Stop, Trainee


@dataclass(frozen=True)
class Job:
    """One configuration of a multirun: what Hydra composed, and the part of it that is ours, resolved."""

    hydra: DictConfig
    cfg: DictConfig
    names: Names
    overrides: Sequence[str]


def launch(
    context: HydraContext, task: TaskFunction, config: DictConfig, jobs: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Train all jobs; one that fails leaves the others to finish.

    Raises: BadInput for the first job that cannot train, before any of them has.
    """
    setup_globals()
    composed = [_composed(context, config, overrides, number) for number, overrides in enumerate(jobs, start=first)]
    datasets = Datasets()
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening = beside.submit(comparison.open_store, composed[0].cfg)
        for position in planning.kinds([job.cfg for job in composed]):
            _try(composed[position], datasets)
        opening.result()
    name, continues = comparison.begin(config, composed[0].hydra, composed[0].cfg)
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    runs = [Run(job.cfg, job.names, name, swept) for job, swept in zip(composed, _swept(composed), strict=True)]
    for job in composed:
        context.callbacks.on_job_start(config=job.hydra, task_function=task)
    try:
        _train(runs, datasets, continues=continues)
    except KeyboardInterrupt:
        comparison.conclude(config, "KILLED")
        raise
    returns = [_returned(job, run) for job, run in zip(composed, runs, strict=True)]
    for job, returned in zip(composed, returns, strict=True):
        context.callbacks.on_job_end(config=job.hydra, job_return=returned)
    if any(returned.status is JobStatus.FAILED for returned in returns):  # the sweeper will raise, and nobody else tell
        comparison.conclude(config, "FAILED")
    return returns


def _composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> Job:
    job = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = str(number)
        job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    try:
        names = settings.check_job(job, job.hydra)
    except BadInput as error:
        raise _blame(error, overrides) from error
    cfg = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
    OmegaConf.resolve(cfg)
    return Job(job, cfg, names, overrides)


def _try(job: Job, datasets: Datasets) -> None:
    """Raises: BadInput where the loss fails on a first batch, or whatever else only shows with the data at hand."""
    try:
        Trainee(job.cfg, datasets(job.cfg))
    except BadInput as error:
        raise _blame(error, job.overrides) from error


def _swept(jobs: Sequence[Job]) -> list[str]:
    """What each job sets otherwise than another, beside its loss, its dataset and its seed, which have places."""
    common = set.intersection(*(set(job.overrides) for job in jobs))
    told = ("loss", "dataset", "seed")
    return [" ".join(o for o in job.overrides if o not in common and o.partition("=")[0] not in told) for job in jobs]


def _blame(error: BadInput, overrides: Sequence[str]) -> BadInput:
    return BadInput(f"{error}\nin the job {' '.join(filter_overrides(overrides))}; nothing was trained")


def _train(runs: Sequence[Run], datasets: Datasets, *, continues: bool) -> None:
    """Raises: KeyboardInterrupt after Ctrl-C, when all records have ended."""
    steps = sum(run.cfg.train.steps for run in runs)
    with Stop() as stop, terminal.board(len(runs), steps) as shown:
        board = _Board(shown)
        if continues:
            for run in runs:
                run.result = run.earlier()
                if run.result is not None:
                    board.ended(run)
                    board.advance(run.cfg.train.steps, 0)
        waiting = [run for run in runs if run.result is None]
        for members in planning.mates([run.cfg for run in waiting]):
            group = [waiting[position] for position in members]
            way = timing.way(group, datasets)
            stacks = planning.parts(group, way.size)
            if way.workers:
                workers.train(stacks, way.workers, board, stop)
            else:
                take_turns(stacks, way.threads, datasets, board, stop)
            if stop():
                return  # and leaving raises


class _Board:
    """Says on the terminal how runs end."""

    def __init__(self, shown: terminal.Board) -> None:
        self.advance = shown.advance
        self.training = shown.training
        self._shown = shown

    def ended(self, run: Run) -> None:
        label = f"{' '.join(filter(None, (run.names.loss, run.swept)))} on {run.names.dataset}, seed {run.cfg.seed}"
        if run.result is not None:
            self._shown.ended(label, run.result.outcome, terminal.headline(run.result))
        else:
            outcome = "killed" if run.killed else "failed"
            self._shown.ended(label, outcome, outcome if run.killed else f"failed: {run.error}")


def _returned(job: Job, run: Run) -> JobReturn:
    returned = JobReturn(
        overrides=list(OmegaConf.to_container(job.hydra.hydra.overrides.task)),  # type: ignore[arg-type]
        cfg=job.cfg,
        hydra_cfg=OmegaConf.masked_copy(job.hydra, ["hydra"]),
        working_dir=str(Path.cwd()),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.COMPLETED if run.result else JobStatus.FAILED,
    )
    returned.return_value = run.result.objective if run.result else run.error
    return returned
