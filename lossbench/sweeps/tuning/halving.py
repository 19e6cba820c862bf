"""Successive halving: which steps the trials of a batch pause at, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omegaconf import DictConfig

from lossbench.core import ConfigError
from lossbench.sweeps.tuning.searches import Search
from lossbench.sweeps.tuning.study import Trial

RUNGS = 2  # pauses at most


def check(eta: int | None) -> None:
    """Raises: ConfigError for a factor that halves nothing."""
    if eta is not None and (not isinstance(eta, int) or isinstance(eta, bool) or eta < 2):
        raise ConfigError(f"hydra.sweeper.pruning={eta}: one in how many goes on: 2 or more, or null")


def rungs(train: DictConfig, eta: int | None, trials: int) -> list[int]:
    """Steps at which a batch of so many trials pauses, at evaluations; each rung takes η times as long as the last."""
    if eta is None:
        return []
    from lossbench.runs import builders

    every = builders.plan(train).eval_every
    levels = min(RUNGS, int(math.log(trials, eta) + 1e-9))
    found = {max(1, round(train.steps / eta**level / every)) * every for level in range(1, levels + 1)}
    return sorted(step for step in found if step < train.steps)


def kept(paused: Sequence[tuple[Search, Trial]], began: int, eta: int, rung: int) -> list[tuple[Search, Trial]]:
    """Of one search's trials that pause at a rung (counted from 0) those that go on: the best of a batch of `began`.

    The share is of the batch as it began, so that it is as large for a loss some of whose trials have failed.
    """

    def place(one: tuple[Search, Trial]) -> float:
        search, trial = one
        return (-trial.score if search.primary.higher_is_better else trial.score) if trial.scored else math.inf

    return sorted(paused, key=place)[: -(-began // eta ** (rung + 1))]
