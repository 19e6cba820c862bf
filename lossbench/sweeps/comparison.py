"""A comparison: an MLflow run of its own, beside those of its runs, which holds the report on them."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lossbench import terminal, tracking
from lossbench.config import redaction
from lossbench.config.launching import JOINED
from lossbench.core import ConfigError
from lossbench.runs import provenance, signals
from lossbench.runs import run as runs
from lossbench.tracking import lease
from lossbench.tracking.claims import Claimant, find_ledger, open_ledger

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun


class Open(NamedTuple):
    """The record of a comparison, its store, and its heartbeat, if this process leads.

    One process leads a comparison: it trains the references and reports. Others may join it, and train runs as well.
    """

    store: tracking.Store
    recorder: tracking.Recorder
    heart: lease.Heart | None = None


_open: list[Open] = []  # the comparison that this process is working on
_claimant: list[Claimant] = []  # what claims its runs for this process
PLANNED = "lossbench.runs"  # tag of a comparison: how many runs it has
PLAN = "lossbench.plan"  # tag of a comparison: a hash of their keys
GRID = "hydra_plugins.lossbench_plugins.sweeper.GridSweeper"
JOB = "lossbench.job"  # tag of a comparison: the submitted job that leads it, as JSON
SUBMITTED = "LOSSBENCH_SUBMITTED"  # in the environment of such a job: the name of its comparison
LEDGER_S = 30  # how long a leader may take to open its ledger
RUNNING = "LOSSBENCH_COMPARISON"  # in the environment, so that a launcher's worker processes know it as well
OURS = "hydra_plugins.lossbench_plugins.launcher."  # the launchers that train with an engine


def begin(sweep: DictConfig, job: DictConfig, cfg: DictConfig) -> tuple[str, bool]:
    """The name of the comparison that runs belong to from now on, and whether some of them may already be trained.

    A comparison of the same command that was interrupted is continued. `sweep` is the configuration of the multirun,
    `job` its first job as Hydra composed it, `cfg` the settings of that job, whose experiment holds the comparison.
    """
    if RUNNING in os.environ:  # a sweeper that launches batch after batch
        return os.environ[RUNNING], True
    HydraConfig.instance().set_config(job)
    experiment = str(cfg.experiment_name)
    store = open_store(cfg)
    asked = [
        sorted(map(redaction.redacted, sweep.hydra.overrides.task)),
        OmegaConf.to_container(sweep.hydra.sweeper, resolve=False),
    ]
    key = hashlib.sha256(json.dumps([asked, provenance.code()], default=str).encode()).hexdigest()[:16]
    same = {"lossbench.kind": "comparison", "lossbench.key": key}
    source = {"lossbench.code": provenance.code(), "lossbench.command": provenance.command()}
    signals.recording()
    if asked_for := os.environ.get(JOINED):
        grid = str(sweep.hydra.sweeper._target_) == GRID
        return _join(store, asked_for, {**source, "lossbench.key": key}, grid=grid)
    for found in store.find(same):
        if (found.info.status != "FINISHED" or found.info.run_id in store.late) and _lead(store, found, source):
            terminal.out().print(f"continuing {os.environ[RUNNING]}, which was interrupted")
            return os.environ[RUNNING], True
    name = named(experiment)
    mine = {lease.PROCESS: lease.mine(), lease.BEAT: lease.now()}
    begun = store.start(experiment, f"comparison {name}", {**same, "lossbench.comparison": name, **source, **mine})
    heart = lease.keep(store.client, begun, mine[lease.PROCESS])
    _open[:] = [Open(store, begun, heart)]
    os.environ[RUNNING] = name
    return name, False


def named(experiment: str) -> str:
    """A new name for a comparison."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    safe = re.sub(r"[^-.=\w]+", "_", experiment)  # in filters, files and shells
    return f"{safe}-{now}-{secrets.token_hex(2)}"


def _lead(store: tracking.Store, found: MlflowRun, source: Mapping[str, str]) -> bool:
    """Lead a comparison from now on, unless another process does and is alive."""
    held = found.data.tags.get(lease.PROCESS, "")
    if found.info.status == "RUNNING" and lease.is_mine(held):  # the answer was lost when it was taken
        claimed: str | None = held
    else:
        claimed = lease.take(store.client, found.info.run_id, terminal.out().print)
    if not claimed:
        return False
    store.late.discard(found.info.run_id)
    os.environ[RUNNING] = found.data.tags["lossbench.comparison"]
    store.client.update_run(found.info.run_id, status="RUNNING")
    recorder = tracking.Recorder(store, found.info.run_id)
    _open[:] = [Open(store, recorder, lease.keep(store.client, recorder, claimed))]
    note(source)
    if JOB in found.data.tags and os.environ.get(SUBMITTED) != os.environ[RUNNING]:
        store.client.delete_tag(found.info.run_id, JOB)  # no longer led by that job
    return True


