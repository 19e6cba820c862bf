"""Engines: where stacks train. An engine takes groups of runs and leaves a result or an error in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from omegaconf import DictConfig

from lossbench.runs.run import Run
from lossbench.sweeps.stacks import Board, Datasets

Group = Sequence[Run]
"""Runs that may share a stack, those of one loss adjacent."""

Claim = Callable[[Sequence[Run]], list[Run]]
"""Claims runs as they are handed out: those that are this process's to train."""


class Engine(Protocol):
    """Where stacks train: this machine, Ray or Slurm."""

    def check(self, cfgs: Sequence[DictConfig]) -> None:
        """Check that these runs can be trained and recorded there, before any is. Raises: ConfigError."""

    def train(
        self, groups: Sequence[Group], claim: Claim, datasets: Datasets, board: Board, stop: Callable[[], bool]
    ) -> None:
        """Train the runs of these groups that can be claimed, until all have ended or `stop()` is true.

        Raises: KeyboardInterrupt after Ctrl-C, once all their records have ended.
        """
