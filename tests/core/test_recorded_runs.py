"""Runs read from the tables of a database are those that MLflow gives."""

from __future__ import annotations

import math

import pytest
from mlflow.entities import Dataset, DatasetInput, Metric, Param

from lossbench.core import recorded_runs as reading
from lossbench.core.recorded_runs import recorded_runs

WANTED = {"kind": "run", "of": "a"}


@pytest.fixture
def runs(store):
    """The ids of three runs with both tags, the newest first, among others that are not wanted."""
    client = store.client
    other = client.create_experiment("other")
    ids = []
    for start, experiment in ((30, "0"), (20, other), (20, "0")):
        tags = {**WANTED, "mlflow.runName": f"at {start}", "empty": ""}
        run_id = client.create_run(experiment, start, tags).info.run_id
        points = [
            Metric("test/error", start / 7, 1, 5),
            Metric("test/error", start / 3, 2, 9),
            Metric("y", math.nan, 1, 0),
        ]
        client.log_batch(run_id, points, [Param("lr", f"{start}"), Param("loss", "mse")])
        client.log_inputs(run_id, [DatasetInput(Dataset(f"d{start}", "digest", "code", '{"a": 1}', "{}", "{}"))])
        client.set_terminated(run_id, "KILLED", 99)
        ids.append(run_id)
    deleted = client.create_run("0", 40, WANTED).info.run_id
    client.delete_run(deleted)
    client.create_run("0", 40, {"kind": "run"})
    client.create_run("0", 40, {"kind": "run", "of": "b"})
    client.create_run(client.create_experiment("elsewhere"), 40, WANTED)
    return [ids[0], *sorted(ids[1:])]


def told(run):
    number = {key: repr(value) for key, value in run.data.metrics.items()}  # nan is nan
    inputs = [dict(entry.dataset) for entry in run.inputs.dataset_inputs]
    return dict(run.info), run.data.tags, run.data.params, number, inputs


@pytest.mark.parametrize("at_once", [1, 500])
def test_the_runs_of_a_database_are_those_of_mlflow(store, runs, at_once, monkeypatch):
    monkeypatch.setattr(reading, "RUNS", at_once)
    where = ["0", store.client.get_experiment_by_name("other").experiment_id]
    found = list(recorded_runs(store.client, where, WANTED))
    assert [run.info.run_id for run in found] == runs
    theirs = store.client.search_runs(where, "tags.kind = 'run' and tags.of = 'a'")
    assert [told(run) for run in found] == [told(run) for run in theirs]


def test_no_run_of_a_server_is_lost_between_pages(store, runs, monkeypatch):
    monkeypatch.setattr(reading, "PAGE", 1)
    where = ["0", store.client.get_experiment_by_name("other").experiment_id]
    assert [run.info.run_id for run in reading._served(store.client, where, WANTED)] == runs


def test_nothing_is_found_where_nothing_is(store, runs):
    assert list(recorded_runs(store.client, ["0"], {"kind": "trial"})) == []
    assert list(recorded_runs(store.client, [], WANTED)) == []
