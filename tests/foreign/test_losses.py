"""Losses of six packages, trained as typed for a few steps; what is done for them is decided before, and said."""

import math

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from lossbench.config import catalogue, overrides
from lossbench.config.schema import CONFIGS
from lossbench.contract import checking
from lossbench.contract.checking import Fit
from lossbench.core import ConfigError, stream
from lossbench.core.vision import torchvision
from lossbench.engine import fit
from lossbench.losses import hinge as carded
from lossbench.runs import builders
from lossbench.runs.experiment import Experiment
from lossbench.tasks.adapting import ASTRAY, ONE_NUMBER, adapted
from lossbench.tasks.lifting import PAD, lifted

SHAPES = {
    "regression": ((1,), 1),
    "boxes": ((4,), 4),
    "binary": ((), 1),
    "multiclass": ((), 10),
    "segmentation": ((12, 16), 1),
    "sequence": ((5,), 8),
    "embedding": ((), 5),
}


def fitted(loss, task_type):
    return adapted(loss, task_type, *SHAPES[task_type])


def batch(task_type, n=6):
    """Predictions and targets, other than those that forms are found with."""
    target, outputs = SHAPES[task_type]
    random = stream(1, task_type)
    z = torch.randn(n, *target, *((outputs,) if task_type in ("multiclass", "sequence") else ()), generator=random)
    if task_type in ("regression", "boxes"):
        return z, torch.randn(n, *target, generator=random)
    if task_type in ("binary", "segmentation"):
        return z, torch.randint(2, (n, *target), generator=random)
    tokens = torch.randint(1 if task_type == "sequence" else 0, outputs, (n, *target), generator=random)
    return z, tokens * (torch.arange(target[0]) <= torch.arange(n)[:, None]) if task_type == "sequence" else tokens


def real(z, y):
    return z[y != PAD], y[y != PAD]


def hinge(scores, signs):
    return carded(scores, signs)


EQUAL = {
    "floats": (nn.BCEWithLogitsLoss, "binary", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float())),
    "probabilities": (nn.BCELoss, "binary", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float())),
    "squares of probabilities": (nn.MSELoss, "binary", lambda z, y: (z.sigmoid() - y).square().mean()),
    "signs": (nn.SoftMarginLoss, "binary", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float())),
    "a hinge that refuses 0 and 1": (lambda: hinge, "binary", lambda z, y: F.relu(1 - (2 * y - 1) * z)),
    "two classes": (nn.CrossEntropyLoss, "binary", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float())),
    "two classes by logs": (nn.NLLLoss, "binary", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float())),
    "logs": (nn.NLLLoss, "multiclass", F.cross_entropy),
    "logs and one-hot": (lambda: nn.KLDivLoss(reduction="batchmean"), "multiclass", F.cross_entropy),
    "one-hot": (nn.MSELoss, "multiclass", lambda z, y: (z - F.one_hot(y, 10)).square().mean()),
    "as it is": (nn.CrossEntropyLoss, "multiclass", F.cross_entropy),
    "tokens": (nn.CrossEntropyLoss, "sequence", lambda z, y: F.cross_entropy(*real(z, y))),
    "tokens by logs": (nn.NLLLoss, "sequence", lambda z, y: F.cross_entropy(*real(z, y))),
    "pixels": (nn.BCELoss, "segmentation", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float())),
    "pixels of two classes": (
        nn.CrossEntropyLoss,
        "segmentation",
        lambda z, y: F.binary_cross_entropy_with_logits(z, y.float()),
    ),
    "numbers": (nn.HuberLoss, "regression", F.huber_loss),
}


@pytest.mark.parametrize(("make", "task_type", "expected"), EQUAL.values(), ids=EQUAL)
def test_the_form_is_the_one_that_its_author_meant(make, task_type, expected):
    found = fitted(make(), task_type)
    z, y = batch(task_type)
    assert found.leads
    assert torch.allclose(found.loss(z, y), expected(z, y), atol=1e-6)
    assert (ONE_NUMBER in found.notes) == (found.loss(z, y).dim() == 0)


def dice_of_channels(prediction, target):
    """Over all axes but [batch, channel], as in medical imaging."""
    p, axes = prediction.sigmoid(), tuple(range(2, prediction.dim()))
    return 1 - ((2 * (p * target).sum(axes) + 1) / ((p + target).sum(axes) + 1)).mean()


