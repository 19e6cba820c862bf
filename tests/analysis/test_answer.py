"""A verdict in words: which names and numbers a sentence has, and that it claims no more than was tested."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from analysis.made import Made, compared, records
from hypothesis import given
from hypothesis import strategies as st

from lossbench.analysis import level, power
from lossbench.analysis.answer import amount, listed, p_value, sentence
from lossbench.analysis.verdict import judge

N = 10
HARD = np.random.default_rng(0).normal(0, 1, 20)  # of each seed, for every loss
NOISE = np.random.default_rng(1).normal(0, 0.01, (12, 20))


def around(number, mean, count=N):
    """Values of one loss by seed, that differ from another loss's by little more than their means do."""
    return list(mean + HARD[:count] + NOISE[number, :count])


def said(metrics=None, **errors):
    found = judge(compared(**errors))
    return sentence(found), found


def worse(told):
    """By how much each loss is said to be worse."""
    return {loss: float(number) for loss, number in re.findall(r"(\w+) is significantly worse by (\S+)", told)}


# what cannot be told


def test_where_nothing_finished_the_outcomes_are_counted():
    runs = [*(Made("a", seed, None, "diverged") for seed in range(4)), Made("b", 0, None, "failed")]
    told = sentence(judge(records(*runs)))
    assert told.startswith("No run on toy has a value of test error")
    assert "4 diverged" in told
    assert "1 failed" in told


def test_one_loss_has_nothing_beside_it():
    told, _ = said(mse=around(0, 1))
    assert told.startswith("mse was the only loss")


def test_one_seed_tells_nothing_certain():
    told, _ = said(a=[2.0], b=[1.0], c=[None])
    assert told.startswith("One seed says nothing certain")
    assert "at least 6" in told
    assert "So far b has the best mean test error (1.0 mm against 2.0 of a)" in told
    assert told.endswith(f"Run at least {level.PAIRS} seeds, as in 'seed=range(10)'.")


def test_three_seeds_tell_how_many_might():
    told, found = said(a=[1.0, 2.0, 3.0], b=[1.5, 2.1, 3.6], c=[9.0, 8.0, 9.5])
    assert told.startswith("3 paired seeds say nothing certain")
    assert "a has the best mean test error (2.00 mm against 2.40 of b)" in told
    needed = power.seeds_needed(found.values["a"] - found.values["b"], 3)
    assert 6 < needed < 1000
    assert f"About {needed:.0f} seeds would distinguish a from b" in told


def test_differences_of_nothing_need_seeds_without_end():
    told, _ = said(a=[1.0, 2.0, 3.0], b=[1.0, 2.0, 3.0])
    assert "more than a thousand seeds" in told


def test_no_common_seeds_tell_nothing():
    told, _ = said(a=[1.0, None], b=[None, 2.0])
    assert told.startswith("0 paired seeds say nothing certain")
    assert "Run at least 6 seeds" in told


def test_five_seeds_allow_no_ranking_however_far_apart():
    told, found = said(a=around(0, 1, 5), b=around(1, 100, 5))
    assert told.startswith("5 paired seeds say nothing certain: a paired test needs at least 6.")
    assert (found.decided, found.starred) == (False, [])
    assert said(a=around(0, 1, 6), b=around(1, 100, 6))[1].starred == ["a"]


# all alike


def test_losses_that_are_alike_are_named_together_with_what_would_have_been_found():
    rng = np.random.default_rng(5)
    told, found = said(a=list(rng.normal(0, 1, N)), b=list(rng.normal(0, 1, N)), c=list(rng.normal(0, 1, N)))
    order = list(found.leaderboard["loss"])
    assert told.startswith(
        f"{order[0]}, {order[1]} and {order[2]} are indistinguishable by test error on new data like these (10 paired"
    )
    largest = amount(found.differences["detectable"].max())
    assert f"a difference of {largest} would have been found with 80 % probability" in told
    assert re.search(
        rf"(About \d+ seeds would distinguish {order[0]} from {order[1]}|more than a thousand seeds)", told
    )


def test_two_names_of_one_loss_are_indistinguishable():
    told, _ = said(mse=around(0, 1), l2=around(0, 1))
    assert told.startswith("mse and l2 are indistinguishable")
    assert "more than a thousand seeds" in told


