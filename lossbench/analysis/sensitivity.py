"""How much a swept setting matters: the metric over it, and the share of the settings nearly as good as the best."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lossbench.analysis import confidence
from lossbench.analysis.fairness import OURS
from lossbench.analysis.labels import SEED_LIKE
from lossbench.analysis.records import Records
from lossbench.analysis.verdict import FINISHED, STREAM, Verdict

NEAR = 5  # per cent of the best


def swept(records: Records) -> list[str]:
    """The settings that took several values for one loss, seeds aside."""
    params = records.params.fillna("")
    loss = records.runs.set_index("run_id")["loss"].reindex(params.index)
    own = [c for c in params if not c.startswith(("dataset", *(o for o in OURS if o != "loss"))) and c != "loss"]
    varied = params[own].groupby(loss).nunique().max() > 1
    return [c for c in own if varied[c] and c not in SEED_LIKE | {"dataset"} and not c.endswith("_target_")]


def over(records: Records, verdict: Verdict, parameter: str) -> pd.DataFrame:
    """The test metric of each loss at each value of a setting: loss, value, mean, low, high.

    Where other settings were swept as well, at those that were chosen on validation for this value.
    """
    runs = records.runs[(records.runs["outcome"] == FINISHED) & ~records.runs["repeated"]]
    runs = runs.assign(value=records.params[parameter].reindex(runs["run_id"]).to_numpy()).dropna(subset=["value"])
    sign = 1 if verdict.metrics[0][1] == "↑" else -1
    rows, known = [], {}
    for (loss, value), group in runs.groupby(["loss", "value"], sort=False):
        by_label = sign * group.groupby("label", sort=False)["objective"].mean()
        seen = group[group["label"] == by_label.index[int(np.nanargmax(by_label.fillna(-np.inf)))]]
        test = seen[f"test/{verdict.metric[0]}"].reset_index(drop=True)
        known[loss, value] = test
        rows.append({"loss": loss, "value": value, "mean": test.mean()})
    if not rows:
        return pd.DataFrame(columns=["loss", "value", "mean", "low", "high"])
    ranges = dict.fromkeys(known, verdict.range)
    limits = confidence.intervals(pd.DataFrame(known).rename_axis("seed"), np.random.default_rng(STREAM), ranges)
    return pd.DataFrame(rows).merge(limits, left_on=["loss", "value"], right_index=True)


def over_data(records: Records, verdicts: list[Verdict]) -> dict[str, pd.DataFrame]:
    """The metric over each setting of the data that was swept, in the form of `over`, from the verdicts' means."""
    params = records.params.fillna("")
    names = [c for c in params if c.startswith("dataset.") and c not in SEED_LIKE and not c.endswith("_target_")]
    found = {}
    for name in (c for c in names if params[c].nunique() > 1):
        rows = []
        for one in verdicts:
            values = set(params.loc[one.runs["run_id"], name])
            y = one.metric[0]
            if len(values) == 1:
                board = one.leaderboard.rename(columns={y: "mean", f"{y} low": "low", f"{y} high": "high"})
                rows.append(board[["loss", "mean", "low", "high"]].assign(value=values.pop()))
        table = pd.concat(rows, ignore_index=True).dropna(subset=["mean"]) if rows else pd.DataFrame()
        if (
            len(table) and not table.duplicated(["loss", "value"]).any()
        ):  # settings swept together do not form a single line
            found[name] = table
    return found


def near_best(verdict: Verdict, losses: pd.Series) -> pd.DataFrame:
    """For each loss: settings tried, and the share of them within 5 % of its own best and of the best of all.

    `losses` maps a label to its loss. A setting without a test value is near neither.
    """
    board = verdict.settings.set_index("loss")[verdict.metric[0]]
    sign = -1 if verdict.higher_is_better else 1
    best = (sign * board).min()
    rows = []
    for loss, group in board.groupby(losses.reindex(board.index), sort=False):
        error = sign * group
        own = error.min()
        shares = [(error <= at + abs(at) * NEAR / 100).sum() / len(error) for at in (own, best)]
        rows.append((loss, len(error), *shares))
    return pd.DataFrame(rows, columns=["loss", "settings", "near its best", "near the best"])
