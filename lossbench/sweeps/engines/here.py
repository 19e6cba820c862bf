"""This machine: stacks one after another, or in worker processes, whatever was measured to be faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from lossbench.config import run_key
from lossbench.core import machine
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
        """Train the groups one after another, or many of them side by side. Raises: KeyboardInterrupt after Ctrl-C."""
        for number, group in enumerate(groups):
            schedule = timing.fastest(group, datasets)
            if number == 0 and self._side_by_side(groups, schedule.seconds):
                processes.train(Waiting(groups, claim), machine.cores(), board, stop, groups=True)
                return
            if schedule.alone:
                board.say(f"{group[0].names.model} trains one run at a time: in a stack, {schedule.alone}")
            waiting = Waiting(planning.parts(group, min(schedule.size, self._share or schedule.size)), claim)
            if schedule.workers:
                processes.train(waiting, schedule.workers, board, stop, timing.gpus(group[0]))
            else:
                train_in_turns(waiting, schedule.threads, datasets, board, stop)
            if stop():
                return  # and leaving raises

    def _side_by_side(self, groups: Sequence[Group], seconds: float) -> bool:
        """Whether groups train faster in a process of one thread for each core, if the first takes so many seconds."""
        cores = machine.cores()
        cpu = not timing.gpus(groups[0][0]) and all(group[0].settings["train.threads"] in (None, 1) for group in groups)
        shared = {run.settings.shared for group in groups for run in group}
        here = any(run_key.given_paths(settings.flat) for settings in shared)  # objects of this process
        return 1 < cores <= len(groups) / 2 and cpu and not here and seconds * len(groups) > 4 * planning.START_S
