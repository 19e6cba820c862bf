"""Records in a real store: every point, none that is not finite, whatever ends the run."""

from __future__ import annotations

import math

import pytest

from lossbench import tracking
from lossbench.core import BadInput, Facts

FACTS = Facts("toy", "regression", (1,), (1,), "nowhere", "none", "ab" * 32)


def points(store, run_id, name):
    return [(point.step, point.value) for point in store.client.get_metric_history(run_id, name)]


def test_every_point_arrives_once_and_in_order(store):
    recorder = store.start("test", "run", {"lossbench.kind": "run"})
    for step in range(1, 2501):
        recorder.metrics(step, {"train/loss": 1 / step})
        if step % 100 == 0:
            recorder.flush()
    recorder.end("FINISHED")
    assert points(store, recorder.run_id, "train/loss") == [(step, 1 / step) for step in range(1, 2501)]


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
    recorder.params({f"key{k}": k for k in range(150)} | {"list": [1, 2], "long": "x" * 9000}, FACTS)
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
    recorder.params({"a": 1}, FACTS)
    recorder.params({"a": 2}, FACTS)  # MLflow forbids changing a param
    with pytest.raises(Exception, match="Changing param"):
        recorder.end("FINISHED")


def test_a_deleted_experiment_is_refused(store):
    store.client.delete_experiment(store.experiment("gone"))
    with pytest.raises(BadInput, match="experiment_name=gone: was deleted"):
        store.experiment("gone")


def test_names_of_experiments_are_no_paths(store, here):
    recorder = store.start("a/b: c", "run", {})
    recorder.end("FINISHED")
    assert store.client.get_run(recorder.run_id).info.artifact_uri.startswith(str(here / "mlruns" / "a_b_c"))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:…@host/db"),
        ("http://me:se:cret@host:1", "http://me:…@host:1"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////tmp/x.db", "sqlite:////tmp/x.db"),
    ],
)
def test_passwords_are_not_shown(uri, shown):
    assert tracking.shown(uri) == shown


def test_addresses_are_made_absolute(here):
    assert tracking.resolve("sqlite:///x.db") == f"sqlite:///{here}/x.db"
    assert tracking.resolve("sqlite:////a/x.db") == "sqlite:////a/x.db"
    for nonsense in ("file:///tmp", "./mlruns", "mlruns"):
        with pytest.raises(BadInput, match=r"tracking\.uri"):
            tracking.resolve(nonsense)


def test_telemetry_is_off(store):
    from mlflow.telemetry.client import get_telemetry_client

    client = get_telemetry_client()
    assert client is None or not client.is_active
