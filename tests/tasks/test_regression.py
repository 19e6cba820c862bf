"""The regression task: yardsticks in the target's own unit, against scikit-learn on the raw arrays."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from lossbench.core import Facts, Seen, Split, Splits, stream
from lossbench.datasets.regression import Outliers, regression
from lossbench.engine import Noise
from lossbench.losses import mse
from lossbench.tasks import Regression

CENTER, SCALE = 120.0, 7.0


def task(outputs=1, **changed):
    settings = {"center": CENTER, "scale": SCALE, "unit": "m", **changed}
    return Regression(mse, Facts("toy", "regression", (4,), (outputs,), "", "", "", **settings))


def raw(n=201, outputs=1):
    """Truth and guess in metres."""
    random = np.random.default_rng(0)
    truth = CENTER + SCALE * random.standard_normal((n, outputs))
    return truth, truth + random.standard_normal((n, outputs))


def standardised(metres):
    return torch.tensor((metres - CENTER) / SCALE)


@pytest.mark.parametrize("outputs", [1, 3])
def test_yardsticks_are_scikit_learns_in_the_unit_of_the_target(outputs):
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
    report = task().report(guess, truth, task().tune(guess, truth))
    assert sorted(report) == sorted(yardstick.name for yardstick in task().yardsticks)
    assert all(map(math.isfinite, report.values()))
    assert report == task().measure(guess, truth)
    assert [y.unit for y in task().yardsticks] == ["m", "m", "m", ""]


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
    ((player, terms),) = task().step(Net(), batch, Noise([0], torch.device("cpu")))
    assert player == "model"
    torch.testing.assert_close(terms, (batch.inputs.sum(1) - batch.targets[:, 0]).square())
    torch.testing.assert_close(task().predict(Net(), batch, Noise([0], torch.device("cpu")))[:, 0], batch.inputs.sum(1))


def splits(marks):
    truth, guess = map(standardised, raw(60))
    split = Split(torch.zeros(60, 4), truth, marks)
    return Splits(task().facts, split, split, split, {"test_contaminated": split}), guess


@pytest.mark.parametrize(
    "marks",
    [{}, {"outlier": torch.zeros(60, dtype=torch.bool)}, {"outlier": torch.arange(60) % 7 == 0}],
    ids=["unmarked", "none", "some"],
)
@pytest.mark.parametrize("named", [("test",), ("test", "test_contaminated")], ids=len)
def test_pictures_are_drawn(marks, named, tmp_path):
    made, guess = splits(marks)
    (figure,) = task().pictures(Seen(None, dict.fromkeys(named, guess), made)).values()
    figure.savefig(tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10  # more than an empty frame
    assert figure.axes[0].get_xlabel() == "truth [m]"
    points = sum(len(collection.get_offsets()) for collection in figure.axes[0].collections)
    assert points == 60


def test_pictures_where_all_are_outliers():
    made = regression(seed=0, train=20, validation=20, test=20, outliers=Outliers(fraction=1.0))
    assert Regression(mse, made.facts).pictures(Seen(None, {name: split.targets for name, split in made}, made))
