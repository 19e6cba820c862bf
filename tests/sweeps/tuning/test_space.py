"""Spaces: a range holds its ends and runs evenly by its own scale; what no loss has or no search may set is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from lossbench.core import ConfigError
from lossbench.sweeps.tuning import space as spaces
from lossbench.sweeps.tuning.space import Choices, Range, as_record, choices, interval, searchable

ENDS = {
    "by value": (0.5, 4.0),
    "around 0": (-1.0, 1.0),
    "by logarithm": (1e-4, 0.3),
    "of one decade": (10.0, 100.0),
    "wide": (1e-12, 1e12),
    "close to 1": (0.9, 0.9999),
    "from 0 close to 1": (0.0, 0.99),
    "narrow": (100.0, 100.01),
    "narrow below 1": (0.999, 0.9999),
    "negative": (-30.0, 0.0),
}
SHARES = st.floats(0, 1)


@st.composite
def ranges(draw):
    low, high = sorted(draw(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))))
    assume(high - low > 1e-9 * max(1, abs(low), abs(high)))
    assume(low <= 0 or low > 1e-12)
    return interval("x", low, high)


@given(ranges(), SHARES, SHARES)
def test_a_larger_share_is_no_smaller_number_and_stays_inside(found, one, other):
    low, high = sorted((one, other))
    assert found.low <= found.at(low) <= found.at(high) <= found.high


@pytest.mark.parametrize("name", ENDS)
def test_a_range_has_its_ends(name):
    low, high = ENDS[name]
    found = interval("x", low, high)
    assert (found.at(0), found.at(1)) == (low, high)


@pytest.mark.parametrize("name", ENDS)
def test_a_range_has_many_numbers(name):
    """A hundred even shares of it are nearly as many different settings: rounding leaves a range its width."""
    found = interval("x", *ENDS[name])
    assert len({found.at(share / 100) for share in range(101)}) > 90


def test_a_range_by_its_logarithm_has_the_geometric_mean_in_the_middle():
    found = interval("x", 1e-4, 1e-2)
    assert found.log
    assert found.at(0.5) == pytest.approx(1e-3)
    assert [found.at(share / 4) for share in range(5)] == pytest.approx(
        [10 ** (-4 + share / 2) for share in range(5)], rel=5e-4
    )


def test_a_range_by_its_value_has_the_mean_in_the_middle():
    for low, high in ((1.0, 3.0), (-1.0, 1.0), (-30.0, 0.0), (-100.0, -1.0)):
        found = interval("x", low, high)
        assert not found.log
        assert found.at(0.5) == pytest.approx((low + high) / 2), (low, high)


def test_close_to_1_what_is_missing_runs_by_its_logarithm():
    found = interval("beta", 0.9, 0.999)
    assert found.at(0.5) == pytest.approx(0.99)
    for share in (0.1, 0.3, 0.7, 0.95):
        assert math.log10(1 - found.at(share)) == pytest.approx(-1 - 2 * share, abs=1e-3)


@pytest.mark.parametrize("name", ["by value", "by logarithm", "close to 1"])
def test_even_shares_are_uniform_by_the_scale_of_a_range(name):
    """Against scipy's distributions of that scale."""
    low, high = ENDS[name]
    found = interval("x", low, high)
    values = [found.at((share + 0.5) / 1000) for share in range(1000)]
    scale = {
        "by value": stats.uniform(low, high - low).cdf,
        "by logarithm": stats.loguniform(low, high).cdf,
        "close to 1": lambda x: 1 - stats.loguniform(1 - high, 1 - low).cdf([1 - value for value in x]),
    }[name]
    assert stats.kstest(values, scale).statistic < 0.002  # exact is 0.0005; rounding adds a little


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1, 19.99, False), (1, 20, True), (1e-6, 1e-2, True), (0, 1e6, False)]
)
def test_a_range_of_more_than_a_decade_runs_by_its_logarithm(low, high, log):
    assert interval("x", low, high).log is log


def test_a_logarithm_that_is_asked_for_is_taken():
    assert interval("x", 1, 2, log=True).at(0.5) == pytest.approx(math.sqrt(2), rel=1e-3)


@given(ranges(), SHARES)
def test_a_number_has_few_digits_and_rounding_it_again_changes_nothing(found, share):
    value = found.at(share)
    assert found.rounded(value) == value


@given(st.lists(st.integers(), min_size=2, max_size=9, unique=True), SHARES)
def test_choices_share_alike(values, share):
    found = choices("x", values)
    assert found.at(share) == values[min(len(values) - 1, math.floor(share * len(values)))]
    assert {found.at(place / 1000) for place in range(1000)} == set(values)


