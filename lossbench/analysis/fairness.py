"""Whether a comparison was fair: what differed between runs beside the loss, and what was mixed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lossbench.analysis.labels import SEED_LIKE, settings_of
from lossbench.analysis.records import Records
from lossbench.core import ConfigError

ALIKE = 1e-3  # of the largest number of a probe: the rounding error between two equal losses
SHOWN = 6  # values of a setting that a remark lists
OURS = (
    "loss",
    "tracking.",
    "experiment_name",
    "question",
    "margin",
    "dataset._target_",
    "model._target_",
    "optimizer._target_",
)


@dataclass(frozen=True)
class Remark:
    """One line on fairness; `concern` where it casts doubt on the comparison."""

    about: str
    text: str
    concern: bool


def refuse_mixed(records: Records) -> None:
    """Raises: ConfigError for several revisions or primary metrics, and for other data or weights under one seed."""
    for mixed in _mixed(records):
        raise ConfigError(
            f"report {records.name}: {mixed}; such runs are not comparable\n"
            "report one comparison, or use --allow-mixed to see them side by side with a warning"
        )


def _mixed(records: Records) -> Iterator[str]:
    """Why runs are not comparable."""
    yield from filter(None, [_revisions(records), *_primaries(records), *_data(records), *_weights(records)])


def _primaries(records: Records) -> Iterator[str]:
    """Runs whose steps and settings were selected by another metric."""
    for dataset, runs in records.runs[records.runs["metrics"].astype(bool)].groupby("dataset", sort=False):
        names = sorted({str(metrics[0][0]) for metrics in runs["metrics"]})
        if len(names) > 1:
            yield f"on {dataset}, the primary metric of some runs is {', of others '.join(names)}"


def remarks(records: Records) -> list[Remark]:
    """Everything that a reader should know before trusting a difference, concerns first."""
    found = [
        *(Remark("mixed", text, True) for text in _mixed(records)),
        *_missing(records),
        *_settings(records),
        *_budgets(records),
        *_twins(records),
        *_repeated(records),
        *_seeds(records),
        *_sampled(records),
        *_recorded(records),
    ]
    return sorted(found, key=lambda remark: not remark.concern)


def _missing(records: Records) -> Iterator[Remark]:
    """Runs that the machine ended, and datasets on which no run was ever built."""
    for dataset, runs in records.runs[~records.runs["repeated"]].groupby("dataset", sort=False):
        lost = runs.loc[runs["outcome"] == "error", "loss"].value_counts()
        if len(lost):
            counts = ", ".join(f"{loss} {count}" for loss, count in lost.items())
            text = f"the machine, not the loss, ended runs on {dataset}, which are missing ({counts})"
            yield Remark("missing", f"{text}; the same command trains them again", True)
        if not any(runs["metrics"]):
            yield Remark("missing", f"no run on {dataset} got as far as its data and its model", True)


def _recorded(records: Records) -> Iterator[Remark]:
    """The remarks that runs recorded."""
    found = records.runs.explode("remarks").dropna(subset="remarks")
    for (loss, text), runs in found.groupby(["loss", "remarks"], sort=False):
        yield Remark("pictures", f"{text} ({loss}, {len(runs)} run{'s' if len(runs) > 1 else ''})", False)


def _revisions(records: Records) -> str:
    codes = sorted(set(records.runs["code"]) - {""})
    return f"{len(codes)} revisions of the code ({', '.join(codes[:3])})" if len(codes) > 1 else ""


def _data(records: Records) -> Iterator[str]:
    for dataset, runs in records.runs.groupby("dataset"):
        known = runs[runs["data"] != ""]
        prints = known.groupby([_setting(records, known, "dataset.seed"), "seed"])["data"].nunique()
        if (prints > 1).any():
            yield f"the data of {dataset} differ between runs of one seed ({prints.max()} fingerprints)"
        sources = sorted(set(runs["source"]) - {""})
        if len(sources) > 1:
            yield f"the data of {dataset} came from {len(sources)} sources ({'; '.join(sources)})"


def paired(records: Records) -> bool:
    """Whether runs of one seed shared their data and their initial weights, as far as the records show."""
    return not any(_data(records)) and not any(_weights(records))


def _weights(records: Records) -> Iterator[str]:
    """Models of one configuration whose initial weights differ under one seed."""
    own = [name for name in records.params if name == "model" or name.startswith("model.")]
    for dataset, runs in records.runs.groupby("dataset"):
        known = runs[runs["weights"] != ""]
        if known.empty:
            continue
        settings = records.params.loc[known["run_id"], own].fillna("").astype(str).to_numpy()
        hashes = known.groupby([np.array([" ".join(row) for row in settings]), "seed"])["weights"].nunique()
        if (hashes > 1).any():
            yield f"the initial weights on {dataset} differ between runs of one seed ({hashes.max()} hashes)"


def _setting(records: Records, runs: pd.DataFrame, name: str) -> pd.Series:
    if name not in records.params:
        return pd.Series("", index=runs.index)
    return pd.Series(records.params[name].reindex(runs["run_id"]).fillna("").to_numpy(), index=runs.index)


def _settings(records: Records) -> Iterator[Remark]:
    """Settings that differ between losses although they are not a loss's own, by dataset."""
    clean = True
    for dataset, runs in records.runs.groupby("dataset", sort=False):
        params = settings_of(records.params.loc[runs["run_id"]])
        names = [c for c in params if not c.startswith(OURS) and c not in SEED_LIKE | {"dataset"}]
        searched = [set(search.space) for search in records.searched(str(dataset))]
        alike = set.intersection(*searched) if searched else set()  # covered by the remarks on the search
        varied = [c for c in names if params[c].nunique() > 1 and c not in alike]
        for name in varied:
            values = (
                params[name].groupby(runs["loss"].to_numpy()).agg(lambda column: frozenset(map(str, column.dropna())))
            )
            values = values[values.map(len) > 0]  # a run that was killed at once has no settings
            if values.nunique() == 1:
                text = f"the setting {name} took {_values(values.iloc[0])} for every loss of {dataset}"
                yield Remark("settings", text, False)
            else:
                clean = False
                by_loss = "; ".join(f"{loss}: {_values(seen)}" for loss, seen in values.items())
                yield Remark(
                    "settings", f"the setting {name} differs between the losses of {dataset} ({by_loss})", True
                )
    if clean:
        but = " and what was searched" if records.searches else ""
        yield Remark("settings", f"apart from the loss{but}, every loss was trained with the same settings", False)


