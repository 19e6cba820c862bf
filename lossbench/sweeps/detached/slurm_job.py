"""A comparison led by a job of Slurm, which starts the jobs that train."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from lossbench.core import ConfigError
from lossbench.sweeps.detached.here import command, environment, tail
from lossbench.sweeps.engines import slurm_jobs
from lossbench.sweeps.engines.remote import Place
from lossbench.sweeps.engines.slurm_jobs import SIGNAL_S


@dataclass
class Lead:
    """Leads a comparison in a job; when the time of that is nearly up, the job is queued again and goes on."""

    words: list[str]
    place: Place
    name: str

    def __call__(self) -> int:
        """The exit code of the command."""
        self.place.enter()
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # sent to all processes of a job; the child ignores it
        process = subprocess.Popen(command(self.words), env=environment(self.name))
        again = False

        def ask(number: int, frame: FrameType | None) -> None:
            nonlocal again
            if not again:
                again = True
                process.send_signal(signal.SIGTERM)

        signal.signal(signal.SIGUSR2, ask)
        code = process.wait()
        if again:
            subprocess.run(["scontrol", "requeue", slurm_jobs.own_id()], check=False)
            time.sleep(SIGNAL_S)  # until Slurm ends this process
        return code


class SlurmJob:
    """A Slurm cluster."""

    def check(self, settings: Mapping[str, Any], cfg: DictConfig) -> None:
        """Raises: ConfigError where there is no Slurm here, or the jobs that train would be refused."""
        own = {name: value for name, value in settings.items() if name not in ("_target_", "leave_out")}
        slurm_jobs.Slurm(**own).check([cfg])

    def submit(self, words: Sequence[str], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Queue the job that leads. Raises: ConfigError where Slurm refuses it."""
        asked = slurm_jobs.parameters(**settings)
        lead = {key: asked[key] for key in slurm_jobs.OF_LEADER if key in asked}
        job = slurm_jobs.submitted(lead, f"lossbench-{name}-lead", Lead(list(words), Place.here(), name))
        return {"id": job, "name": name}

    def state(self, job: dict[str, Any]) -> str:
        """The state in Slurm's words."""
        found = slurm_jobs.states(str(job["id"]))
        return "does not answer" if found is None else ", ".join(found).lower()

    def ended(self, job: dict[str, Any]) -> bool:
        """Whether Slurm knows that the job has ended, or does not know it any more."""
        return not slurm_jobs.alive(str(job["id"]))

    def cancel(self, job: dict[str, Any]) -> None:
        """Cancel the job that leads, and those that train, and wait for their end. Raises: ConfigError."""
        subprocess.run(["scancel", str(job["id"])], check=False)
        subprocess.run(["scancel", f"--name=lossbench-{job['name']}"], check=False)
        deadline = time.monotonic() + SIGNAL_S
        while not self.ended(job) or slurm_jobs.named(f"lossbench-{job['name']}"):
            if time.monotonic() > deadline:
                raise ConfigError(f"cancel: Slurm's job {job['id']} does not end; scancel {job['id']} asks again")
            time.sleep(0.5)

    def log(self, job: dict[str, Any]) -> str:
        """The last lines that it printed."""
        folder = slurm_jobs.log_of(str(job["id"]))
        return next((text for ending in ("err", "out") if (text := tail(folder / f"{job['id']}_0_log.{ending}"))), "")
