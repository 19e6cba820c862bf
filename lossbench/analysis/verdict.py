"""The verdict on one dataset: from its records to what may be claimed about its losses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lossbench.analysis import confidence, fairness, level, looks, references, stats
from lossbench.analysis.looks import Look
from lossbench.analysis.population import Population, population
from lossbench.analysis.records import FAILED, Metrics, Ranges, Records
from lossbench.core import ANY, ConfigError, Range

FINISHED = "finished"
COSTS = {"time/step_ms": "ms a step", "time/train_s": "training, s", "memory/peak_mb": "peak memory, MB"}
SLIGHT = 0.01  # of the baseline's mean: the default margin
STREAM = 20261122  # the seed of resampling: the same records give the same report


@dataclass(frozen=True)
class Verdict:
    """What the runs on one dataset show.

    `chosen` maps each contender to its label among the runs: where a loss was run at several settings, the best one on
    validation. `values` are the test values of the metric, a row per seed, a column per contender, missing where a run
    has none; `failed` marks those that the loss is to blame for; `ranks` count these as last. `leaderboard` has a row
    per contender, `settings` one per label; `differences` are `stats.differences` of `values`, `ranked` of `ranks`.
    `paired`: runs of one seed shared data and initial weights. `best` are the contenders that are not distinguishable
    from the best mean. `population` is what claims apply to. `margin` is the largest difference that does not matter,
    in the unit of the metric, missing where the baseline has no mean; `asked_margin`: whether it was given. `looked`
    are the looks of a sequential comparison; empty for any other. `references` has a row per reference, like
    `leaderboard` but without intervals: what no loss predicted on the same splits, for which nothing is tested.
    """

    dataset: str
    runs: pd.DataFrame
    metrics: Metrics
    ranges: Ranges
    metric: tuple[str, str, str]
    baseline: str
    chosen: dict[str, str]
    values: pd.DataFrame
    failed: pd.DataFrame
    ranks: pd.DataFrame
    leaderboard: pd.DataFrame
    settings: pd.DataFrame
    differences: pd.DataFrame
    ranked: pd.DataFrame
    paired: bool
    best: list[str]
    best_ranked: list[str]
    population: Population
    margin: float
    asked_margin: bool
    looked: Sequence[Look]
    references: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def higher_is_better(self) -> bool:
        """Whether higher values of the metric are better."""
        return self.metric[1] == "↑"

    @property
    def range(self) -> Range:
        """The range of the metric."""
        return self.ranges.get(self.metric[0], ANY)

    @property
    def decided(self) -> bool:
        """Whether a test compared the best mean with another loss; where none did, it is open which loss is best."""
        return _tested(self.differences, self.best)

    def equal(self, a: str, b: str) -> bool:
        """Whether the two are shown to differ by less than the margin."""
        return bool(self.difference(a, b)["p_equal"] <= level.ALPHA)

    @property
    def starred(self) -> list[str]:
        """The losses that are marked as not distinguishable from the best; none where nothing is decided."""
        return self.best if self.decided else []

    @property
    def starred_ranked(self) -> list[str]:
        """The same with failures ranked last."""
        return self.best_ranked if self.decided and _tested(self.ranked, self.best_ranked) else []

    @property
    def measure(self) -> str:
        """The name of the metric in sentences, distinct from any loss's: "mae is best by test mae"."""
        return measured(self.metric[0])

    @property
    def unit(self) -> str:
        """The metric's name with its unit, if it has one."""
        name, _, unit = self.metric
        return f"{name} [{unit}]" if unit else name

    def difference(self, a: str, b: str) -> pd.Series:
        """The row of `differences` for a pair, as a − b."""
        table = self.differences
        found = table[(table["a"] == a) & (table["b"] == b)]
        if len(found):
            return found.iloc[0]
        row = table[(table["a"] == b) & (table["b"] == a)].iloc[0].copy()
        return _swapped(row)

    def against(self, baseline: str) -> pd.DataFrame:
        """Each other contender − the baseline, by contender."""
        others = [loss for loss in self.values.columns if loss != baseline]
        return pd.DataFrame([self.difference(loss, baseline) for loss in others], index=pd.Index(others, name="loss"))


