"""What the jobs of a multirun returned to Hydra."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from lossbench.sweeps.jobs import Job


class Returned(JobReturn):
    """What a job returned; its configuration is made for whoever reads it."""

    def __init__(self, job: Job, **returned: Any) -> None:
        self._job = job
        super().__init__(**returned)

    @property
    def cfg(self) -> DictConfig:
        """The configuration of the job's run."""
        return self._job.settings.made()

    @cfg.setter
    def cfg(self, value: DictConfig | None) -> None: ...


def raise_first(returns: Iterable[JobReturn]) -> None:
    """Raise the error of the first job that failed, if any; `JobReturn.return_value` would print a line before it."""
    for returned in returns:
        if returned.status is JobStatus.FAILED:
            raise returned._return_value
