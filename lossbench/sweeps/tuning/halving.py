"""Successive halving: the steps at which the trials of a batch pause, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from omegaconf import DictConfig

from lossbench.core import ConfigError
from lossbench.sweeps.tuning.searches import Search
from lossbench.sweeps.tuning.study import Trial

RUNGS = 2  # pauses at most


def check(eta: int | None) -> None:
    """Check the factor. Raises: ConfigError for one that is not a whole number of at least 2, or null."""
    if eta is not None and (not isinstance(eta, int) or isinstance(eta, bool) or eta < 2):
        raise ConfigError(f"hydra.sweeper.pruning={eta}: the best one in how many trials goes on: 2 or more, or null")


def rungs(train: DictConfig, eta: int | None, trials: int) -> list[int]:
    """The steps, all of them evaluations, at which a batch pauses; each rung is η times as long as the last."""
    if eta is None:
        return []
    from lossbench.runs import builders

    every = builders.plan(train).eval_every
    levels = min(RUNGS, int(math.log(trials, eta) + 1e-9))
    found = {max(1, round(train.steps / eta**level / every)) * every for level in range(1, levels + 1)}
    return sorted(step for step in found if step < train.steps)


def survivors(
    paused: Sequence[tuple[Search, Trial]],
    began: int,
    eta: int,
    rung: int,
    finished: Sequence[tuple[Search, Trial]] = (),
) -> list[tuple[Search, Trial]]:
    """The trials that go on, of one search's trials that paused at a rung (counted from 0): the best of `began`.

    `began` is the size of the batch at its start, so that failed trials do not reduce how many go on. `finished` are
    those that stopped early: one that is among the best has the place of one that would go on.
    """

    def place(one: tuple[Search, Trial]) -> float:
        search, trial = one
        return (-trial.score if search.primary.higher_is_better else trial.score) if trial.scored else math.inf

    best = sorted([*finished, *paused], key=place)[: -(-began // eta ** (rung + 1))]
    ended = {trial.number for _, trial in finished}
    return [one for one in best if one[1].number not in ended]
