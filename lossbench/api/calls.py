"""Comparisons and runs from Python, with the words, the checks and the records of the command line."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from lossbench.api import contenders, inputs, session
from lossbench.api.comparison import Comparison
from lossbench.api.trained import Trained
from lossbench.config.words import setting
from lossbench.core import ConfigError

Settings = Mapping[str, Any]


def compare(
    data: Any = None,
    y: Any = None,
    *,
    dataset: str | None = None,
    losses: Any = None,
    seeds: int | str | Sequence[int] = 10,
    settings: Settings | None = None,
    quiet: bool = False,
    **of_data: Any,
) -> Comparison:
    """Compare losses on the same data with the same seeds: `compare("my.csv", target="y")`, `compare(X, y)`.

    Data are the path of a table, a DataFrame, or inputs and targets; or `dataset`, a name of the catalogue. `losses`:
    names, dotted paths, functions, classes, modules, or pairs of one and its settings; by default every loss that fits.
    `seeds`: how many, which, or "auto", as many as it takes. `settings`: those of the command line, by dotted name.
    `of_data`: settings of the dataset, such as `target` or `group_on`.

    A call that was interrupted continues when made again. Raises: ConfigError for what cannot work; the error of a run
    where none has a result.
    """
    words = inputs.words(data, y, dataset, of_data)
    return _compared([*words, *_losses(losses), *_seeds(seeds), *_settings(settings)], quiet)


def tune(
    data: Any = None,
    y: Any = None,
    *,
    dataset: str | None = None,
    losses: Any = None,
    trials: int = 20,
    seeds: int | Sequence[int] = 10,
    settings: Settings | None = None,
    quiet: bool = False,
    **of_data: Any,
) -> Comparison:
    """Search the settings of each loss with as many trials, then compare them at their best, as `compare` does.

    The result's `tuning` has the settings that were chosen. Raises: as `compare`.
    """
    words = inputs.words(data, y, dataset, of_data)
    asked = [*words, *_losses(losses), *_seeds(seeds), setting("tune", trials), *_settings(settings)]
    return _compared(asked, quiet)


def train(
    data: Any = None,
    y: Any = None,
    *,
    dataset: str | None = None,
    loss: Any = None,
    seed: int = 0,
    settings: Settings | None = None,
    quiet: bool = False,
    **of_data: Any,
) -> Trained:
    """Train one model with one loss, by default that of the dataset; data and settings are given as to `compare`.

    Raises: ConfigError for what cannot work; the error of the run.
    """
    words = inputs.words(data, y, dataset, of_data)
    chosen = [] if loss is None else contenders.alone(loss)
    result, _, uri = session.trained([*words, *chosen, setting("seed", seed), *_settings(settings)], silent=quiet)
    name = chosen[0].partition("=")[2] if chosen else ""
    metrics = {split: dict(values) for split, values in result.metrics.items()}
    return Trained(result.run_id, result.outcome, metrics, name, inputs.name(data, dataset), str(seed), uri)


def _compared(words: list[str], quiet: bool) -> Comparison:
    report, uri, error = session.compared(words, silent=quiet)
    if error is not None:  # the report counts what failed, and a script may never look at it
        warnings.warn(f"some runs have no result; the first error: {error}", RuntimeWarning, stacklevel=3)
    return Comparison(report, uri)


def _losses(losses: Any) -> list[str]:
    return [] if losses is None else [f"losses={contenders.words(losses)}"]


def _seeds(seeds: Any) -> list[str]:
    if isinstance(seeds, int | str) or not isinstance(seeds, Sequence | range):
        return [setting("seeds", seeds)]
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise ConfigError(f"seeds={list(seeds)}: different whole numbers, 0 or above; or how many, as in seeds=10")
    return [f"seed={','.join(map(str, seeds))}"]


def _settings(settings: Settings | None) -> list[str]:
    return [setting(name, value) for name, value in (settings or {}).items()]
