"""Losses of masks: against two libraries, the identities between them, empty masks, an image at a time."""

import warnings

import pytest
import torch
from torch.nn import functional as F

from lossbench.core import stream
from lossbench.losses.segmentation import dice, dice_bce, jaccard, tversky
from lossbench.vision import torchvision  # noqa: F401  so that timm finds it, beside a torch of another make

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai import losses as monai
    from segmentation_models_pytorch import losses as smp

ALL = pytest.mark.parametrize("loss", [dice, dice_bce, tversky, jaccard])
EPSILON = pytest.mark.parametrize("epsilon", [1e-3, 1.0, 30.0])


def example(batch=5, side=9, share=0.2, dtype=torch.float64):
    """Logits and masks of which none is empty."""
    random = stream(0, "masks")
    masks = (torch.rand(batch, side, side, generator=random) < share).long()
    masks[:, 0, 0] = 1
    return 3 * torch.randn(batch, side, side, generator=random, dtype=dtype), masks


LOGITS, MASKS = example()


def same(terms, reference):
    torch.testing.assert_close(terms, reference, rtol=1e-10, atol=1e-12)


def of_monai(criterion):
    """MONAI's terms an image; it wants channels."""
    return criterion(LOGITS[:, None], MASKS[:, None]).flatten()


def of_smp(criterion):
    """segmentation-models-pytorch sums over the batch, so it sees one image at a time."""
    pairs = zip(LOGITS.split(1), MASKS.split(1), strict=True)
    return torch.stack([criterion(logits[:, None], mask[:, None]) for logits, mask in pairs])


@EPSILON
def test_dice_is_monais(epsilon):
    theirs = monai.DiceLoss(sigmoid=True, smooth_nr=epsilon, smooth_dr=epsilon, reduction="none")
    same(dice(LOGITS, MASKS, epsilon=epsilon), of_monai(theirs))


@EPSILON
def test_jaccard_is_monais(epsilon):
    theirs = monai.DiceLoss(sigmoid=True, jaccard=True, smooth_nr=epsilon, smooth_dr=epsilon, reduction="none")
    same(jaccard(LOGITS, MASKS, epsilon=epsilon / 2), of_monai(theirs))  # it doubles all but ε


@EPSILON
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7), (0.9, 0.2)])
def test_tversky_is_monais(epsilon, alpha, beta):
    theirs = monai.TverskyLoss(
        sigmoid=True, alpha=alpha, beta=beta, smooth_nr=epsilon, smooth_dr=epsilon, reduction="none"
    )
    same(tversky(LOGITS, MASKS, alpha=alpha, beta=beta, epsilon=epsilon), of_monai(theirs))


@EPSILON
def test_dice_is_segmentation_models_pytorchs(epsilon):
    theirs = smp.DiceLoss("binary", smooth=epsilon / 2)  # which halves all but its ε
    same(dice(LOGITS, MASKS, epsilon=epsilon), of_smp(theirs))


@EPSILON
def test_jaccard_is_segmentation_models_pytorchs(epsilon):
    same(jaccard(LOGITS, MASKS, epsilon=epsilon), of_smp(smp.JaccardLoss("binary", smooth=epsilon)))


@EPSILON
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7), (0.9, 0.2)])
def test_tversky_is_segmentation_models_pytorchs(epsilon, alpha, beta):
    theirs = smp.TverskyLoss("binary", smooth=epsilon, alpha=alpha, beta=beta)
    same(tversky(LOGITS, MASKS, alpha=alpha, beta=beta, epsilon=epsilon), of_smp(theirs))


@pytest.mark.parametrize("weight", [0.2, 0.5])
def test_dice_bce_is_monais(weight):
    theirs = monai.DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, lambda_dice=weight, lambda_ce=1 - weight)
    same(dice_bce(LOGITS, MASKS, weight=weight).mean(), theirs(LOGITS[:, None], MASKS[:, None].double()))


