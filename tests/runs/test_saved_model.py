"""A trained model as files: the same numbers as in its run, elsewhere, on raw rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from datasets.tables.frames import patients
from recorded import runs

from lossbench.core import ConfigError
from lossbench.datasets.table import table
from lossbench.engine.predict import predict as outputs_of
from lossbench.runs import saved_model

SHORT = ["train.steps=40", "train.eval_every=20", "train.batch_size=32"]
FRAME = patients(240)


@pytest.fixture
def trained(here, lossbench, store, tmp_path_factory):
    FRAME.to_csv(here / "patients.csv", index=False)

    def train(*words):
        said = lossbench("dataset=table", "dataset.path=patients.csv", *words, *SHORT)
        assert said.code == 0, said.err
        (run,) = runs(store)
        return run, saved_model.fetched(store.client, run.info.run_id, tmp_path_factory.mktemp("model"))

    return train


@pytest.mark.parametrize("target", ["outcome", "dose", "patient", "[age,dose]"])
def test_new_rows_get_what_the_run_itself_predicts_to_the_bit(target, trained):
    words = [f"dataset.target={target}", "dataset.time_on=seen"]
    run, model = trained(*words)
    name = ["age", "dose"] if target.startswith("[") else target
    splits = table(seed=0, path="patients.csv", target=name, time_on="seen")
    rows = pd.read_csv("patients.csv").iloc[splits.test.metadata["row"].numpy()]
    expected = outputs_of(model.task, model.nets, splits.test, 0, closely=True)
    assert torch.equal(model.outputs(rows), expected)
    recorded = {n.removeprefix("test/"): v for n, v in run.data.metrics.items() if n.startswith("test/")}
    found = model.task.report(expected, splits.test.targets, model.calibration)
    assert {n: found[n] for n in recorded} == pytest.approx(recorded, rel=1e-12)


def test_answers_are_in_the_words_and_units_of_the_table(trained):
    run, model = trained("dataset.target=outcome")
    answers = model.predict(FRAME)
    assert list(answers.columns) == ["prediction", "probability yes"]
    assert set(answers["prediction"]) <= {"no", "yes"}
    logits = model.outputs(FRAME).double()
    temperature, threshold = run.data.metrics["val/temperature"], run.data.metrics["val/threshold"]
    np.testing.assert_allclose(answers["probability yes"], torch.sigmoid(logits / temperature))
    np.testing.assert_array_equal(answers["prediction"] == "yes", logits.numpy() >= threshold)


def test_numbers_are_in_their_own_unit(trained):
    _, model = trained("dataset.target=dose", "loss=mae")
    answers = model.predict(FRAME)["prediction"]
    assert abs(answers.median() - FRAME["dose"].median()) < FRAME["dose"].std()
    info = model.info
    np.testing.assert_allclose(answers, model.outputs(FRAME)[:, 0].double() * info.scale + info.center)


def test_a_folder_of_files_is_enough_in_another_process(trained, store, tmp_path):
    run, model = trained("dataset.target=outcome")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in saved_model.FILES:
        shutil.copy(store.client.download_artifacts(run.info.run_id, name, str(tmp_path)), folder / name)
    rows = FRAME.drop(columns="outcome").assign(sex="never seen")
    rows.to_parquet(tmp_path / "rows.parquet")
    code = (
        "import sys; from pathlib import Path; from lossbench.runs.saved_model import SavedModel\n"
        "SavedModel(Path(sys.argv[1])).predict(sys.argv[2]).to_json(sys.argv[3])"
    )
    done = [str(folder), str(tmp_path / "rows.parquet"), str(tmp_path / "answers.json")]
    subprocess.run([sys.executable, "-c", code, *done], check=True, cwd=tmp_path)
    found = json.loads((tmp_path / "answers.json").read_text())
    assert list(found["prediction"].values()) == model.predict(rows)["prediction"].tolist()


def test_no_file_is_a_pickle(trained, store):
    run, _ = trained("dataset.target=outcome")
    names = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    assert set(saved_model.FILES) <= names
    assert all(name.endswith((".json", ".safetensors", ".yaml", ".npz")) or "." not in name for name in names)


@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
def test_mlflow_loads_it_with_a_signature(trained, store, here):
    import mlflow

    run, model = trained("dataset.target=outcome", "tracking.model=true")
    assert "lossbench.remarks" not in run.data.tags, run.data.tags["lossbench.remarks"]
    path = store.client.download_artifacts(run.info.run_id, "mlflow_model", str(here))
    loaded = mlflow.pyfunc.load_model(path)
    columns = {one.name: str(one.type) for one in loaded.metadata.signature.inputs}
    assert columns["age"] == "DataType.double"
    assert columns["sex"] == "DataType.string"
    assert columns["smoker"] == "DataType.boolean"
    rows = FRAME.drop(columns=["outcome", "id", "note", "constant"])
    assert loaded.predict(rows)["prediction"].tolist() == model.predict(rows)["prediction"].tolist()


def test_the_command_writes_rows_with_answers_beside_them(trained, lossbench, here):
    run, model = trained("dataset.target=outcome")
    FRAME.rename(columns={"note": "prediction"}).to_csv(here / "new.csv", index=False)
    said = lossbench("predict", run.info.run_id, "new.csv", "--output", "out.csv")
    assert said.code == 0, said.err
    written = pd.read_csv(here / "out.csv")
    assert written["prediction of the model"].tolist() == model.predict(FRAME)["prediction"].tolist()
    assert written["prediction"].tolist() == FRAME["note"].tolist()
    said = lossbench("predict", run.info.run_id, "new.csv", "--output", "out.parquet")
    assert pd.read_parquet(here / "out.parquet")["probability yes"].tolist() == written["probability yes"].tolist()


def test_what_cannot_be_predicted_is_refused_in_a_line(trained, lossbench, here):
    run, _ = trained("dataset.target=outcome")
    FRAME.drop(columns="dose").to_csv(here / "less.csv", index=False)
    for words, what in (
        ([run.info.run_id, "less.csv"], "dose"),
        ([run.info.run_id, "no.csv"], "no such file"),
        (["f" * 32, "patients.csv"], "not in this store"),
        ([run.info.run_id, "patients.csv", "--output", "out.txt"], "out.txt"),
        ([str(here), "patients.csv"], "model.json"),
    ):
        said = lossbench("predict", *words)
        assert said.code == 2
        assert what in said.err
        assert said.err.count("\n") == 1


def test_a_net_of_arrays_takes_arrays(here, lossbench, store, tmp_path):
    words = ["dataset=regression", "dataset.train=100", "dataset.validation=50", "dataset.test=50", *SHORT]
    assert lossbench(*words).code == 0
    model = saved_model.fetched(store.client, runs(store)[0].info.run_id, tmp_path)
    assert model.predict(np.zeros((3, 10))).shape == (3, 1)
    with pytest.raises(ConfigError, match="shape"):
        model.predict(np.zeros((3, 9)))


def test_a_part_of_a_file_gets_the_same_answers_as_the_whole(here, lossbench, store, tmp_path_factory):
    """Types are those of the training: a part may hold other ones."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "code": random.choice(["01", "02", "A1"], 200),
            "flag": random.choice(["True", "False", "?x"], 200),
            "at": random.choice(["08:30", "12:00", "closed"], 200),
            "when": random.choice(["31/01/2020", "02/01/2021"], 200),
            "level": random.choice([1.5, -999.0, 2.5], 200),
        }
    )
    frame["y"] = np.where((frame["code"] == "02") ^ (frame["flag"] == "True") ^ (frame["at"] == "12:00"), "a", "b")
    frame.to_csv(here / "all.csv", index=False)
    said = lossbench("all.csv", "target=y", "dataset.missing=[-999]", *SHORT)
    assert said.code == 0, said.err
    model = saved_model.fetched(store.client, runs(store)[0].info.run_id, tmp_path_factory.mktemp("m"))
    some = frame[(frame["code"] != "A1") & (frame["flag"] != "?x") & (frame["at"] != "closed")]
    some.to_csv(here / "some.csv", index=False)
    expected = model.predict(str(here / "all.csv")).loc[some.index]["probability b"].to_numpy()
    np.testing.assert_allclose(model.predict(str(here / "some.csv"))["probability b"], expected, atol=1e-6)
    np.testing.assert_allclose(model.predict(frame)["probability b"].loc[some.index], expected, atol=1e-6)
    with pytest.raises(ConfigError, match=r"when: row 1 holds '2020-01-31'"):
        model.predict(frame.assign(when="2020-01-31"))
    assert len(model.predict(frame[:0])) == 0


