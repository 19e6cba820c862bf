"""What equal tuning changed, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lossbench.analysis import answer
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import trial_table
from lossbench.analysis.verdict import Verdict

PLURALS = {"survives": "survive", "vanishes": "vanish", "reverses": "reverse", "appears": "appear"}


def spent(found: Sequence[Search], trials: pd.DataFrame) -> str:
    """The budget of all losses in words; empty where they had different ones."""
    budgets = {(*search.budget.items(), search.sampler) for search in found}
    counts = {len(trial_table.counted(trials[trials["study"] == search.study])) for search in found}
    if len(budgets) > 1 or ("trials" in found[0].budget and len(counts) > 1):
        return ""
    (what, amount), *_ = found[0].budget.items() or [("trials", max(counts))]
    many = f"{amount:.0f} trial{'s' if amount != 1 else ''}" if what == "trials" else f"{amount:,.0f} {what}"
    return f"{many} a loss, {found[0].sampler}"


def sentence(
    found: Sequence[Search],
    trials: pd.DataFrame,
    verdicts: dict[str, Verdict],
    after_tuning: dict[Any, str],
    alike: list[str],
) -> str:
    """What tuning changed in the answer, or why that cannot be said."""
    budget = spent(found, trials)
    start = f"Equal tuning ({budget})" if budget else "Tuning with unequal budgets"
    if len(alike) == len(found):
        return f"{start} chose nothing: all trials of each loss have the same score. No gain below comes from tuning."
    text = f"{start}{_changed(verdicts, after_tuning)}"
    if not alike:
        return text
    which = "its search" if len(alike) == 1 else "their searches"
    return f"{text} No trial of {answer.listed(alike)} was better than another: {which} chose nothing."


def _changed(verdicts: dict[str, Verdict], after_tuning: dict[Any, str]) -> str:
    """What the tuning did, as the rest of a sentence that begins with it."""
    names = {"tuned": "tuned runs", "default": "runs at default settings"}
    missing = [name for arm, name in names.items() if arm not in verdicts]
    if missing:
        return f": what it changed is unknown, since there are no {answer.listed(missing)}."
    tuned, default = verdicts["tuned"], verdicts["default"]
    if tuned.runs["loss"].nunique() == 1:
        return " of one loss: the table shows what it gained."
    if tuned.differences["p_all"].isna().all() or default.differences["p_all"].isna().all():
        return ": too few paired seeds to say which differences survive it."
    before, after = answer.leaders(default), answer.leaders(tuned)
    if set(tuned.best) == set(default.best):
        return f" does not change the answer: {after}, before and after tuning. {_counted(list(after_tuning.values()))}"
    return (
        f" changes the answer: at default settings, {before}; after tuning, {after}. "
        f"{_counted(list(after_tuning.values()))}"
    )


def _counted(states: Sequence[str]) -> str:
    """How many significant differences survive, vanish, reverse and appear."""
    counts = {state: states.count(state) for state in PLURALS}
    parts = {state: f"{count} {state if count == 1 else PLURALS[state]}" for state, count in counts.items() if count}
    new = parts.pop("appears", "")
    before = len(states) - counts["appears"]
    if not before:
        after = f"{new.split(' ')[0] or 'none'} {'are' if len(states) > 1 else 'is'}"
        return f"At default settings, no difference is significant; after tuning, {after}."
    plural = "s" if before > 1 else ""
    text = f"Of {before} significant difference{plural} at default settings, {', '.join(parts.values())}"
    return f"{text}; {new}." if new else f"{text}."
