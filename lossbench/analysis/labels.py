"""The names of runs: a loss, a dataset and a seed, with any other settings that were varied."""

from __future__ import annotations

import numpy as np
import pandas as pd

SEED_LIKE = {"seed", "dataset.seed"}
NAMED = {f"{group}._target_" for group in ("loss", "dataset", "model", "optimizer")}  # already named by their groups


def labels(params: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The loss of each run, with the settings that differ between runs of one loss and dataset, seeds aside.

    Settings of the data do not count: runs on other data are runs on another dataset. Nor do the missing settings of a
    run that was killed before it could record them.
    """
    settings = [c for c in params if c not in SEED_LIKE | {"experiment_name", "question", "margin", "loss", "dataset"}]
    settings = [c for c in settings if not c.startswith(("tracking.", "dataset.")) and c not in NAMED]
    table = settings_of(params)[settings].assign(loss=list(runs["loss"]), dataset=list(runs["dataset"]))
    most = table.groupby(["loss", "dataset"])[settings].nunique().max()
    varied = [c for c in settings if most[c] > 1]
    return _named(table, "loss", varied)


def datasets(params: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The dataset of each run, with its settings that differ between runs, seeds aside."""
    settings = [c for c in params if c.startswith("dataset.") and c not in SEED_LIKE | NAMED]
    return _named(settings_of(params)[settings].assign(dataset=list(runs["dataset"])), "dataset", settings)


def seeds(params: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """The seed of each run, with the seed of the data where runs of one seed had several of these."""
    if "dataset.seed" not in params:
        return list(runs["seed"])
    drawn = settings_of(params)["dataset.seed"].to_numpy()
    table = runs[["dataset", "seed"]].assign(data=drawn)
    several = table.groupby(["dataset", "seed"])["data"].nunique().groupby("dataset").max() > 1
    return [
        f"{row.seed}, data {row.data}" if several[row.dataset] and row.data == row.data else row.seed
        for row in table.itertuples()
    ]


def settings_of(params: pd.DataFrame) -> pd.DataFrame:
    """Settings, empty where a run does not have one; missing for a run that was killed before it recorded any."""
    return params.fillna("").where(params.notna().any(axis=1), np.nan)


def _named(table: pd.DataFrame, by: str, settings: list[str]) -> list[str]:
    """The values of a column, each with the settings that vary among its rows."""
    if not settings:
        return [str(value) for value in table[by]]
    names = [str(value) for value in table[by]]
    for places in table.groupby(by).indices.values():
        rows = table.iloc[places]
        for column in [c for c in settings if rows[c].nunique() > 1]:
            title = column.removeprefix(f"{by}.")
            for place, value in zip(places, rows[column], strict=True):
                names[place] += f" {title}={value}" if value == value else ""
    return names
