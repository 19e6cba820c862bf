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
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from lossbench import terminal, tracking
from lossbench.config import redaction
from lossbench.config.error_messages import Carried
from lossbench.config.launching import JOINED
from lossbench.core import ConfigError
from lossbench.runs import provenance, signals
from lossbench.runs import run as runs
from lossbench.runs.signals import Stop
from lossbench.tracking import lease
from lossbench.tracking.claims import Claimant, close_ledger, find_ledger, open_ledger

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lossbench.analysis.report import Report


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
GRID = "hydra_plugins.lossbench_plugins.sweeper.GridSweeper"
LEDGER_S = 30  # how long a leader may take to open its ledger
_SHOW: ContextVar[Callable[[tracking.Store, Report], None] | None] = ContextVar("show", default=None)
RUNNING = "LOSSBENCH_COMPARISON"  # in the environment, so that a launcher's worker processes know it as well
OURS = "hydra_plugins.lossbench_plugins.launcher."  # the launchers that train with an engine


@contextlib.contextmanager
def shown_by(show: Callable[[tracking.Store, Report], None]) -> Iterator[None]:
    """Inside, `show` gets the report of a comparison; it is not printed, nor written to the working directory."""
    before = _SHOW.set(show)
    try:
        yield
    finally:
        _SHOW.reset(before)


class Comparison(Callback):
    """Hydra's hooks. Other launchers do not say when their jobs have been checked, so with them it begins at once."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin the comparison under a launcher other than lossbench's."""
        _leave()  # any comparison that this process had open before
        if not str(config.hydra.launcher._target_).startswith(OURS):
            try:
                begin(config, config, config)
            except Exception as error:  # Hydra would turn it into a warning
                raise Carried(error) from error

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Conclude the comparison, if it is still open."""
        if RUNNING not in os.environ:
            return
        try:
            conclude("FINISHED")
        except Exception as error:  # Hydra would turn it into a warning
            print(redaction.clean(f"lossbench: the comparison could not be ended: {error}"), file=sys.stderr)
            raise SystemExit(1) from error


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
        [*map(redaction.redacted, sweep.hydra.overrides.task)],
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


def note(tags: Mapping[str, str]) -> None:
    """Set tags on the open comparison."""
    _open[0].recorder.tags(tags)


def current() -> tuple[tracking.Store, str]:
    """The store and the name of the open comparison."""
    return _open[0].store, os.environ[RUNNING]


def conclude(status: str) -> None:
    """Read the runs back from the store, print and record the report, and end the comparison.

    Ctrl-C waits until this is done and marks the comparison as killed, so that the same command concludes it again.
    """
    with Stop() as stop:
        _conclude(status, stop)


def end_killed() -> None:
    """End a comparison that Ctrl-C interrupted before its conclusion."""
    if RUNNING in os.environ and _open:
        if leads():
            _open[0].recorder.end("KILLED")
        _leave()


def _leave() -> None:
    os.environ.pop(RUNNING, None)
    while _open:
        if (heart := _open.pop().heart) is not None:
            heart.stop()
    while _claimant:
        with contextlib.suppress(Exception):  # a store that is away: others see that this process is gone
            _claimant.pop().leave()


def _conclude(status: str, stop: Stop) -> None:
    (store, recorder, *_), name, failed = _open[0], os.environ[RUNNING], False
    if not leads():
        store.settled()  # before others hear that this process has left
        return _leave()
    if not store.settled(0 if status == "KILLED" else None):
        recorder.end("KILLED")
        _leave()
        raise tracking.Away(f"{store.outage_message()}; then the same command, or report {name}, concludes it")
    try:
        _report_at_last(store, recorder, name)
    except ConfigError as error:  # nothing was trained, or nothing but trials
        terminal.out().print(f"nothing to report yet ({error}); the same command goes on")
    except Exception as error:
        message = redaction.clean(repr(error), store.uri)
        terminal.out().print(f"the report failed: {message}; the same command, or report {name}, tries again")
        failed = True
    end = "KILLED" if stop() or failed else status
    recorder.end(end)
    _leave()
    if end == "FINISHED":
        with contextlib.suppress(Exception):  # a store that is away; a ledger that stays harms nobody
            close_ledger(store, name)
    link = tracking.ui_command(store.uri, recorder.run_id)
    terminal.out().print(f"comparison {name}; see it in MLflow: {link}")
    if failed and status == "FINISHED":  # otherwise the caller reports what went wrong before
        raise SystemExit(1)


def _report_at_last(store: tracking.Store, recorder: tracking.Recorder, name: str) -> None:
    """Report; where the store goes away meanwhile, wait for it and report again."""
    try:
        _report(store, recorder, name)
    except Exception as error:
        if not tracking.away(error):
            raise
        store.find({"lossbench.comparison": name})  # waits for the store
        _report(store, recorder, name)


def _report(store: tracking.Store, recorder: tracking.Recorder, name: str) -> None:
    """Save the page and tables with the comparison, print the report, and save the page in the working directory."""
    from lossbench.analysis import files, report, tables

    found = report.make(store.client, name, allow_mixed=True)  # the page warns of mixed runs
    with recorder.files() as folder:
        files.write(found, store.client, folder)
        page = (folder / files.PAGE).read_text(encoding="utf-8")
    recorder.tags({"mlflow.note.content": tables.markdown(found.verdicts, found.sentences, found.tunings)})
    arm = "tuned" if found.tunings else ""
    store.view(recorder.run_id, name, [v.metric for v in found.verdicts], arm)
    if show := _SHOW.get():
        show(store, found)
        return
    terminal.report(found)
    with contextlib.suppress(OSError):  # the folder may be read-only; MLflow has the page
        files.save(page, Path(files.PAGE))
        terminal.out().print(f"report: {Path(files.PAGE).absolute()}")


def open_store(config: DictConfig) -> tracking.Store:
    """Open the store that a configuration records to, once it is known to answer."""
    uri = tracking.resolve(config.tracking.uri)
    runs.check_connection(uri)
    return runs.store(uri, config.tracking.location)
