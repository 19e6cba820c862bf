"""Slurm: an array of jobs through submitit, each of which takes stacks of the comparison until none is left.

A job that reaches its time limit, or is preempted, saves its checkpoints and is queued again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from lossbench.core import ConfigError, cache_folder, machine, require
from lossbench.core.failures import MachineFault
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop
from lossbench.sweeps import comparison
from lossbench.sweeps.claiming import Claims, by_key, now, read_back, rest
from lossbench.sweeps.engines import Claim, Group, checks
from lossbench.sweeps.engines.here import Here
from lossbench.sweeps.engines.remote import Place
from lossbench.sweeps.engines.wire import Packed, packed, unpacked
from lossbench.sweeps.stacks import Board, Datasets
from lossbench.tracking.claims import Claimant

SIGNAL_S = 120
INSTALL = "pip install 'lossbench[slurm]'"
OURS = ("_target_", "jobs", "retries", "leave_out")  # settings of the launcher that are none of a job
# of the job that leads, which trains nothing itself
OF_LEADER = ("timeout_min", "slurm_setup", "slurm_partition", "slurm_account", "slurm_qos")
GONE = (
    "COMPLETED",
    "PREEMPTED",
    "REVOKED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
    "DEADLINE",
)


class Slurm:
    """Trains in jobs of a Slurm cluster."""

    def __init__(
        self, jobs: int, timeout_min: int, retries: int, setup: Sequence[str] | None, **resources: Any
    ) -> None:
        """`jobs` at once, of `timeout_min` minutes each; `resources` are those of submitit, such as a partition.

        Runs whose jobs died go into a new array, `retries` times at most. `setup` are lines of shell before each job.
        """
        require("hydra.launcher.jobs", jobs, lambda n: n >= 1, "at least 1")
        require("hydra.launcher.retries", retries, lambda n: n >= 0, "0 or above")
        require("hydra.launcher.timeout_min", timeout_min, lambda n: n >= 1, "at least 1, in minutes")
        self._jobs, self._retries = jobs, retries
        self._parameters = parameters(timeout_min=timeout_min, setup=setup, **resources)
        self._tried: dict[str, int] = {}

    def check(self, cfgs: Sequence[DictConfig]) -> None:
        """Raises: ConfigError where there is no Slurm here, or runs cannot be trained or recorded on its nodes."""
        checks.importable(cfgs, "slurm")
        _submitit()
        elsewhere = [host for host in _hosts() if host not in machine.names()]
        if elsewhere:
            checks.shared(cfgs, f"hydra/launcher=slurm: runs train on {elsewhere[0]}")

    def train(
        self, groups: Sequence[Group], claim: Claim, datasets: Datasets, board: Board, stop: Callable[[], bool]
    ) -> None:
        """Train these runs in an array of jobs. Raises: KeyboardInterrupt after Ctrl-C, once all jobs have ended."""
        _, name = comparison.current()
        runs = [run for group in groups for run in group]
        began, count = now(), min(self._jobs, len(runs))
        member = Member([packed(group) for group in groups], comparison.claimant().ledger, Place.here(), count)
        array = submitted(self._parameters, f"lossbench-{name}", member, range(count))
        board.say(f"{len(runs)} runs in an array of {count} jobs, {array.split('_')[0]}")
        stopped = False
        while True:
            since = time.monotonic()
            at_work = alive(array)
            left = [run for run in runs if run.result is None and run.error is None]
            records = by_key(left) if left else {}
            for run in left:
                read_back(run, records.get(run.identity.key, []), began, board)
            if not at_work:
                break
            if stop() and not stopped:
                stopped = True
                subprocess.run(["scancel", array], check=False)
            rest(since)
        if stopped:
            raise KeyboardInterrupt
        self._count([run for run in runs if run.result is None and run.error is None], array, board)

    def _count(self, left: Sequence[Run], array: str, board: Board) -> None:
        """Count how often the jobs of these runs ended without them; those that were tried too often end."""
        for run in left:
            key = run.identity.key
            self._tried[key] = self._tried.get(key, 0) + 1
            if self._tried[key] > self._retries:
                run.abandon(MachineFault(f"the jobs of Slurm's array {array} ended without it"))
                board.ended(run)


@dataclass
class Member:
    """What one job of an array does: it claims stacks of these groups and trains them until none is left."""

    groups: list[list[Packed]]
    ledger: str
    place: Place
    jobs: int

    def __call__(self, number: int) -> None:
        """Train as the job of this number."""
        from lossbench.datasets import remarks

        self.place.enter()
        remarks.mute()
        groups = [unpacked(group) for group in self.groups]
        first = number * len(groups) // self.jobs  # so that not all begin with the same runs
        groups = [*groups[first:], *groups[:first]]
        again = _Again()
        with Stop() as stop:
            claimant = Claimant(groups[0][0].store(), self.ledger)
            board = Quiet()
            try:
                share = -(-sum(map(len, groups)) // self.jobs)
                Here(share).train(groups, Claims(claimant, board, trials=True), Datasets(), board, stop)
            except KeyboardInterrupt:
                pass  # its runs have ended as killed, with checkpoints
            finally:
                claimant.leave()
        if again.asked:
            subprocess.run(["scontrol", "requeue", own_id()], check=False)
            time.sleep(SIGNAL_S)  # until Slurm ends this process; if it returned, its result would count as final


class _Again:
    """Whether Slurm has said that the time of this job is nearly up; the runs then stop as after Ctrl-C."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGUSR2, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked = True
            signal.raise_signal(signal.SIGTERM)


