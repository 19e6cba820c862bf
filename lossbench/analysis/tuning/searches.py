"""What comparisons tell of the searches that chose their settings, and the trials that these searches made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from lossbench.analysis.records import Records

TAG = "lossbench.search."
RANDOM = "random"  # the sampler whose trials are independent of each other
BLAMED = ("diverged", "failed", "collapsed")
SCORED = ("pruned", "cut", "finished")
WORST = (*BLAMED, "killed", "error", "running", *SCORED)  # of several data splits, the outcome that is told
COLUMNS = ("study", "loss", "dataset", "number", "outcome", "score", "steps", "seconds", "runs", "seeds", "colour")


@dataclass(frozen=True)
class Search:
    """The search for one loss's settings on one dataset, as its comparison tells of it; `words` are what was typed."""

    study: str
    loss: str
    dataset: str
    sampler: str = RANDOM
    budget: Mapping[str, float] = field(default_factory=dict)
    splits: int = 1
    pruning: float | None = None
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    chosen: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def independent(self) -> bool:
        """Whether its trials are independent draws, each trained as long as the others: what a band needs."""
        return self.sampler == RANDOM and not self.pruning

    def place(self, parameter: str) -> float | None:
        """Where the chosen value lies in its range on the range's scale, from 0 to 1; None where it has no ends."""
        limits, value = self.space.get(parameter, {}), self.settings.get(parameter)
        if "low" not in limits or not isinstance(value, (int, float)):
            return None
        ends = (limits["low"], limits["high"], value)
        if limits.get("near_one"):
            low, high, at = (-math.log(1 - x) for x in ends)
        else:
            low, high, at = (math.log(x) if limits.get("log") else float(x) for x in ends)
        return (at - low) / (high - low) if high > low else None


def told(comparisons: Iterable[Run]) -> dict[str, Search]:
    """The searches that comparisons tell of, by study; of several that tell of one, the last."""
    found = {}
    for comparison in comparisons:
        for key, text in comparison.data.tags.items():
            if key.startswith(TAG):
                said = {name: value for name, value in json.loads(text).items() if name in Search.__dataclass_fields__}
                said |= {name: tuple(said.get(name) or ()) for name in ("own", "words")}
                found[said["study"]] = Search(**said)
    return found


def trials(client: MlflowClient, records: Records) -> pd.DataFrame:
    """Every trial of the searches of these records, whichever comparison made it: a row a trial, as `COLUMNS`.

    `score` is the mean of its data splits on validation; none where one of them failed, or is not there yet. Beside
    the columns, the values of all parameters that were searched, under their names.
    """
    from lossbench.analysis import records as reading

    everywhere = [experiment.experiment_id for experiment in client.search_experiments()] if records.searches else []
    parts = [
        table(search, reading.search(client, everywhere, {"lossbench.kind": "trial", "lossbench.study": study}))
        for study, search in records.searches.items()
    ]
    most = [search.budget.get("trials", math.inf) for search in records.searches.values()]
    # an earlier call may have had a larger budget
    parts = [part[part["number"] < limit] for part, limit in zip(parts, most, strict=True) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def table(search: Search, runs: Iterable[Run]) -> pd.DataFrame:
    """The trials of one search, by number; of a trial that was repeated on one seed, the newest."""
    newest: dict[tuple[int, str], Run] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        newest[int(run.data.tags["lossbench.trial"]), run.data.tags.get("seed", "")] = run
    by_number: dict[int, list[Run]] = {}
    for (number, _), run in sorted(newest.items(), key=lambda entry: entry[0]):
        by_number.setdefault(number, []).append(run)
    return pd.DataFrame([_trial(search, number, splits) for number, splits in by_number.items()])


def _trial(search: Search, number: int, splits: Sequence[Run]) -> dict[str, Any]:
    """One row, from the runs of a trial on its data splits."""
    from lossbench.analysis import records as reading

    rows = [reading.row(run) for run in splits]
    outcome = min((row["outcome"] for row in rows), key=lambda o: WORST.index(o) if o in WORST else 0)
    complete = outcome in SCORED and len(rows) >= search.splits
    score = float(np.mean([row["objective"] for row in rows])) if complete else math.nan
    return {
        "study": search.study,
        "loss": search.loss,
        "dataset": search.dataset,
        "number": number,
        "outcome": outcome if complete or outcome not in SCORED else "running",
        "score": score if math.isfinite(score) else math.nan,
        "steps": sum(reading.number(run.data.tags.get("lossbench.steps", "0")) for run in splits),
        "seconds": sum(run.data.metrics.get("time/train_s", 0.0) for run in splits),
        "runs": len(rows),
        "seeds": " ".join(str(row["seed"]) for row in rows),
        "colour": rows[0]["colour"],
        **{name: _value(splits[-1].data.params.get(name)) for name in search.space},
    }


def counted(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that the budget is made of: those with a score, and those that the loss is to blame for."""
    return trials[trials["score"].notna() | trials["outcome"].isin(BLAMED)]


def scores(trials: pd.DataFrame, higher_is_better: bool) -> pd.Series:
    """Scores of the trials that count, failed ones as the worst there is."""
    return counted(trials)["score"].fillna(-np.inf if higher_is_better else np.inf)


def _value(text: str | None) -> Any:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text
