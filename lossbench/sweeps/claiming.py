"""Runs that several processes share out: claimed before they are trained, read back once another has ended them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lossbench.core import ConfigError
from lossbench.core.failures import MachineFault
from lossbench.runs.identity import TRIAL
from lossbench.runs.run import Run
from lossbench.sweeps.stacks import Board
from lossbench.tracking.entries import supersede

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lossbench.tracking.claims import Claimant

POLL_S = 2.0  # between two looks at what others have trained, at least
SHARE = 0.2  # of the time that looking may take: it reads the records of all runs


class Claims:
    """Claims runs as they are handed to an engine, and follows those that others have claimed."""

    def __init__(self, claimant: Claimant, board: Board, *, trials: bool = False) -> None:
        """`trials`: those of a search are claimed as well; without it, they are left to the process that leads."""
        self._claimant, self._board, self._trials = claimant, board, trials
        self._began = now()

    def __call__(self, runs: Sequence[Run]) -> list[Run]:
        """The runs that are now this process's to train; one that another process has ended already is read back."""
        if runs[0].identity.kind == TRIAL and not self._trials:
            return list(runs)
        mine = self._claimant.take([claim_of(run) for run in runs])
        claimed = [run for run in runs if claim_of(run) in mine and run.result is None]
        over = [run for run in claimed if claim_of(run) in self._claimant.taken_over]
        if over:
            over[0].store().adopt()  # what their process could not record any more
        for run in over:
            here = run.identity.siblings | {"lossbench.key": run.identity.key}
            read_back(run, run.store().find(here), self._began, self._board)
        return [run for run in claimed if run.result is None and run.error is None]

    def left_behind(self, runs: Sequence[Run], stop: Callable[[], bool]) -> list[Run]:
        """Wait while others train these runs: those that somebody left behind, or none once all have ended."""
        remaining = list(runs)
        while remaining and not stop():
            since = time.monotonic()
            ledger, records = self._claimant.read(), by_key(remaining)
            for run in remaining:
                at_work = ledger.owner(claim_of(run)) not in ledger.gone
                read_back(run, records.get(run.identity.key, []), 0 if at_work else self._began, self._board)
            remaining = [run for run in remaining if run.result is None and run.error is None]
            if remaining and ledger.closed:
                raise ConfigError(
                    f"the claims of this comparison (run {self._claimant.ledger} in MLflow) were deleted; "
                    "the same command, without --comparison, continues it"
                )
            free = self._claimant.free(ledger, [claim_of(run) for run in remaining])
            if free:
                return [run for run in remaining if claim_of(run) in free]
            if remaining:
                self._board.say(f"others train {len(remaining)} runs of this comparison")
                rest(since)
        return []


def rest(since: float) -> None:
    """Wait before the next look at the records, the longer the last one took, which began at `since`."""
    time.sleep(max(POLL_S, (time.monotonic() - since) / SHARE))


def once(runs: Sequence[Run], claimant: Claimant) -> None:
    """Let each run count once, by the record that ended first.

    Of what one process took alone during an outage, another that joined meanwhile may have trained some as well.
    Whoever ends last does this last. Raises: Away.
    """
    if not claimant.shared:
        return
    records = by_key([run for run in runs if run.identity.kind != TRIAL])
    wanted = Counter(run.identity.key for run in runs)
    for key, found in records.items():
        finished = [record for record in found if record.info.status == "FINISHED"]
        finished.sort(key=lambda record: (record.info.end_time, record.info.run_id))
        if key in wanted and len(finished) >= wanted[key]:
            for record in found:
                if record not in finished[: wanted[key]]:
                    supersede(runs[0].store().client, record.info.run_id)


def now() -> int:
    """The time as MLflow counts it, in milliseconds since 1970."""
    return int(time.time() * 1000)


def claim_of(run: Run) -> str:
    """What a run is claimed by: its key, and for each trial of a search, and each part of it, one of its own."""
    trial, until = run.settings["tuning.trial"], run.settings["tuning.until"]
    return run.identity.key if trial is None else f"{run.identity.key}.{trial}.{until}"


def read_back(run: Run, records: Sequence[MlflowRun], since: int, board: Board) -> None:
    """Set the result or the error of a run that another process has ended; a failure counts if it is not older.

    So that the same command, called again, tries again what failed before.
    """
    run.result = run.earlier.finished(run.store(), records)
    newest = records[0] if records else None
    if newest and run.result is None and newest.info.status == "FAILED" and newest.info.end_time >= since:
        message = newest.data.tags.get("lossbench.error", "failed")
        of_machine = newest.data.tags.get("lossbench.outcome") == "error"
        run.error = (MachineFault if of_machine else RuntimeError)(message)
    if run.result is not None or run.error is not None:
        board.ended(run)
        board.advance(run.settings["train.steps"], 0)


def by_key(runs: Sequence[Run]) -> dict[str, list[MlflowRun]]:
    """The records of the comparison, or of the studies, of these runs by key, the newest first."""
    found: dict[str, list[MlflowRun]] = {}
    among = {str(run.identity.siblings): run for run in runs}
    for run in among.values():
        for record in run.store().find(run.identity.siblings):
            found.setdefault(record.data.tags.get("lossbench.key", ""), []).append(record)
    return found
