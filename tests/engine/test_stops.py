"""A stack that is stopped goes on as if nobody had stopped it, in whichever company."""

from __future__ import annotations

import copy
import errno
from dataclasses import replace
from functools import partial

import pytest
import torch
from engine.toys import EXAMPLES, Toy, assert_close, assert_equal, plan, sigmoid_terms, stopped, train
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.engine import Stack, checkpoints
from lossbench.engine.optimizers import BY_NUMBER
from lossbench.losses import cross_entropy, focal, huber, mae, mse

OPTIMIZERS = {
    "adam": {"optimizer": torch.optim.Adam},
    "sgd": {"optimizer": torch.optim.SGD, "options": {"lr": 0.05, "momentum": 0.9, "nesterov": True}},
    "adamw-fused": {"optimizer": torch.optim.AdamW, "options": {"lr": 0.01, "fused": True}},
}
EACH = pytest.mark.parametrize("optimizer", OPTIMIZERS)
LONG = plan(record_every=7, schedule="cosine")


def regressions(**changed):
    return [Toy(loss, seed, **changed) for seed, loss in enumerate([mse, partial(huber, delta=0.5), mae])]


def images(**changed):
    losses = [cross_entropy, partial(focal), cross_entropy]
    return [Toy(loss, seed, "multiclass", "group", **changed) for seed, loss in enumerate(losses)]


def gone_on(toys, states, earlier, how):
    """What comes of stopped toys, with the points recorded before the stop in front."""
    found = train(toys, how, states=states)
    for one, points in zip(found, earlier, strict=True):
        one.seen[:0] = points
    return found


def of(indices, *lists):
    return tuple([items[i] for i in indices] for items in lists)


@EACH
@pytest.mark.parametrize("many", [regressions, images])
def test_a_stopped_stack_goes_on_to_the_bit(many, optimizer, subtests):
    toys = many(**OPTIMIZERS[optimizer])
    expected = train(toys, LONG)
    for after in (0, 1, 5, 9, 14, 19):
        with subtests.test(after=after):
            states, seen = stopped(toys, LONG, after)
            assert [state["steps"] for state in states] == [after] * 3
            for one, whole in zip(gone_on(toys, states, seen, LONG), expected, strict=True):
                assert_equal(one, whole)


@EACH
@pytest.mark.parametrize("many", [regressions, images])
def test_it_goes_on_in_other_company(many, optimizer):
    toys = many(**OPTIMIZERS[optimizer])
    states, seen = stopped(toys, LONG, 9)
    whole = train(toys, LONG)
    for indices in [(0, 1), (2, 1), (2, 0)]:
        pair = gone_on(*of(indices, toys, states, seen), LONG)
        for one, index in zip(pair, indices, strict=True):
            assert_equal(one, whole[index])
    for index in range(3):
        (one,) = gone_on(*of([index], toys, states, seen), LONG)
        assert_close(one, whole[index])


@EACH
def test_runs_that_were_stopped_alone_go_on_together(optimizer):
    toys = regressions(**OPTIMIZERS[optimizer])
    parts = [stopped([toy], LONG, 9) for toy in toys]
    states, seen = [part[0][0] for part in parts], [part[1][0] for part in parts]
    for one, whole in zip(gone_on(toys, states, seen, LONG), train(toys, LONG), strict=True):
        assert_close(one, whole)


@pytest.mark.parametrize("optimizer", BY_NUMBER, ids=lambda optimizer: optimizer.__name__)
def test_every_optimizer_is_taken_up_where_it_was_put_down(optimizer):
    more = {torch.optim.SGD: {"momentum": 0.9}, torch.optim.RMSprop: {"momentum": 0.5, "centered": True}}
    toys = regressions(optimizer=optimizer, options={"lr": 0.01, "weight_decay": 0.1, **more.get(optimizer, {})})
    states, seen = stopped(toys, LONG, 11)
    whole = train(toys, LONG)
    for one, expected in zip(gone_on(toys, states, seen, LONG), whole, strict=True):
        assert_equal(one, expected)
    (one,) = gone_on(toys[:1], states[:1], seen[:1], LONG)
    assert_close(one, whole[0])


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=3, unique=True), st.data())
def test_stops_can_follow_one_another_in_changing_company(stops, data):
    toys = regressions()
    states: list = [None] * 3
    seen: list = [[], [], []]
    done = 0
    for after in sorted(stops):
        apart = data.draw(st.sampled_from([[(0, 1, 2)], [(0, 2), (1,)], [(0,), (1,), (2,)], [(2, 1), (0,)]]))
        for indices in apart:
            some, now = of(indices, toys, states)
            given_states, points = stopped(some, LONG, after - done, states=now)
            for index, state, more in zip(indices, given_states, points, strict=True):
                states[index] = state
                seen[index] = seen[index] + more
        done = after
    for one, whole in zip(gone_on(toys, states, seen, LONG), train(toys, LONG), strict=True):
        assert_close(one, whole)