def _values(seen: frozenset[str]) -> str:
    listed = sorted(seen)[:SHOWN]
    return ", ".join(listed) + (f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else "")


def _budgets(records: Records) -> Iterator[Remark]:
    for dataset, runs in records.runs[~records.runs["repeated"]].groupby("dataset", sort=False):
        known = runs[records.params.loc[runs["run_id"]].notna().any(axis=1).to_numpy()]  # not killed at once
        tried = known.groupby("loss", sort=False)["label"].nunique()
        seeds = runs.groupby("loss", sort=False)["seed"].nunique()
        if tried.nunique() > 1:
            counts = ", ".join(f"{loss} {count}" for loss, count in tried.items())
            text = (
                f"losses of {dataset} were tried at different numbers of settings ({counts}), and more settings "
                "give a better best one"
            )
            yield Remark("budget", text, True)
        elif tried.max() > 1 and len(tried) > 1:
            text = (
                f"each loss of {dataset} was tried at {tried.max()} settings; one was chosen on validation and judged "
                "on the test split"
            )
            yield Remark("budget", text, False)
        if seeds.nunique() > 1:
            counts = ", ".join(f"{loss} {count}" for loss, count in seeds.items())
            looked = dataset in records.looks
            why = ", since losses stopped once they were decided" if looked else ""
            text = f"losses of {dataset} were run on different numbers of seeds ({counts}){why}"
            yield Remark("budget", text, not looked)
        if missing := int((runs["seed"] == "").sum()):
            yield Remark(
                "budget", f"{missing} runs on {dataset} record no seed: they count, but cannot be paired", True
            )


