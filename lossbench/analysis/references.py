"""References in a report: what no loss predicted on the same splits, shown beside the losses and never ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from lossbench.analysis.fairness import Remark
from lossbench.analysis.records import Records

if TYPE_CHECKING:
    from lossbench.analysis.verdict import Verdict

CONSTANT, BOOSTING = "constant", "gradient boosting"  # as records call them
WORDS = {
    CONSTANT: "constant predicts the same for every row: the training median, or the shares of the classes",
    BOOSTING: "gradient boosting is scikit-learn's, at its defaults, stopped early on the validation split",
}


def board(records: Records, dataset: str, metric: tuple[str, str, str]) -> pd.DataFrame:
    """A row per reference, the best mean first: loss (its name), n; by metric `<name>`, `<name> sd` and `<name> n`."""
    if records.references.empty:
        return pd.DataFrame()
    found = records.references[records.references["dataset"] == dataset]
    rows = []
    for name, group in found[found["outcome"] == "finished"].groupby("loss", sort=False):
        row = {"loss": name, "n": len(group)}
        for measure, _, _ in records.metrics:
            values = group.get(f"test/{measure}", pd.Series(dtype=float)).dropna()
            row |= {measure: values.mean(), f"{measure} sd": values.std(ddof=1), f"{measure} n": len(values)}
        rows.append(row)
    table = pd.DataFrame(rows)
    higher = metric[1] == "↑"
    return table.sort_values(metric[0], ascending=not higher, na_position="last", ignore_index=True) if rows else table


def sentence(verdict: Verdict) -> str:
    """What the references of a verdict are; empty where it has none."""
    if verdict.references.empty:
        return ""
    found = [WORDS.get(name, name) for name in sorted(verdict.references["loss"])]
    return f"References, which no loss trained and no test compares, on the same splits: {'; '.join(found)}."


def remarks(verdicts: Sequence[Verdict], records: Records) -> Iterator[Remark]:
    """Where no loss beats a constant, where the model matters more than the loss, and references that failed."""
    for verdict in verdicts:
        yield from filter(None, [_beaten_by_constant(verdict, records), _beaten_by_boosting(verdict, records)])
    if records.references.empty:
        return
    failed = records.references[records.references["outcome"] != "finished"]
    for (dataset, name), runs in failed.groupby(["dataset", "loss"], sort=False):
        why = next(filter(None, runs["error"]), "it did not end")
        text = f"{name} could not be computed on {dataset} for {len(runs)} seed{'s' if len(runs) > 1 else ''}: {why}"
        yield Remark("references", text, False)


def _means(verdict: Verdict, records: Records, name: str) -> tuple[float, pd.Series[float]] | None:
    """The mean of a reference and those of the losses, over the seeds that have both; None where none has."""
    found = records.references
    if found.empty or f"test/{verdict.metric[0]}" not in found:
        return None
    mine = found[(found["dataset"] == verdict.dataset) & (found["loss"] == name) & (found["outcome"] == "finished")]
    of = mine.set_index("seed")[f"test/{verdict.metric[0]}"].dropna()
    common = verdict.values.loc[verdict.values.index.isin(of.index)].dropna(axis=1, how="all")
    common = common.dropna(how="all")
    return (float(of.loc[common.index].mean()), common.mean()) if common.size else None


def _beaten_by_constant(verdict: Verdict, records: Records) -> Remark | None:
    if (found := _means(verdict, records, CONSTANT)) is None:
        return None
    reference, means = found
    best = means.max() if verdict.higher_is_better else means.min()
    if not (best < reference if verdict.higher_is_better else best > reference):
        return None
    text = f"on {verdict.dataset}, every loss is worse than a constant prediction by {verdict.measure}"
    why = "the runs learned nothing that this metric shows, and differences between them mean little"
    return Remark("references", f"{text} (the best {best:.4g}, the constant {reference:.4g}): {why}", True)


def _beaten_by_boosting(verdict: Verdict, records: Records) -> Remark | None:
    found = _means(verdict, records, BOOSTING)
    if found is None or len(found[1]) < 2:
        return None
    reference, means = found
    best = means.max() if verdict.higher_is_better else means.min()
    ahead, apart = (reference - best if verdict.higher_is_better else best - reference), means.max() - means.min()
    if not ahead > apart:
        return None
    text = f"on {verdict.dataset}, gradient boosting beats every loss by {ahead:.3g} or more in {verdict.measure}"
    return Remark("references", f"{text}, and the losses differ by {apart:.3g}: here the model matters more", False)
