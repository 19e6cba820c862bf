"""The regression task: metrics in the target's own unit, against scikit-learn on the raw arrays."""

import math
from dataclasses import replace

import numpy as np
import pytest
import recorded
import torch
from omegaconf import OmegaConf
from PIL import Image
from sklearn import metrics
from small import SMALL
from torch import nn

from lossbench.config import schema
from lossbench.core import ConfigError, DatasetInfo, Split, Splits, TrainedModel, card, stream
from lossbench.datasets.regression import Outliers, regression
from lossbench.engine import Noise
from lossbench.engine.predict import predict
from lossbench.losses import mse
from lossbench.models.initial import widen
from lossbench.runs import builders, cross_loss
from lossbench.runs.experiment import Experiment
from lossbench.tasks import Regression

CENTER, SCALE = 120.0, 7.0


def task(outputs=1, **changed):
    settings = {"center": CENTER, "scale": SCALE, "unit": "m", **changed}
    return Regression(mse, DatasetInfo("toy", "regression", (4,), (outputs,), "", "", "", **settings))


def raw(n=201, outputs=1):
    """Truth and guess in metres."""
    random = np.random.default_rng(0)
    truth = CENTER + SCALE * random.standard_normal((n, outputs))
    return truth, truth + random.standard_normal((n, outputs))


def standardised(metres):
    return torch.tensor((metres - CENTER) / SCALE)


@pytest.mark.parametrize("outputs", [1, 3])
def test_metrics_are_scikit_learns_in_the_unit_of_the_target(outputs):
    truth, guess = raw(outputs=outputs)
    expected = {
        "mae": metrics.mean_absolute_error(truth, guess),
        "rmse": metrics.root_mean_squared_error(truth, guess),
        "median_ae": metrics.median_absolute_error(truth, guess),
        "r2": metrics.r2_score(truth, guess),
    }
    measured = task(outputs).measure(standardised(guess), standardised(truth))
    assert measured == pytest.approx(expected, rel=1e-9)


def test_units_scale_errors_and_leave_shares():
    truth, guess = map(standardised, raw())
    metres, plain = task().measure(guess, truth), task(center=0.0, scale=1.0).measure(guess, truth)
    for name in ("mae", "rmse", "median_ae"):
        assert metres[name] == pytest.approx(SCALE * plain[name])
    assert metres["r2"] == pytest.approx(plain["r2"])


def test_a_report_is_what_is_declared():
    truth, guess = map(standardised, raw())
    report = task().report(guess, truth, task().calibrate(guess, truth))
    assert sorted(report) == sorted(metric.name for metric in task().metrics)
    assert all(map(math.isfinite, report.values()))
    assert report == task().measure(guess, truth)
    assert [y.unit for y in task().metrics] == ["m", "m", "m", ""]


@pytest.mark.parametrize("truth", [0.0, 3.0])
@pytest.mark.parametrize("guess", [0.0, 1e6])
def test_constant_targets_and_far_guesses_are_finite(truth, guess):
    report = task().report(torch.full((9, 1), guess), torch.full((9, 1), truth), {})
    assert all(map(math.isfinite, report.values()))
    assert report["mae"] == pytest.approx(SCALE * abs(guess - truth))


class Net:
    """Players whose model is one linear map."""

    def __init__(self):
        self.model = torch.nn.utils.skip_init(torch.nn.Linear, 4, 1)
        torch.nn.init.ones_(self.model.weight)
        torch.nn.init.zeros_(self.model.bias)


def test_a_step_asks_the_loss_for_its_terms():
    random = stream(0, "batch")
    batch = Split(torch.randn(6, 4, generator=random), torch.randn(6, 1, generator=random))
    ((player, per_example),) = task().step(Net(), batch, Noise([0], torch.device("cpu")))
    assert player == "model"
    torch.testing.assert_close(per_example, (batch.inputs.sum(1) - batch.targets[:, 0]).square())
    torch.testing.assert_close(task().predict(Net(), batch, Noise([0], torch.device("cpu")))[:, 0], batch.inputs.sum(1))


def splits(metadata):
    truth, guess = map(standardised, raw(60))
    split = Split(torch.zeros(60, 4), truth, metadata)
    return Splits(task().info, split, split, split, {"test_contaminated": split}), guess


