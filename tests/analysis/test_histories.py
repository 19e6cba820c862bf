"""Curves from a real store: every value, few enough steps, and of a step that was told twice the last."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric

from lossbench.analysis import histories as reading
from lossbench.analysis.histories import POINTS, histories, thinned


@pytest.fixture
def log(store):
    """Points of a new run: pairs of step and value, or triples with the time at which they were told."""

    def make(*points, metric="val/error"):
        run_id = store.client.create_run("0").info.run_id
        told = [Metric(metric, value, *(when or [step]), step) for step, value, *when in points]
        for start in range(0, len(told), 1000):
            store.client.log_batch(run_id, told[start : start + 1000])
        return run_id

    return make


def points(table):
    return [tuple(row) for row in table.itertuples(index=False)]


def test_every_value_of_every_run_by_run_and_step(store, log):
    middle = {log((30, 0.5), (10, 1.5), (20, value)): value for value in (1.0, 2.0)}
    log((10, 99.0))
    found = histories(store.client, list(middle), "val/error")
    assert list(found.columns) == ["run_id", "step", "value"]
    expected = [p for run in sorted(middle) for p in ((run, 10, 1.5), (run, 20, middle[run]), (run, 30, 0.5))]
    assert points(found) == expected


def test_other_metrics_and_runs_without_any_are_left_out(store, log):
    run = log((1, 1.0), metric="val/errors")
    store.client.log_metric(run, "val/error", 2.0, step=5)
    empty = log()
    assert points(histories(store.client, [run, empty], "val/error")) == [(run, 5, 2.0)]
    assert histories(store.client, [empty], "val/error").empty
    assert histories(store.client, [], "val/error").empty
    assert histories(store.client, [run], "nonsense").empty


@pytest.mark.parametrize("count", [POINTS, POINTS + 1, 1234])
def test_a_long_curve_is_thinned_and_keeps_its_ends(store, log, count):
    run = log(*((7 * step, float(step)) for step in range(1, count + 1)))
    found = histories(store.client, [run], "val/error")
    steps = list(found["step"])
    assert len(steps) == min(count, POINTS)
    assert (steps[0], steps[-1]) == (7, 7 * count)
    assert list(found["value"]) == [step / 7 for step in steps]
    gaps = {later - earlier for earlier, later in pairwise(steps)}
    assert max(gaps) - min(gaps) <= 7


def test_curves_of_runs_that_ended_early_are_thinned_at_the_same_steps(store, log):
    long, short = log(*((s, 1.0) for s in range(300))), log(*((s, 2.0) for s in range(150)))
    found = histories(store.client, [long, short], "val/error", points=31)
    by_run = {run: list(rows["step"]) for run, rows in found.groupby("run_id")}
    assert len(by_run[long]) == 31
    assert by_run[short] == [step for step in by_run[long] if step < 150]


def test_more_runs_than_a_query_takes_are_read_in_parts(store, log, monkeypatch):
    monkeypatch.setattr(reading, "RUNS", 2)
    where = [range(10 * number, 10 * number + 60) for number in range(5)]
    runs = [log(*((step, float(step)) for step in steps)) for steps in where]
    found = histories(store.client, runs, "val/error", points=20)
    kept = thinned(sorted(set().union(*where)), 20)
    expected = [(run, s, float(s)) for run, steps in zip(runs, where, strict=True) for s in steps if s in kept]
    assert points(found) == sorted(expected)
    assert {0, 99} <= set(found["step"])


def test_a_step_that_was_told_twice_counts_as_it_was_told_last(store, log):
    run = log((1, 5.0, 300), (1, 9.0, 100), (1, 7.0, 200), (2, 1.0, 50))
    assert points(histories(store.client, [run], "val/error")) == [(run, 1, 5.0), (run, 2, 1.0)]


def test_numbers_that_are_not_are_left_out(store, log):
    run = log((1, 1.0), (2, float("nan")), (3, 3.0))
    assert points(histories(store.client, [run], "val/error")) == [(run, 1, 1.0), (run, 3, 3.0)]


@given(st.sets(st.integers(0, 10**6), max_size=400).map(sorted), st.integers(2, 150))
def test_thinned_steps_are_some_of_them_with_both_ends(steps, most):
    kept = thinned(steps, most)
    assert kept == sorted(set(kept) & set(steps))
    assert len(kept) == min(len(steps), most)
    assert not steps or (kept[0], kept[-1]) == (steps[0], steps[-1])
