"""What a fair comparison is asked for: losses, seeds, data, and which settings are searched rather than set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from lossbench.core import ConfigError
from lossbench.sweeps.own import discrete
from lossbench.sweeps.tuning.space import Dimension, choices, interval, searchable


@dataclass(frozen=True)
class Request:
    """The overrides of each comparison; within one comparison, every loss is searched alike.

    `losses` has the overrides that choose each loss, none for the dataset's default; `seeds` are those of the final
    runs; `asked` are the ranges that the command line gives, `fixed` the settings that it sets.
    """

    comparisons: list[list[str]]
    losses: list[list[str]]
    seeds: list[int]
    asked: dict[str, Dimension]
    fixed: set[str]


def read(loader: ConfigLoader, words: Sequence[str], seeds: int) -> Request:
    """Parse the words of a command line; `seeds` is the number of seeds where it names none.

    Raises: ConfigError for a search over seeds or data, for seeds that are not numbers, and for invalid ranges.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    latest = {override.get_key_element(): override for override in parsed}  # the command line comes after a file
    others = [override for key, override in latest.items() if key.lstrip("+~") != "seed"]
    discrete([override for override in others if not isinstance(override.value(), IntervalSweep)])
    wanted, asked, fixed = list(range(seeds)), {}, set()
    losses: list[list[str]] = [[]]
    axes: list[list[str]] = []
    for key, override in latest.items():
        name = key.lstrip("+~")
        if name == "seed":
            wanted = _seeds(override)
        elif name in ("loss", "loss._target_"):
            losses = [[*one, word] for one in losses for word in _words(key, override)]
        elif isinstance(override.value(), IntervalSweep):
            searchable(name)
            asked[name] = _interval(name, override)
        elif override.is_sweep_override() and _searched(name) and len(_values(override)) > 1:
            searchable(name)
            asked[name] = choices(name, _values(override))
        else:
            if override.is_sweep_override() and name == "dataset.seed":
                searchable(name)
            fixed.add(name)
            axes.append(_words(key, override))
    return Request([list(one) for one in product(*axes)], losses, wanted, asked, fixed)


def _searched(name: str) -> bool:
    """Whether several values of a setting are choices for a search rather than separate comparisons."""
    group, _, setting = name.partition(".")
    return group in ("loss", "optimizer") and setting not in ("", "_target_")


def _words(key: str, override: Override) -> list[str]:
    if override.is_delete() or not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _interval(name: str, override: Override) -> Dimension:
    value: Any = override.value()
    return interval(name, value.start, value.end, True if "log" in value.tags else None)


def _values(override: Override) -> list[Any]:
    return [getattr(value, "text", value) for value in override.sweep_iterator()]


def _seeds(override: Override) -> list[int]:
    if isinstance(override.value(), IntervalSweep):
        searchable("seed")
    values: list[Any] = _values(override) if override.is_sweep_override() else [override.value()]
    good = all(isinstance(value, int) and value >= 0 for value in values) and len(set(values)) == len(values)
    if not values or not good:
        raise ConfigError(f"{override.input_line}: the seeds of the final runs are different whole numbers, 0 or above")
    return values
