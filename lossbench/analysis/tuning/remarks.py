"""Whether searches were fair: equal budgets and ranges, finished, and with choices well inside the ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from lossbench.analysis.answer import listed
from lossbench.analysis.fairness import Remark
from lossbench.analysis.searches import Search
from lossbench.analysis.tuning import trial_table
from lossbench.analysis.tuning.gains import Tuning
from lossbench.analysis.tuning.survival import spent

APART = 0.05  # of the steps of the largest search: the difference that is tolerated
EDGE = 0.02  # of a range: a choice this close to an end suggests that the best lies beyond it
STOPPED = ("killed", "error", "running")


def remarks(tuning: Tuning) -> list[Remark]:
    """Remarks on the searches on one dataset."""
    found = [
        *((text, True) for text in (*_budgets(tuning), *_unfinished(tuning), *_edges(tuning), *_seeds(tuning))),
        *_ranges(tuning),
        *((f"no trial of {loss} was better than another: its search chose nothing", True) for loss in tuning.alike),
    ]
    return [Remark("search", text, concern) for text, concern in found]


def _budgets(tuning: Tuning) -> Iterator[str]:
    budgets = {tuple(sorted(search.budget.items())) for search in tuning.searches}
    if len(budgets) > 1:
        amounts = _each(tuning, lambda s: " ".join(f"{amount:g} {what}" for what, amount in s.budget.items()))
        yield f"the searches on {tuning.dataset} had different budgets ({amounts})"
    if len({search.sampler for search in tuning.searches}) > 1:
        yield f"the searches on {tuning.dataset} had different samplers ({_each(tuning, lambda s: s.sampler)})"
    units = {what for search in tuning.searches for what in search.budget}
    table = tuning.budget
    if units <= {"trials"} and table["trials"].nunique() > 1:
        counts = ", ".join(f"{row.loss} {row.trials}" for row in table.itertuples())
        yield f"the losses of {tuning.dataset} had different numbers of trials ({counts})"
    if "seconds" not in units and table["steps"].min() < (1 - APART) * table["steps"].max():
        counts = ", ".join(f"{row.loss} {row.steps:,.0f}" for row in table.itertuples())
        yield f"the searches on {tuning.dataset} took different numbers of steps ({counts})"


def _unfinished(tuning: Tuning) -> Iterator[str]:
    for search in tuning.searches:
        trials = tuning.trials[tuning.trials["study"] == search.study]
        done, stopped = len(trial_table.counted(trials)), int(trials["outcome"].isin(STOPPED).sum())
        asked, steps = search.budget.get("trials", 0), search.budget.get("steps", 0)
        if done < asked and search.sampler != "grid":
            yield f"the search of {search.loss} is unfinished: {done} of {asked:.0f} trials"
        elif trials["steps"].sum() < steps * (1 - APART):
            yield f"the search of {search.loss} is unfinished: {trials['steps'].sum():,.0f} of {steps:,.0f} steps"
        elif stopped:
            many = "1 trial" if stopped == 1 else f"{stopped} trials"
            yield f"{many} of {search.loss} {'was' if stopped == 1 else 'were'} stopped before the end"
        if trials["score"].isna().all():
            yield f"no trial of {search.loss} has a score: its tuned runs have default settings"


def _edges(tuning: Tuning) -> Iterator[str]:
    for search in tuning.searches:
        for parameter in search.space:
            place = search.place(parameter)
            if search.chosen is not None and place is not None and not EDGE < place < 1 - EDGE:
                limits, value = search.space[parameter], search.settings[parameter]
                yield (
                    f"{parameter}={value:.4g}, chosen for {search.loss}, lies at an end of its range "
                    f"[{limits['low']:g}, {limits['high']:g}]: widen it, the best may lie outside"
                )


def _seeds(tuning: Tuning) -> Iterator[str]:
    """Seeds of a search that the final runs used again: they chose the settings and must not judge them."""
    if "tuned" in tuning.verdicts:
        final = {seed.split(",")[0] for seed in tuning.verdicts["tuned"].runs["seed"]} - {""}
        for search in tuning.searches:
            recorded = tuning.trials[tuning.trials["study"] == search.study]["seeds"]
            if both := sorted(final & {seed for seeds in recorded for seed in seeds.split()}):
                yield f"the search of {search.loss} used seeds of the final runs ({', '.join(both)})"


def _ranges(tuning: Tuning) -> Iterator[tuple[str, bool]]:
    """Whether shared parameters were searched in the same range for all losses."""
    own = {name for search in tuning.searches for name in search.own}
    for name in dict.fromkeys(name for search in tuning.searches for name in search.space if name not in own):
        ranges = {str(sorted(search.space.get(name, {}).items())) for search in tuning.searches}
        if len(ranges) > 1:
            yield f"the setting {name} was searched differently ({_each(tuning, partial(_range, name=name))})", True
        else:
            budget = spent(tuning.searches, tuning.trials).partition(" a loss")[0]
            each = f" ({budget} each)" if budget else ""
            chosen = _each(tuning, partial(_chosen, name=name))
            yield f"the setting {name} was searched for every loss alike{each}; chosen: {chosen}", False


def _each(tuning: Tuning, text: Callable[[Search], str]) -> str:
    return ", ".join(f"{search.loss} {text(search)}" for search in tuning.searches)


def _range(search: Search, name: str) -> str:
    space = search.space.get(name)
    if space is None:
        return "not"
    if "choices" in space:
        return f"among {listed([str(choice) for choice in space['choices']])}"
    return f"{space['low']:g} to {space['high']:g}{' (log)' if space.get('log') else ''}"


def _chosen(search: Search, name: str) -> str:
    value = search.settings.get(name)
    return f"{value:.3g}" if isinstance(value, float) else "default" if value is None else str(value)