# the best, and how much worse the others are


def test_the_best_is_named_with_how_much_worse_another_is():
    told, found = said(b=around(1, 1.5), a=around(0, 1))
    row = found.difference("b", "a")
    assert row["difference"] == pytest.approx(0.5, abs=0.02)
    width = row["high"] - row["low"]
    low, middle, high = (amount(row[end], width) for end in ("low", "difference", "high"))
    assert (
        told == "a is best by test error on new data like these; "
        f"b is significantly worse by {middle} mm [{low}, {high}], p = 0.002 (10 paired seeds)."
    )
    assert float(low) < float(middle) < float(high)


def test_amounts_are_positive_where_higher_is_better():
    runs = records(
        *(
            Made(loss, seed, value)
            for number, (loss, mean) in enumerate([("a", 1), ("b", 1.5)])
            for seed, value in enumerate(around(number, mean))
        ),
        metrics=[("error", "↑", "")],
    )
    told = sentence(judge(runs))
    assert told.startswith("b is best by test error on new data like these; a is significantly worse by")
    low, high = map(float, re.search(r"\[([\d.]+), ([\d.]+)\]", told).groups())
    assert low < worse(told)["a"] < high
    assert worse(told)["a"] == pytest.approx(0.5, abs=0.02)


def test_several_best_are_named_before_those_that_are_worse():
    told, found = said(a=around(0, 1), b=around(0, 1), c=around(2, 3))
    assert told.startswith(
        "a and b are indistinguishable by test error on new data like these; c is significantly worse by"
    )
    assert worse(told) == {"c": pytest.approx(2, abs=0.02)}
    assert "corrected for all 3 pairs, 10 paired seeds" in told
    assert f"p = {found.difference('a', 'c')['p_all']:.3f}" in told


def test_the_p_that_is_told_is_the_corrected_one():
    rng = np.random.default_rng(4)
    values = {loss: list(rng.normal(0, 1, N)) for loss in "abcde"} | {"f": list(rng.normal(1.9, 1, N))}
    told, found = said(**values)
    assert worse(told)
    for loss, p in re.findall(r"(\w) is significantly worse by .*?, (p [<=] 0\.\d+)", told):
        row = found.difference(loss, found.leaderboard["loss"].iloc[0])
        assert p == p_value(row["p_all"]) != p_value(row["p"])
        assert row["p_all"] <= level.ALPHA
    assert "corrected for all 15 pairs" in told


def test_three_worse_losses_are_told_and_the_others_counted():
    told, _ = said(**{loss: around(number, 1 + number) for number, loss in enumerate("abcdef")})
    assert told.startswith("a is best by test error on new data like these; b is significantly worse by")
    assert worse(told) == {
        "b": pytest.approx(1, abs=0.02),
        "c": pytest.approx(2, abs=0.02),
        "d": pytest.approx(3, abs=0.02),
    }
    assert "2 more are significantly worse (corrected for all 15 pairs" in told


def test_not_being_told_from_the_best_is_no_equality():
    """b and c differ for sure, and neither from a, which is noisy."""
    noisy = list(0.9 + 2 * np.random.default_rng(7).permutation(np.linspace(-1, 1, N)))
    flat = [0.001 * k for k in range(N)]
    told, found = said(a=noisy, b=[1.0 + x for x in flat], c=[1.2 - x for x in flat])
    assert found.best == ["a", "b", "c"]
    assert found.difference("b", "c")["p_all"] <= level.ALPHA
    assert told.startswith(
        "a has the best mean, and b and c cannot be distinguished from it by test error on new data like these"
    )
    assert "indistinguishable" not in told


# failures and missing runs


def test_failures_are_told_with_how_many_seeds_there_were():
    worse = around(1, 2)
    told, _ = said(a=around(0, 1), b=[None, *worse[1:9], None])
    assert told.endswith("b diverged on 2 of 10 seeds.")
    assert "With failures ranked last" not in told


