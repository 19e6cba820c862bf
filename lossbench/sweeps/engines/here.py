"""This machine: stacks one after another, or in worker processes, whatever was measured to be faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from lossbench.sweeps import planning, timing
from lossbench.sweeps.engines import Claim, Group, processes
from lossbench.sweeps.stacks import Board, Datasets, Waiting, train_in_turns


class Here:
    """Trains on this machine, at most `share` runs at a time where others train the rest."""

    def __init__(self, share: int | None = None) -> None:
        self._share = share

    def check(self, cfgs: Sequence[DictConfig]) -> None:
        """Everything trains where it was composed."""

    def train(
        self, groups: Sequence[Group], claim: Claim, datasets: Datasets, board: Board, stop: Callable[[], bool]
    ) -> None:
        """Train the groups one after another. Raises: KeyboardInterrupt after Ctrl-C."""
        for group in groups:
            schedule = timing.fastest(group, datasets)
            if schedule.alone:
                board.say(f"{group[0].names.model} trains one run at a time: in a stack, {schedule.alone}")
            waiting = Waiting(planning.parts(group, min(schedule.size, self._share or schedule.size)), claim)
            if schedule.workers:
                processes.train(waiting, schedule.workers, board, stop, timing.gpus(group[0]))
            else:
                train_in_turns(waiting, schedule.threads, datasets, board, stop)
            if stop():
                return  # and leaving raises
