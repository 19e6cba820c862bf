"""Records as they are read: from a real store, and what repeated runs and swept settings are called."""

from __future__ import annotations

import math
import re

import pytest
from analysis.made import Made, record, records
from mlflow.entities import Dataset, DatasetInput

from lossbench.analysis import records as reading
from lossbench.core import ConfigError, recorded_runs


def comparison(client, name, start, experiment="test", command=""):
    """A comparison's own run."""
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": name, "lossbench.command": command}
    return record(client, Made("", "", start=start, tags=tags), experiment=experiment)[0]


def losses(found):
    return list(found.runs["loss"])


# what is asked for


@pytest.fixture
def client(store):
    """Two comparisons in one experiment, a third in another, and a run of no comparison."""
    client = store.client
    comparison(client, "first", 1000, command="compare one")
    record(client, Made("a", 0), Made("b", 0), comparison="first")
    client.second = comparison(client, "second", 9000, command="compare two")
    record(client, Made("c", 0, start=300), comparison="second")
    record(client, Made("d", 0, start=500))
    comparison(client, "third", 5000, experiment="other")
    record(client, Made("e", 0), Made("f", 0), experiment="other", comparison="third")
    return client


def test_a_comparison_is_found_by_name_and_by_its_run(client):
    for asked in ("second", client.second):
        found = reading.read(client, asked)
        assert (found.name, losses(found), found.commands) == ("second", ["c"], ["compare two"])
    assert losses(reading.read(client, "third")) == ["e", "f"]


def test_the_newest_comparison_is_the_default(client):
    assert reading.read(client, None).name == "second"
    comparison(client, "newest", 20_000, experiment="other")
    found = reading.read(client, None)
    assert found.name == "newest"
    assert found.runs.empty


def test_an_experiment_has_all_its_runs_the_oldest_first_and_the_commands_of_its_comparisons(client):
    found = reading.read(client, "test")
    assert losses(found) == ["a", "c", "d", "b"]
    assert list(found.runs["start"]) == sorted(found.runs["start"])
    assert found.commands == ["compare one", "compare two"]
    assert losses(reading.read(client, "other")) == ["e", "f"]
    assert reading.read(client, "other").commands == []


def test_a_comparison_comes_before_an_experiment_of_its_name(client):
    comparison(client, "test", 100)
    assert reading.read(client, "test").runs.empty


def test_what_is_unknown_is_refused_with_the_five_newest(store):
    for number in range(6):
        comparison(store.client, f"made-{number}", 60_000 * number)
    with pytest.raises(ConfigError, match="no such comparison or experiment") as refused:
        reading.read(store.client, "nonsense")
    lines = str(refused.value).splitlines()
    assert "nonsense" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == [f"made-{number}" for number in (5, 4, 3, 2, 1)]
    assert all(re.search(r"\(\d{4}-\d\d-\d\d \d\d:\d\d\)$", line) for line in lines[1:])


@pytest.mark.parametrize("asked", [None, "nonsense", "it's"])
def test_an_empty_store_says_so_and_how_to_fill_it(store, asked):
    with pytest.raises(ConfigError, match="holds no comparison yet; python -m lossbench compare") as refused:
        reading.read(store.client, asked)
    assert str(refused.value).startswith(f"report {asked}:" if asked else "report:")


def test_names_with_quotes_are_names(store):
    name = """it's "mine" `50 %`"""
    record(store.client, Made("""mse's "own" `x`""", 0), experiment=name)
    comparison(store.client, "plain", 0)
    assert losses(reading.read(store.client, name)) == ["""mse's "own" `x`"""]
    for asked in ("it's", "' or 1=1 --", '"', "`"):
        with pytest.raises(ConfigError, match="no such comparison"):
            reading.read(store.client, asked)


def test_no_run_is_lost_between_pages(store, monkeypatch):
    monkeypatch.setattr(recorded_runs, "RUNS", 3)
    record(store.client, *(Made("a", seed) for seed in range(8)), comparison="long")
    comparison(store.client, "long", 0)
    assert sorted(reading.read(store.client, "long").runs["seed"]) == list("01234567")