@pytest.mark.parametrize(
    "metadata",
    [{}, {"outlier": torch.zeros(60, dtype=torch.bool)}, {"outlier": torch.arange(60) % 7 == 0}],
    ids=["unmarked", "none", "some"],
)
@pytest.mark.parametrize("named", [("test",), ("test", "test_contaminated")], ids=len)
def test_pictures_are_drawn(metadata, named, tmp_path):
    made, guess = splits(metadata)
    (figure,) = task().pictures(TrainedModel(None, dict.fromkeys(named, guess), made)).values()
    figure.savefig(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10  # more than an empty frame
    assert figure.axes[0].get_xlabel() == "truth [m]"
    points = sum(len(collection.get_offsets()) for collection in figure.axes[0].collections)
    assert points == 60


def test_pictures_where_all_are_outliers():
    made = regression(seed=0, train=20, validation=20, test=20, outliers=Outliers(fraction=1.0))
    assert Regression(mse, made.info).pictures(TrainedModel(None, {name: split.targets for name, split in made}, made))


# losses that take several numbers an output

OWN = """
from lossbench.core import card

@card(task_types=("regression", "binary"), outputs_per_target=3)
def three(prediction, target):
    return prediction.square().mean(-1) + target.square().mean(-1)

def headless(inputs, outputs, generator):
    import torch
    return torch.nn.Sequential(torch.nn.Linear(inputs[0], outputs))

def convolved(inputs, outputs, generator):
    import torch
    net = torch.nn.Module()
    net.head = torch.nn.Conv2d(1, 1, 1)
    return net
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of somebody's own."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    return name


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs_per_target", [2, 3])
def test_a_wider_layer_starts_as_it_was_and_as_nothing(outputs_per_target, bias):
    head = nn.Linear(5, 4, bias=bias, dtype=torch.float64)
    wide, inputs = (
        widen(head, outputs_per_target),
        torch.randn(7, 5, dtype=torch.float64, generator=stream(0, "inputs")),
    )
    torch.testing.assert_close(wide(inputs), torch.cat([head(inputs), torch.zeros(7, 4 * outputs_per_target - 4)], 1))
    assert len(list(wide.parameters())) == 1 + bias


@pytest.mark.parametrize("loss", ["gaussian_nll", "beta_nll"])
@pytest.mark.parametrize("seed", [0, 3])
def test_every_loss_starts_from_the_same_predictions(configured, loss, seed):
    plain, wide = (Experiment(configured("regression", f"loss={name}", f"seed={seed}")) for name in ("mse", loss))
    weights = wide.nets.state_dict()
    for name, drawn in plain.nets.state_dict().items():
        assert torch.equal(weights[name][: len(drawn)], drawn)
        assert not weights[name][len(drawn) :].any()
    assert weights["model.head.bias"].shape == (2,)
    one, other = (predict(experiment.task, experiment.nets, experiment.splits.test, 0) for experiment in (plain, wide))
    assert one.shape == other.shape
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # the same weights, in a product of another width
    assert len(plain.probe()) > 0
    assert len(wide.probe()) > len(plain.probe())


def test_the_first_numbers_are_the_prediction():
    seen = []

    def spy(prediction, target):
        seen.append(prediction.shape)
        return prediction.mean(-1)

    wide = Net()
    wide.model = nn.Linear(4, 6)
    batch = Split(torch.randn(5, 4, generator=stream(0, "batch")), torch.zeros(5, 3))
    of = replace(task(outputs=3), loss=spy)
    ((_, per_example),) = of.step(wide, batch, Noise([0], torch.device("cpu")))
    assert seen == [(5, 6)]
    assert per_example.shape == (5,)
    assert torch.equal(of.predict(wide, batch, Noise([0], torch.device("cpu"))), wide.model(batch.inputs)[:, :3])


def test_a_model_without_a_linear_head_is_refused(own):
    info = task().info
    for target in ("headless", "convolved"):
        cfg = OmegaConf.create({"_target_": f"{own}.{target}"})
        with pytest.raises(ConfigError, match=r"model: .*the loss takes 2 numbers"):
            builders.nets(cfg, info, 0, outputs_per_target=2)
    cfg = OmegaConf.create({"_target_": f"{own}.headless"})
    assert builders.nets(cfg, info, 0).model(torch.zeros(3, 4)).shape == (3, 1)
    with pytest.raises(ConfigError, match=r"works for regression, and this is binary"):
        builders.nets(cfg, replace(info, task_type="binary", classes=("no", "yes")), 0, outputs_per_target=2)


def test_only_losses_of_one_number_have_a_cost_of_their_own(own, tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "three.yaml").write_text(f"_target_: {own}.three")
    truth, guess = map(standardised, raw())
    mean_losses = cross_loss.mean_losses((schema.CONFIGS, tmp_path), task().info, guess, truth)
    assert mean_losses["mse"] == pytest.approx((truth - guess).square().mean().item())
    assert "tukey" in mean_losses
    assert not {"three", "gaussian_nll", "beta_nll"} & set(mean_losses)


@card(task_types=("regression",), outputs_per_target=3)
def weighed(prediction, target):
    return (prediction * torch.arange(6)).sum(-1) + target.sum(-1)


def test_a_probe_is_as_wide_as_its_loss_takes_it():
    split = Split(torch.zeros(2, 4), torch.zeros(2, 2))
    of = replace(task(outputs=2), loss=weighed)
    assert '"gradient": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0,' in cross_loss.probe(of, (2,), split, torch.device("cpu"))


def test_a_comparison_of_losses_with_nets_of_their_own(lossbench, store):
    names = "mse", "gaussian_nll", "beta_nll", "tukey"
    words = [*SMALL["regression"], "seed=0,1", "train.steps=40", "train.eval_every=20"]
    said = lossbench("-m", f"loss={','.join(names)}", "dataset=regression", *words)
    assert said.code == 0, said.err
    runs = recorded.runs(store)
    assert sorted(run.data.params["loss"] for run in runs) == sorted(2 * names)
    assert {run.data.tags["lossbench.outcome"] for run in runs} == {"finished"}
    mean_losses = [{name for name in run.data.metrics if name.startswith("test_loss/")} for run in runs]
    assert all(found == mean_losses[0] for found in mean_losses)
    assert {"test_loss/mse", "test_loss/tukey"} < mean_losses[0]
