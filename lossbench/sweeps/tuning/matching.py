"""Gradient-matched runs: learning rates that compensate for the gradient's size, so that only its direction differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from lossbench.config.overrides import key
from lossbench.config.task_types import chosen, load
from lossbench.core import ConfigError
from lossbench.runs.experiment import Experiment
from lossbench.sweeps.stacks import Datasets
from lossbench.sweeps.tuning.searches import Search
from lossbench.sweeps.tuning.space import DIGITS

BATCHES = 50  # over which the gradient's norm is averaged


def check(searches: Sequence[Search]) -> None:
    """Raises: ConfigError for optimizers whose steps do not grow with the gradient, and for several players."""
    for search in searches:
        optimizer = str(search.cfg.optimizer._target_)
        if not optimizer.endswith(".SGD"):
            raise ConfigError(
                f"hydra.sweeper.matched=true: {optimizer.rpartition('.')[2]} divides the size of a gradient out, so "
                "every loss takes steps of one size already; use it with optimizer=sgd"
            )
        if "lr" not in search.cfg.optimizer:
            raise ConfigError(
                "hydra.sweeper.matched=true: scales optimizer.lr, which is not set; give one, as in optimizer.lr=0.1"
            )
        if len(load(chosen(search.cfg)).players) > 1:
            raise ConfigError("hydra.sweeper.matched=true: works for tasks with one player")


def rates(searches: Sequence[Search], datasets: Datasets) -> dict[str, float]:
    """The learning rate of each search except the first of its comparison, by study: lr·|∇first| / |∇own|.

    The norms are taken at the initial weights: the mean over some batches of the search's own data.
    """
    found: dict[str, float] = {}
    first: dict[str, float] = {}
    for search in searches:
        others = str([word for word in search.words if key(word) not in ("loss", "loss._target_")])
        norm = _norm(search, datasets)
        if others not in first:
            first[others] = norm
        elif norm and first[others]:
            found[search.study.name] = float(f"{search.cfg.optimizer.lr * first[others] / norm:.{DIGITS}g}")
    return found


def _norm(search: Search, datasets: Datasets) -> float:
    """The gradient's norm as training records it while the learning rate is 0."""
    from lossbench.engine import fit

    still = {"optimizer": {"lr": 0.0}, "train": {"steps": BATCHES, "eval_every": BATCHES, "record_every": BATCHES}}
    cfg: Any = OmegaConf.merge(search.cfg, still)
    recorded: dict[str, float] = {}

    def record(step: int, values: Mapping[str, float]) -> None:
        recorded.update(values)

    experiment = Experiment(cfg, datasets(search.cfg))
    fit([experiment.replica(record)], experiment.plan)
    return recorded.get("train/grad_norm", 0.0)
