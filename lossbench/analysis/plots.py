"""Pictures of a comparison."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure


def comparison_picture(curves: pd.DataFrame, tests: pd.DataFrame, yardstick: str, direction: str, title: str) -> Figure:
    """Left, the primary yardstick on validation over steps: median of the seeds, and the band they span.

    Right, the same yardstick on test, a dot a seed; lines join runs of one seed, which share split, weights and
    batches. `curves`: label, colour, step, value. `tests`: label, colour, seed, value.
    """
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for (label, colour), group in curves.groupby(["label", "colour"], sort=False):
        spread = group.groupby("step")["value"].agg(["min", "median", "max"])
        left.plot(spread.index, spread["median"], color=colour, label=label)
        left.fill_between(spread.index, spread["min"], spread["max"], color=colour, alpha=0.15, linewidth=0)
    left.set(xlabel="optimizer step", ylabel=f"validation {yardstick} {direction}")
    left.legend(frameon=False)
    places = {label: place for place, label in enumerate(dict.fromkeys(tests["label"]))}
    for _, pair in tests.groupby("seed"):
        at = sorted((places[label], value) for label, value in zip(pair["label"], pair["value"], strict=True))
        right.plot(*zip(*at, strict=True), color="#c9d0d6", linewidth=0.8, zorder=0)
    for (label, colour), group in tests.groupby(["label", "colour"], sort=False):
        x = places[str(label)]
        right.scatter([x] * len(group), group["value"], color=colour, s=22, alpha=0.8, linewidths=0)
        right.hlines(group["value"].mean(), x - 0.25, x + 0.25, color=colour)
    right.set_xticks(list(places.values()), list(places), rotation=20 if len(places) > 4 else 0)
    right.set(ylabel=f"test {yardstick} {direction}, a dot a seed", xlim=(-0.6, len(places) - 0.4))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