@EPSILON
def test_tversky_spans_dice_and_jaccard(epsilon):
    same(tversky(LOGITS, MASKS, alpha=0.5, beta=0.5, epsilon=epsilon / 2), dice(LOGITS, MASKS, epsilon=epsilon))
    same(tversky(LOGITS, MASKS, alpha=1, beta=1, epsilon=epsilon), jaccard(LOGITS, MASKS, epsilon=epsilon))


def test_dice_bce_spans_dice_and_cross_entropy():
    pixels = F.binary_cross_entropy_with_logits(LOGITS, MASKS.double(), reduction="none")
    same(dice_bce(LOGITS, MASKS, weight=1), dice(LOGITS, MASKS))
    same(dice_bce(LOGITS, MASKS, weight=0), pixels.mean((1, 2)))


def test_tversky_prices_misses_and_false_alarms():
    mask = torch.zeros(1, 4, 4, dtype=torch.float64)
    mask[0, 1:3, 1:3] = 1
    miss, alarm = mask.clone(), mask.clone()
    miss[0, 1, 1], alarm[0, 0, 0] = 0, 1
    said = [200 * where - 100 for where in (miss, alarm)]
    missed, alarmed = (tversky(logits, mask, alpha=0.2, beta=0.8, epsilon=0.0).item() for logits in said)
    assert missed == pytest.approx(1 - 3 / 3.8)
    assert alarmed == pytest.approx(1 - 4 / 4.2)


@ALL
def test_an_empty_mask_costs_nothing_where_nothing_is_predicted(loss):
    logits = torch.full((2, 8, 8), -100.0)
    assert loss(logits, torch.zeros(2, 8, 8)).tolist() == pytest.approx([0, 0], abs=1e-7)


@ALL
def test_an_empty_mask_costs_more_the_more_is_predicted(loss):
    logits = torch.full((3, 8, 8), -100.0)
    logits[1, :2], logits[2, :5] = 100, 100
    none, some, much = loss(logits, torch.zeros(3, 8, 8)).tolist()
    assert none < 0.01 < some < much


@ALL
def test_a_perfect_mask_costs_nothing_and_its_opposite_much(loss):
    right = 200.0 * MASKS - 100
    assert loss(right, MASKS).abs().max() < 1e-7
    assert loss(-right, MASKS).min() > 0.8


@ALL
def test_a_term_is_of_one_image(loss):
    """Not of the batch, as where libraries sum over it; an empty mask among the others changes no other term."""
    masks = MASKS.clone()
    masks[2] = 0
    terms = loss(LOGITS, masks)
    assert terms.shape == (5,)
    same(terms, torch.cat([loss(z, y) for z, y in zip(LOGITS.split(1), masks.split(1), strict=True)]))
    same(terms[[0, 1, 3, 4]], loss(LOGITS, MASKS)[[0, 1, 3, 4]])


@ALL
@pytest.mark.parametrize("shape", [(81,), (9, 9), (3, 3, 9)])
def test_pixels_may_lie_in_any_shape(loss, shape):
    same(loss(LOGITS.reshape(5, *shape), MASKS.reshape(5, *shape)), loss(LOGITS, MASKS))


@ALL
def test_gradient_is_the_slope(loss):
    logits, masks = example(batch=2, side=3)
    masks[1] = 0
    assert torch.autograd.gradcheck(lambda z: loss(z, masks), logits.requires_grad_())


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [0.0, 20.0, 1e4])
def test_finite_at_extremes(loss, dtype, scale):
    logits = (scale * (2 * torch.eye(8) - 1)).expand(4, 8, 8).to(dtype).clone().requires_grad_()
    masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), torch.eye(8), 1 - torch.eye(8)])
    terms = loss(logits, masks)
    (gradient,) = torch.autograd.grad(terms.sum(), logits)
    assert terms.dtype == dtype
    assert terms.isfinite().all()
    assert gradient.isfinite().all()


@ALL
def test_descent_leads_to_the_mask(loss):
    logits = torch.zeros_like(LOGITS).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, MASKS).sum(), logits)
    assert torch.equal(gradient.sign(), 1.0 - 2 * MASKS)
