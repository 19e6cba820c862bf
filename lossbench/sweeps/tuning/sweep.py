"""A fair comparison: the same search for every loss, its best setting on fresh paired seeds, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig

from lossbench import terminal
from lossbench.config.redaction import redacted
from lossbench.core import ConfigError
from lossbench.sweeps import comparison, concluding
from lossbench.sweeps.returns import raise_first
from lossbench.sweeps.stacks import Datasets
from lossbench.sweeps.tuning import halving, matching, request
from lossbench.sweeps.tuning.budget import Budget
from lossbench.sweeps.tuning.searches import Search, prepared
from lossbench.sweeps.tuning.searching import Searching, words
from lossbench.tracking import Store


def sweep(
    launcher: Any, context: HydraContext, config: DictConfig, settings: Mapping[str, Any], arguments: Sequence[str]
) -> list[JobReturn]:
    """Search, then train the arms: tuned, default and, if asked for, matched. Hydra's callback concludes.

    Raises: ConfigError before any training. KeyboardInterrupt after Ctrl-C: the same command continues.
    """
    setup_globals()
    budget = Budget.read(settings, learns=settings["sampler"] == "tpe")
    halving.check(settings["pruning"])
    studied = [f"{key}={value}" for key, value in settings["params"].items()]
    asked = request.read(context.config_loader, [*studied, *arguments], settings["seeds"])
    datasets = Datasets()
    with ThreadPoolExecutor(1) as beside:  # opening a store takes as long as loading torch and the data
        opening = beside.submit(comparison.open_store, config)
        searches = prepared(context, config, asked, budget, settings, datasets)
        if settings["matched"]:
            matching.check(searches)
        if hasattr(launcher, "engine"):
            launcher.engine.check([search.cfg for search in searches])
        _refuse_elsewhere(searches, opening.result())
    with terminal.board() as board:
        if hasattr(launcher, "search"):
            launcher.search = (datasets, board)
        try:
            comparison.begin(config, searches[0].job.hydra, searches[0].cfg)
            searching = Searching(launcher, context, config, budget, settings["pruning"], board)
            final = _final(searches, asked.seeds, settings)
            board.expect(*final)
            searching.spend(searches)
            comparison.note({f"lossbench.search.{s.study.name}": _record(s, budget) for s in searches})
            arms = _arms(searches, budget, settings, datasets)
            returns = searching.launch(_runs(searches, asked.seeds, arms), final[1])
        except KeyboardInterrupt:
            concluding.conclude("KILLED")
            raise
    if any(returned.status is JobStatus.FAILED for returned in returns):
        concluding.conclude("FAILED")
        raise_first(returns)
    return returns


def _refuse_elsewhere(searches: Sequence[Search], store: Store) -> None:
    """Raises: ConfigError where the storage has trials that are recorded in another store."""
    for search in searches:
        numbers = {str(trial.number) for trial in search.study.trials if trial.outcome != "failed"}
        if numbers:
            found = store.find({"lossbench.kind": "trial", "lossbench.study": search.study.name})
            if numbers - {record.data.tags["lossbench.trial"] for record in found}:
                raise ConfigError(
                    f"hydra.sweeper.storage: has trials of {search.names.loss} that are not recorded in "
                    f"tracking.uri={redacted(store.uri)}\nname the store that they are in, or another storage"
                )


def _final(searches: Sequence[Search], seeds: Sequence[int], settings: Mapping[str, Any]) -> tuple[int, int]:
    """The number of runs after the search and of their steps, which are known before their settings."""
    arms = 1 + bool(settings["at_defaults"] or settings["matched"]) + bool(settings["matched"])
    return arms * len(searches) * len(seeds), arms * sum(search.cfg.train.steps for search in searches) * len(seeds)


Arms: TypeAlias = "dict[str, dict[str, Mapping[str, Any]]]"
"""The settings of each arm, by study."""


def _arms(searches: Sequence[Search], budget: Budget, settings: Mapping[str, Any], datasets: Datasets) -> Arms:
    """The settings of every loss in each arm: its best setting, its default settings, and a matched learning rate."""
    best = {search.study.name: search.study.best(budget.trials) for search in searches}
    chosen = {name: trial.settings if trial else {} for name, trial in best.items()}
    arms: Arms = {"tuned": chosen}
    if settings["at_defaults"] or settings["matched"]:
        arms["default"] = {name: {} for name in chosen}
    if settings["matched"]:
        rates = matching.rates(searches, datasets)
        arms["matched"] = {name: {"optimizer.lr": rate} for name, rate in rates.items()}
    return arms


def _runs(searches: Sequence[Search], seeds: Sequence[int], arms: Arms) -> list[list[str]]:
    return [
        [
            *search.overrides("final"),
            f"tuning.arm={arm}",
            f"tuning.study={search.study.name}",
            *words(settings[search.study.name]),
            f"seed={seed}",
        ]
        for arm, settings in arms.items()
        for search in searches
        if search.study.name in settings
        for seed in seeds
    ]


def _record(search: Search, budget: Budget) -> str:
    """What a report needs to know of a search beside its trials, as JSON."""
    best = search.study.best(budget.trials)
    return json.dumps(
        {
            "study": search.study.name,
            "loss": search.names.loss,
            "dataset": search.names.dataset,
            "budget": {budget.unit: budget.amount},
            **search.asked,
            "own": [name for name in search.space if name.startswith("loss.")],
            "chosen": best.number if best else None,
            "settings": dict(best.settings) if best else {},
            "words": [*map(redacted, search.words)],
        }
    )