def _twins(records: Records) -> Iterator[Remark]:
    """Losses with proportional gradients on the same probe: one loss under two names or two learning rates."""
    own = [c for c in records.params if c == "loss" or (c.startswith("loss.") and not c.endswith("_target_"))]
    probes: dict[tuple[Any, ...], dict[str, str]] = defaultdict(dict)  # by loss and parameters; by data, seed
    names: dict[tuple[Any, ...], str] = {}
    probed = records.runs[records.runs["probe"] != ""]
    parameters = records.params.loc[probed["run_id"], own].fillna("").to_numpy().tolist()
    for row, values in zip(probed.itertuples(), parameters, strict=True):
        key = (row.loss, *values)
        settings = [
            f"{c.removeprefix('loss.')}={v}" for c, v in zip(own, key[1:], strict=True) if c != "loss" and v != ""
        ]
        names[key] = f"{row.loss} ({', '.join(settings)})" if settings else row.loss
        probes[key].setdefault(f"{row.dataset}, {row.seed}", row.probe)
    for a, b in combinations(probes, 2):
        common = next((place for place in probes[a] if place in probes[b]), None)
        factor = _factor(*(np.array(json.loads(probes[key][common])["gradient"]) for key in (a, b))) if common else None
        if factor is not None:
            text = f"one loss under two names, up to a factor: on a probe batch the gradient of {names[b]} is"
            yield Remark("same loss", f"{text} {factor:.4g} times that of {names[a]}", True)


def _factor(a: np.ndarray, b: np.ndarray) -> float | None:
    """The factor between two gradients, if they are proportional; else None."""
    if a.shape != b.shape or not a.any() or not b.any() or not np.isfinite([a, b]).all():
        return None
    factor = float(a @ b / (a @ a))
    return factor if factor > 0 and np.abs(factor * a - b).max() <= ALIKE * np.abs(b).max() else None


def _repeated(records: Records) -> Iterator[Remark]:
    count = int(records.runs["repeated"].sum())
    if count:
        yield Remark(
            "repeated",
            f"{count} runs repeat the settings and seed of a later one, and only the later ones count",
            False,
        )


def _sampled(records: Records) -> Iterator[Remark]:
    """Where it is unknown, or uncertain, whether seeds depend on each other through their data."""
    for dataset, runs in records.runs[~records.runs["repeated"]].groupby("dataset", sort=False):
        built = runs[runs["data"] != ""]
        variations = sorted(set(built["variation"]) - {""})
        if len(built) and not variations and built["data"].nunique() > 1:
            text = f"the records of {dataset} do not say whether its seeds share their data: they are treated as"
            yield Remark("sampling", f"{text} independent, which claims too much where they split one data set", True)
        if len(variations) > 1:
            names = ", ".join(variations)
            text = f"seeds of {dataset} vary their data in several ways ({names}): the most cautious one is assumed"
            yield Remark("sampling", text, True)
        split = built[built["variation"].isin(("resplit", "folds"))]
        if len(split) and not any(split["pool"]):
            text = (
                f"{dataset} does not say where its examples come from: its seeds are assumed to re-split one data set"
            )
            yield Remark("sampling", f"{text}; if they do not, set DatasetInfo.sampling, as in Sampling('fresh')", True)
        if "fixed" in variations and built["data"].nunique() > 1 and not built["follows"].all():
            text = f"dataset.seed of {dataset} varies independently of seed: it is assumed to re-split one data set"
            yield Remark("sampling", text, True)
        if (pools := split["pool"].nunique()) > 1:
            yield Remark("sampling", f"the seeds of {dataset} split {pools} different data sets", True)
        yield from _rounds(records, str(dataset), built[built["variation"] == "folds"])


def _rounds(records: Records, dataset: str, runs: pd.DataFrame) -> Iterator[Remark]:
    """Where seeds are not whole rounds of folds, so that some examples are tested on more often than others."""
    folds = set(_setting(records, runs, "dataset.folds"))
    if len(folds) == 1 and (count := folds.pop()).isdigit() and (seeds := runs["seed"].nunique()) % int(count):
        text = (
            f"{seeds} seeds of {dataset} are not whole rounds of {count} folds: some examples were tested on more often"
        )
        yield Remark("sampling", f"{text} than others", False)


def _seeds(records: Records) -> Iterator[Remark]:
    """What varied from seed to seed, in words."""
    runs, params = records.runs, records.params
    if not len(runs) or runs["seed"].nunique() < 2 or "dataset.seed" not in params:
        return
    data = _setting(records, runs, "dataset.seed")
    same_data = data.groupby(runs["dataset"]).nunique().max() == 1
    prints = runs.groupby(["dataset", "seed"])["data"].first().groupby("dataset").nunique()
    if same_data or (prints == 1).all():
        text = "initial weights, batch order and noise varied from seed to seed; data and split stayed the same"
    else:
        text = "split or data, initial weights, batch order and noise varied together from seed to seed"
    yield Remark("seeds", f"{text}. Under one seed all losses shared them", False)