def test_runs_of_another_kind_and_deleted_ones_are_none(store):
    ids = record(
        store.client,
        Made("a", 0),
        Made("b", 0),
        Made("c", 0, tags={"lossbench.kind": "superseded"}),
        Made("d", 0, tags={"lossbench.kind": None}),
    )
    store.client.delete_run(ids[1])
    found = reading.read(store.client, "test")
    assert list(found.runs["run_id"]) == list(found.params.index) == [ids[0]]


# what a run says of itself


def test_a_row_says_what_was_recorded(store):
    recorded = {
        "lossbench.diverged_step": "70",
        "lossbench.best_step": "40",
        "lossbench.loss_parameters": "3",
        "lossbench.error": "said",
        "lossbench.probe": "{}",
    }
    made = Made("a", 3, 1.5, "diverged", objective=0.25, tags=recorded, metrics={"val/error": 2.0})
    (run_id,) = record(store.client, made)
    store.client.log_metric(run_id, "val/error", 1.0, step=200)
    source = '{"tags": {"source": "https://example.org", "licence": "MIT"}}'
    for given in (source, "a foreign one"):
        store.client.log_inputs(run_id, [DatasetInput(Dataset("toy", given[:3], "code", given))])
    (row,) = reading.read(store.client, "test").runs.to_dict("records")
    expected = {
        "outcome": "diverged",
        "colour": "#336699",
        "metrics": [("error", "↓", "mm"), ("score", "↑", "")],
        "objective": 0.25,
        "step": 70,
        "best_step": 40,
        "parameters": 3,
        "error": "said",
        "data": "data 3",
        "code": "c0de",
        "probe": "{}",
        "source": "a foreign one; https://example.org",
        "loss": "a",
        "dataset": "toy",
        "model": "mlp",
        "seed": "3",
        "test/error": 1.5,
        "val/error": 1.0,
        "repeated": False,
    }
    assert {key: row[key] for key in expected} == expected


@pytest.mark.parametrize("status", ["running", "killed", "failed", "finished"])
def test_a_run_that_never_said_how_it_ended_has_the_outcome_of_its_status(store, status):
    record(store.client, Made("a", 0, outcome=status, tags={"lossbench.outcome": None}))
    assert reading.read(store.client, "test").runs["outcome"].item() == status


def test_metrics_are_those_of_the_first_run_and_none_without_runs(store):
    assert records(Made("a", 0)).metrics == [("error", "↓", "mm"), ("score", "↑", "")]
    comparison(store.client, "empty", 0)
    found = reading.read(store.client, "empty")
    assert found.metrics == []
    assert list(found.by_dataset()) == []


def test_ranges_are_as_recorded_and_none_in_older_records():
    told = {"lossbench.ranges": '{"error": [0, null], "score": [null, 1], "any": [null, null]}'}
    found = records(Made("a", 0), Made("a", 1, tags=told))
    assert found.ranges == {"error": (0, math.inf), "score": (-math.inf, 1), "any": (-math.inf, math.inf)}
    assert records(Made("a", 0)).ranges == {}
    assert found.only(found.runs[:0]).ranges == {}


def test_each_dataset_has_its_own_runs_and_params():
    found = records(*(Made("a", seed, dataset=name) for seed in range(3) for name in ("y", "x")))
    parts = dict(found.by_dataset())
    assert list(parts) == ["x", "y"]
    for name, part in parts.items():
        assert set(part.runs["dataset"]) == set(part.params["dataset"]) == {name}
        assert list(part.params.index) == list(part.runs["run_id"])
        assert len(part.runs) == 3


# the same run twice


def repeated(*runs):
    return list(records(*runs).runs["repeated"])


def test_of_runs_that_are_the_same_the_newest_that_finished_counts():
    assert repeated(Made("a", 0), Made("a", 0), Made("a", 0)) == [True, True, False]
    assert repeated(Made("a", 0), Made("a", 0, outcome="killed")) == [False, True]
    assert repeated(Made("a", 0, outcome="failed"), Made("a", 0, outcome="killed")) == [True, False]
    late = records(Made("a", 0, 1.0, start=9), Made("a", 0, 2.0, start=5)).runs
    assert late.loc[~late["repeated"], "test/error"].item() == 1.0


def test_runs_that_differ_in_anything_but_time_are_not_the_same():
    others = [Made("b", 0), Made("a", 1), Made("a", 0, dataset="other")]
    assert not any(repeated(Made("a", 0), *others))
    assert not any(repeated(Made("a", 0), Made("a", 0, params={"optimizer.lr": "1"})))
    assert not any(repeated(Made("a", ""), Made("a", "")))


