"""Numbers about runs, from tables alone."""

from __future__ import annotations

import pandas as pd

FINISHED = "finished"


def summarise(runs: pd.DataFrame, metrics: list[str], *, higher_is_better: bool) -> pd.DataFrame:
    """Mean and standard deviation over the seeds of each label, best mean of the first metric first.

    Columns: label, colour, n (runs that finished), failures (runs that did not), and for each metric `<metric>` and
    `<metric> sd` (sample standard deviation, missing for one run). A label without a finished run stays, last.
    """
    rows = []
    for label, group in runs.groupby("label", sort=False):
        done = group[group["outcome"] == FINISHED]
        row = {"label": label, "colour": group["colour"].iloc[0], "n": len(done), "failures": len(group) - len(done)}
        for metric in metrics:
            values = done[metric] if metric in done else pd.Series(dtype=float)
            row |= {metric: values.mean(), f"{metric} sd": values.std(ddof=1)}
        rows.append(row)
    return pd.DataFrame(rows).sort_values(
        metrics[0], ascending=not higher_is_better, na_position="last", ignore_index=True
    )
