"""A Slurm of one's own on this machine: munge, a controller and one node, on loopback and on free ports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
READY_S = 60
MUNGE = [("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed")]
CONFIGURATION = """\
ClusterName=lossbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=3
OverTimeLimit=0
MinJobAge=300
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=2 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A cluster that runs; whoever has `environment` submits to it."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(self, *words: str) -> str:
        """What one of Slurm's commands prints.

        Raises: subprocess.CalledProcessError where it fails.
        """
        around = os.environ | self.environment
        return subprocess.run(words, env=around, check=True, capture_output=True, text=True).stdout


def missing() -> str:
    """Why there can be no Slurm on this machine; empty where there can."""
    absent = [program for program in PROGRAMS if not _found(program)]
    if absent:
        return f"{', '.join(absent)}: not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "only root can start slurmd"


@contextmanager
def running() -> Iterator[Slurm]:
    """A cluster of one node with two CPUs, which starts a requeued job again after five seconds.

    Raises: RuntimeError where it does not answer.
    """
    folder = Path(tempfile.mkdtemp(prefix="lossbench-slurm-"))
    configuration = folder / "slurm.conf"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        controller_port, node_port = _free_ports(2)
        configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                folder=folder,
                controller_port=controller_port,
                node_port=node_port,
            )
        )
        slurm = Slurm(folder, {"SLURM_CONF": str(configuration)})
        for words in (
            ["munged", "--foreground", "--force", *(f"--{option}={folder}/munge.{end}" for option, end in MUNGE)],
            ["slurmctld", "-D", "-f", str(configuration)],
            ["slurmd", "-D", "-f", str(configuration)],
        ):
            _start(words, folder, stack)
            if words[0] == "munged":
                _until((folder / "munge.socket").exists, "munged", folder)
        stack.callback(_end_jobs, slurm)
        _until(lambda: _idle(slurm), "slurmctld", folder)
        yield slurm


def _start(words: list[str], folder: Path, stack: ExitStack) -> None:
    with (folder / f"{words[0]}.out").open("w") as out:
        options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "cwd": folder, "start_new_session": True}
        process = subprocess.Popen([_found(words[0]), *words[1:]], **options)

    def end() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)


def _end_jobs(slurm: Slurm) -> None:
    """What a job started would outlive the daemons, so it is ended here, asked or not."""
    with suppress(subprocess.SubprocessError):
        slurm("scancel", "--user=root")
    marks = f"SLURM_CONF={slurm.folder}/".encode(), b"SLURM_JOB_ID="
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (entry / "environ").read_bytes()
            if all(mark in environment for mark in marks):
                os.kill(int(entry.name), signal.SIGKILL)
    with suppress(subprocess.SubprocessError, RuntimeError):
        _until(lambda: not slurm("squeue", "--noheader"), "the end of the last job", slurm.folder, 10)


def _idle(slurm: Slurm) -> bool:
    with suppress(subprocess.CalledProcessError):
        return slurm("sinfo", "--noheader", "--format=%t").strip() == "idle"
    return False


def _until(true: Callable[[], bool], what: str, folder: Path, seconds: float = READY_S) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            said = "".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.out")))
            raise RuntimeError(f"{what} is not there after {seconds} s:\n{said}")
        time.sleep(0.05)


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