class Quiet:
    """A board that shows nothing: the process that leads reads how runs end from their records."""

    def advance(self, steps: int, diverged: int) -> None:
        """Nothing."""

    def training(self, runs: int) -> None:
        """Nothing."""

    def ended(self, run: Run) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Into the job's log."""
        print(line, flush=True)


def parameters(*, timeout_min: int, setup: Sequence[str] | None = None, **resources: Any) -> dict[str, Any]:
    """The parameters of submitit in the settings of the launcher."""
    given = {name: value for name, value in resources.items() if value is not None and name not in OURS}
    return {"timeout_min": timeout_min, "slurm_setup": list(setup or []), **given}


def submitted(parameters: Mapping[str, Any], name: str, function: Callable[..., Any], *arguments: Any) -> str:
    """The id of a job that calls a function, or of an array over arguments. Raises: ConfigError where Slurm refuses."""
    submitit = _submitit()
    folder = cache_folder() / "slurm" / "%j"
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
    try:
        executor.update_parameters(name=name, slurm_signal_delay_s=signal_s(parameters), **parameters)
        if arguments:
            return str(executor.map_array(function, *arguments)[0].job_id).split("_")[0]
        return str(executor.submit(function).job_id)
    except (submitit.core.utils.FailedJobError, NameError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"hydra/launcher=slurm: sbatch refuses the job: {_last_line(error)}") from error


def signal_s(parameters: Mapping[str, Any]) -> int:
    """Seconds before the time limit at which a job hears of it: time to end a step and to save checkpoints."""
    return min(SIGNAL_S, int(parameters["timeout_min"]) * 20)


def states(job: str) -> list[str] | None:
    """The states of a job, or of the jobs of an array; none where Slurm knows it no more, None where it is away."""
    asked = ["squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%T"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    if told.returncode:
        return [] if "Invalid job id" in told.stderr else None
    return told.stdout.split()


def named(name: str) -> bool:
    """Whether Slurm has jobs of this name that have not ended."""
    asked = ["squeue", "--noheader", f"--name={name}", "--format=%T"]
    return bool(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split())


def alive(job: str) -> bool:
    """Whether any of these jobs may not have ended."""
    found = states(job)
    return found is None or any(state not in GONE for state in found)


def _submitit() -> Any:
    """Raises: ConfigError where submitit or Slurm's programs are missing."""
    try:
        import submitit
    except ImportError:
        raise ConfigError(f"hydra/launcher=slurm: needs {INSTALL}") from None
    if shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=slurm: no sbatch on this machine; call it on a login node of the cluster")
    return submitit


def _hosts() -> list[str]:
    told = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%n"], capture_output=True, text=True, check=False)
    if told.returncode:
        raise ConfigError(f"hydra/launcher=slurm: Slurm does not answer: {_last_line(told.stderr)}")
    return list(dict.fromkeys(told.stdout.split()))


def own_id() -> str:
    """The id of the job that this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]


def _last_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def log_of(job: str) -> Path:
    """The folder in which submitit keeps the logs of a job."""
    return cache_folder() / "slurm" / job
