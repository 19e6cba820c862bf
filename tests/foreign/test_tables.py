"""Tables on the command line as people type them first, and what they are told."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from datasets.tables.frames import patients
from recorded import runs
from sklearn.datasets import load_breast_cancer

from lossbench.datasets import remarks

SHORT = ["train.steps=20", "train.eval_every=10", "train.batch_size=32", "model=mlp", "model.hidden=[8]"]


@pytest.fixture
def tumours(here):
    load_breast_cancer(as_frame=True).frame.to_csv(here / "tumours.csv", index=False)
    remarks.say.cache_clear()
    return "tumours.csv"


FIRST = [
    ["dataset=table", "dataset.path=tumours.csv", "dataset.target=target"],
    ["dataset=tumours.csv", "target=target"],
    ["tumours.csv", "target=target"],
    ["dataset=table", "dataset.path=tumours.csv", "target=-1"],
    ["dataset=table", "dataset.path=tumours.csv", "dataset.target=target", "dataset.type=binary"],
]


@pytest.mark.parametrize("words", FIRST, ids=" ".join)
def test_first_tries_train(words, tumours, lossbench, store):
    said = lossbench(*words, *SHORT)
    assert said.code == 0, said.err
    assert "1 is positive" in said.err
    (run,) = runs(store)
    recorded = {name: run.data.params[name] for name in ("dataset", "loss", "dataset.task_type")}
    assert recorded == {"dataset": "tumours", "loss": "bce", "dataset.task_type": "binary"}
    assert store.client.get_experiment(run.info.experiment_id).name == "tumours"


REFUSED = {
    "a name that is not there": (["dataset=table", "dataset.path=tumors.csv", "dataset.target=y"], "tumours.csv"),
    "no target": (["compare", "tumours.csv"], "mean radius"),
    "no path": (["compare", "dataset=table", "dataset.target=y"], "dataset.path"),
    "another target": (["tumours.csv", "target=targe"], "nearest: target"),
    "no such dataset": (["dataset=csv"], "dataset=table dataset.path=FILE"),
    "no such setting": (["compare", "tumours.csv", "target=target", "dataset.group=x"], "dataset.group_on"),
    "a loss of other problems": (["tumours.csv", "target=target", "loss=mse"], "binary"),
    "a type that does not fit": (["tumours.csv", "target=mean radius", "dataset.type=binary"], "values"),
    "no such type": (["tumours.csv", "target=target", "dataset.type=ranking"], "ranking"),
    "nothing to load": (["dataset=own"], "dataset._target_"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_a_line_or_two(name, tumours, lossbench, store):
    words, what = REFUSED[name]
    said = lossbench(*words, *SHORT)
    assert said.code == 2, said.out
    assert what in said.err
    assert "Traceback" not in said.err
    assert len([line for line in said.err.splitlines() if line.startswith("lossbench: ")]) == 1
    assert not runs(store)


NAMES = ["my data (1), final.csv", "mañana ünï.csv", "a=b.csv", 'it\'s "quoted".csv', "[x].csv", "$HOME {y}.csv"]


@pytest.mark.parametrize(
    ("name", "target"),
    [*((name, "Outcome (yes/no)") for name in NAMES), *((NAMES[0], target) for target in ("my, target", "a=b", "ünï"))],
)
def test_files_and_columns_may_have_any_name(name, target, here, lossbench, store):
    patients(60).rename(columns={"outcome": target}).to_csv(here / name, index=False)
    said = lossbench("dataset=table", f"dataset.path={name}", f"dataset.target={target}", *SHORT)
    assert said.code == 0, said.err
    assert runs(store)[0].data.params["dataset.target"] == target


def test_a_comparison_of_a_table_has_a_verdict_and_references(here, lossbench, store):
    patients(200).to_csv(here / "patients.csv", index=False)
    words = ["patients.csv", "target=outcome", "dataset.group_on=patient", "losses=bce,focal", "seeds=6"]
    said = lossbench("compare", *words, *SHORT)
    assert said.code == 0, said.err
    assert said.err.count("yes is positive") == 1
    (dataset,) = json.loads(lossbench("report", "--json").out)["datasets"]
    assert dataset["variation"] == "resplit"
    assert {row["n"] for row in dataset["differences"]} == {6}
    assert {one["reference"] for one in dataset["references"]} == {"constant", "gradient boosting"}
    assert not {"constant", "gradient boosting"} & {row["loss"] for row in dataset["leaderboard"]}
    sizes = [json.loads(run.data.tags["lossbench.sizes"]) for run in runs(store)]
    groups = patients(200)["patient"].nunique()
    assert all(one["train"] + one["validation"] + one["test"] == groups for one in sizes)


def test_without_losses_all_that_fit_are_compared_the_usual_one_first(here, lossbench, store):
    frame = patients(90)[["age", "dose", "sex"]].dropna()
    frame.to_csv(here / "three.csv", index=False)
    said = lossbench("compare", "three.csv", "target=sex", "seeds=1", *SHORT, "train.steps=4", "train.batch_size=8")
    assert said.code == 0, said.err
    losses = [run.data.params["loss"] for run in sorted(runs(store), key=lambda run: run.info.start_time)]
    assert "bce" in losses
    assert len(losses) > 8
    document = json.loads(lossbench("report", "--json").out)
    assert document["datasets"][0]["baseline"] == "bce"


def test_weights_are_used_and_a_loss_without_values_per_row_is_refused(here, lossbench, store):
    frame = patients(120)
    frame.to_csv(here / "patients.csv", index=False)
    words = ["dataset=table", "dataset.path=patients.csv", "dataset.target=dose", "dataset.weight=w", *SHORT]
    said = lossbench(*words, "loss=tukey")
    assert said.code == 2
    assert "tukey" in said.err
    assert lossbench(*words, "loss=mae").code == 0
    assert lossbench(*[word for word in words if "weight" not in word], "loss=mae").code == 0
    one, other = (run.data.metrics["test/mae"] for run in runs(store))
    assert one != other


def test_several_targets_are_one_regression(here, lossbench, store):
    patients(120).to_csv(here / "patients.csv", index=False)
    words = ["dataset=table", "dataset.path=patients.csv", "dataset.target=[age,dose]", *SHORT]
    said = lossbench(*words)
    assert said.code == 0, said.err
    assert runs(store)[0].data.params["loss"] == "mse"


def test_a_study_tunes_on_rows_that_no_final_run_tests_on(here, lossbench, store):
    patients(150).to_csv(here / "patients.csv", index=False)
    words = ["patients.csv", "target=outcome", "losses=bce,focal", "tune=2", "seeds=2", *SHORT, "model.hidden=[4]"]
    said = lossbench("compare", *words)
    assert said.code == 0, said.err
    stages = {run.data.params.get("dataset.stage") for run in [*runs(store), *runs(store, "trial")]}
    assert {"search", "final"} <= stages


def test_a_table_of_numbers_without_names_is_read(here, lossbench, store):
    x, y = load_breast_cancer(return_X_y=True)
    pd.DataFrame(x).assign(y=y).to_csv(here / "plain.dat", index=False, header=False)
    said = lossbench("plain.dat", "target=31", *SHORT)
    assert said.code == 0, said.err
    assert "1 to 31" in said.err


def test_an_interrupted_comparison_does_not_take_results_of_a_file_that_was_changed(here, lossbench, store):
    frame = patients(90)
    frame.to_csv(here / "patients.csv", index=False)
    words = ["compare", "patients.csv", "target=outcome", "losses=bce,focal", "seeds=2", *SHORT]
    assert lossbench(*words).code == 0
    (comparison,) = runs(store, "comparison")
    store.client.set_terminated(comparison.info.run_id, "KILLED")  # as after Ctrl-C
    frame.assign(outcome=frame["outcome"][::-1].to_numpy()).to_csv(here / "patients.csv", index=False)
    assert "continuing" in lossbench(*words).out
    assert len({run.data.tags["lossbench.data"] for run in runs(store)}) == 4
