"""What each loss's search may cost: trials, optimizer steps or seconds, the same for every loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossbench.core import ConfigError
from lossbench.sweeps.tuning.study import Trial

MOST = 10  # times as many trials as a budget of steps pays for, at most: some may diverge at once
FIRST = 4  # trials before the duration of one is known


@dataclass(frozen=True)
class Budget:
    """An amount of one unit: `trials`, `steps` or `seconds`. `batch`, if set: how many trials are chosen together."""

    unit: str
    amount: int
    batch: int | None

    @staticmethod
    def read(settings: Mapping[str, Any], *, learns: bool) -> Budget:
        """The budget that the sweeper's settings ask for.

        Raises: ConfigError for an amount below one, two units at once, or fewer trials than TPE draws at random first.
        """
        limits = {unit: settings[unit] for unit in ("steps", "seconds") if settings[unit] is not None}
        if len(limits) > 1:
            raise ConfigError(
                f"hydra.sweeper.steps={limits['steps']}: given together with seconds; a budget has one unit"
            )
        unit, amount = next(iter(limits.items()), ("trials", settings["trials"]))
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
        """Raises: ConfigError for a budget of steps that does not pay for the first trials, of `a_trial` steps each."""
        if self.unit == "steps" and self.amount < a_trial * initial:
            wants = f"the {initial} trials that tpe draws before it learns take" if initial > 1 else "one trial takes"
            raise ConfigError(f"hydra.sweeper.steps={self.amount}: {wants} {a_trial * initial}")

    def upto(self, trials: Sequence[Trial], a_trial: int, splits: int = 1) -> int:
        """The number of trials after the next batch, from the trials so far; unchanged where the budget is spent."""
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
            total = max(known, min(total, MOST))  # a loss that fails at once would never spend its budget
        return min(total, (known // self.batch + 1) * self.batch) if self.batch else total

    def left(self, trials: Sequence[Trial]) -> int:
        """The steps that have not been spent."""
        return self.amount - sum(trial.steps for trial in trials)

    @property
    def trials(self) -> int | None:
        """The number of trials, where the budget is counted in trials."""
        return self.amount if self.unit == "trials" else None
