"""A comparison in a process of its own on this machine, which outlives the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lossbench.core import ConfigError, cache_folder, machine
from lossbench.sweeps.comparison import SUBMITTED

PATIENCE_S = 90  # for runs to end a step and to save their checkpoints
LINES = 5
NOISE = ("submitit ", "srun: ", "slurmstepd: ", "sacct: ")  # of those that start the process


def command(words: Sequence[str]) -> list[str]:
    """The command line of these words, with this interpreter."""
    return [sys.executable, "-m", "lossbench", *words]


def environment(name: str) -> dict[str, str]:
    """This environment, for a process that leads the comparison of this name."""
    own = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}  # which `main` has set
    return {**own, SUBMITTED: name}


class ThisMachine:
    """This machine."""

    def check(self, settings: Mapping[str, Any], cfg: DictConfig) -> None:
        """Anything trains where it was begun."""

    def submit(self, words: Sequence[str], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start the process."""
        log = cache_folder() / "submitted" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            process = subprocess.Popen(
                command(words),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=environment(name),
            )
        process.returncode = 0  # it is meant to outlive this process, which Popen would warn of
        started = machine.started(process.pid)
        return {"id": process.pid, "at": machine.where(), "started": started, "log": str(log)}

    def state(self, job: dict[str, Any]) -> str:
        """Whether the process runs; empty where it is on another machine."""
        if job.get("at") != machine.where():
            return "on another machine"
        return "running" if machine.started(int(job["id"])) == job["started"] else "ended"

    def ended(self, job: dict[str, Any]) -> bool:
        """Whether the process has ended."""
        return self.state(job) == "ended"

    def cancel(self, job: dict[str, Any]) -> None:
        """Interrupt the process and wait for its end. Raises: ConfigError where it is on another machine, or stays."""
        if job.get("at") != machine.where():
            raise ConfigError(f"cancel: process {job.get('id')} is on another machine; call it there")
        if self.state(job) != "running":
            return
        os.kill(int(job["id"]), signal.SIGTERM)  # a shell lets what it starts in the background ignore SIGINT
        deadline = time.monotonic() + PATIENCE_S
        while self.state(job) == "running":
            if time.monotonic() > deadline:
                raise ConfigError(f"cancel: process {job['id']} does not end; kill -9 {job['id']} ends it at once")
            time.sleep(0.1)

    def log(self, job: dict[str, Any]) -> str:
        """The last lines of its log."""
        return tail(Path(job.get("log", "")))


def tail(path: Path) -> str:
    """The last lines of a file; empty where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith(NOISE)][-LINES:])
    except OSError:
        return ""
