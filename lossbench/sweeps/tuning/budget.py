"""What each loss's search may cost: trials, optimizer steps or seconds, the same for every loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench.core import ConfigError
from lossbench.sweeps.tuning.study import Trial

MOST = 10  # times the trials that a budget of steps pays for: some may diverge at once
FIRST = 4  # trials until it is known how many seconds one takes


@dataclass(frozen=True)
class Budget:
    """An amount of one unit: `trials`, `steps` or `seconds`. `batch` is how many trials are chosen together, if set."""

    unit: str
    amount: int
    batch: int | None

    @staticmethod
    def read(settings: Mapping[str, Any], *, learns: bool) -> Budget:
        """Raises: ConfigError for an amount below one, two units at once, or fewer trials than TPE draws at first."""
        given = {unit: settings[unit] for unit in ("steps", "seconds") if settings[unit] is not None}
        if len(given) > 1:
            raise ConfigError(f"hydra.sweeper.steps={given['steps']}: and seconds; a budget has one unit")
        unit, amount = next(iter(given.items()), ("trials", settings["trials"]))
        for name, value in ((unit, amount), ("batch", 1 if settings["batch"] is None else settings["batch"])):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"hydra.sweeper.{name}={value}: a whole number, at least 1")
        if learns and unit == "trials" and amount < settings["initial"]:
            raise ConfigError(
                f"hydra.sweeper.trials={amount}: fewer than the {settings['initial']} that tpe draws before it learns; "
                "more trials, fewer hydra.sweeper.initial, or sampler=random"
            )
        return Budget(unit, amount, settings["batch"] or (5 if learns else None))

    def affords(self, a_trial: int, initial: int) -> None:
        """Raises: ConfigError for steps that do not pay for the first trials, each of `a_trial` steps."""
        if self.unit == "steps" and self.amount < a_trial * initial:
            wants = f"the {initial} trials that tpe draws before it learns take" if initial > 1 else "one trial takes"
            raise ConfigError(f"hydra.sweeper.steps={self.amount}: {wants} {a_trial * initial}")

    def upto(self, trials: Sequence[Trial], a_trial: int, splits: int = 1) -> int:
        """How many trials there are after the next batch, given those that are known; no more, where it is spent."""
        known = len(trials)
        if self.unit == "trials":
            total = self.amount
        elif self.unit == "steps":
            left = self.left(trials)
            total = min(known + (left // a_trial or int(left >= splits)), MOST * -(-self.amount // a_trial))
        else:
            spent = sum(trial.seconds for trial in trials)
            mean = spent / known if spent else self.amount / FIRST
            total = known + max(int((self.amount - spent) / mean), int(spent < self.amount))
        if self.unit != "trials" and not any(trial.scored for trial in trials):
            total = max(known, min(total, MOST))  # a loss that fails at once costs next to nothing, for ever
        return min(total, (known // self.batch + 1) * self.batch) if self.batch else total

    def left(self, trials: Sequence[Trial]) -> int:
        """Steps that are not spent yet."""
        return self.amount - sum(trial.steps for trial in trials)

    @property
    def trials(self) -> int | None:
        return self.amount if self.unit == "trials" else None