def test_so_are_runs_on_other_data_under_one_seed():
    found = records(*(Made(loss, 0, params={"dataset.seed": str(s)}) for s in range(3) for loss in "ab")).runs
    assert not found["repeated"].any()
    assert found.groupby("seed").size().to_list() == [2, 2, 2], "losses on the same data are pairs"
    other = records(*(Made("a", seed, params={"dataset.seed": "7"}) for seed in range(3))).runs
    assert list(other["seed"]) == ["0", "1", "2"]


# labels


def labels(*runs):
    return list(records(*runs).runs["label"])


def with_params(loss, **params):
    return Made(loss, 0, params={key.replace("__", "."): value for key, value in params.items()})


def test_a_label_names_what_varies_within_a_loss():
    assert labels(with_params("mse"), with_params("huber", loss__delta="1"), with_params("huber", loss__delta="2")) == [
        "mse",
        "huber delta=1",
        "huber delta=2",
    ]
    assert labels(with_params("mse", optimizer__lr="0.1"), with_params("mse", optimizer__lr="1")) == [
        "mse optimizer.lr=0.1",
        "mse optimizer.lr=1",
    ]
    assert labels(with_params("mse", model="mlp"), with_params("mse", model="cnn")) == [
        "mse model=mlp",
        "mse model=cnn",
    ]


def test_a_label_names_each_of_several_settings():
    made = labels(*(with_params("h", loss__delta=d, optimizer__lr=r) for d in "12" for r in "34"))
    assert made == [f"h delta={d} optimizer.lr={r}" for d in "12" for r in "34"]


def test_a_label_names_nothing_that_varies_between_losses_or_datasets_only():
    assert labels(with_params("mse", optimizer__lr="0.1"), with_params("mae", optimizer__lr="1")) == ["mse", "mae"]
    one, other = with_params("mse", train__steps="10"), with_params("mse", train__steps="20")
    other.dataset = "other"
    assert labels(one, other) == ["mse", "mse"]


@pytest.mark.parametrize(
    "key", ["seed", "dataset.seed", "experiment_name", "tracking.uri", "model._target_", "loss._target_"]
)
def test_a_label_names_no_seed_and_nothing_that_is_no_setting(key):
    assert labels(*(Made("mse", 0, params={key: value}) for value in "12")) == ["mse", "mse"]


def test_the_setting_is_what_the_label_adds_to_the_loss():
    found = records(with_params("mse"), with_params("h", loss__delta="1"), with_params("h", loss__delta="2"))
    assert list(found.runs["setting"]) == ["", "delta=1", "delta=2"]


def test_a_run_that_was_killed_before_it_wrote_its_params_is_one_of_its_loss():
    assert labels(Made("a", 0), Made("b", 0), Made("a", 1, outcome="running", params=None)) == ["a", "b", "a"]


def test_so_is_the_only_run_there_is():
    assert labels(Made("a", 0, outcome="running", params=None)) == ["a"]


def test_a_run_that_a_server_made_twice_counts_once(client):
    whole, _ = record(client, Made("g", 0, tags={"lossbench.token": "one"}), Made("h", 0), experiment="twice")
    experiment = client.get_experiment_by_name("twice").experiment_id
    client.create_run(experiment, tags={"lossbench.kind": "run", "loss": "g", "lossbench.token": "one"})
    found = reading.read(client, "twice")
    assert sorted(losses(found)) == ["g", "h"]
    assert whole in set(found.runs["run_id"])


def test_losses_are_in_the_order_of_their_command_whichever_began_first(store):
    for start, (place, loss) in enumerate([(2, "hinge"), (0, "bce"), (3, "hinge"), (1, "bce")]):
        tags = {"lossbench.kind": "run", "lossbench.comparison": "placed", "lossbench.place": str(place), "loss": loss}
        run = store.client.create_run(store.experiment("placed"), start_time=1000 + start, tags=tags)
        store.client.set_terminated(run.info.run_id)
    comparison(store.client, "placed", 10)
    assert losses(reading.read(store.client, "placed")) == ["bce", "bce", "hinge", "hinge"]
