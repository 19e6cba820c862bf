"""What equal tuning did: tuned losses against default settings, the differences that survive, and its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lossbench.analysis import level, stats
from lossbench.analysis.records import Metrics, Records
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import survival, trial_table
from lossbench.analysis.verdict import FINISHED, STREAM, Verdict, judge

if TYPE_CHECKING:
    from mlflow import MlflowClient

NEAR = 1  # per cent of the best score
COMPARED = ("n", "difference", "low", "high", "p")


@dataclass(frozen=True)
class Tuning:
    """The searches on one dataset, their trials, and the verdicts on tuned, default and gradient-matched runs.

    `arms` and `budget` have a row per loss; `after_tuning` says what tuning does to each difference between two losses
    that is significant before or after it; `alike` are the losses whose trials all have the same score.
    """

    dataset: str
    metric: tuple[str, str, str]
    searches: list[Search]
    trials: pd.DataFrame
    verdicts: dict[str, Verdict]
    arms: pd.DataFrame
    budget: pd.DataFrame
    after_tuning: dict[tuple[str, str], str]
    alike: list[str]
    sentence: str

    @property
    def higher_is_better(self) -> bool:
        """Whether higher scores are better; they are the primary metric on validation, whatever the verdict is on."""
        return self.metric[1] == "↑"


def tunings(client: MlflowClient, records: Records, primary: str | None = None) -> dict[str, Tuning]:
    """The analysis of tuning by dataset, where searches were recorded."""
    trials = trial_table.trials(client, records)
    studies = ((dataset, study(part, trials, primary)) for dataset, part in records.by_dataset())
    return {dataset: found for dataset, found in studies if found is not None}


def study(records: Records, trials: pd.DataFrame, primary: str | None = None) -> Tuning | None:
    """The analysis of the searches on one dataset; None without any. `trials` may hold those of other studies."""
    dataset = str(records.runs["dataset"].iloc[0])
    found = records.searched(dataset)
    if not found:
        return None
    trials = trials[trials["study"].isin([search.study for search in found])]
    verdicts = {
        arm: judge(part, primary=primary)
        for arm in ("tuned", "default", "matched")
        if len((part := records.arm(arm)).runs)
    }
    metric = _primary(records.metrics)
    alike = [search.loss for search in found if _all_alike(trials[trials["study"] == search.study])]
    after_tuning = _after_tuning(verdicts)
    return Tuning(
        dataset,
        metric,
        found,
        trials,
        verdicts,
        _arms(found, verdicts, alike),
        _budget(found, trials, verdicts.get("tuned"), metric[1] == "↑"),
        after_tuning,
        alike,
        survival.sentence(found, trials, verdicts, after_tuning, alike),
    )


def _primary(metrics: Metrics) -> tuple[str, str, str]:
    return metrics[0] if metrics else ("score", "↓", "")


def _all_alike(trials: pd.DataFrame) -> bool:
    scores = trials["score"].dropna()
    return len(scores) > 1 and scores.nunique() == 1


def _contender(verdict: Verdict | None, loss: str) -> str | None:
    """The contender that stands for a loss in a verdict, if there is one."""
    names = {} if verdict is None else dict(zip(verdict.runs["loss"], verdict.runs["contender"], strict=True))
    return names.get(loss)


def _arms(found: Sequence[Search], verdicts: dict[str, Verdict], alike: Sequence[str]) -> pd.DataFrame:
    """A row per loss: each arm's mean, interval, failures and rank, and tuned − default with Holm's p over losses."""
    rows = []
    for search in found:
        row: dict[str, Any] = {"loss": search.loss, "alike": search.loss in alike}
        for arm in ("default", "tuned", "matched"):
            row |= _arm(verdicts.get(arm), search.loss, arm)
        rows.append(row | _gain(verdicts, search.loss))
    table = pd.DataFrame(rows)
    table["p_holm"] = np.nan
    tested = table["p"].notna()
    if tested.any():
        table.loc[tested, "p_holm"] = stats.holm(table.loc[tested, "p"].to_numpy(float))
    return table


def _arm(verdict: Verdict | None, loss: str, arm: str) -> dict[str, Any]:
    name = _contender(verdict, loss)
    if verdict is None or name is None:
        return {arm: np.nan, f"{arm} low": np.nan, f"{arm} high": np.nan, f"{arm} failures": 0, f"{arm} rank": np.nan}
    board, main = verdict.leaderboard.set_index("loss"), verdict.metric[0]
    row, ranks = board.loc[name], board[main].rank(ascending=not verdict.higher_is_better)
    ends = {f"{arm}{end}": row[f"{main}{end}"] for end in ("", " low", " high")}
    return {**ends, f"{arm} failures": row["failures"], f"{arm} rank": ranks[name]}


def _gain(verdicts: dict[str, Verdict], loss: str) -> dict[str, Any]:
    """Tuned − default of one loss, paired by seed."""
    columns = {}
    for arm in ("tuned", "default"):
        name = _contender(verdicts.get(arm), loss)
        if name is None:
            return {"n": 0} | dict.fromkeys(COMPARED[1:], np.nan)
        columns[arm] = verdicts[arm].values[name]
    values = pd.DataFrame(columns).rename_axis(index="seed", columns="loss")
    higher = verdicts["tuned"].higher_is_better
    table = stats.differences(values, np.random.default_rng(STREAM), higher_is_better=higher)
    found = stats.within(table, verdicts["tuned"].range).iloc[0]
    return {name: found[name] for name in COMPARED}


def _after_tuning(verdicts: dict[str, Verdict]) -> dict[tuple[str, str], str]:
    """Whether each difference that is significant in either arm survives, vanishes, reverses or appears."""
    if not {"tuned", "default"} <= set(verdicts):
        return {}
    tuned, default = verdicts["tuned"], verdicts["default"]
    found = {}
    for a, b in combinations([loss for loss in default.values if loss in tuned.values], 2):
        before, after = (_sign(verdict.difference(a, b)) for verdict in (default, tuned))
        if before and after:
            found[a, b] = "survives" if before == after else "reverses"
        elif before or after:
            found[a, b] = "vanishes" if before else "appears"
    return found


def _sign(row: pd.Series) -> int:
    """The sign of a difference; 0 where it is not significant after correction."""
    return int(np.sign(row["difference"])) if row["p_all"] <= level.ALPHA else 0


def _budget(found: Sequence[Search], trials: pd.DataFrame, tuned: Verdict | None, higher: bool) -> pd.DataFrame:
    """A row per loss: parameters searched, cost, best score, and the share of trials that were nearly as good."""
    sign = -1 if higher else 1
    best = (sign * trials["score"]).min()
    rows = []
    for search in found:
        own = trials[trials["study"] == search.study]
        error = sign * trial_table.counted(own)["score"]
        shares = [float((error <= at + abs(at) * NEAR / 100).mean()) for at in (error.min(), best)]
        fresh = math.nan
        if tuned is not None:
            those = tuned.runs[(tuned.runs["loss"] == search.loss) & (tuned.runs["outcome"] == FINISHED)]
            fresh = float(those["objective"].mean())
        outcomes = own["outcome"].value_counts()
        rows.append(
            {
                "loss": search.loss,
                "sampler": search.sampler,
                "own parameters": len(set(search.own) & set(search.space)),
                "parameters": len(search.space),
                "trials": len(error),
                "outcomes": ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()),
                "steps": float(own["steps"].sum()),
                "seconds": float(own["seconds"].sum()),
                "near its best": shares[0] if len(error) else math.nan,
                "near the best": shares[1] if len(error) else math.nan,
                "best score": sign * error.min(),
                "fresh score": fresh,
            }
        )
    return pd.DataFrame(rows)