@pytest.mark.parametrize("values", [[0, 1], [True, False], [1.0, 2.0], ["x", "y"], [3, 5, 7]])
def test_classes_come_back_as_they_were_given(values, here, lossbench, store, tmp_path):
    frame = FRAME[["age", "dose"]].assign(y=np.resize(values, len(FRAME)))
    frame.to_parquet(here / "t.parquet")
    assert lossbench("t.parquet", "target=y", *SHORT, "train.steps=4").code == 0
    model = saved_model.fetched(store.client, runs(store)[0].info.run_id, tmp_path)
    found = model.predict(frame)["prediction"]
    assert set(found) <= set(values)
    assert pd.api.types.is_bool_dtype(found) == isinstance(values[0], bool)


OWN = """
from dataclasses import dataclass
from lossbench.core import card
from lossbench.tasks.regression import Regression

@dataclass(frozen=True)
class Doubled(Regression):
    factor: float

    def answers(self, outputs, calibration):
        return {"doubled": self.factor * super().answers(outputs, calibration)["prediction"]}

@card(task_types=("doubled",), outputs_per_target=2)
def spread(prediction, target):
    center, log_scale = prediction.chunk(2, -1)
    return ((center - target).abs() * (-log_scale).exp() + log_scale).mean(-1)
"""


