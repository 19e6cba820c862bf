"""A replica stops after so many evaluations without a better one, alone, in company and across interruptions alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from engine.toys import Toy, alone, assert_close, assert_equal, plan, recording, stopped, train

from lossbench.core import Metric
from lossbench.engine import Paused, checkpoints, fit
from lossbench.losses import huber, mae, mse
from lossbench.runs import builders

STEPS = 80


def patient(patience, **changed):
    return plan(steps=STEPS, eval_every=4, record_every=3, patience=patience, **changed)


SEEDS = (2, 5, 3, 4)  # after whose steps 28, 40 and 12 nothing gets better twice; the last makes all steps


def toys(**changed):
    losses = [mse, partial(huber, delta=0.5), mae, mse]
    return [Toy(loss, seed, **changed) for loss, seed in zip(losses, SEEDS, strict=True)]


def by_hand(seen, patience):
    """The last and the best evaluation, from those of a run that makes all steps."""
    best, best_step, waited = math.inf, None, 0
    for step, value in ((step, values["val/mae"]) for step, values in seen if "val/mae" in values):
        best, best_step, waited = (value, step, 0) if value < best else (best, best_step, waited + 1)
        if waited == patience:
            return step, best_step, best
    return STEPS, best_step, best


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_stops_where_the_evaluations_say_so(patience, schedule):
    ends = set()
    for toy in toys():
        (whole,) = train([toy], patient(None, schedule=schedule))
        (found,) = train([toy], patient(patience, schedule=schedule))
        end, best_step, best = by_hand(whole.seen, patience)
        assert found.seen == [point for point in whole.seen if point[0] <= end]
        assert (found.fitted["steps"], found.fitted["best_step"], found.fitted["best_value"]) == (end, best_step, best)
        assert found.fitted["stopped"] == (end < STEPS)
        assert found.diverged is None
        if schedule == "constant":  # its last weights are those of a run of so many steps
            (short,) = train([toy], replace(patient(None), steps=end))
            assert all(torch.equal(tensor, short.weights[name]) for name, tensor in found.weights.items())
        ends.add(end)
    assert len(ends) > 1


def ends(trained):
    return [(one.fitted["steps"], one.fitted["stopped"], one.fitted["waited"]) for one in trained]


@pytest.mark.parametrize("poison", [None, 3])
def test_in_a_stack_each_stops_as_it_does_alone(poison):
    many = toys()
    many[1] = replace(many[1], poison=poison)
    found, expected = train(many, patient(2)), alone(many, patient(2))
    assert ends(found) == ends(expected)
    assert len({steps for steps, *_ in ends(found)}) == 4 or poison
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)
    assert (found[1].diverged is None) == (poison is None)


def test_those_that_stay_never_had_company():
    many = toys()
    found = train(many, patient(2))
    last = max(range(4), key=lambda index: found[index].fitted["steps"])
    gone = min(range(4), key=lambda index: found[index].fitted["steps"])
    rest = [index for index in range(4) if index != gone]
    for index, one in zip(rest, train([many[index] for index in rest], patient(2)), strict=True):
        assert_close(found[index], one)
    assert last in rest


@pytest.mark.parametrize("after", [3, 17, 24, 33, 41, 60])
def test_interrupted_it_goes_on_as_if_it_had_not_been(after, tmp_path):
    many = toys()
    whole = train(many, patient(2))
    states, seen = stopped(many, patient(2), after)
    for index, state in enumerate(states):
        checkpoints.save(tmp_path / f"{index}.pt", state)
    states = [checkpoints.read(tmp_path / f"{index}.pt") for index in range(4)]
    found = train(many, patient(2), states=states)
    for one, points, expected in zip(found, seen, whole, strict=True):
        one.seen[:0] = points
        assert_equal(one, expected)
    for index, expected in enumerate(whole):
        (one,) = train(many[index : index + 1], patient(2), states=states[index : index + 1])
        one.seen[:0] = seen[index]
        assert_close(one, expected)


def paused(many, until):
    seen = [[] for _ in many]
    made = [toy.made(recording(points)) for toy, points in zip(many, seen, strict=True)]
    with pytest.raises(Paused) as caught:
        fit(made, patient(2), until=until)
    return caught.value, seen


def test_one_that_stopped_before_a_pause_has_ended_there():
    many, whole = toys(), train(toys(), patient(2))
    steps = [one.fitted["steps"] for one in whole]
    until = sorted(steps)[1]  # one stops before it, and one at it
    pause, seen = paused(many, until)
    assert [result.ended for result in pause.fitted] == [end <= until for end in steps]
    assert [result.steps for result in pause.fitted] == [min(end, until) for end in steps]
    found = train(many, patient(2), states=pause.states)
    for one, points, expected in zip(found, seen, whole, strict=True):
        one.seen[:0] = points
        assert_equal(one, expected)
    three = fit([toy.made() for toy in many[:3]], patient(2), until=max(steps[:3]))  # no pause: nobody would go on
    assert [result.steps for result in three] == steps[:3]


def test_all_steps_are_heard_of():
    for many in (toys(), [replace(toy, poison=3 if at == 1 else None) for at, toy in enumerate(toys())]):
        heard = []
        whole = train(many, patient(2), watch=lambda *said: heard.append(said))  # noqa: B023
        assert sum(steps for steps, _ in heard) == 4 * STEPS
        assert sum(diverged for _, diverged in heard) == sum(one.diverged is not None for one in whole)
        after = sorted(one.fitted["steps"] for one in whole)[1] + 2
        states, _ = stopped(many, patient(2), after)
        heard.clear()
        train(many, patient(2), states=states, watch=lambda *said: heard.append(said))  # noqa: B023
        assert sum(steps for steps, _ in heard) == sum(STEPS - state["steps"] for state in states)


@dataclass(frozen=True)
class Sparse:
    """A metric that is a number only at some evaluations."""

    loss: object
    info: object
    values: tuple[float, ...]
    metrics = (Metric("score", "what is written down", True),)
    calls = []  # noqa: RUF012

    def step(self, nets, batch, noise):
        yield "model", self.loss(nets.model(batch.inputs), batch.targets)

    def predict(self, nets, batch, noise, *, closely=False):
        return nets.model(batch.inputs)

    def measure(self, outputs, targets):
        value = self.values[len(self.calls)]
        self.calls.append(value)
        return {} if math.isnan(value) else {"score": value}


NONE = math.nan


@pytest.mark.parametrize(
    ("values", "end", "best"),
    [
        ((1, 2, 2, 2, 5), 4, 2),  # an equal one is no better
        ((1, NONE, NONE, 3), 3, 1),  # nor one that is no number
        ((NONE, 1, 0, 2, 1, 1, 5), 6, 4),  # any number is better than none
        ((1, 0, 2, 1, 3, 2, 4, 3, 5, 4, 6, 5, 7, 6, 8, 7, 9, 8, 10, 9), 20, 19),
    ],
)
def test_what_counts_as_better(values, end, best):
    Sparse.calls.clear()
    (found,) = train([Toy(task=partial(Sparse, values=values))], patient(2))
    assert (found.fitted["steps"], found.fitted["best_step"]) == (4 * end, 4 * best)


def test_nothing_changes_without_patience():
    for one, other in zip(train(toys(), patient(None)), train(toys(), patient(STEPS)), strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("patience", [None, 3])
def test_a_plan_has_the_patience_of_the_configuration(patience, configured):
    words = [] if patience is None else [f"train.patience={patience}"]
    assert builders.plan(configured("regression", *words).train).patience == patience
