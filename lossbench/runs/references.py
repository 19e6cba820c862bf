"""References beside the losses of a comparison on a table: predictions that no loss trained, on the same splits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lossbench import tracking
from lossbench.config import redaction, run_key
from lossbench.config.settings import Settings
from lossbench.config.task_types import TASKS, chosen, load
from lossbench.core import Splits, failures, finite, weight_argument
from lossbench.runs import provenance
from lossbench.runs.identity import TRIAL
from lossbench.runs.reference_predictions import PREDICTED
from lossbench.runs.run import Run
from lossbench.runs.signals import interruptible

if TYPE_CHECKING:
    pass

KIND = "reference"  # of their records
ROWS = 1_000_000  # training rows, summed over the seeds that have references; one seed always has

PARTS = ("dataset.", "task.")  # settings on which they depend, beside the seed

Build = Callable[[DictConfig], Splits]


@dataclass(frozen=True)
class Place:
    """A dataset under one seed, by a run on it; `group` is the same for all seeds of a dataset."""

    run: Run
    group: str

    @property
    def seed(self) -> int:
        """The seed of its runs."""
        return int(self.run.settings["seed"])

    def key(self, name: str) -> str:
        """A hash of what decides a reference's numbers."""
        settings = {k: v for k, v in self.run.settings.flat().items() if k == "seed" or k.startswith(PARTS)}
        return run_key.digest(run_key.deciding(settings), name)


def record(runs: Sequence[Run], build: Build, is_table: Callable[[DictConfig], bool]) -> str:
    """Record the references for the datasets of these runs that are tables, unless the comparison has them already.

    Nothing is recorded where no run on a dataset has finished. An error of a reference is part of its record, and any
    other is returned in a line: the comparison goes on.
    """
    try:
        with interruptible():
            if places := _on_tables(_places(runs), is_table):
                _record(places, build)
    except Exception as error:  # a store may be away, a foreign dataset may fail
        return f"references are missing: {failures.one_line(error)}"
    return ""


def _on_tables(places: Iterator[Place], is_table: Callable[[DictConfig], bool]) -> list[Place]:
    known: dict[str, bool] = {}  # whatever the seed
    found = []
    for place in places:
        if place.group not in known:
            cfg = place.run.settings.made()
            known[place.group] = bool(load(chosen(cfg)).estimator and is_table(cfg))
        if known[place.group]:
            found.append(place)
    return found


def _places(runs: Sequence[Run]) -> Iterator[Place]:
    """Each dataset of a comparison under each seed, in the order of seeds."""
    groups: dict[str, dict[int, Run]] = {}
    done: set[str] = set()
    for run in runs:
        if not run.comparison or run.identity.kind == TRIAL:
            continue
        group = _group(run.settings)
        groups.setdefault(group, {}).setdefault(int(run.settings["seed"]), run)
        if run.outcome == "finished":
            done.add(group)
    for group in done:
        for _, run in sorted(groups[group].items()):
            yield Place(run, group)


def _group(settings: Settings) -> str:
    deciding = {k: v for k, v in settings.flat().items() if k.startswith(PARTS) and k != "dataset.seed"}
    return json.dumps(deciding, sort_keys=True, default=str)


def _record(places: Sequence[Place], build: Build) -> None:
    store, comparison = places[0].run.store(), places[0].run.comparison
    tags = {"lossbench.comparison": comparison, "lossbench.kind": KIND}
    known = {found.data.tags.get("lossbench.key") for found in store.find(tags) if found.info.status != "RUNNING"}
    seen: dict[str, list[int]] = {}
    for place in places:
        before = seen.setdefault(place.group, [])
        missing = [name for name in PREDICTED if place.key(name) not in known]
        if missing and _enough(before):
            continue
        splits = build(place.run.cfg) if missing or not before else None
        before.append(len(splits.train) if splits is not None else before[-1])
        for name in missing:
            assert splits is not None
            _one(name, place, splits, store)


def _enough(rows: Sequence[int]) -> bool:
    """Whether the seeds that have references, with so many training rows each, are as many as may be."""
    return bool(rows) and len(rows) >= max(1, ROWS // max(1, rows[0]))


def _one(name: str, place: Place, splits: Splits, store: tracking.Store) -> None:
    """Compute a reference and record it. Raises: KeyboardInterrupt; what it interrupted is computed again."""
    measured: dict[str, float] = {}
    error = ""
    try:
        with interruptible():
            task, measured = _measured(name, place.run.cfg, splits)
            tags = {
                "lossbench.metrics": json.dumps([[y.name, y.arrow, y.unit] for y in task.metrics]),
                "lossbench.ranges": json.dumps({y.name: finite(y.range) for y in task.metrics}),
            }
    except Exception as failure:  # scikit-learn and foreign metrics raise anything
        error, tags = redaction.clean(failures.one_line(failure), place.run.uri)[:500], {}
    run = place.run
    recorder = store.start(run.settings["experiment_name"], f"{name} seed={place.seed}", _tags(name, place))
    try:
        params = run.identity.params()
        own = {key: value for key, value in params.items() if key.startswith(("dataset", "task.", "seed"))}
        recorder.params({"loss": name, **own})
        recorder.data(splits.info)
        recorder.metrics(0, measured)
        outcome = (
            {"lossbench.outcome": "failed", "lossbench.error": error} if error else {"lossbench.outcome": "finished"}
        )
        recorder.tags({**tags, **outcome, "lossbench.data": splits.info.fingerprint})
        recorder.end("FAILED" if error else "FINISHED")
    except BaseException:
        recorder.end_early("KILLED", {"lossbench.outcome": "killed"})
        raise


def _tags(name: str, place: Place) -> dict[str, str]:
    names = place.run.names
    return {
        "lossbench.kind": KIND,
        "lossbench.comparison": place.run.comparison,
        "lossbench.key": place.key(name),
        "lossbench.code": provenance.code(),
        "mlflow.source.name": "lossbench",
        "loss": name,
        "dataset": names.dataset,
        "seed": str(place.seed),
    }


def _measured(name: str, cfg: DictConfig, splits: Splits) -> tuple[Any, dict[str, float]]:
    """The task, and what is recorded: its report on test, calibrated on validation, and the seconds of fitting."""
    import torch

    from lossbench.engine.randomness import seeded
    from lossbench.runs import builders
    from lossbench.runs.features import Features

    task_type = chosen(cfg)
    info = replace(splits.info, task_type=task_type) if task_type not in TASKS else splits.info
    splits = replace(splits, info=info)
    settings: Any = OmegaConf.to_container(cfg.task, resolve=True)
    task: Any = builders.task(task_type, builders.no_loss, info, settings, Features(splits, torch.device("cpu")))
    with seeded(int(cfg.seed), "reference"):  # a metric of somebody's own may draw from the global streams
        since = time.perf_counter()
        validation, test = PREDICTED[name](load(task_type), splits, int(cfg.seed))
        seconds = time.perf_counter() - since
        calibration = task.calibrate(
            validation, splits.validation.targets, **weight_argument(splits.validation.weights)
        )
        report = task.report(test, splits.test.targets, calibration, **weight_argument(splits.test.weights))
    return task, {**{f"test/{metric}": value for metric, value in report.items()}, "time/train_s": seconds}
