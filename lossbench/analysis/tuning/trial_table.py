"""The trials of searches, from the records of their runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench.analysis import records as reading
from lossbench.analysis.records import Records
from lossbench.analysis.searches import BLAMED, Search
from lossbench.core.recorded_runs import recorded_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


SCORED = ("pruned", "cut", "finished")
WORST = (
    *BLAMED,
    "killed",
    "error",
    "running",
    *SCORED,
)  # over several data splits, the first of these that occurs is the trial's outcome
COLUMNS = ("study", "loss", "dataset", "number", "outcome", "score", "steps", "seconds", "runs", "seeds", "colour")


def trials(client: MlflowClient, records: Records) -> pd.DataFrame:
    """Every trial of the searches in these records, from whichever comparison: a row per trial, with `COLUMNS`.

    `score` is the mean over its data splits on validation; missing where one of them failed or has not ended. Further
    columns have the values of all searched parameters, under their names.
    """
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()] if records.searches else []
    parts = [
        table(search, recorded_runs(client, everywhere, {"lossbench.kind": "trial", "lossbench.study": study}))
        for study, search in records.searches.items()
    ]
    most = [search.budget.get("trials", math.inf) for search in records.searches.values()]
    # an earlier call may have had a larger budget
    parts = [part[part["number"] < limit] for part, limit in zip(parts, most, strict=True) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def table(search: Search, runs: Iterable[Run]) -> pd.DataFrame:
    """The trials of one search, by number; where a trial was repeated on a seed, the newest run counts."""
    newest: dict[tuple[int, str], Run] = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        newest[int(run.data.tags["lossbench.trial"]), run.data.tags.get("seed", "")] = run
    by_number: dict[int, list[Run]] = {}
    for (number, _), run in sorted(newest.items(), key=lambda entry: entry[0]):
        by_number.setdefault(number, []).append(run)
    return pd.DataFrame([_trial(search, number, splits) for number, splits in by_number.items()])


def _trial(search: Search, number: int, splits: Sequence[Run]) -> dict[str, Any]:
    """One row, from the runs of a trial on its data splits."""
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
    """The trials that count towards the budget: those with a score, and failures that the loss is to blame for."""
    return trials[trials["score"].notna() | trials["outcome"].isin(BLAMED)]


def scores(trials: pd.DataFrame, higher_is_better: bool) -> pd.Series:
    """The scores of the trials that count, failed ones as infinitely bad."""
    return counted(trials)["score"].fillna(-np.inf if higher_is_better else np.inf)


def _value(text: str | None) -> Any:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return text
