"""A comparison led by a Ray Job, on the cluster itself."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lossbench.core import ConfigError
from lossbench.core.failures import one_line
from lossbench.sweeps.comparison import SUBMITTED
from lossbench.sweeps.engines import remote
from lossbench.sweeps.engines.ray_tasks import INSTALL, Ray

STOP_S = 60  # for runs to end a step and to save their checkpoints
LINES = 5


class RayJob:
    """A Ray cluster whose dashboard takes jobs: RAY_API_SERVER_ADDRESS, or that of this machine."""

    def check(self, settings: Mapping[str, Any], cfg: DictConfig) -> None:
        """Raises: ConfigError for settings that no cluster could follow."""
        Ray(**{name: value for name, value in settings.items() if name not in ("_target_", "leave_out")})

    def submit(self, words: Sequence[str], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Submit the job. Raises: ConfigError where no dashboard answers."""
        client = _client(None)
        passed_on = {key: value for key, value in os.environ.items() if key.startswith(remote.PASSED_ON)}
        environment = {**passed_on, SUBMITTED: name, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}
        given = dict(settings.get("runtime_env") or {})
        given["env_vars"] = {**environment, **given.get("env_vars", {})}
        inside = [word for word in words if not word.startswith("hydra.launcher.address=")]
        here, python = shlex.quote(str(Path.cwd())), shlex.quote(sys.executable)
        rest = shlex.join(["-m", "lossbench", *inside])
        # where the nodes are other machines, they have a folder and a Python of their own
        entry = f"cd {here} 2>/dev/null; if [ -x {python} ]; then exec {python} {rest}; else exec python {rest}; fi"
        try:
            job = client.submit_job(entrypoint=entry, submission_id=name, runtime_env=given)
        except RuntimeError as error:
            raise ConfigError(f"hydra/launcher=ray: the cluster refuses the job: {one_line(error)}") from error
        return {"id": job, "address": client.get_address()}

    def state(self, job: dict[str, Any]) -> str:
        """The state in Ray's words."""
        try:
            return str(_client(job["address"]).get_job_status(job["id"]).value).lower()
        except (ConfigError, RuntimeError):
            return ""

    def ended(self, job: dict[str, Any]) -> bool:
        """Whether the job has ended."""
        return self.state(job) in ("stopped", "succeeded", "failed")

    def cancel(self, job: dict[str, Any]) -> None:
        """Stop the job and wait for its end. Raises: ConfigError where no dashboard answers, or it stays."""
        client = _client(job["address"])
        client.stop_job(job["id"])
        deadline = time.monotonic() + STOP_S + 30
        while not client.get_job_status(job["id"]).is_terminal():
            if time.monotonic() > deadline:
                raise ConfigError(f"cancel: Ray's job {job['id']} does not end")
            time.sleep(0.5)

    def log(self, job: dict[str, Any]) -> str:
        """The last lines that it printed."""
        try:
            return "\n".join(_client(job["address"]).get_job_logs(job["id"]).splitlines()[-LINES:])
        except (ConfigError, RuntimeError):
            return ""


def _client(address: str | None) -> Any:
    """Raises: ConfigError where Ray is missing or no dashboard answers."""
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise ConfigError(f"hydra/launcher=ray: needs {INSTALL}") from None
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise ConfigError(
            f"RAY_API_SERVER_ADDRESS={address}: no Ray dashboard answers: {one_line(error)}\n"
            "set it to that of the cluster, as http://HOST:8265"
        ) from error