def _join(store: tracking.Store, name: str, tags: Mapping[str, str], *, grid: bool) -> tuple[str, bool]:
    """Work on a comparison from another process or machine, beside the one that leads it, or lead it if none does.

    Raises: ConfigError where there is none of this name, one of another command or revision of the code, or one that
        one process has to lead alone, since it decides as it goes what comes next.
    """
    found = record_of(store, name)
    if found.data.tags.get("lossbench.key", tags["lossbench.key"]) != tags["lossbench.key"]:
        begun_by = found.data.tags.get("lossbench.command", "another command")
        code = found.data.tags.get("lossbench.code", "")
        same_code = code == provenance.code()
        why = f"with other words: {begun_by}" if same_code else f"by another revision of the code, {code}"
        raise ConfigError(f"--comparison {name}: was begun {why}; the same words and code join it")
    if found.info.status == "FINISHED":
        raise _finished(name)
    if found.info.status != "RUNNING" and _lead(store, found, tags):
        return name, True
    if not grid:
        raise ConfigError(
            f"--comparison {name}: a search, or seeds=auto, is led by one process; hydra/launcher=ray spreads its runs"
        )
    os.environ[RUNNING] = name
    _open[:] = [Open(store, tracking.Recorder(store, found.info.run_id))]
    terminal.out().print(f"joined {name}; the process that leads it reports")
    return name, True


def _finished(name: str) -> ConfigError:
    return ConfigError(f"--comparison {name}: is finished; report {name} shows it again")


def record_of(store: tracking.Store, name: str) -> MlflowRun:
    """The record of a comparison. Raises: ConfigError, with the nearest name, where there is none."""
    every = {run.data.tags.get("lossbench.comparison", ""): run for run in store.find({"lossbench.kind": "comparison"})}
    if name not in every:
        near = difflib.get_close_matches(name, every, n=1, cutoff=0.0)
        hint = f"nearest: {near[0]}" if near else "this store has none"
        raise ConfigError(f"{name}: no such comparison in tracking.uri={redaction.redacted(store.uri)}; {hint}")
    return every[name]


def claimant() -> Claimant:
    """What claims runs of the open comparison for this process.

    Raises: ConfigError where the process that leads the comparison claims nothing, as under other launchers.
    """
    if not _claimant:
        store, name = current()
        _claimant.append(Claimant(store, open_ledger(store, name) if leads() else _ledger(store, name)))
    return _claimant[0]


def _ledger(store: tracking.Store, name: str) -> str:
    """The id of the ledger that the leader has opened, or is about to."""
    for _ in range(LEDGER_S):
        if found := find_ledger(store, name):
            return found
        if record_of(store, name).info.status == "FINISHED":
            raise _finished(name)
        time.sleep(1)
    raise ConfigError(f"--comparison {name}: is trained by a launcher that others cannot join")


def leads() -> bool:
    """Whether this process leads the open comparison: it trains the references and reports."""
    return bool(_open) and _open[0].heart is not None


def leads_now() -> bool:
    """Whether this process leads the open comparison, also in place of a leader that is gone."""
    store, name = current()

    def lead() -> bool:
        found = record_of(store, name)
        return found.info.status != "FINISHED" and _lead(store, found, {})

    return leads() or store.patiently(lead)


def plan(keys: Sequence[str]) -> None:
    """Note the keys of all runs of the open comparison, which this process leads, before others can join it."""
    note({PLANNED: str(len(keys)), PLAN: _hash(keys)})
    recorder().wait()


def check_plan(keys: Sequence[str]) -> None:
    """Check that the open comparison, which another process leads, has the runs with these keys.

    Raises: ConfigError where it has not: keys cover what lies in files, which may differ from machine to machine.
    """
    store, name = current()
    if record_of(store, name).data.tags.get(PLAN) != _hash(keys):
        raise ConfigError(
            f"--comparison {name}: its runs are not those of this command here: a file of the data (its size and its "
            "time count), or a module of yours, differs; cp -p and rsync -t keep times"
        )


def _hash(keys: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(sorted(keys)).encode()).hexdigest()[:16]


def note(tags: Mapping[str, str]) -> None:
    """Set tags on the open comparison."""
    _open[0].recorder.tags(tags)


def recorder() -> tracking.Recorder:
    """The recorder of the open comparison."""
    return _open[0].recorder


def current() -> tuple[tracking.Store, str]:
    """The store and the name of the open comparison."""
    return _open[0].store, os.environ[RUNNING]


def end_killed() -> None:
    """End a comparison that Ctrl-C interrupted before its conclusion."""
    if RUNNING in os.environ and _open:
        if leads():
            _open[0].recorder.end("KILLED")
        leave()


def leave() -> None:
    """Work on the open comparison no longer."""
    os.environ.pop(RUNNING, None)
    while _open:
        if (heart := _open.pop().heart) is not None:
            heart.stop()
    while _claimant:
        with contextlib.suppress(Exception):  # a store that is away: others see that this process is gone
            _claimant.pop().leave()


def open_store(config: DictConfig) -> tracking.Store:
    """Open the store that a configuration records to, once it is known to answer."""
    uri = tracking.resolve(config.tracking.uri)
    runs.check_connection(uri)
    return runs.store(uri, config.tracking.location)
