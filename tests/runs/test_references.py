"""References beside a comparison on a table: scikit-learn's own numbers, once each, and no comparison fails of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from recorded import runs
from sklearn import datasets as sklearn_datasets
from sklearn import ensemble, metrics
from sklearn.dummy import DummyClassifier, DummyRegressor

from lossbench.config.task_types import load
from lossbench.core import Column, Split
from lossbench.datasets import assemble
from lossbench.runs import reference_predictions, references

OWN = """
from runs.test_references import table

def diabetes(*, seed, mirrored=False):
    return table("regression", seed, weighted=False)
"""
CLASSES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c")}
LOADED = {
    "regression": sklearn_datasets.load_diabetes,
    "binary": sklearn_datasets.load_breast_cancer,
    "multiclass": sklearn_datasets.load_wine,
}
KINDS = list(LOADED)


def table(kind, seed=0, *, weighted=False, examples=120):
    """Some rows of scikit-learn's, the first number also as a category of four levels; no row twice in a split."""
    random = np.random.default_rng(seed)
    x, y = LOADED[kind](return_X_y=True)
    rows = random.permutation(len(x))[:examples]
    code = np.digitize(x[:, 0], np.quantile(x[:, 0], [0.25, 0.5, 0.75]))
    inputs = torch.tensor(np.column_stack([(x - x.mean(0)) / x.std(0), code])).float()
    columns = (*(Column(f"x{k}") for k in range(x.shape[1])), Column("code", levels=4))
    targets = torch.tensor(y / 100)[:, None].float() if kind == "regression" else torch.tensor(y)
    parts = np.split(rows, [examples // 2, 3 * examples // 4])
    heavy = 1 + 4 * (targets.flatten() > targets.float().mean())  # the large ones five times
    weights = [heavy[part].float() if weighted else None for part in parts]
    splits = [Split(inputs[part], targets[part], weights=w) for part, w in zip(parts, weights, strict=True)]
    more = {"scale": 100.0} if kind == "regression" else {"classes": CLASSES[kind]}
    return assemble(*splits, name=kind, task_type=kind, source="scikit-learn", licence="BSD", columns=columns, **more)


def probabilities(kind, outputs):
    outputs = outputs.double()
    return torch.stack([1 - outputs.sigmoid(), outputs.sigmoid()], -1) if kind == "binary" else outputs.softmax(-1)


def compare(kind, outputs, model, inputs):
    """What a reference predicts, and what an estimator of scikit-learn does."""
    if kind == "regression":
        np.testing.assert_allclose(outputs[:, 0], model.predict(inputs).ravel(), rtol=1e-5)
    else:
        np.testing.assert_allclose(probabilities(kind, outputs), model.predict_proba(inputs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_constant_is_that_of_scikit_learn(kind, weighted):
    """With whole weights: that of as many copies of each row."""
    splits = table(kind, weighted=weighted)
    train = splits.train
    times = train.weights.long() if weighted else torch.ones(len(train)).long()
    model = DummyRegressor(strategy="quantile", quantile=0.5) if kind == "regression" else DummyClassifier()
    model.fit(train.inputs, train.targets.squeeze(), sample_weight=None if not weighted else times)
    for outputs, split in zip(
        reference_predictions.constant(load(kind), splits, 0), (splits.validation, splits.test), strict=True
    ):
        assert len(outputs) == len(split)
        compare(kind, outputs, model, split.inputs)
    if kind == "regression":
        repeated = np.repeat(train.targets.numpy().ravel(), times)
        assert abs((repeated < outputs[0].item()).mean() - 0.5) < 0.02


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_boosting_is_that_of_scikit_learn_with_categories_and_early_stopping(kind, weighted):
    splits = table(kind, weighted=weighted)
    train, validation, test = (split for _, split in splits)
    made = ensemble.HistGradientBoostingRegressor if kind == "regression" else ensemble.HistGradientBoostingClassifier
    places = [len(splits.info.columns) - 1]
    model = made(categorical_features=places, early_stopping=True, random_state=5).fit(
        train.inputs.numpy(),
        train.targets.numpy().squeeze(),
        sample_weight=train.weights,
        X_val=validation.inputs.numpy(),
        y_val=validation.targets.numpy().squeeze(),
        sample_weight_val=validation.weights,
    )
    _, outputs = reference_predictions.boosting(load(kind), splits, 5)
    compare(kind, outputs, model, test.inputs.numpy())


def test_several_targets_have_a_booster_each():
    splits = table("regression")
    for split in (splits.train, splits.validation, splits.test):
        object.__setattr__(split, "targets", torch.cat([split.targets, split.inputs[:, 2:3]], 1))
    _, both = reference_predictions.boosting(load("regression"), splits, 0)
    assert both.shape == (len(splits.test), 2)
    truth = splits.test.targets
    assert ((both - truth).square().mean(0) < 0.8 * truth.var(0)).all()
    middle = reference_predictions.constant(load("regression"), splits, 0)[1][0]
    np.testing.assert_allclose(middle, np.median(splits.train.targets, 0), rtol=1e-6)


@pytest.mark.parametrize("name", reference_predictions.PREDICTED)
def test_a_class_without_training_examples_is_unlikely_and_not_impossible(name):
    splits = table("multiclass")
    some = splits.train.targets != 1
    for place, tensor in (("inputs", splits.train.inputs[some]), ("targets", splits.train.targets[some])):
        object.__setattr__(splits.train, place, tensor)
    kept = splits.validation.targets != 1
    held = Split(splits.validation.inputs[kept], splits.validation.targets[kept])
    object.__setattr__(splits, "validation", held)
    _, outputs = reference_predictions.PREDICTED[name](load("multiclass"), splits, 0)
    p = probabilities("multiclass", outputs)
    assert outputs.isfinite().all()
    assert (p[:, 1] > 0).all()
    assert (p[:, 1] < 0.02).all()
    np.testing.assert_allclose(p.sum(1), 1)


SHORT = ["train.steps=10", "train.eval_every=5", "model.hidden=[4]", "train.batch_size=16"]


@pytest.fixture
def own(here, monkeypatch):
    (here / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(__import__("sys").modules, "own", raising=False)
    return ["-m", "dataset._target_=own.diabetes", "loss=mse,mae", *SHORT]


def found(store):
    return {(run.data.tags["loss"], run.data.tags["seed"]): run for run in runs(store, "reference")}


@pytest.mark.parametrize("model", ["tabular", "mlp"])
def test_a_comparison_on_a_table_has_them_on_its_own_splits(model, own, lossbench, store):
    said = lossbench(*own, f"model={model}", "seed=0,1")
    assert said.code == 0, said.err
    recorded = found(store)
    assert set(recorded) == {(name, seed) for name in ("constant", "gradient boosting") for seed in "01"}
    for seed in (0, 1):
        splits = table("regression", seed)
        truth, middle = splits.test.targets.ravel() * 100, splits.train.targets.median().item() * 100
        low, high = np.sort(splits.train.targets.ravel())[[29, 30]] * 100
        expected = metrics.mean_absolute_error(truth, np.full(len(truth), (low + high) / 2))
        assert middle == pytest.approx(low)
        run = recorded["constant", str(seed)]
        assert run.data.metrics["test/mae"] == pytest.approx(expected, rel=1e-5)
        assert run.data.tags["lossbench.data"] == splits.info.fingerprint
        assert run.info.status == "FINISHED"
    assert len(runs(store)) == 4
    (dataset,) = json.loads(lossbench("report", "--json").out)["datasets"]
    assert {row["reference"] for row in dataset["references"]} == {"constant", "gradient boosting"}
    assert {row["loss"] for row in dataset["leaderboard"]} == {"mse", "mae"}
    assert "constant (reference)" in said.out
    assert said.out.count("References, which no loss trained") == 1


def test_a_comparison_that_goes_on_computes_none_twice(own, lossbench, store, monkeypatch):
    assert lossbench(*own, "model=mlp", "seed=0,1").code == 0
    (whole,) = runs(store, "comparison")
    store.client.update_run(whole.info.run_id, status="KILLED")
    (lost,) = (run for key, run in found(store).items() if key == ("constant", "1"))
    store.client.delete_run(lost.info.run_id)
    before = {run.info.run_id for run in runs(store, "reference")}
    said = lossbench(*own, "model=mlp", "seed=0,1")
    assert "continuing" in said.out
    after = {run.info.run_id for run in runs(store, "reference")}
    assert before < after
    assert len(after) == len(before) + 1


def test_large_tables_have_them_for_the_first_seeds(own, lossbench, store, monkeypatch):
    monkeypatch.setattr(references, "ROWS", 2 * 60 + 1)
    assert lossbench(*own, "model=mlp", "seed=2,0,1").code == 0
    assert {seed for _, seed in found(store)} == {"0", "1"}
    monkeypatch.setattr(references, "ROWS", 1)
    assert lossbench(*own, "model=mlp", "seed=3,4").code == 0
    assert {seed for _, seed in found(store)} == {"0", "1", "3"}


def test_an_error_of_one_is_a_remark(own, lossbench, store, monkeypatch):
    def fails(*arguments):
        raise ValueError("too narrow")

    monkeypatch.setitem(reference_predictions.PREDICTED, "gradient boosting", fails)
    said = lossbench(*own, "model=mlp", "seed=0,1")
    assert said.code == 0, said.err
    assert "gradient boosting could not be computed on own.diabetes for 2 seeds: ValueError: too narrow" in " ".join(
        said.out.split()
    )
    assert found(store)["gradient boosting", "0"].info.status == "FAILED"
    assert found(store)["constant", "0"].info.status == "FINISHED"
    assert {run.data.tags["lossbench.outcome"] for run in runs(store)} == {"finished"}


def test_an_error_around_them_is_said(own, lossbench, store, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("gone")

    monkeypatch.setattr(references, "_record", fails)
    said = lossbench(*own, "model=mlp", "seed=0,1")
    assert said.code == 0, said.err
    assert "references are missing: RuntimeError: gone" in said.out


def test_ctrl_c_leaves_none_open(own, lossbench, store, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(reference_predictions.PREDICTED, "gradient boosting", interrupted)
    assert lossbench(*own, "model=mlp", "seed=0,1").code == 130
    assert set(found(store)) == {("constant", "0")}
    assert not [run for kind in ("run", "reference") for run in runs(store, kind) if run.info.status == "RUNNING"]
    (whole,) = runs(store, "comparison")
    assert whole.info.status == "KILLED"


def test_each_setting_of_the_data_has_its_own(own, lossbench, store):
    assert lossbench(*own, "model=mlp", "seed=0,1", "+dataset.mirrored=true,false").code == 0
    assert len(runs(store, "reference")) == 8
    told = json.loads(lossbench("report", "--json").out)["datasets"]
    assert len(told) == 2
    assert all([row["runs"] for row in one["references"]] == [2, 2] for one in told)


def test_none_where_nothing_finished_for_a_single_run_and_off_tables(own, lossbench, store):
    said = lossbench(*own, "model=mlp", "seed=0,1", "optimizer.lr=1e30")
    assert said.code == 0, said.err
    assert {run.data.tags["lossbench.outcome"] for run in runs(store)} == {"diverged"}
    words = ["dataset=regression", "dataset.train=60", "dataset.validation=20", "dataset.test=20"]
    assert lossbench("-m", *words, "loss=mse,mae", *SHORT).code == 0
    assert lossbench("dataset._target_=own.diabetes", "model=mlp", *SHORT).code == 0
    assert not runs(store, "reference")