@EACH
@pytest.mark.parametrize("many", [regressions, images])
def test_states_survive_a_file(many, optimizer, tmp_path):
    toys = many(**OPTIMIZERS[optimizer])
    states, seen = stopped(toys, LONG, 9)
    for index, state in enumerate(states):
        checkpoints.save(tmp_path / f"{index}.pt", state)
    assert all(path.stat().st_size < 100_000 for path in tmp_path.iterdir())
    taken = [checkpoints.read(tmp_path / f"{index}.pt") for index in range(3)]
    for one, whole in zip(gone_on(toys, taken, seen, LONG), train(toys, LONG), strict=True):
        assert_equal(one, whole)
    checkpoints.drop(tmp_path / "0.pt")
    assert checkpoints.read(tmp_path / "0.pt") is None
    assert len(list(tmp_path.iterdir())) == 2


def flipped(whole, place):
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


DAMAGED = {
    "nonsense": lambda whole: b"nonsense",
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[:5000],
    "longer": lambda whole: whole + b"0",
    "a bit of a weight": lambda whole: flipped(whole, len(whole) // 2),
    "a bit of its digest": lambda whole: flipped(whole, 3),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_not_as_it_was_saved_is_no_state(damage, tmp_path):
    path = tmp_path / "state.pt"
    checkpoints.save(path, stopped(regressions(), LONG, 3)[0][0])
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    with pytest.raises(checkpoints.Broken):
        checkpoints.read(path)


def test_a_state_stays_until_the_next_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    first, second = (stopped(regressions(), LONG, after)[0][0] for after in (3, 5))
    checkpoints.save(path, first)

    def full(*whatever):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.open", full)
        checkpoints.save(path, second)
    assert checkpoints.read(path)["steps"] == 3
    checkpoints.save(path, second)
    assert checkpoints.read(path)["steps"] == 5
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_kept_before_any_step_goes_on_to_the_bit():
    toys = regressions()
    kept = []
    whole = train(toys, LONG, checkpoint=lambda states: kept.append(states()))
    assert len(kept) == LONG.steps
    for after in (1, 7, 13, 19):
        states = kept[after]
        assert [state["steps"] for state in states] == [after] * 3
        earlier = [[point for point in one.seen if point[0] <= after] for one in whole]
        for one, complete in zip(gone_on(toys, states, earlier, LONG), whole, strict=True):
            assert_equal(one, complete)


@pytest.mark.parametrize("after", [7, 13])
def test_one_that_had_diverged_stays_where_it_was(after, tmp_path):
    toys = regressions()
    toys[1] = replace(toys[1], poison=3)
    whole = train(toys, plan())
    assert whole[1].diverged < 6
    states, seen = stopped(toys, plan(), after)
    for index, state in enumerate(states):
        checkpoints.save(tmp_path / f"{index}.pt", state)
    states = [checkpoints.read(tmp_path / f"{index}.pt") for index in range(3)]
    for one, expected in zip(gone_on(toys, states, seen, plan()), whole, strict=True):
        assert_equal(one, expected)
    (ill,) = gone_on(toys[1:2], states[1:2], seen[1:2], plan())
    assert_equal(ill, whole[1])


def test_a_divergence_that_the_stop_came_before_is_found_at_its_step(subtests):
    """Numbers that are not finite wait in the record's window until it closes."""
    toys = regressions()
    toys[1] = replace(toys[1], poison=EXAMPLES // 2)
    whole = train(toys, LONG)
    for after in range(1, 8):
        with subtests.test(after=after):
            states, seen = stopped(toys, LONG, after)
            for one, expected in zip(gone_on(toys, states, seen, LONG), whole, strict=True):
                assert_equal(one, expected)
            (ill,) = gone_on(toys[1:2], states[1:2], seen[1:2], LONG)
            assert_close(ill, whole[1])


def test_players_and_their_noise_go_on():
    toys = [Toy(sigmoid_terms, seed, "game") for seed in (0, 1, 1)]
    states, seen = stopped(toys, LONG, 9)
    whole = train(toys, LONG)
    for one, expected in zip(gone_on(toys, states, seen, LONG), whole, strict=True):
        assert_equal(one, expected)
    (one,) = gone_on(toys[1:2], states[1:2], seen[1:2], LONG)
    assert_close(one, whole[1])


@pytest.mark.parametrize("together", [1, 3])
@EACH
def test_training_that_goes_on_leaves_states_alone(optimizer, together):
    replicas = [toy.made() for toy in regressions(**OPTIMIZERS[optimizer])[:together]]
    stack = Stack(replicas, [None] * together, LONG)
    for _ in range(3):
        stack.step()
    states = stack.states()
    kept = copy.deepcopy(states)
    stack.step()
    torch.testing.assert_close(states, kept, rtol=0, atol=0, equal_nan=True)


def test_states_are_no_part_of_what_goes_on():
    toys = regressions()
    states, _ = stopped(toys, LONG, 9)
    kept = copy.deepcopy(states)
    once, again = (train(toys, LONG, states=states) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert_equal(one, other)
    torch.testing.assert_close(states, kept, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("other", [None, 12])
def test_states_of_different_steps_do_not_stack(other):
    toys = regressions()
    states, _ = stopped(toys, LONG, 9)
    if other is None:
        states[1] = None
    else:
        states[1] = stopped(toys, LONG, other)[0][1]
    with pytest.raises(ValueError, match="same step"):
        train(toys, LONG, states=states)