def test_ranking_failures_last_may_change_who_is_best():
    told, found = said(a=[None] * 4 + around(0, 1)[4:], b=around(1, 2))
    assert found.best == ["a"]
    assert found.best_ranked == ["a", "b"] or found.best_ranked == ["b", "a"]
    assert told.startswith("a is best by test error on new data like these")
    assert worse(told) == {"b": pytest.approx(1, abs=0.02)}
    assert "a diverged on 4 of 10 seeds. With failures ranked last, a and b are best." in told


def test_a_killed_run_is_no_failure_of_its_loss():
    runs = [Made(loss, seed, value) for n, loss in enumerate("ab") for seed, value in enumerate(around(n, 1 + n))]
    runs[0].outcome = "killed"
    assert "killed" not in sentence(judge(records(*runs)))


def test_losses_with_too_few_finished_runs_are_named():
    told, _ = said(a=around(0, 1), b=around(1, 2), c=[*around(2, 0.5)[:3], *[None] * 7])
    assert told.startswith("a is best by test error on new data like these; b is significantly worse by")
    assert "Too few finished runs to compare: c (3)." in told
    assert "c diverged on 7 of 10 seeds." in told
    assert "c is" not in told


# claims that no test stands behind


def test_a_loss_that_was_never_tested_against_the_best_is_not_called_worse():
    told, found = said(a=around(0, 1, 7), b=[None] * 4 + around(1, 5)[4:], c=around(2, 5))
    assert found.difference("a", "b")["n"] == 3
    assert worse(told) == {"c": pytest.approx(4, abs=0.02)}
    assert "Too few seeds in common with a: b." in told
    assert "for all 2 pairs" in told


def test_the_best_of_losses_that_share_no_seeds_with_it_is_not_called_the_best():
    told, _ = said(a=around(0, 1, 6), b=[None] * 3 + around(1, 5)[3:], c=[None] * 3 + around(2, 5)[3:])
    assert told.startswith("a has the best mean test error, and no other loss shares 6 seeds with it.")
    assert "Too few seeds in common with a: b and c." in told or "with a: c and b." in told
    assert worse(told) == {}


def test_a_loss_that_wins_on_every_common_seed_is_not_called_worse():
    told, _ = said(a=[1.0 + x / 100 for x in range(6)] + [None] * 6, b=[0.5 + x / 100 for x in range(6)] + [5.0] * 6)
    assert told.startswith("b is best by test error on new data like these; a is significantly worse by 0.5")
    assert "a diverged on 6 of 12 seeds" in told


def test_a_run_without_a_seed_does_not_end_the_report():
    made = [Made(loss, seed, value) for n, loss in enumerate("ab") for seed, value in enumerate(around(n, 1 + n))]
    assert sentence(judge(records(*made, Made("a", "", 100.0)))).startswith(
        "a is best by test error on new data like these; b is significantly worse by"
    )


# numbers in words


@given(st.floats(1e-6, 99), st.floats(-50, 50))
def test_an_amount_has_the_decimals_of_two_digits_of_its_width(width, value):
    shown = amount(value, width)
    decimals = len(shown.partition(".")[2])
    assert 10 <= width * 10**decimals * (1 + 1e-12) <= 100 * (1 + 1e-9)
    assert float(shown) == pytest.approx(value, abs=0.5 * 10.0**-decimals + 1e-12)


@pytest.mark.parametrize(
    ("value", "width", "shown"),
    [
        (1.23456, 0.1, "1.23"),
        (1.23456, 0.099, "1.235"),
        (1.23456, -0.1, "1.23"),
        (12345.6, 400.0, "12346"),
        (12345.6, math.nan, "12346"),
        (0.0123456, math.nan, "0.0123"),
        (-2.5, 0.0, "-2.50"),
        (0.0, math.nan, "0.000"),
        (1e-12, 1e-12, "0.00000000"),
        (math.nan, 1.0, "–"),
        (math.inf, 1.0, "–"),
    ],
)
def test_amounts(value, width, shown):
    assert amount(value, width) == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.00099, "p < 0.001"), (0.001, "p = 0.001"), (0.0494, "p = 0.049"), (1.0, "p = 1.000"), (math.nan, "–")],
)
def test_p_values(p, shown):
    assert p_value(p) == shown


def test_lists_of_names():
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