def test_a_task_with_settings_of_its_own_answers_with_them(here, lossbench, store, tmp_path, monkeypatch):
    (here / "own_doubled.py").write_text(OWN)
    monkeypatch.syspath_prepend(here)
    FRAME.to_csv(here / "patients.csv", index=False)
    own = ["task._target_=own_doubled.Doubled", "+task.factor=2.0", "loss._target_=own_doubled.spread"]
    said = lossbench("patients.csv", "target=dose", *own, *SHORT)
    assert said.code == 0, said.err
    model = saved_model.fetched(store.client, runs(store)[0].info.run_id, tmp_path)
    expected = 2 * (model.outputs(FRAME)[:, 0].double() * model.info.scale + model.info.center)
    np.testing.assert_allclose(model.predict(FRAME)["doubled"], expected)


def test_a_model_whose_loss_is_in_no_process_any_more_keeps_its_shape(here, store, tmp_path):
    from torch.distributions import Laplace

    from lossbench import api
    from lossbench.core import card

    @card(task_types=("regression",), outputs_per_target=2)
    def likely(prediction, target):
        center, log_scale = prediction.chunk(2, -1)
        return -Laplace(center, log_scale.exp()).log_prob(target).mean(-1)

    settings = dict(word.split("=") for word in SHORT)
    run = api.train(FRAME, target="dose", loss=likely, settings=settings)
    folder = store.client.download_artifacts(run.run_id, "", str(tmp_path))
    code = (
        "import sys; from pathlib import Path; from lossbench.runs.saved_model import SavedModel\n"
        "print(len(SavedModel(Path(sys.argv[1])).predict(sys.argv[2])))"
    )
    FRAME.to_csv(tmp_path / "rows.csv")
    done = [sys.executable, "-c", code, folder, str(tmp_path / "rows.csv")]
    assert subprocess.run(done, check=True, capture_output=True, text=True).stdout.split() == [str(len(FRAME))]
