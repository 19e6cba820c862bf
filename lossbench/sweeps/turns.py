"""Runs one after another in this process, all of them checked before the first one trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from lossbench import settings
from lossbench.core import BadInput
from lossbench.sweeps import comparison
from lossbench.trainee import Stop


def launch(
    context: HydraContext, task: TaskFunction, config: DictConfig, jobs: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Train each job in turn; one that fails leaves the others to finish.

    Raises: BadInput for the first job that cannot train, before any of them has.
    """
    setup_globals()
    composed = []
    for index, overrides in enumerate(jobs, start=first):
        job = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(job):
            job.hydra.job.id = str(index)
            job.hydra.job.num = index
        try:
            settings.check_job(job, job.hydra)
        except BadInput as error:
            raise BadInput(
                f"{error}\nin the job {' '.join(filter_overrides(overrides))}; nothing was trained"
            ) from error
        composed.append(job)
    comparison.begin(config, composed[0])
    Path(str(config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    done = []
    try:
        with Stop() as stop:
            for job in composed:
                if stop():
                    break  # and leaving raises
                done.append(
                    run_job(
                        hydra_context=context,
                        task_function=task,
                        config=job,
                        job_dir_key="hydra.sweep.dir",
                        job_subdir_key="hydra.sweep.subdir",
                    )
                )
    except KeyboardInterrupt:
        comparison.conclude(config, "KILLED")
        raise
    if any(job.status is JobStatus.FAILED for job in done):  # the sweeper will raise, and nobody else will tell
        comparison.conclude(config, "FAILED")
    return done
