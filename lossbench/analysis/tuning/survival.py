"""What equal tuning changed, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lossbench.analysis import answer
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import trial_table
from lossbench.analysis.verdict import Verdict

FATES = {"survives": "survive", "vanishes": "vanish", "turns round": "turn round", "appears": "appear"}


def spent(found: Sequence[Search], trials: pd.DataFrame) -> str:
    """The budget of all losses in words; "" where they had different ones."""
    budgets = {(*search.budget.items(), search.sampler) for search in found}
    counts = {len(trial_table.counted(trials[trials["study"] == search.study])) for search in found}
    if len(budgets) > 1 or ("trials" in found[0].budget and len(counts) > 1):
        return ""
    (what, amount), *_ = found[0].budget.items() or [("trials", max(counts))]
    many = f"{amount:.0f} trial{'s' if amount != 1 else ''}" if what == "trials" else f"{amount:,.0f} {what}"
    return f"{many} a loss, {found[0].sampler}"


def sentence(
    found: Sequence[Search], trials: pd.DataFrame, verdicts: dict[str, Verdict], fates: dict[Any, str], alike: list[str]
) -> str:
    """What tuning changed in the answer, or why nothing can be said of it."""
    budget = spent(found, trials)
    start = f"Equal tuning ({budget})" if budget else "Tuning with unequal budgets"
    if len(alike) == len(found):
        return f"{start} chose nothing: all trials of each loss have the same score. No gain below is one of tuning."
    said = f"{start}{_changed(verdicts, fates)}"
    if not alike:
        return said
    which = "its search" if len(alike) == 1 else "their searches"
    return f"{said} No trial of {answer.listed(alike)} was better than another: {which} chose nothing."


def _changed(verdicts: dict[str, Verdict], fates: dict[Any, str]) -> str:
    """What came of the tuning that the sentence begins with."""
    missing = [arm for arm in ("tuned", "default") if arm not in verdicts]
    if missing:
        return f": there are no {answer.listed(missing)} runs, so nothing says what it changed."
    tuned, default = verdicts["tuned"], verdicts["default"]
    if tuned.runs["loss"].nunique() == 1:
        return " of one loss: the table says what it gained."
    if tuned.differences["p_all"].isna().all() or default.differences["p_all"].isna().all():
        return ": too few paired seeds to say which differences survive it."
    before, after = answer.leaders(default), answer.leaders(tuned)
    if set(tuned.best) == set(default.best):
        return f" leaves the answer as it was: tuned or not, {after}. {_told(list(fates.values()))}"
    return f" changes the answer: at default settings, {before}; tuned, {after}. {_told(list(fates.values()))}"


def _told(fates: Sequence[str]) -> str:
    """How many differences met each fate."""
    counts = {fate: fates.count(fate) for fate in FATES}
    told = {fate: f"{count} {fate if count == 1 else FATES[fate]}" for fate, count in counts.items() if count}
    new = told.pop("appears", "")
    real = len(fates) - counts["appears"]
    if not real:
        return (
            f"Untuned, no difference is real; tuned, {new.split(' ')[0] or 'none'} {'are' if len(fates) > 1 else 'is'}."
        )
    said = f"Of {real} difference{'s' if real > 1 else ''} at default settings, {', '.join(told.values())}"
    return f"{said}; {new}." if new else f"{said}."
