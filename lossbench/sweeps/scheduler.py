"""Trains the runs of a comparison on an engine, beside others that may work on the same comparison.

Each run is claimed as it is handed out. What others have claimed is waited for, and taken over where they are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbench import terminal
from lossbench.config.redaction import clean
from lossbench.core import without_digest
from lossbench.runs.earlier import PAUSED
from lossbench.runs.identity import TRIAL
from lossbench.runs.run import Run
from lossbench.runs.signals import Stop
from lossbench.sweeps import planning
from lossbench.sweeps.claiming import Claims, by_key
from lossbench.sweeps.engines import Engine
from lossbench.sweeps.stacks import Datasets

if TYPE_CHECKING:
    from lossbench.tracking.claims import Claimant


def train(
    runs: Sequence[Run],
    engine: Engine,
    claimant: Claimant,
    datasets: Datasets,
    display: terminal.Board,
    *,
    continues: bool,
) -> None:
    """Train these runs, those that can be claimed.

    Raises: KeyboardInterrupt after Ctrl-C, once all records have ended.
    """
    with Stop() as stop:
        board = Board(display)
        claims = Claims(claimant, board)
        if continues or any(run.identity.kind == TRIAL for run in runs):
            _take_up(runs, board)
        waiting = [run for run in runs if run.result is None]
        while waiting:
            groups = planning.stack_groups([run.settings for run in waiting])
            stacked = [[waiting[position] for position in group] for group in groups]
            engine.train(stacked, claims, datasets, board, stop)
            if stop():
                return  # and leaving raises
            left = [run for run in runs if run.result is None and run.error is None]
            waiting = claims.left_behind(left, stop)


def _take_up(runs: Sequence[Run], board: Board) -> None:
    """Set the results of runs that an earlier call has finished."""
    records = by_key(runs)
    for run in runs:
        run.result = run.earlier.finished(run.store(), records.get(run.identity.key, []))
        if run.result is not None:
            board.ended(run)
            board.advance(run.settings["train.steps"], 0)


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
        label = f"{loss} on {run.names.dataset}, seed {run.settings['seed']}"
        if run.result is not None and run.result.outcome == PAUSED:
            run.settings.drop()
            return
        if run.identity.kind == TRIAL:  # of these, only the best is worth a line
            self._display.count(run.outcome)
        elif run.result is not None:
            self._display.ended(label, run.result.outcome, terminal.headline(run.result))
        else:
            headline = run.outcome if run.outcome == "killed" else f"{run.outcome}: {clean(str(run.error), run.uri)}"
            self._display.ended(label, run.outcome, headline)
        run.settings.drop()  # another process may have trained it