def test_rows_are_no_channels():
    """Without an axis for the channel this takes each row for one."""
    found = fitted(dice_of_channels, "segmentation")
    z, y = batch("segmentation")
    assert torch.allclose(found.loss(z, y), dice_of_channels(z.unsqueeze(1), y.unsqueeze(1)))
    assert not torch.allclose(found.loss(z, y), dice_of_channels(z, y), rtol=1e-3)
    lying = z.transpose(1, 2), y.transpose(1, 2)
    assert torch.allclose(found.loss(*lying), found.loss(z, y))
    assert "channel" in str(found)


@pytest.mark.parametrize("shape", [(12, 16), (32, 32), (12, 40)], ids=str)
def test_nor_are_they_classes(shape):
    """Cross-entropy takes float masks, of which it reads each column as the probabilities of its rows."""
    assert adapted(nn.CrossEntropyLoss(), "segmentation", shape, 1).call.prediction == "two"


def test_values_of_parts_become_one_an_example():
    bce = nn.BCEWithLogitsLoss(reduction="none")
    z, y = batch("segmentation")
    per_example = fitted(bce, "segmentation").loss(z, y)
    assert torch.allclose(per_example, bce(z, y.float()).mean((1, 2)))
    z, y = batch("sequence")
    per_example = fitted(nn.CrossEntropyLoss(reduction="none"), "sequence").loss(z, y)
    expected = [F.cross_entropy(*real(one, other)) for one, other in zip(z, y, strict=True)]
    assert torch.allclose(per_example, torch.stack(expected), atol=1e-6)
    z, y = batch("regression")
    assert fitted(lambda p, t: (p - t).square(), "regression").loss(z, y).shape == (6,)


def test_padding_never_counts():
    found = fitted(nn.CrossEntropyLoss(), "sequence")
    z, y = batch("sequence")
    z.requires_grad_()
    found.loss(z, y).backward()
    assert not z.grad[y == PAD].any()
    assert found.loss(z, torch.full_like(y, PAD)).item() == 0


def test_the_target_first_is_seen_by_its_name():
    def asymmetric(y_true, y_pred):
        return torch.where(y_pred < y_true, 3 * (y_true - y_pred), y_pred - y_true).mean(-1)

    z, y = batch("regression")
    found = fitted(asymmetric, "regression")
    assert torch.equal(found.loss(z, y), asymmetric(y, z))
    assert "target first" in str(found)


@pytest.mark.parametrize("name", ["generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"])
def test_boxes_are_corners_where_a_loss_reads_corners(name):
    loss = getattr(torchvision.ops, name)
    assert "corners" in str(fitted(loss, "boxes"))
    assert not fitted(F.smooth_l1_loss, "boxes").call.prediction


def test_what_leads_nowhere_is_said():
    assert ASTRAY in fitted(nn.PoissonNLLLoss(), "regression").notes
    assert ASTRAY in fitted(lambda p, t: -(p - t).square().mean(-1), "regression").notes


OURS = [
    (entry, task_type) for entry in catalogue.losses([CONFIGS]) for task_type in entry.task_types if task_type in SHAPES
]
OURS = [
    (entry, task_type)
    for entry, task_type in OURS
    if not (task_type == "embedding" and "multiclass" in entry.task_types)
]
OURS = [
    (entry, task_type)
    for entry, task_type in OURS
    if entry.card.outputs_per_target == 1 and "generator" not in entry.card.needs  # random centres
]


@pytest.mark.parametrize(("entry", "task_type"), OURS, ids=[f"{entry.name} {task_type}" for entry, task_type in OURS])
def test_a_right_loss_is_called_as_it_is(entry, task_type):
    """Ours, without their cards."""
    classes = 2 if task_type in ("binary", "segmentation") else SHAPES[task_type][1]
    brings = {
        "classes": lambda: classes,
        "class_counts": lambda: tuple(range(1, classes + 1)),
        "dimensions": lambda: SHAPES[task_type][1],
        "generator": lambda: stream(0, "loss"),
    }
    made = lifted(
        builders.loss(OmegaConf.create({"_target_": entry.target, **entry.parameters}), task_type, brings), task_type
    )
    found = fitted(lambda prediction, target: made(prediction, target), task_type)
    assert found.leads
    assert [note for note in found.notes if note != ONE_NUMBER] == []


