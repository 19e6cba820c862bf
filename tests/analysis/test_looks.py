"""Seeds until decided: however often it is looked, and wherever it stops, false claims stay below one in twenty."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from analysis.made import table

from lossbench.analysis import level, looks, stats
from lossbench.analysis.looks import Look
from lossbench.analysis.population import Population

FRESH, SPLIT = Population("fresh"), Population("resplit", overlap=0.25, examples=500)


@pytest.mark.parametrize("most", [6, 8, 10, 25, 40, 100])
@pytest.mark.parametrize("population", [FRESH, SPLIT], ids=["fresh", "resplit"])
def test_levels_add_up_to_5_per_cent_and_the_last_look_is_at_the_most(most, population):
    plan = looks.looks(most, population)
    assert plan[-1].seeds == most
    assert sum(look.level for look in plan) == pytest.approx(level.ALPHA)
    assert [look.seeds for look in plan] == sorted({look.seeds for look in plan})


def test_a_look_that_can_find_nothing_spends_nothing():
    first = looks.looks(40, FRESH)[0]
    assert (first.seeds, first.level) == (6, 0)
    assert looks.looks(40, SPLIT)[0].level > 0


def compare(part, alpha):
    return stats.differences(part, np.random.default_rng(0), higher_is_better=False, margin=0.5, alpha=alpha)


def test_one_look_at_5_per_cent_is_the_usual_test():
    values = table(np.random.default_rng(0).standard_normal((10, 3)))
    found = looks.differences(values, [Look(10, 0.05)], compare)
    assert np.allclose(found[["p", "p_all", "p_equal"]], compare(values, 0.05)[["p", "p_all", "p_equal"]])


def test_seeds_that_came_after_a_look_do_not_change_what_was_seen_there():
    rng = np.random.default_rng(1)
    values = table(np.concatenate([rng.normal([0, 2], 0.3, (10, 2)), rng.normal([0, 0.5], 3, (30, 2))]))
    plan = looks.looks(40, FRESH)
    early = looks.differences(values[:10], plan[:2], compare)
    late = looks.differences(values, plan, compare)
    assert late["p_all"].iloc[0] <= early["p_all"].iloc[0] <= 0.05


def test_a_difference_that_has_turned_round_is_not_claimed_by_what_it_was():
    early, late = np.tile([0.0, 1.0], (10, 1)), np.tile([0.0, -9.0], (30, 1))
    values = table(np.concatenate([early, late]) + np.random.default_rng(4).normal(0, 0.1, (40, 2)))
    plan = looks.looks(40, FRESH)
    row = looks.differences(values, plan, compare).iloc[0]
    assert row["difference"] > 0 > looks.differences(values[:10], plan[:2], compare)["difference"].iloc[0]
    assert row["p_all"] == pytest.approx(
        min(compare(values[: look.seeds], look.level)["p_all"].iloc[0] * 0.05 / look.level for look in plan[3:])
    )


def until_decided(values, plan, compare=compare):
    """Whether a claim is ever made, by somebody who looks at every look and stops at the first claim."""
    for number, look in enumerate(plan, 1):
        found = looks.differences(values[: look.seeds], plan[:number], compare)
        if (found["p_all"] <= level.ALPHA).any():
            return True
    return False


@pytest.mark.parametrize("losses", [2, 4])
def test_equal_losses_are_told_apart_on_at_most_5_of_100_with_optional_stopping(losses):
    rng, plan, n = np.random.default_rng(losses), looks.looks(16, FRESH), 400
    naive = [Look(look.seeds, 0.05) for look in plan]
    false = tempted = 0
    for _ in range(n):
        values = table(rng.standard_normal((16, losses)))
        once = cache(lambda seeds, values=values: compare(values[:seeds], level.ALPHA))
        seen = [until_decided(values, one, lambda part, alpha, once=once: once(len(part))) for one in (plan, naive)]
        false, tempted = false + seen[0], tempted + seen[1]  # of p, which no level changes
    assert false / n <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / n)
    assert tempted > false, "each look at 5 % claims more"


def test_losses_leave_that_are_worse_or_equal():
    values = np.random.default_rng(2).normal([0, 0, 3, 0.3], [0.02, 0.02, 0.02, 2.0], (16, 4))
    found = looks.differences(table(values), [Look(16, 0.05)], compare)
    assert looks.open_pairs(found, "a", list("abcd"), higher_is_better=False) == ["d"]
