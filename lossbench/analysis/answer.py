"""A verdict in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lossbench.analysis import level, stats
from lossbench.analysis.advice import advice
from lossbench.analysis.hidden import hidden
from lossbench.analysis.records import FAILED
from lossbench.analysis.verdict import Verdict, measured

NAMED = 3  # worse losses that the sentence gives with their numbers; the tables have all


def sentence(verdict: Verdict) -> str:
    """What may be claimed about the losses, in plain words with numbers; and what may not, and why."""
    finished = verdict.values.notna().sum()
    if not finished.any():
        return _nothing(verdict)
    if len(verdict.chosen) == 1:
        (only,) = verdict.chosen
        return f"{only} was the only loss: there is nothing to compare it with. Name several, as in loss=mse,mae."
    if (finished > 0).sum() == 1:
        return f"Only {finished.idxmax()} has a result by {verdict.measure}. {_failures(verdict)}".strip()
    pairs = int(verdict.differences["n"].max())
    if pairs < level.PAIRS:
        return _too_few(verdict, pairs)
    parts = (_ranking(verdict, pairs), _equal(verdict), _hidden(verdict), _untested(verdict), _failures(verdict))
    return " ".join(filter(None, parts))


def amount(value: float, width: float = math.nan) -> str:
    """A number with the decimals that show two digits of the width of its interval, or else three of its own digits."""
    if not math.isfinite(value):
        return "–"
    size = abs(width) if math.isfinite(width) and width else abs(value) / 10
    decimals = 1 - math.floor(math.log10(size)) if size else 3
    text = f"{value:.{min(max(decimals, 0), 8)}f}"
    return text.removeprefix("-") if not float(text) else text


def p_value(p: float) -> str:
    """A p-value as text, as in "p = 0.012"; a dash where it is missing."""
    if not math.isfinite(p):
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _unit(verdict: Verdict) -> str:
    """The unit that follows an amount; the sentence has named the metric."""
    return f" {verdict.metric[2]}" if verdict.metric[2] else ""


def by_mean(verdict: Verdict) -> list[str]:
    """The contenders, the best mean first."""
    return [str(loss) for loss in verdict.leaderboard["loss"]]


def _nothing(verdict: Verdict) -> str:
    if (verdict.leaderboard[f"{verdict.metric[0]} n"] > 0).any():
        return f"No finished run on {verdict.dataset} names its seed: nothing can be paired, and nothing is compared."
    counts = verdict.runs["outcome"].value_counts()
    ended = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return f"No run on {verdict.dataset} has a value of {verdict.measure} ({ended}): there is nothing to rank."


def _too_few(verdict: Verdict, pairs: int) -> str:
    finished = [loss for loss in by_mean(verdict) if verdict.values[loss].notna().any()]
    text = f"{_count(verdict, pairs)} say{'s' if pairs == 1 else ''} nothing certain: "
    text += f"a paired test needs at least {level.PAIRS}."
    if len(finished) > 1:
        first, second = finished[:2]
        means = verdict.values[[first, second]].mean()
        width = abs(means[first] - means[second])
        text += f" So far {first} has the best mean {verdict.measure} ({amount(means[first], width)}{_unit(verdict)}"
        text += f" against {amount(means[second], width)} of {second})."
    return f"{text} {_advice(verdict)}"


def _count(verdict: Verdict, pairs: int) -> str:
    return "One seed" if pairs == 1 else counted(verdict, pairs)


def counted(verdict: Verdict, pairs: int) -> str:
    """The number of seeds; they are called paired only where runs of one seed shared their data and initial weights."""
    return f"{pairs} paired seeds" if verdict.paired else f"{pairs} seeds, whose runs are not paired"


def _advice(verdict: Verdict) -> str:
    """What would distinguish the two best; empty where seeds were added until that was decided."""
    first, *others = [loss for loss in by_mean(verdict) if verdict.values[loss].notna().any()]
    if verdict.looked or not others:
        return ""
    return advice(verdict.values, verdict.population, first, others[0], len(verdict.differences))


def _ranking(verdict: Verdict, pairs: int) -> str:
    name, higher = verdict.measure, verdict.higher_is_better
    best, *alike = verdict.best
    worse = [
        loss
        for loss in by_mean(verdict)
        if loss != best and stats.worse(verdict.differences, loss, best, higher_is_better=higher)
    ]
    tested = verdict.differences.dropna(subset=["p_all"])
    seeds = counted(verdict, pairs)
    if not worse:
        if not verdict.decided:
            return f"{best} has the best mean {name}, and no other loss shares {level.PAIRS} seeds with it."
        detectable = tested["detectable"].max()
        apart = f"a difference of {amount(detectable)} would have been found with 80 % probability"
        return f"{_alike(verdict, verdict.best)} by {name}{_population(verdict)} ({seeds}; {apart}). {_advice(verdict)}"
    parts = []
    for loss in worse[:NAMED]:
        row = verdict.difference(loss, best)
        low, high = sorted((abs(row.low), abs(row.high))) if row.low * row.high > 0 else (row.low, row.high)
        width = row.high - row.low
        parts.append(
            f"{loss} is significantly worse by {amount(abs(row.difference), width)}{_unit(verdict)} "
            f"[{amount(low, width)}, {amount(high, width)}], {p_value(row.p_all)}"
        )
    if len(worse) > NAMED:
        parts.append(f"{len(worse) - NAMED} more are significantly worse")
    corrected = f"corrected for all {len(tested)} pairs, " if len(tested) > 1 else ""
    start = _alike(verdict, verdict.best) if alike else f"{best} is best"
    looked = f", looked at {len(verdict.looked)} times" if verdict.looked else ""
    return f"{start} by {name}{_population(verdict)}; {'; '.join(parts)} ({corrected}{seeds}{looked})."


def _population(verdict: Verdict) -> str:
    """The population that the claim is about, with a leading space."""
    return f" {verdict.population.words}" if verdict.population.words else ""


def _equal(verdict: Verdict) -> str:
    """The losses that equal the best within the margin."""
    equal = [loss for loss in verdict.best[1:] if verdict.equal(loss, verdict.best[0])]
    if not equal:
        return ""
    subject = f"{listed(equal)} {'equals' if len(equal) == 1 else 'equal'} {verdict.best[0]}"
    return f"{subject} within {amount(verdict.margin)}{_unit(verdict)}{margin_of(verdict)}."


def margin_of(verdict: Verdict) -> str:
    """Where the margin comes from, unless it was given."""
    return "" if verdict.asked_margin else f" (1 % of the mean of {verdict.baseline})"


def _hidden(verdict: Verdict) -> str:
    """The largest difference by another metric between losses that the primary metric cannot distinguish."""
    found = hidden(verdict)
    if found is None:
        return ""
    width = abs(found.means[0] - found.means[1])
    means = ", ".join(f"{loss} {amount(mean, width)}" for loss, mean in zip(found.losses, found.means, strict=True))
    corrected = f", corrected for the {found.looked} pairs looked at" if found.looked > 1 else ""
    return f"Yet they differ by {measured(found.metric[0])}: {means} ({p_value(found.p)}{corrected})."


def leaders(verdict: Verdict) -> str:
    """The best losses, as a clause without numbers."""
    if not verdict.best:
        return "nothing can be ranked"
    if len(verdict.best) > 1:
        return _alike(verdict, verdict.best)
    return f"{verdict.best[0]} {'is best' if verdict.decided else 'has the best mean'}"


def _alike(verdict: Verdict, losses: Sequence[str]) -> str:
    """These losses as indistinguishable, where no pair of them is; else the best mean, and those not worse than it."""
    table = verdict.differences
    among = table[table["a"].isin(losses) & table["b"].isin(losses)]
    if (among["p_all"] > level.ALPHA).all():
        return f"{listed(losses)} are indistinguishable"
    return f"{losses[0]} has the best mean, and {listed(losses[1:])} cannot be distinguished from it"


def _untested(verdict: Verdict) -> str:
    counts = verdict.values.notna().sum()
    few = [f"{loss} ({counts[loss]})" for loss in by_mean(verdict) if counts[loss] < level.PAIRS]
    text = f"Too few finished runs to compare: {listed(few)}." if few else ""
    best = verdict.best[0]
    others = [loss for loss in by_mean(verdict) if counts[loss] >= level.PAIRS and loss != best]
    apart = [loss for loss in others if math.isnan(verdict.difference(loss, best)["p_all"])]
    return text + (f" Too few seeds in common with {best}: {listed(apart)}." if apart else "")


def _failures(verdict: Verdict) -> str:
    runs = verdict.runs
    blamed = runs[runs["outcome"].isin(FAILED)].groupby("contender", sort=False)["outcome"].value_counts()
    if blamed.empty:
        return ""
    sizes = runs["contender"].value_counts()
    counts = [f"{loss} {outcome} on {count} of {sizes[loss]} seeds" for (loss, outcome), count in blamed.items()]
    text = f"{'; '.join(counts)}."
    if verdict.starred_ranked and set(verdict.starred_ranked) != set(verdict.best):
        best = [loss for loss in by_mean(verdict) if loss in verdict.starred_ranked]
        text += f" With failures ranked last, {listed(best)} {'is' if len(best) == 1 else 'are'} best."
    return text
