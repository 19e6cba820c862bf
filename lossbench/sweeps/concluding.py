"""The end of a comparison: its report, and Hydra's hooks by which one begins and ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lossbench import terminal, tracking
from lossbench.config import redaction
from lossbench.config.error_messages import Carried
from lossbench.core import ConfigError
from lossbench.runs.signals import Stop
from lossbench.sweeps import comparison
from lossbench.sweeps.comparison import OURS, RUNNING
from lossbench.tracking.claims import close_ledger

if TYPE_CHECKING:
    from lossbench.analysis.report import Report

_SHOW: ContextVar[Callable[[tracking.Store, Report], None] | None] = ContextVar("show", default=None)


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
        comparison.leave()  # any comparison that this process had open before
        if not str(config.hydra.launcher._target_).startswith(OURS):
            try:
                comparison.begin(config, config, config)
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


def conclude(status: str) -> None:
    """Read the runs back from the store, print and record the report, and end the comparison.

    Ctrl-C waits until this is done and marks the comparison as killed, so that the same command concludes it again.
    """
    with Stop() as stop:
        _conclude(status, stop)


def _conclude(status: str, stop: Stop) -> None:
    (store, name), recorder, failed = comparison.current(), comparison.recorder(), False
    if not comparison.leads():
        store.settled()  # before others hear that this process has left
        comparison.leave()
        return
    if not store.settled(0 if status == "KILLED" else None):
        recorder.end("KILLED")
        comparison.leave()
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
    comparison.leave()
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
