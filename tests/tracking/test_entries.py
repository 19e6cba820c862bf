"""Entries that go to MLflow together say what they say one by one."""

from __future__ import annotations

import threading

from mlflow.entities import Metric, Param, RunTag

from lossbench.tracking import entries


def batch(**values):
    return {"do": "batch", "run": "one", **values}


def test_what_is_written_together_is_what_is_written_one_by_one(store):
    """The later tag wins, points keep their order, and a param that is repeated stays."""
    parts = [
        batch(params=[("a", "1"), ("b", "2")]),
        batch(tags=[("state", "begun")], points=[("loss", 3.0, 1, 0), ("loss", 2.0, 2, 1)]),
        batch(params=[("b", "2"), ("c", "3")], tags=[("state", "ended")], points=[("loss", 1.0, 3, 2)]),
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = entries.joined(whole, part)
    experiment = store.experiment("together")
    runs = [store.client.create_run(experiment).info.run_id for _ in range(2)]
    for run, written in zip(runs, (parts, [whole]), strict=True):
        for one in written:
            store.client.log_batch(
                run,
                [Metric(*point) for point in one.get("points", ())],
                [Param(*pair) for pair in one.get("params", ())],
                [RunTag(*pair) for pair in one.get("tags", ())],
            )
    apart, together = (store.client.get_run(run).data for run in runs)
    assert apart.params == together.params == {"a": "1", "b": "2", "c": "3"}
    assert apart.tags["state"] == together.tags["state"] == "ended"
    histories = [[(p.step, p.value) for p in store.client.get_metric_history(run, "loss")] for run in runs]
    assert histories == [[(0, 3.0), (1, 2.0), (2, 1.0)]] * 2


def test_what_mlflow_refuses_is_not_joined():
    points = [("loss", 0.0, 0, step) for step in range(600)]
    assert entries.joined(batch(points=points), batch(points=points)) is None
    assert entries.joined(batch(params=[("a", "1")]), batch(params=[("a", "2")])) is None
    many = [(f"p{number}", "") for number in range(60)]
    more = [(f"q{number}", "") for number in range(60)]
    assert entries.joined(batch(params=many), batch(params=more)) is None


def test_entries_that_wait_are_written_in_fewer_calls(store, monkeypatch):
    """While the writer is busy, a run's batches become one, and nothing of it is lost."""
    calls, free = [], threading.Event()
    write = store._sink.client.log_batch
    monkeypatch.setattr(store._sink.client, "log_batch", lambda *a, **k: calls.append(a) or write(*a, **k))
    store.later(free.wait)
    recorder = store.resume(store.client.create_run("0").info.run_id)
    recorder.params({"a": 1})
    recorder.tags({"state": "begun"})
    recorder.metrics(0, {"loss": 1.0})
    recorder.send()
    recorder.close("FINISHED")
    free.set()
    recorder.wait()
    assert len(calls) == 1
    found = store.client.get_run(recorder.run_id)
    assert (found.info.status, found.data.params["a"], found.data.tags["state"]) == ("FINISHED", "1", "begun")
    assert found.data.metrics["loss"] == 1.0