TYPED = {
    "torch.nn": ("regression", ["loss._target_=torch.nn.SmoothL1Loss", "loss.beta=0.5"]),
    "torch.nn.functional": ("boxes", ["loss._target_=torch.nn.functional.smooth_l1_loss"]),
    "torch, probabilities": ("imbalanced", ["loss._target_=torch.nn.BCELoss"]),
    "torch, log-probabilities": ("mnist", ["loss._target_=torch.nn.NLLLoss"]),
    "torch, tokens": ("translation", ["loss._target_=torch.nn.NLLLoss"]),
    "torchvision": ("boxes", ["loss._target_=torchvision.ops.complete_box_iou_loss"]),
    "torchvision, pixels": ("segmentation", ["loss._target_=torchvision.ops.sigmoid_focal_loss"]),
    "segmentation_models_pytorch": (
        "segmentation",
        ["loss._target_=segmentation_models_pytorch.losses.DiceLoss", "loss.mode=binary"],
    ),
    "monai": ("segmentation", ["loss._target_=monai.losses.DiceLoss"]),
    "timm": ("mnist", ["loss._target_=timm.loss.LabelSmoothingCrossEntropy"]),
    "pytorch_metric_learning": ("faces", ["loss._target_=pytorch_metric_learning.losses.ArcFaceLoss"]),
    "pytorch_metric_learning, by its parent": ("faces", ["loss._target_=pytorch_metric_learning.losses.CosFaceLoss"]),
    "pytorch_metric_learning, pairs": ("faces", ["loss._target_=pytorch_metric_learning.losses.TripletMarginLoss"]),
}


@pytest.fixture(scope="module")
def datasets():
    return {}


@pytest.mark.filterwarnings("ignore")  # of what others' modules import
@pytest.mark.parametrize(("dataset", "words"), TYPED.values(), ids=TYPED)
def test_it_trains_as_typed(dataset, words, configured, datasets):
    cfg = configured(dataset, *overrides.free(words), "train.steps=3", "train.eval_every=3", "train.record_every=1")
    overrides.replace(cfg, words)
    OmegaConf.resolve(cfg)
    if dataset not in datasets:
        datasets[dataset] = builders.splits(cfg.dataset)
    experiment = Experiment(cfg, datasets[dataset])
    told = {}
    fit([experiment.replica(lambda step, values: told.update(values))], experiment.plan)
    assert math.isfinite(told["train/loss"])
    assert told["train/grad_norm"] > 0


WANTED = {
    "torch.nn.TripletMarginLoss": ("embedding", r"is called with \(anchor, positive, negative\)"),
    "torch.nn.GaussianNLLLoss": ("regression", r"is called with \(input, target, var\)"),
    "pytorch_metric_learning.losses.ArcFaceLoss": ("embedding", "has no default for num_classes, embedding_size"),
}


@pytest.mark.parametrize(("target", "task_type", "said"), [(t, *rest) for t, rest in WANTED.items()], ids=WANTED)
def test_or_it_says_what_it_wants(target, task_type, said):
    with pytest.raises(ConfigError, match=said):
        builders.loss(OmegaConf.create({"_target_": target}), task_type)


def test_a_loss_of_classes_takes_no_axes_of_embeddings_for_them():
    with pytest.raises(ConfigError, match="CrossEntropyLoss reads a logit a class"):
        adapted(nn.CrossEntropyLoss(), "embedding", (), 32)


def answer(*words):
    (found,) = set(checking.check(words).answers.values())
    return found


def test_check_has_three_answers():
    assert answer("huber", "task_type=regression").fit is Fit.PASSES
    logs = answer("torch.nn.NLLLoss", "task_type=multiclass")
    assert logs.fit is Fit.TRAINS
    assert "log-probabilities" in logs.why
    assert "no values of single examples" in logs.why
    assert answer("torch.nn.functional.smooth_l1_loss", "task_type=multiclass").fit is Fit.TRAINS
    assert answer("torch.nn.CosineSimilarity", "task_type=multiclass").fit is Fit.UNFIT


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ProxyNCALoss"])
def test_centres_that_start_at_random_are_no_fault(name):
    checked = checking.check([f"pytorch_metric_learning.losses.{name}", "task_type=embedding"])
    broken = {f.clause.name for f in checked.findings["embedding"] if f.verdict.value == "broken"}
    assert not broken & {"generator", "classes", "repeat", "descent", "slope", "own", "order"}
    assert not checked.unfit
