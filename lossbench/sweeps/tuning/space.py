"""What a search may set: the ranges that stand beside each loss and optimizer, or on the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from omegaconf import DictConfig, OmegaConf

from lossbench.config import catalogue, run_key
from lossbench.config.task_types import chosen
from lossbench.core import ConfigError

WIDE = 20  # from which ratio of its ends on a range is searched by its logarithm
DIGITS = 4  # of a drawn number: enough for any setting, and short on a command line
KEPT = (
    *("seed", "dataset", "model", "loss", "experiment_name", "tracking", "tuning", "search", "hydra"),
    *("train.steps", "train.epochs", "train.eval_every"),  # what a budget is counted in and a score is the best of
)


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, alike likely by their value or by its logarithm.

    Close below 1, where β = .999 is as far from .99 as that from .9, by the logarithm of what is missing to 1.
    """

    low: float
    high: float
    log: bool

    def at(self, share: float) -> float:
        """The number below which this share of the range lies."""
        if self.log:
            return self.rounded(self.low * (self.high / self.low) ** share)
        if self.near_one:
            return self.rounded(1 - (1 - self.low) * ((1 - self.high) / (1 - self.low)) ** share)
        return self.rounded(self.low + share * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """As many digits as a setting needs."""
        scale = value if self.log else 1 - value if self.near_one else self.high - self.low
        digits = DIGITS - 1 - math.floor(math.log10(abs(scale))) if scale else DIGITS
        return min(self.high, max(self.low, round(value, digits)))

    @property
    def near_one(self) -> bool:
        """Whether its ends are close below 1, and unequally far from it."""
        return not self.log and self.low >= 0 and self.high < 1 and (1 - self.low) / (1 - self.high) >= WIDE


@dataclass(frozen=True)
class Choices:
    """A few values, all alike likely."""

    choices: tuple[Any, ...]

    def at(self, share: float) -> Any:
        return self.choices[min(len(self.choices) - 1, int(share * len(self.choices)))]

    def rounded(self, value: Any) -> Any:
        """Itself: nobody but the user chose it."""
        return value


Dimension: TypeAlias = "Range | Choices"
Space: TypeAlias = "Mapping[str, Dimension]"


def interval(name: str, low: Any, high: Any, log: bool | None = None) -> Range:
    """Raises: ConfigError for a range that is empty, the wrong way round or not of finite numbers."""
    said = f"{name}: {_short(low)} to {_short(high)}"
    if not all(
        isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in (low, high)
    ):
        raise ConfigError(f"{said} is no range; two finite numbers make one, as [1e-4, 1e-1]")
    if low >= high:
        raise ConfigError(
            f"{said} is {'an empty range' if low == high else 'an inverted range'}; the lower end comes first"
        )
    log = low > 0 and high / low >= WIDE if log is None else log
    if log and low <= 0:
        raise ConfigError(f"{said} has no logarithm; a range that is searched by it starts above 0")
    return Range(float(low), float(high), log)


def choices(name: str, values: list[Any]) -> Choices:
    """Raises: ConfigError for fewer than two different values, and for values that have parts."""
    whole = [value for value in values if isinstance(value, list | dict)]
    if whole:
        raise ConfigError(f"{name}: {whole[0]} is no choice of a search; numbers, words, true, false and null are")
    if len(set(map(str, values))) < 2:
        raise ConfigError(f"{name}: {values} leaves nothing to search; give two values or a range, or set the one")
    return Choices(tuple(values))


def searchable(name: str) -> None:
    """Raises: ConfigError for a setting that is no part of a search: seeds, data, and what a loss is compared under."""
    if name in ("seed", "dataset.seed"):
        raise ConfigError(
            f"{name}: seeds are no part of a search: it would pick the luckiest; 'seed=range(10)' repeats"
        )
    if name.partition(".")[0] == "dataset":
        raise ConfigError(f"{name}: a search may not change the data; values apart by commas compare on each of them")
    if name in KEPT or name.partition(".")[0] in ("experiment_name", "tracking", "tuning", "hydra"):
        raise ConfigError(
            f"{name}: is no part of a search; learning rates, weight decays and a loss's own parameters are"
        )


def space(cfg: DictConfig, loss: str, asked: Space, fixed: set[str]) -> dict[str, Dimension]:
    """What is searched for one loss: its own ranges and the shared ones, as far as nobody has set them.

    `asked` are ranges of the command line, for whichever loss has such a setting; `fixed` are settings given there.

    Raises: ConfigError for a range of something that cannot be searched, or that the loss does not have.
    """
    known = run_key.flat(cfg)
    shared: Any = OmegaConf.to_container(cfg.search, resolve=True)
    found = dict(_own(cfg))
    for name, given in run_key.leaves(shared).items():
        searchable(name)
        if name not in known:
            if name.startswith("loss."):
                has = ", ".join(k for k in known if k.startswith("loss.") and k != "loss._target_") or "no parameters"
                raise ConfigError(f"search.{name}: loss={loss} has {has}")
            continue  # another optimizer's
        found.pop(name, None)
        if given is not None:
            found[name] = _read(f"search.{name}", given)
            if isinstance(known[name], int | float) and not _numbers(found[name]):
                raise ConfigError(f"search.{name}={given}: {name} is a number, as {known[name]}")
    found |= {name: dimension for name, dimension in asked.items() if name in known}
    return {name: found[name] for name in sorted(found) if name in known and name not in fixed - set(asked)}


def told(dimension: Dimension) -> dict[str, Any]:
    """A dimension as a record has it; `near_one` where it is drawn by the logarithm of what is missing to 1."""
    said = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(dimension).items()}
    return said | ({"near_one": True} if isinstance(dimension, Range) and dimension.near_one else {})


def _own(cfg: DictConfig) -> dict[str, Dimension]:
    """The ranges that stand beside the loss's equation."""
    ranges = catalogue.ranges(catalogue.card_at(cfg.loss._target_), chosen(cfg))
    return {f"loss.{name}": interval(f"loss.{name}", *ends) for name, ends in ranges.items()}


def _read(name: str, given: Any) -> Dimension:
    if not isinstance(given, list):
        raise ConfigError(
            f"{name}={given}: a list: two numbers are the ends of a range, other values are choices; or null"
        )
    if len(given) == 2 and all(isinstance(end, int | float) and not isinstance(end, bool) for end in given):
        return interval(name, *given)
    return choices(name, given)


def _numbers(dimension: Dimension) -> bool:
    values = dimension.choices if isinstance(dimension, Choices) else ()
    return all(value is None or isinstance(value, int | float) for value in values)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
