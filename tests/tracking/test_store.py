"""Records in a real store: every point, none that is not finite, whatever ends the run."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from lossbench import tracking
from lossbench.core import ConfigError, DatasetInfo
from lossbench.tracking import entries

FACTS = DatasetInfo("toy", "regression", (1,), (1,), "nowhere", "none", "ab" * 32)


def points(store, run_id, name):
    return [(point.step, point.value) for point in store.client.get_metric_history(run_id, name)]


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("how", ["flush", "send"])
def test_every_point_arrives_once_and_in_order(store, how, together):
    recorders = [store.start("test", "run", {"lossbench.kind": "run"}) for _ in range(together)]
    for step in range(1, 2501):
        for index, recorder in enumerate(recorders):
            recorder.metrics(step, {"train/loss": index + 1 / step})
        if step % 100 == 0 and how == "flush":
            store.flush(recorders)
        elif step % 100 == 0:
            for recorder in recorders:
                recorder.send()
    for index, recorder in enumerate(recorders):
        recorder.end("FINISHED")
        expected = [(step, index + 1 / step) for step in range(1, 2501)]
        assert points(store, recorder.run_id, "train/loss") == expected


@pytest.mark.parametrize(("share", "rests"), [(1e-6, True), (1e6, False)])
def test_a_flush_sends_what_all_hold_unless_the_writer_rests(store, share, rests, monkeypatch):
    monkeypatch.setattr("lossbench.tracking.store.SHARE", share)
    recorders = [store.start("test", "run", {}) for _ in range(2)]

    def flush(step):
        for recorder in recorders:
            recorder.metrics(step, {"a": float(step)})
        store.flush(recorders)
        store.later(len, "").result()  # the writer has done what was asked of it
        return [points(store, recorder.run_id, "a") for recorder in recorders]

    assert flush(1) == [[(1, 1.0)]] * 2
    assert flush(2) == [[(1, 1.0)] if rests else [(1, 1.0), (2, 2.0)]] * 2
    for recorder in recorders:
        recorder.end("FINISHED")
        assert points(store, recorder.run_id, "a") == [(1, 1.0), (2, 2.0)]


def test_a_step_that_was_told_is_not_told_again(store):
    recorder = store.start("test", "run", {})
    for told, steps in enumerate([range(1, 6), range(1, 9)]):  # a training that starts again
        for step in steps:
            recorder.metrics(step, {"a": float(told), **({"b": 2.0} if step > 6 else {})})
    recorder.end("FINISHED")
    assert points(store, recorder.run_id, "a") == [(step, float(step > 5)) for step in range(1, 9)]
    assert points(store, recorder.run_id, "b") == [(7, 2.0), (8, 2.0)]


def test_a_number_that_is_not_finite_is_never_a_metric(store):
    recorder = store.start("test", "run", {})
    recorder.metrics(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0})
    recorder.end("FINISHED")
    assert set(store.client.get_run(recorder.run_id).data.metrics) == {"d"}


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_it_ended(store, status):
    recorder = store.start("test", "run", {})
    assert store.client.get_run(recorder.run_id).info.status == "RUNNING"
    recorder.metrics(1, {"a": 1.0})
    recorder.end(status)
    run = store.client.get_run(recorder.run_id)
    assert run.info.status == status
    assert run.data.metrics == {"a": 1.0}


def test_params_dataset_tags_and_files(store):
    recorder = store.start("test", "run", {"loss": "mse"})
    recorder.params({f"key{k}": k for k in range(150)} | {"list": [1, 2], "long": "x" * 9000})
    recorder.data(FACTS)
    recorder.tags({"lossbench.outcome": "finished"})
    with recorder.files() as folder:
        (folder / "sub").mkdir()
        (folder / "sub/note.txt").write_text("hello")
    recorder.end("FINISHED")
    run = store.client.get_run(recorder.run_id)
    assert len(run.data.params) == 152
    assert run.data.params["list"] == "[1, 2]"
    assert run.data.tags["lossbench.outcome"] == "finished"
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("toy", "ab" * 18)
    assert "ab" * 32 in used.dataset.source
    assert store.client.list_artifacts(recorder.run_id, "sub")[0].path == "sub/note.txt"


def test_what_the_writer_meets_is_raised(store):
    recorder = store.start("test", "run", {})
    recorder.params({"a": 1})
    recorder.params({"a": 2})  # MLflow forbids changing a param
    with pytest.raises(Exception, match="Changing param"):
        recorder.end("FINISHED")


def test_what_the_writer_met_is_raised_by_a_later_send(store):
    recorder = store.start("test", "run", {})
    recorder.params({"a": 1})
    recorder.params({"a": 2})
    store.later(len, "").result()
    with pytest.raises(Exception, match="Changing param"):
        store.flush([recorder])


def test_a_deleted_experiment_is_refused(store):
    store.client.delete_experiment(store.experiment("gone"))
    with pytest.raises(ConfigError, match="experiment_name=gone: was deleted"):
        store.experiment("gone")


def test_names_of_experiments_are_no_paths(store, here):
    recorder = store.start("a/b: c", "run", {})
    recorder.end("FINISHED")
    assert store.client.get_run(recorder.run_id).info.artifact_uri.startswith(str(here / "mlruns" / "a_b_c"))


def test_addresses_are_made_absolute(here):
    assert tracking.resolve("sqlite:///x.db") == f"sqlite:///{here}/x.db"
    assert tracking.resolve("sqlite:////a/x.db") == "sqlite:////a/x.db"
    for nonsense in ("file:///tmp", "./mlruns", "mlruns"):
        with pytest.raises(ConfigError, match=r"tracking\.uri"):
            tracking.resolve(nonsense)


def test_telemetry_is_off(store):
    from mlflow.telemetry.client import get_telemetry_client

    client = get_telemetry_client()
    assert client is None or not client.is_active


def test_many_reach_for_one_new_file_at_once(tmp_path):
    with ThreadPoolExecutor(8) as many:
        for attempt in range(25):
            uri = f"sqlite:///{tmp_path}/{attempt}.db"
            list(many.map(tracking.check_connection, [uri] * 8))


# where MLflow's UI shows something


def test_a_run_a_comparison_and_an_experiment_have_their_pages(store):
    mine = store.client.create_experiment("mine")
    run = store.client.create_run(mine).info.run_id
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": "mine-1"}
    comparison = store.client.create_run(mine, tags=tags).info.run_id
    assert store.path(run) == f"experiments/{mine}/runs/{run}"
    assert store.path("mine-1") == store.path(comparison) == f"experiments/{mine}/runs/{comparison}"
    assert store.path("mine") == f"experiments/{mine}/runs"


def test_of_two_comparisons_of_one_name_the_newer_is_shown(store):
    mine = store.client.create_experiment("mine")
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": "mine"}
    _, newer = (store.client.create_run(mine, start, tags).info.run_id for start in (1, 2))
    assert store.path("mine").endswith(newer)


def test_what_has_no_page_is_refused_with_the_nearest_names(lossbench, store):
    store.client.create_experiment("outliers")
    gone = store.client.create_experiment("outlier")
    store.client.delete_experiment(gone)
    said = lossbench("ui", "outlires")
    assert (said.code, said.out) == (2, "")
    assert "outlires: no such run, comparison or experiment" in said.err
    assert said.err.strip().endswith("nearest: outliers")
    assert "nearest" not in lossbench("ui", "zzz").err


def test_many_who_record_the_same_data_at_once_all_do(store):
    """MLflow looks for a dataset, then adds it: of two who did so at once, one lost its run."""
    experiment = store.client.create_experiment("at once")
    many = [store.client.create_run(experiment).info.run_id for _ in range(6)]
    together, faults = threading.Barrier(len(many)), []

    def record(run_id):
        sink = entries.MlflowSink(MlflowClient(store.uri))
        entry = entries.inputs(run_id, FACTS)
        together.wait()
        try:
            sink.write(entry, again=False)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=record, args=[run_id]) for run_id in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    for run_id in many:
        (given,) = store.client.get_run(run_id).inputs.dataset_inputs
        assert given.dataset.name == FACTS.name