def judge(
    records: Records,
    *,
    primary: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
    looked: Sequence[Look] = (),
) -> Verdict:
    """The verdict on the runs of one dataset, by default on the primary metric and against the first loss.

    `margin`: the largest difference that does not matter; by default the one that the runs recorded, else 1 % of the
    baseline's mean. `looked`: the looks of a sequential comparison; by default those that are recorded.

    Raises: ConfigError for a metric or a baseline that these records do not have.
    """
    runs = records.runs[~records.runs["repeated"]]
    dataset = str(runs["dataset"].iloc[0])
    metric = _metric(records, primary, dataset)
    name, arrow, _ = metric
    higher = arrow == "↑"
    chosen = _chosen(runs, records.metrics)
    entered = runs[runs["label"].isin(chosen.values())]
    contender = {label: loss for loss, label in chosen.items()}
    entered = entered.assign(contender=entered["label"].map(contender))
    values = by_seed(entered, f"test/{name}", list(chosen))
    failed = _failed(entered, values)
    ranks = stats.ranks(values, failed, higher_is_better=higher)
    if baseline is not None and baseline not in chosen:
        raise ConfigError(f"--baseline {baseline}: was not compared on {dataset}; there are {', '.join(chosen)}")
    baseline = baseline or next(iter(chosen))
    varied = population(entered, name, values)
    asked = _asked_margin(records) if margin is None else margin
    margin = SLIGHT * abs(float(values[baseline].mean())) if asked is None else asked

    def compare(part: pd.DataFrame, alpha: float = level.ALPHA) -> pd.DataFrame:
        return stats.differences(
            part,
            np.random.default_rng(STREAM),
            higher_is_better=higher,
            overlap=varied.overlap,
            left_out=varied.left_out and {loss: frame.loc[part.index] for loss, frame in varied.left_out.items()},
            margin=margin if np.isfinite(margin) else None,
            alpha=alpha,
        )

    looked = looked or records.looks.get(dataset, ())
    differences = looks.differences(values, looked, compare) if looked else compare(values)
    ranked = stats.differences(ranks, np.random.default_rng(STREAM), higher_is_better=False, overlap=varied.overlap)
    best = _best(values, differences, higher, bool(looked))
    return Verdict(
        dataset,
        entered,
        records.metrics,
        records.ranges,
        metric,
        baseline,
        chosen,
        values,
        failed,
        ranks,
        _board(entered, "contender", records, metric, ranks, varied),
        _board(runs, "label", records, metric, None, varied),
        differences,
        ranked,
        fairness.paired(records),
        best,
        [b for b in stats.not_distinguishable(ranks, ranked, higher_is_better=False) if values[b].notna().any()],
        varied,
        margin,
        asked is not None,
        looked,
        references.board(records, dataset, metric),
    )


def _best(values: pd.DataFrame, differences: pd.DataFrame, higher: bool, looked: bool) -> list[str]:
    """`stats.not_distinguishable`; where losses stopped early, among the others, and then those equal to the best."""
    if not looked or not values.notna().any(axis=None):
        return stats.not_distinguishable(values, differences, higher_is_better=higher)
    lasting = [loss for loss in values.columns if values[loss].notna().any() and _last(values[loss]) == _last(values)]
    best = stats.not_distinguishable(values[lasting], differences, higher_is_better=higher)
    if not best:
        return best
    left = [loss for loss in values.columns if loss not in lasting and values[loss].notna().sum() >= level.PAIRS]
    return best + [loss for loss in left if not stats.worse(differences, loss, best[0], higher_is_better=higher)]


def _last(values: pd.Series | pd.DataFrame) -> str:
    """The last seed that has a value."""
    known = values.dropna(how="all") if isinstance(values, pd.DataFrame) else values.dropna()
    return str(known.index[-1])


def _asked_margin(records: Records) -> float | None:
    """The margin that the runs recorded, if they agree on it."""
    asked = set(records.params.get("margin", pd.Series(dtype=str)).dropna()) - {"", "None"}
    return float(asked.pop()) if len(asked) == 1 else None


def _metric(records: Records, primary: str | None, dataset: str) -> tuple[str, str, str]:
    if not records.metrics:
        ended = ", ".join(f"{count} {what}" for what, count in records.runs["outcome"].value_counts().items())
        raise ConfigError(f"the runs on {dataset} name no metrics: none got as far as its data and its model ({ended})")
    known = {name: (name, arrow, unit) for name, arrow, unit in records.metrics}
    asked = (primary or records.metrics[0][0]).removeprefix("test/")
    if asked not in known:
        raise ConfigError(f"--metric {primary}: no metric of {dataset}; there are {', '.join(known)}")
    return known[asked]


