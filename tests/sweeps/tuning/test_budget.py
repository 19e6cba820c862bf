"""Budgets: the same amount for every loss, spent to the last step and never more, wherever a search was stopped."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.core import ConfigError
from lossbench.sweeps.tuning import halving
from lossbench.sweeps.tuning.budget import Budget
from lossbench.sweeps.tuning.searching import Searching
from lossbench.sweeps.tuning.study import Study, Trial

SETTINGS = {"trials": 20, "steps": None, "seconds": None, "initial": 10, "batch": None}
STEPS = 60  # of a trial
BATCHES = st.sampled_from([None, 1, 3, 5, 7])
COSTS = st.lists(st.sampled_from([0, 1, STEPS // 2, STEPS, STEPS]), min_size=1, max_size=13)


def read(learns=False, **given):
    return Budget.read({**SETTINGS, **given}, learns=learns)


@pytest.mark.parametrize(
    ("given", "unit", "amount", "trials"),
    [({}, "trials", 20, 20), ({"steps": 500}, "steps", 500, None), ({"seconds": 9}, "seconds", 9, None)],
)
def test_a_budget_has_one_unit(given, unit, amount, trials):
    budget = read(**given)
    assert (budget.unit, budget.amount, budget.trials) == (unit, amount, trials)


@pytest.mark.parametrize("unit", ["trials", "steps", "seconds"])
@pytest.mark.parametrize("amount", [0, -1, 1.5, "many", True])
def test_an_amount_that_is_none(unit, amount):
    with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.{unit}={amount}: a whole number, at least 1"):
        read(**{unit: amount})


@pytest.mark.parametrize("batch", [0, -1, 2.5, "all"])
def test_a_batch_that_is_none(batch):
    with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.batch={batch}"):
        read(batch=batch)


def test_two_units_are_refused():
    with pytest.raises(ConfigError, match="one unit"):
        read(steps=100, seconds=10)


def test_what_learns_has_trials_to_learn_from():
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.trials=9: fewer than the 10"):
        read(learns=True, trials=9)
    assert read(learns=True, trials=10).amount == 10
    assert read(learns=False, trials=9).amount == 9
    assert read(learns=True).batch < 10  # it learns from one batch for the next
    assert read(learns=True, batch=3).batch == 3


def test_steps_pay_for_the_first_trials():
    for steps, initial in ((STEPS - 1, 1), (10 * STEPS - 1, 10)):
        with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.steps={steps}: .* {initial * STEPS}"):
            read(steps=steps).affords(STEPS, initial)
        read(steps=steps + 1).affords(STEPS, initial)
    read(trials=1).affords(STEPS, 10)


def trained(number, costs, left=STEPS):
    """A trial as it ended: at its last step, at the end of the budget, or earlier, since it diverged."""
    cost = costs[number % len(costs)]
    if cost < STEPS and cost <= left:
        return Trial(number, {}, "diverged", steps=cost)
    return Trial(number, {}, "finished" if left >= STEPS else "cut", 0.5, min(left, STEPS))


def spent(budget, costs, stops=()):
    """The trials of a search, and which were asked for together. It is stopped after as many as `stops` say were told.

    Trials of a batch end in an order of their own.
    """
    known, batches, stops = {}, [], list(stops)
    for _ in range(1000):
        upto = budget.upto([known[number] for number in sorted(known)], STEPS)
        batch = [number for number in range(upto) if number not in known]
        if not batch:
            return known, batches
        batches.append(batch)
        left = budget.left(list(known.values())) if budget.unit == "steps" else 10**9
        ended = []
        for number in batch:
            ended.append(trained(number, costs, left))
            left -= STEPS
        until = stops.pop() if stops else len(batch)
        for trial in sorted(ended, key=lambda trial: (trial.steps, trial.number))[: max(1, until)]:
            known[trial.number] = trial
    raise AssertionError("it never ends")


@given(st.integers(1, 30), BATCHES, COSTS, st.lists(st.integers(0, 9), max_size=5))
def test_trials_are_as_many_as_were_asked_for_whatever_came_of_them(amount, batch, costs, stops):
    known, _ = spent(Budget("trials", amount, batch), costs, stops)
    assert sorted(known) == list(range(amount))


@given(st.integers(1, 30), st.integers(1, 7), COSTS, st.lists(st.integers(0, 9), max_size=5))
def test_batches_are_the_same_wherever_it_was_stopped(amount, batch, costs, stops):
    """A trial is never chosen before all of the batches before its own are known."""
    _, batches = spent(Budget("trials", amount, batch), costs, stops)
    for asked in batches:
        assert len({number // batch for number in asked}) == 1
    places = [asked[0] // batch for asked in batches]
    assert places == sorted(places)


def test_without_a_batch_all_are_asked_for_at_once():
    assert spent(Budget("trials", 20, None), [STEPS])[1] == [list(range(20))]
    assert spent(Budget("steps", 9 * STEPS, None), [STEPS])[1] == [list(range(9))]


@given(st.integers(STEPS, 20 * STEPS), BATCHES, COSTS)
def test_steps_are_spent_to_the_last_and_never_more(amount, batch, costs):
    known, _ = spent(Budget("steps", amount, batch), costs)
    total = sum(trial.steps for trial in known.values())
    assert total <= amount
    if costs.count(STEPS) * 2 >= len(costs):
        assert total == amount
    assert sorted(known) == list(range(len(known)))


@given(st.integers(STEPS, 20 * STEPS), BATCHES, COSTS, st.lists(st.integers(1, 19), min_size=1, max_size=5))
@settings(max_examples=300)
def test_steps_buy_the_same_trials_wherever_it_was_stopped(amount, batch, costs, stops):
    budget = Budget("steps", amount, batch)
    assert spent(budget, costs, stops)[0] == spent(budget, costs)[0]


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("unit", ["steps", "seconds"])
def test_a_loss_that_fails_at_once_ends(unit, batch):
    known, _ = spent(Budget(unit, 8 * STEPS, batch), [0])
    assert 8 <= len(known) <= 20


def test_a_loss_that_mostly_fails_at_once_ends():
    known, _ = spent(Budget("steps", 8 * STEPS, 5), [0, 0, 0, STEPS] + [0] * 200)
    assert len(known) <= 80


@pytest.mark.parametrize("batch", [None, 4])
def test_seconds_end_near_what_they_were(batch):
    """Three seconds a trial: no trial is begun when they are spent, and few when they nearly are."""
    budget, known = Budget("seconds", 60, batch), []
    while (upto := budget.upto(known, STEPS)) > len(known):
        assert sum(trial.seconds for trial in known) < 60
        known += [Trial(number, {}, "finished", 0.5, STEPS, 3.0) for number in range(len(known), upto)]
    assert 60 <= sum(trial.seconds for trial in known) <= 60 + 3 * (batch or 1)


class Simulated(Searching):
    """A search whose training is a table of what each trial costs; all else is the search itself."""

    def __init__(self, budget, eta, costs):
        board = SimpleNamespace(expect=self._asks, advance=lambda *_: None, count=lambda *_: None)
        super().__init__(None, None, None, budget, eta, board)
        self.costs, self.reached, self.asks = costs, {}, 0

    def _asks(self, runs, steps):
        self.asks += 1
        assert self.asks < 1000, "it never ends"

    def _run(self, batch, until):
        ran = []
        for search, trial in batch:
            where = (search.study.name, trial.number)
            dies = self.costs[search.study.name](trial.number)
            step = min(dies, (until or STEPS) * len(search.seeds))
            self.reached[where] = step = max(step, self.reached.get(where, 0))
            outcome = "diverged" if step == dies < STEPS * len(search.seeds) else "paused" if until else "finished"
            score = float("nan") if outcome == "diverged" else trial.settings["x"]
            ran.append((search, Trial(trial.number, trial.settings, outcome, score, step)))
        return ran

    def _end(self, paused, outcome):
        self._tell([(s, Trial(t.number, t.settings, outcome, t.score, t.steps)) for s, t in paused])


def simulated(names, *, seeds=1):
    from lossbench.sweeps.tuning import draws
    from lossbench.sweeps.tuning.space import interval

    space = {"x": interval("x", 0, 1)}
    storage = optuna.storages.InMemoryStorage()
    return [
        SimpleNamespace(
            study=Study(storage, name, space, draws.random(space, 0), higher_is_better=False),
            seeds=list(range(seeds)),
            steps=STEPS * seeds,
            label=name,
            primary=SimpleNamespace(name="x", arrow="", higher_is_better=False),
            cfg=SimpleNamespace(train=SimpleNamespace(steps=STEPS)),
        )
        for name in names
    ]


@pytest.fixture
def pauses(monkeypatch):
    """Pauses at a ninth and a third, as an evaluation every step gives them."""

    def rungs(train, eta, trials):
        levels = [level for level in (2, 1) if eta and eta**level <= trials]
        return [max(1, train.steps // eta**level) for level in levels]

    monkeypatch.setattr(halving, "rungs", rungs)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("eta", [None, 3])
def test_every_loss_spends_the_same_steps_to_the_last(eta, seeds, pauses, capsys):
    """One loss diverges now and then, one always goes on; the budget is no multiple of a trial."""
    amount = 7 * STEPS * seeds + 22 * seeds
    searches = simulated(["steady", "shaky"], seeds=seeds)
    costs = {"steady": lambda n: 10**9, "shaky": lambda n: (3 * seeds) if n % 4 == 1 else 10**9}
    Simulated(Budget("steps", amount, None), eta, costs).spend(searches)
    for search in searches:
        assert sum(trial.steps for trial in search.study.trials) == amount, search.label


@pytest.mark.parametrize("dies", [0.1, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("batch", [None, 5])
def test_pruned_searches_that_end_apart_never_overspend(dies, batch, pauses, capsys):
    """What is left of one loss's budget may be shorter than the first pause of another's batch."""
    for amount in range(5 * STEPS, 25 * STEPS, 29):
        searches = simulated(["steady", "shaky"])
        dead = {number for number in range(1000) if Random(amount + number).random() < dies}
        costs = {"steady": lambda n: 10**9, "shaky": lambda n, dead=dead: 7 if n in dead else 10**9}
        Simulated(Budget("steps", amount, batch), 2, costs).spend(searches)
        for search in searches:
            assert sum(trial.steps for trial in search.study.trials) <= amount, (amount, search.label)


@pytest.mark.parametrize("eta", [None, 3])
def test_a_rest_that_is_no_step_on_every_split_ends(eta, pauses, capsys):
    """One step is left for two splits, since a trial diverged after an odd number: it cannot be spent."""
    (search,) = simulated(["shaky"], seeds=2)
    Simulated(Budget("steps", 10 * STEPS, None), eta, {"shaky": lambda n: 7 if n == 1 else 10**9}).spend([search])
    assert 10 * STEPS - 1 <= sum(trial.steps for trial in search.study.trials) <= 10 * STEPS


def test_pruned_trials_cost_what_they_used(pauses, capsys):
    """Of nine, three go on at a ninth and one at a third: 6·⌊60/9⌋ + 2·20 + 60 steps, and the best is the one."""
    (search,) = simulated(["steady"])
    Simulated(Budget("trials", 9, None), 3, {"steady": lambda n: 10**9}).spend([search])
    trials = search.study.trials
    assert sorted(trial.steps for trial in trials) == [6] * 6 + [20] * 2 + [60]
    best = min(trials, key=lambda trial: trial.settings["x"])
    assert (best.steps, best.outcome) == (60, "finished")
    assert search.study.best() == best
