"""Trains the runs of a comparison on an engine, beside others that may work on the same comparison.

Each run is claimed as it is handed out. What others have claimed is waited for, and taken over where they are gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lossbench import terminal
from lossbench.config.redaction import clean
from lossbench.core import without_digest
from lossbench.core.failures import MachineFault
from lossbench.runs.earlier import PAUSED
from lossbench.runs.identity import TRIAL
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop
from lossbench.sweeps import planning
from lossbench.sweeps.engines import Engine
from lossbench.sweeps.stacks import Datasets

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

    from lossbench.tracking.claims import Claimant

POLL_S = 2.0  # between two looks at what others have trained


def train(
    runs: Sequence[Run],
    engine: Engine,
    claimant: Claimant | None,
    datasets: Datasets,
    display: terminal.Board,
    *,
    continues: bool,
) -> None:
    """Train these runs; without a claimant, nobody else can work on them.

    Raises: KeyboardInterrupt after Ctrl-C, once all records have ended.
    """
    with Stop() as stop:
        board = Board(display)
        claims = Claims(claimant, board)
        if continues or any(run.identity.kind == TRIAL for run in runs):
            _take_up(runs, board)
        waiting = [run for run in runs if run.result is None]
        while waiting:
            groups = planning.stack_groups([run.cfg for run in waiting])
            stacked = [[waiting[position] for position in group] for group in groups]
            engine.train(stacked, claims, datasets, board, stop)
            if stop():
                return  # and leaving raises
            left = [run for run in waiting if run.result is None and run.error is None]
            waiting = claims.left_behind(left, stop)


class Claims:
    """Claims runs as they are handed to an engine, and follows those that others have claimed."""

    def __init__(self, claimant: Claimant | None, board: Board) -> None:
        self._claimant, self._board = claimant, board
        self._began = int(time.time() * 1000)

    def __call__(self, runs: Sequence[Run]) -> list[Run]:
        """The runs that are now this process's to train; one that another process has ended already is read back."""
        if self._claimant is None or runs[0].identity.kind == TRIAL:  # a search belongs to one process
            return list(runs)
        mine = self._claimant.take([run.identity.key for run in runs])
        claimed = [run for run in runs if run.identity.key in mine and run.result is None]
        for run in claimed:
            if run.identity.key in self._claimant.taken_over:
                here = run.identity.siblings | {"lossbench.key": run.identity.key}
                self._read_back(run, run.store().find(here), at_work=False)
        return [run for run in claimed if run.result is None and run.error is None]

    def left_behind(self, runs: Sequence[Run], stop: Callable[[], bool]) -> list[Run]:
        """Wait while others train these runs: those that somebody left behind, or none once all have ended."""
        remaining = list(runs) if self._claimant is not None else []
        while self._claimant is not None and remaining and not stop():
            self._board.say(f"others train {len(remaining)} runs of this comparison")
            ledger, records = self._claimant.read(), _by_key(remaining)
            for run in remaining:
                at_work = ledger.owner(run.identity.key) not in ledger.gone
                self._read_back(run, records.get(run.identity.key, []), at_work=at_work)
            remaining = [run for run in remaining if run.result is None and run.error is None]
            if free := [run for run in remaining if self._claimant.is_free(ledger, run.identity.key)]:
                return free
            if remaining:
                time.sleep(POLL_S)
        return []

    def _read_back(self, run: Run, records: Sequence[MlflowRun], *, at_work: bool) -> None:
        """Set the result or the error of a run that another claimant has ended.

        Where that one is no longer at work, a failure counts only if it is newer than this call: the same command,
        called again, tries again what failed.
        """
        run.result = run.earlier.finished(run.store(), records)
        newest = records[0] if records else None
        failed = newest is not None and newest.info.status == "FAILED"
        if newest and failed and run.result is None and (at_work or newest.info.end_time >= self._began):
            message = newest.data.tags.get("lossbench.error", "failed")
            of_machine = newest.data.tags.get("lossbench.outcome") == "error"
            run.error = (MachineFault if of_machine else RuntimeError)(message)
        if run.result is not None or run.error is not None:
            self._board.ended(run)
            self._board.advance(run.cfg.train.steps, 0)


def _by_key(runs: Sequence[Run]) -> dict[str, list[MlflowRun]]:
    """The records of the comparison of these runs by key, the newest first."""
    found: dict[str, list[MlflowRun]] = {}
    for record in runs[0].store().find(runs[0].identity.siblings):
        found.setdefault(record.data.tags.get("lossbench.key", ""), []).append(record)
    return found


def _take_up(runs: Sequence[Run], board: Board) -> None:
    """Set the results of runs that an earlier call has finished."""
    siblings: dict[str, Sequence[MlflowRun]] = {}  # a study's trials or a comparison's runs, each asked for once
    for run in runs:
        among = run.identity.siblings
        if str(among) not in siblings:
            siblings[str(among)] = run.store().find(among)
        run.result = run.earlier.finished(run.store(), siblings[str(among)])
        if run.result is not None:
            board.ended(run)
            board.advance(run.cfg.train.steps, 0)


class Board:
    """Shows on the terminal how runs end."""

    def __init__(self, display: terminal.Board) -> None:
        self.advance = display.advance
        self.training = display.training
        self.say = display.say
        self._display = display

    def ended(self, run: Run) -> None:
        """Show how a run ended."""
        loss = " ".join(filter(None, (without_digest(run.names.loss), run.swept)))
        label = f"{loss} on {run.names.dataset}, seed {run.cfg.seed}"
        if run.result is not None and run.result.outcome == PAUSED:
            return
        if run.identity.kind == TRIAL:  # of these, only the best is worth a line
            self._display.count(run.outcome)
        elif run.result is not None:
            self._display.ended(label, run.result.outcome, terminal.headline(run.result))
        else:
            headline = run.outcome if run.outcome == "killed" else f"{run.outcome}: {clean(str(run.error), run.uri)}"
            self._display.ended(label, run.outcome, headline)
