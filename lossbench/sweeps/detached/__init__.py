"""Comparisons that go on without the terminal that began them: submitted, looked at and cancelled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lossbench import tracking
from lossbench.core import ConfigError
from lossbench.sweeps import comparison
from lossbench.tracking import lease


class Cluster(Protocol):
    """What a comparison is submitted to."""

    def check(self, settings: Mapping[str, Any], cfg: DictConfig) -> None:
        """Raises: ConfigError for settings of the launcher, or a store, with which nothing can train."""

    def submit(self, words: Sequence[str], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Start a process that leads a comparison with the words of a multirun: what the other calls need of it.

        `settings` are those of the launcher.

        Raises: ConfigError where it cannot be started.
        """

    def state(self, job: dict[str, Any]) -> str:
        """The state of such a process, in the cluster's own words; empty where it is not known any more."""

    def ended(self, job: dict[str, Any]) -> bool:
        """Whether such a process is known to have ended."""

    def cancel(self, job: dict[str, Any]) -> None:
        """Ask such a process to end, and all that it started. Raises: ConfigError where that cannot be done here."""

    def log(self, job: dict[str, Any]) -> str:
        """What such a process printed last; empty where nothing is known."""


def cluster(launcher: str) -> Cluster:
    """What the launcher of this name submits to. Raises: ConfigError for one that cannot be detached."""
    if launcher == "lossbench":
        from lossbench.sweeps.detached.here import ThisMachine

        return ThisMachine()
    if launcher == "ray":
        from lossbench.sweeps.detached.ray_job import RayJob

        return RayJob()
    if launcher == "slurm":
        from lossbench.sweeps.detached.slurm_job import SlurmJob

        return SlurmJob()
    raise ConfigError(f"hydra/launcher={launcher}: cannot be submitted; lossbench, ray and slurm can")


def submit(words: Sequence[str], cfg: DictConfig) -> str:
    """Submit a comparison, the words of a multirun, with the launcher of `cfg`: the name of the comparison.

    Its record exists when this returns, so that it can be looked at by name before anything trains.

    Raises: ConfigError for a store, a launcher or words that cannot work.
    """
    HydraConfig.instance().set_config(cfg)  # by which the name of the experiment is resolved
    launcher = str(cfg.hydra.runtime.choices["hydra/launcher"])
    to = cluster(launcher)
    settings: Any = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
    to.check(settings, OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    store, name = comparison.open_store(cfg), comparison.named(str(cfg.experiment_name))
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": name}
    recorder = store.start(str(cfg.experiment_name), f"comparison {name}", tags)
    store.client.update_run(recorder.run_id, status="SCHEDULED")
    try:
        job = to.submit([*words, "--comparison", name], name, settings)
    except BaseException:
        store.client.delete_run(recorder.run_id)
        raise
    store.client.set_tag(recorder.run_id, comparison.JOB, json.dumps({"launcher": launcher, **job}))
    return name


@dataclass(frozen=True)
class Status:
    """How far a comparison is: its runs by state, out of `planned`, and who leads it."""

    name: str
    state: str
    leader: str
    counts: dict[str, int]
    planned: int | None
    log: str = ""


def status(store: tracking.Store, name: str) -> Status:
    """How far a comparison is. Raises: ConfigError where there is none of this name."""
    found = comparison.record_of(store, name)
    tags = found.data.tags
    counts: Counter[str] = Counter()
    for run in store.find({"lossbench.comparison": name, "lossbench.kind": "run"}):
        ended = run.info.status != "RUNNING"
        counts[run.data.tags.get("lossbench.outcome", run.info.status.lower()) if ended else "training"] += 1
    job = json.loads(tags.get(comparison.JOB, "{}"))
    leader, log, state = _leader(found, job), "", found.info.status.lower()
    if job and state == "scheduled" and cluster(job["launcher"]).ended(job):
        state = "failed before it began"
    if job and state not in ("running", "finished"):
        log = cluster(job["launcher"]).log(job)
    planned = int(tags[comparison.PLANNED]) if comparison.PLANNED in tags else None
    return Status(name, state, leader, dict(counts), planned, log)


def _leader(found: Any, job: dict[str, Any]) -> str:
    """Who leads a comparison, and whether that is at work."""
    if job:
        state = cluster(job["launcher"]).state(job) or "gone"
        return f"{job['launcher']} {job.get('id', '')}: {state}".replace(" :", ":")
    process = found.data.tags.get(lease.PROCESS, "")
    if found.info.status != "RUNNING" or not process:
        return ""
    return f"process {lease.pid(process)}, last sign of life {lease.age_s(found.data.tags.get(lease.BEAT, ''))} s ago"


def cancel(store: tracking.Store, name: str) -> None:
    """Cancel a comparison; what was recorded stays, and the same command goes on.

    Raises: ConfigError where there is none of this name, none at work, or its process is on another machine.
    """
    found = comparison.record_of(store, name)
    if found.info.status == "FINISHED":
        raise ConfigError(f"cancel {name}: is finished; report {name} shows it")
    job = json.loads(found.data.tags.get(comparison.JOB, "{}"))
    if found.info.status not in ("RUNNING", "SCHEDULED"):
        raise ConfigError(f"cancel {name}: is not at work ({found.info.status.lower()})")
    if job:
        cluster(job["launcher"]).cancel(job)
    else:
        from lossbench.sweeps.detached.here import ThisMachine

        ThisMachine().cancel(lease.place(found.data.tags.get(lease.PROCESS, "")))
    if comparison.record_of(store, name).info.status == "FINISHED":
        return
    store.client.set_terminated(found.info.run_id, "KILLED")
    for run in store.find({"lossbench.comparison": name, "lossbench.kind": "run"}):
        if run.info.status == "RUNNING":  # its process was ended before it could do so
            store.client.set_tag(run.info.run_id, "lossbench.outcome", "killed")
            store.client.set_terminated(run.info.run_id, "KILLED")


def names(store: tracking.Store) -> list[str]:
    """The comparisons that are not finished, the newest first."""
    found = [run for run in store.find({"lossbench.kind": "comparison"}) if run.info.status != "FINISHED"]
    return [run.data.tags["lossbench.comparison"] for run in found]
