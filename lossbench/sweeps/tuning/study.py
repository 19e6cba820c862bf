"""One loss's search: the settings tried, their results and their cost, in optuna's storage."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossbench import terminal
from lossbench.config.redaction import clean, redacted
from lossbench.core import ConfigError
from lossbench.runs.earlier import PAUSED
from lossbench.sweeps.tuning.draws import Draw
from lossbench.sweeps.tuning.space import Choices, Dimension, Space
from lossbench.tracking import check_connection, lease, resolve

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

SCORED = ("finished", "cut", "pruned")  # outcomes of trials with a score


@dataclass(frozen=True)
class Trial:
    """A trial: its settings, and `score`, the metric on validation, NaN where it failed.

    `steps` and `seconds` are its cost over all its data splits; `spared` are the steps that those of its runs which
    stopped early did not make.
    """

    number: int
    settings: Mapping[str, Any]
    outcome: str = ""
    score: float = math.nan
    steps: int = 0
    seconds: float = 0.0
    spared: int = 0

    @property
    def scored(self) -> bool:
        """Whether it has a score."""
        return self.outcome in (*SCORED, PAUSED) and math.isfinite(self.score)


class Study:
    """The trials of one loss's search. `ask` for trials, train them, and `tell` their results."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        space: Space,
        draw: Draw,
        *,
        higher_is_better: bool,
        learns_after: int | None = None,
        seed: int = 0,
    ) -> None:
        """With `learns_after`, the trials after that many are TPE's; `draw` gives the others.

        Raises: ConfigError where another process is at work on this study.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self.space, self.higher_is_better = name, space, higher_is_better
        self._draw, self._learns_after, self._seed = draw, learns_after, seed
        direction = optuna.study.StudyDirection.MAXIMIZE if higher_is_better else optuna.study.StudyDirection.MINIMIZE
        self._study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        self._storage, self._id = storage, storage.get_study_id_from_name(name)
        self._heart: lease.Heart | None = None
        self._distributions = {name: _distribution(dimension) for name, dimension in space.items()}
        self._refuse_company()

    @property
    def trials(self) -> list[Trial]:
        """The trials that have ended."""
        return [_read(trial) for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def best(self, trials: int | None = None) -> Trial | None:
        """The trial with the best score, of the first `trials` or of all; the first of equals; None without a score."""
        sign = 1 if self.higher_is_better else -1
        scored = [trial for trial in self.trials if trial.scored and (trials is None or trial.number < trials)]
        return max(scored, key=lambda trial: sign * trial.score, default=None)

    def ask(self, upto: int) -> list[Trial]:
        """The trials with numbers below `upto` that have not ended: those that an earlier call left, then new ones."""
        there = self._study.get_trials(deepcopy=False)
        left = [trial for trial in there if not trial.state.is_finished() and trial.number < upto]
        if left or len(there) < upto:
            self._refuse_company()
            self._study.set_user_attr("process", lease.mine())
            self._beat()
            if self._heart is None:
                here = weakref.proxy(self)  # the heartbeat ends with the study
                self._heart = lease.Heart(lambda: here._beat())
                weakref.finalize(self, self._heart.stop)
        again = [Trial(trial.number, self._rounded(trial.params)) for trial in left]
        return again + [self._asked(number) for number in range(len(there), upto)]

    def tell(self, trial: Trial) -> None:
        """Record how a trial ended; without a score it counts as worse than any."""
        from optuna.trial import TrialState

        where = self._trial(trial.number)
        spent = {"outcome": trial.outcome, "steps": trial.steps, "seconds": trial.seconds, "score": trial.score}
        known = {key: value for key, value in spent.items() if value == value}
        self._storage.set_trial_user_attr(where, "spent", known)
        if trial.scored and trial.outcome != "pruned":
            self._storage.set_trial_state_values(where, TrialState.COMPLETE, [trial.score])
            return
        if trial.scored:  # TPE reads from this how good a pruned trial was
            self._storage.set_trial_intermediate_value(where, trial.steps, trial.score)
        self._storage.set_trial_state_values(where, TrialState.PRUNED)

    def _asked(self, number: int) -> Trial:
        from optuna.trial import TrialState, create_trial

        learned = self._learns_after is not None and number >= self._learns_after
        settings = self._rounded(self._learned(number)) if learned else self._draw(number)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=settings,
                distributions=self._distributions,
            )
        )
        return Trial(number, settings)

    def _learned(self, number: int) -> dict[str, Any]:
        """The settings that TPE suggests, asked of a copy: an interruption leaves no trial without settings."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options of TPE that optuna calls experimental
            # a new one for each trial, so that an interrupted search continues as if it had not been interrupted
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=0, multivariate=True, constant_liar=True, seed=self._seed + number
            )
            copy = optuna.create_study(direction=self._study.direction, sampler=sampler)
            copy.add_trials(self._study.get_trials())
            return copy.ask(self._distributions).params

    def _rounded(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.space[name].rounded(value) for name, value in settings.items()}

    def _trial(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def _beat(self) -> None:
        self._study.set_user_attr("beat", lease.now())

    def _attribute(self, name: str) -> str:
        return str(self._storage.get_study_user_attrs(self._id).get(name, ""))

    def _refuse_company(self) -> None:
        owner = self._attribute("process")
        open_ = any(not trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False))
        if not open_ or not owner or lease.is_mine(owner):
            return
        if lease.alive(owner, lambda: self._attribute("beat"), terminal.out().print):
            raise ConfigError(f"{self.name}: process {lease.pid(owner)} is searching here; wait for it, or end it")


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Optuna's storage at an SQLite or PostgreSQL URL, created if it does not exist.

    Raises: ConfigError for a storage that cannot be used, and for a database of another program.
    """
    import optuna
    from sqlalchemy import NullPool, create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError

    setting = f"hydra.sweeper.storage={redacted(url)}"
    if not url.startswith(("sqlite:///", "postgresql://", "postgresql+", "postgres://")):
        raise ConfigError(f"{setting}: not a storage; sqlite:///tuning.db or postgresql://… works")
    try:
        url = resolve(url)
        check_connection(url)
        tables = inspect(create_engine(url, poolclass=NullPool)).get_table_names()
        if tables and "studies" not in tables:
            raise ConfigError(f"{setting}: the database belongs to another program; name one for studies alone")
        return optuna.storages.get_storage(url)
    except ConfigError as error:
        raise ConfigError(str(error).replace("tracking.uri", "hydra.sweeper.storage")) from error
    except (SQLAlchemyError, RuntimeError, ModuleNotFoundError) as error:
        raise ConfigError(f"{setting}: cannot be used: {clean(str(error).strip().splitlines()[0], url)}") from error


def _distribution(dimension: Dimension) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _read(trial: FrozenTrial) -> Trial:
    spent = trial.user_attrs.get("spent", {})
    return Trial(trial.number, trial.params, **{"outcome": "failed", **spent})