@pytest.mark.parametrize(
    ("low", "high", "log", "said"),
    [
        (2, 1, None, "inverted"),
        (1, 1, None, "empty"),
        ("a", "b", None, "finite"),
        (True, 2, None, "finite"),
        (0, math.inf, None, "finite"),
        (math.nan, 1, None, "finite"),
        (None, 1, None, "finite"),
        (0, 1, True, "above 0"),
        (-1, 1, True, "above 0"),
    ],
)
def test_no_range(low, high, log, said):
    with pytest.raises(ConfigError, match=said) as refused:
        interval("loss.x", low, high, log)
    assert str(refused.value).startswith("loss.x: ")


@pytest.mark.parametrize("values", [[], [1], [1, 1], ["a", "a"]])
def test_no_choice(values):
    with pytest.raises(ConfigError, match=r"loss\.x: .*nothing to search"):
        choices("loss.x", values)


@pytest.mark.parametrize(
    "name",
    [
        "seed",
        "dataset.seed",
        "dataset",
        "dataset.ratio",
        "loss",
        "model",
        "tracking.uri",
        "tuning.arm",
        "hydra.x",
        "search",
    ],
)
def test_what_no_search_sets(name):
    with pytest.raises(ConfigError, match=name):
        searchable(name)


@pytest.mark.parametrize("name", ["train.steps", "train.eval_every"])
def test_what_a_budget_is_counted_in_is_not_searched(name):
    """Trials of other lengths, or judged at other steps, are no equal budget."""
    with pytest.raises(ConfigError, match=name):
        searchable(name)


@pytest.mark.parametrize(
    "name", ["optimizer.lr", "loss.gamma", "optimizer.momentum", "train.batch_size", "model.hidden"]
)
def test_what_a_search_may_set(name):
    searchable(name)


def space(configured, *words, dataset="regression", asked=None, fixed=()):
    cfg = configured(dataset, *words)
    loss = next((word.partition("=")[2] for word in words if word.startswith("loss=")), "own")
    return spaces.space(cfg, loss, asked or {}, set(fixed))


SHARED = {"optimizer.lr", "optimizer.weight_decay"}


def test_a_loss_has_the_shared_ranges_and_its_own(configured):
    assert set(space(configured, "loss=mse")) == SHARED
    found = space(configured, "loss=huber")
    assert set(found) == {*SHARED, "loss.delta"}
    assert list(found) == sorted(found)
    assert found["optimizer.lr"] == space(configured, "loss=mse")["optimizer.lr"]


def test_what_is_set_is_not_searched(configured):
    assert set(space(configured, "loss=huber", fixed=["optimizer.lr", "loss.delta"])) == {"optimizer.weight_decay"}


def test_null_leaves_a_range_out_and_a_list_replaces_it(configured):
    assert "optimizer.lr" not in space(configured, "search.optimizer.lr=null")
    assert space(configured, "search.optimizer.lr=[1,2]")["optimizer.lr"] == Range(1.0, 2.0, False)
    assert space(configured, "+search.loss.delta=null", "loss=huber").keys() == SHARED
    values = space(configured, "search.optimizer.lr=[0.1,0.2,0.3]")["optimizer.lr"]
    assert values == Choices((0.1, 0.2, 0.3))


def test_a_range_of_the_command_line_is_for_the_losses_that_have_it(configured):
    asked = {"loss.delta": interval("loss.delta", 1, 2)}
    assert space(configured, "loss=huber", asked=asked)["loss.delta"] == asked["loss.delta"]
    assert set(space(configured, "loss=mse", asked=asked)) == SHARED


def test_a_range_of_another_optimizer_is_left(configured):
    assert set(space(configured, "+search.optimizer.momentum=[0.1,0.9]")) == SHARED
    assert "optimizer.momentum" in space(configured, "optimizer=sgd", "+search.optimizer.momentum=[0.1,0.9]")


@pytest.mark.parametrize(("word", "said"), [("loss.gama=[0,1]", "loss.gama"), ("dataset.train=[1,2]", "data")])
def test_a_range_of_nothing(word, said, configured):
    with pytest.raises(ConfigError, match=said):
        space(configured, "loss=huber", f"+search.{word}")


@pytest.mark.parametrize("given", ["[low,high]", "[0.1,high]", "[[1],[2]]"])
def test_choices_that_a_number_does_not_take(given, configured):
    """A learning rate is a number: what else is listed cannot be trained with."""
    with pytest.raises(ConfigError, match=r"search\.optimizer\.lr"):
        space(configured, f"search.optimizer.lr={given}")


def test_a_record_tells_of_each_kind():
    assert as_record(interval("x", 1, 2)) == {"low": 1.0, "high": 2.0, "log": False}
    assert as_record(choices("x", ["a", 1])) == {"choices": ["a", 1]}
