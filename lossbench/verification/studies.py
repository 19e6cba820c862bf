"""Studies: experiments with gates, trained by the command line and judged from what it recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pandas as pd
from mlflow.entities import Run
from rich.table import Table

from lossbench import tracking
from lossbench.analysis import confidence, records, stats, verdict
from lossbench.analysis.records import Records
from lossbench.analysis.verdict import Verdict
from lossbench.core import ANY, ConfigError, Range, cache_folder
from lossbench.core.recorded_runs import recorded_runs
from lossbench.runs import provenance
from lossbench.verification.claims import number
from lossbench.verification.verify import mark

ALPHA = 0.05


@dataclass(frozen=True)
class Gate:
    """One claim of a study: what is required of a number, the number, and its 95 % interval over seeds."""

    what: str
    required: str
    measured: float
    interval: tuple[float, float]
    holds: bool


@dataclass(frozen=True)
class Evidence:
    """The records of a study, as its gates use them: metrics by their full names, losses by their labels."""

    records: Records

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the study's runs."""
        return verdict.judge(self.records.main)

    @property
    def losses(self) -> list[str]:
        """The contenders: losses, or the settings of one loss."""
        return list(self.verdict.chosen)

    def named(self, *ends: str) -> list[str]:
        """The contenders, settings of one loss, whose labels end with these."""
        return [next(label for label in self.losses if label.endswith(end)) for end in ends]

    def values(self, metric: str) -> pd.DataFrame:
        """A metric, with a row per seed and a column per loss."""
        return verdict.by_seed(self.verdict.runs, metric, self.losses)

    def mean(self, metric: str, loss: str) -> float:
        """The mean of a metric over the seeds of a loss."""
        return float(self.values(metric)[loss].mean())

    def interval(self, metric: str, loss: str) -> tuple[float, float]:
        """The 95 % interval of the mean of a metric over the seeds of a loss."""
        low, high = confidence.intervals(self.values(metric)[[loss]], rng(), {loss: self._range(metric)}).loc[loss]
        return float(low), float(high)

    def differences(self, metric: str, losses: Sequence[str]) -> pd.DataFrame:
        """The differences between these losses, paired by seed, as `stats.differences` gives them."""
        table = stats.differences(self.values(metric)[list(losses)], rng(), higher_is_better=True)
        return stats.within(table, self._range(metric))

    def _range(self, metric: str) -> Range:
        return self.verdict.ranges.get(metric.rpartition("/")[2], ANY)

    def difference(self, metric: str, more: str, less: str) -> pd.Series:
        """The difference `more` − `less`, a row of `differences`."""
        return self.differences(metric, [more, less]).iloc[0]

    def above(self, metric: str, more: str, less: str) -> Gate:
        """The gate that a metric is higher for one loss than for another, by more than chance explains."""
        found = self.difference(metric, more, less)
        split, _, name = metric.partition("/")
        what = f"{name if split == 'test' else f'{name}, last step'}: {more} − {less}"
        ends = float(found["low"]), float(found["high"])
        holds = bool(found["low"] > 0 and found["p"] <= ALPHA)
        return Gate(what, "interval above 0", float(found["difference"]), ends, holds)

    def ordered(self, metric: str, rising: Sequence[str]) -> Iterator[Gate]:
        """A gate for each pair of neighbours in a rising order of losses."""
        for less, more in pairwise(rising):
            yield self.above(metric, more, less)


def rng() -> np.random.Generator:
    """The generator for resampling, always seeded alike: the same records give the same gates."""
    return np.random.default_rng(verdict.STREAM)


Judge: TypeAlias = Callable[[Evidence], Iterator[Gate]]


@dataclass(frozen=True)
class Study:
    """A claim, its source, the published figures if any, and the function that judges its gates from records."""

    name: str
    claim: str
    source: str
    published: str
    judge: Judge

    @property
    def experiment(self) -> str:
        """The name of the study's MLflow experiment and of its file."""
        return f"verification/{self.name}"


@dataclass(frozen=True)
class Judged:
    """A study's gates, and how many seconds its comparison took."""

    study: Study
    gates: list[Gate]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all gates hold."""
        return bool(self.gates) and all(gate.holds for gate in self.gates)


def study(*, source: str, published: str = "") -> Callable[[Judge], Study]:
    """A decorator that turns a judging function into a study with its name; its docstring is the claim."""

    def decorate(judge: Judge) -> Study:
        return Study(judge.__name__, " ".join((judge.__doc__ or "").split()), source, published, judge)

    return decorate


def judged(study: Study, uri: str) -> Judged:
    """The study's gates on its newest comparison with the present code; where there is none, it is trained first.

    Raises: ConfigError where training ended early; the same call continues it.
    """
    store = tracking.Store(uri)
    found = _recorded(study, store)
    if found is None:
        folder = cache_folder() / "verification" / study.name
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "lossbench", f"experiment={study.experiment}"]
        where = os.environ | {
            "MLFLOW_TRACKING_URI": uri
        }  # not on the command line, which every user of the machine can read
        subprocess.run(command, cwd=folder, env=where, stdout=subprocess.DEVNULL, check=False)
        found = _recorded(study, store)
    if found is None:
        raise ConfigError(f"verify --empirical: {study.name} was not trained to its end; the same command continues")
    read = records.read(store.client, found.data.tags["lossbench.comparison"])
    seconds = (found.info.end_time - found.info.start_time) / 1000
    return Judged(study, list(study.judge(Evidence(read))), seconds)


def table(judged: Judged) -> Table:
    """A table with a row per gate, with the claim as its title and the published figures below."""
    study = judged.study
    published = f"; published: {study.published}" if study.published else ""
    took = f"{judged.seconds / 60:.0f} min" if judged.seconds >= 90 else f"{judged.seconds:.0f} s"
    view = Table(
        title=f"{study.name}: {study.claim}",
        title_justify="left",
        caption=f"{study.source}{published}; took {took}",
        caption_justify="left",
    )
    for column in ("what", "required", "measured", "95 % interval", "verdict"):
        view.add_column(column, justify="right" if column in ("measured", "95 % interval") else "left")
    for gate in judged.gates:
        limits = " … ".join(map(number, gate.interval)) if np.isfinite(gate.interval).all() else "–"
        view.add_row(gate.what, gate.required, number(gate.measured), limits, mark(gate.holds))
    return view


def _recorded(study: Study, store: tracking.Store) -> Run | None:
    """The newest finished comparison of the study."""
    experiment = store.client.get_experiment_by_name(study.experiment)
    same = {"lossbench.kind": "comparison", "lossbench.code": provenance.code()}
    if experiment is None:
        return None
    found = recorded_runs(store.client, [experiment.experiment_id], same)
    ended = [run for run in found if run.info.status == "FINISHED"]
    return max(ended, key=lambda run: run.info.start_time, default=None)