def _chosen(runs: pd.DataFrame, metrics: Metrics) -> dict[str, str]:
    """The label of each contender: a loss at its best setting on validation, or with a single loss, every setting.

    A setting with fewer failures comes first, then the better mean of the primary metric on validation.
    """
    labels = list(dict.fromkeys(runs["label"]))
    if runs["loss"].nunique() == 1:
        return {label: label for label in labels}
    sign = 1 if metrics[0][1] == "↑" else -1
    chosen = {}
    for loss, group in runs.groupby("loss", sort=False):
        by_label = group.groupby("label", sort=False)
        blame = by_label["outcome"].agg(lambda outcome: outcome.isin(FAILED).mean())
        same = group["metrics"].map(lambda known: known[:1] == [metrics[0]])  # other objectives are other numbers
        finished = group[(group["outcome"] == FINISHED) & same]
        score = finished.groupby("label")["objective"].mean().reindex(blame.index)
        order = pd.DataFrame({"blame": blame, "score": -sign * score}).sort_values(["blame", "score"], kind="stable")
        chosen[str(loss)] = str(order.index[0])
    return chosen


def by_seed(runs: pd.DataFrame, metric: str, losses: Sequence[str]) -> pd.DataFrame:
    """A metric of finished runs, a row per seed, a column per contender; with every seed that any of them has."""
    known = runs[runs["seed"] != ""]
    seeds = sorted(set(known["seed"]), key=lambda seed: [*map(int, re.findall(r"\d+", seed)), math.inf])
    rows, columns = pd.Index(seeds, name="seed"), pd.Index(losses, name="loss")
    done = known[known["outcome"] == FINISHED]
    if metric not in done or done.empty:
        return pd.DataFrame(np.nan, index=rows, columns=columns)
    return (
        done.pivot(index="seed", columns="contender", values=metric).reindex(index=rows, columns=columns).astype(float)
    )


def _failed(runs: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    failed = pd.DataFrame(False, index=like.index, columns=like.columns)
    for seed, loss in zip(*(runs.loc[runs["outcome"].isin(FAILED), c] for c in ("seed", "contender")), strict=True):
        if seed:
            failed.loc[seed, loss] = True
    return failed


def _board(
    runs: pd.DataFrame,
    by: str,
    records: Records,
    metric: tuple[str, str, str],
    ranks: pd.DataFrame | None,
    varied: Population,
) -> pd.DataFrame:
    """A row per contender: loss, setting, colour, counts of outcomes, and each metric and cost, the best mean first.

    For a metric: `<name>` (mean), `<name> sd`, `<name> low`, `<name> high` (95 % interval), `<name> n`.
    """
    rows, known, widen, metrics = [], {}, {}, records.metrics
    for loss, group in runs.groupby(by, sort=False):
        done = group[group["outcome"] == FINISHED]
        outcomes = group["outcome"].value_counts()
        row = {
            "loss": loss,
            "setting": group["setting"].iloc[0] if loss != group["label"].iloc[0] else "",
            "colour": group["colour"].iloc[0],
            "runs": len(group),
            "n": len(done),
            "failures": len(group) - len(done),
            "outcomes": ", ".join(f"{count} {what}" for what, count in outcomes.items() if what != FINISHED),
            "rank": np.nan if ranks is None else ranks[loss].mean(),
        }
        for name, _, _ in metrics:
            values = done.get(f"test/{name}", pd.Series(dtype=float)).dropna().reset_index(drop=True)
            row |= {name: values.mean(), f"{name} sd": values.std(ddof=1), f"{name} n": len(values)}
            known[loss, name] = values
            widen[loss, name] = varied.widened(values, done["left_out"].map(lambda parts, of=name: parts.get(of)))
        for key, title in COSTS.items():
            row[title] = done[key].median() if key in done else np.nan
        rows.append({**row, "own parameters": group["parameters"].max()})
    ranges = {(loss, name): records.ranges.get(name, ANY) for loss, name in known}
    limits = confidence.intervals(
        pd.DataFrame(known).rename_axis("seed"), np.random.default_rng(STREAM), ranges, widen=widen
    )
    for row in rows:
        for name, _, _ in metrics:
            row[f"{name} low"], row[f"{name} high"] = limits.loc[(row["loss"], name)]
    return pd.DataFrame(rows).sort_values(
        metric[0], ascending=metric[1] != "↑", na_position="last", ignore_index=True, kind="stable"
    )


def measured(metric: str) -> str:
    """The name of a test metric, distinct from that of a loss."""
    return f"test {metric}"


def _tested(table: pd.DataFrame, best: Sequence[str]) -> bool:
    """Whether any test compared the first of these with another loss."""
    return bool(best) and bool(table.loc[(table[["a", "b"]] == best[0]).any(axis=1), "p_all"].notna().any())


def _swapped(row: pd.Series) -> pd.Series:
    """The row of the same pair as b − a."""
    row["a"], row["b"] = row["b"], row["a"]
    row["difference"], row["low"], row["high"] = -row["difference"], -row["high"], -row["low"]
    row["improvement"] = 1 - row["improvement"]
    return row
