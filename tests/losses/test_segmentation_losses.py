"""Losses of masks: against two libraries, the identities between them, empty masks, an image at a time."""

import itertools
import warnings

import pytest
import torch
from torch.nn import functional as F

from lossbench.core import ConfigError, card_of, stream
from lossbench.core.vision import torchvision  # noqa: F401  so that timm finds it, beside a torch of another make
from lossbench.losses.segmentation import dice, dice_bce, focal_tversky, jaccard, lovasz, tversky

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from monai import losses as monai
    from segmentation_models_pytorch import losses as smp

SOFT = (dice, dice_bce, tversky, jaccard, focal_tversky)  # of probabilities
ALL = pytest.mark.parametrize("loss", [*SOFT, lovasz])
ALL_SOFT = pytest.mark.parametrize("loss", SOFT)
EPSILON = pytest.mark.parametrize("epsilon", [1e-3, 1.0, 30.0])


def example(batch=5, side=9, share=0.2, dtype=torch.float64):
    """Logits and masks of which none is empty."""
    random = stream(0, "masks")
    masks = (torch.rand(batch, side, side, generator=random) < share).long()
    masks[:, 0, 0] = 1
    return 3 * torch.randn(batch, side, side, generator=random, dtype=dtype), masks


LOGITS, MASKS = example()


def same(per_example, reference):
    torch.testing.assert_close(per_example, reference, rtol=1e-10, atol=1e-12)


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


@EPSILON
@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 4 / 3), (0.6, 0.2, 0.75), (0.5, 0.5, 3.0)])
def test_focal_tversky_is_segmentation_models_pytorchs(epsilon, alpha, beta, gamma):
    theirs = smp.TverskyLoss("binary", smooth=epsilon, alpha=alpha, beta=beta, gamma=1 / gamma)
    same(focal_tversky(LOGITS, MASKS, alpha=alpha, beta=beta, gamma=gamma, epsilon=epsilon), of_smp(theirs))


def test_lovasz_is_segmentation_models_pytorchs():
    """Which wants single precision."""
    criterion = smp.LovaszLoss("binary", per_image=True)
    pairs = zip(LOGITS.float().split(1), MASKS.split(1), strict=True)
    theirs = torch.stack([criterion(logits[:, None], mask[:, None]) for logits, mask in pairs])
    torch.testing.assert_close(lovasz(LOGITS, MASKS), theirs.double(), rtol=1e-5, atol=1e-5)


def test_lovasz_is_the_extension_of_one_minus_iou():
    """Pixel by pixel from the worst down: what one minus IoU would grow by were this one wrong as well."""
    for logits, mask in zip(LOGITS.flatten(1), MASKS.flatten(1).double(), strict=True):
        hinges = 1 - logits * (2 * mask - 1)
        predicted, before, expected = mask.clone(), 0.0, 0.0
        for pixel in hinges.argsort(descending=True):
            predicted[pixel] = 1 - predicted[pixel]
            fails = 1 - (predicted * mask).sum() / torch.maximum(predicted, mask).sum()
            expected = expected + hinges[pixel].clamp(min=0) * (fails - before)
            before = fails
        same(lovasz(logits[None], mask[None])[0], expected)


@pytest.mark.parametrize("sure", [1.0, 30.0])
def test_lovasz_of_sure_pixels_is_one_minus_iou(sure):
    predicted = LOGITS > 0
    both, either = (predicted & (MASKS == 1)).sum((1, 2)), (predicted | (MASKS == 1)).sum((1, 2))
    same(lovasz(sure * (2.0 * predicted - 1).double(), MASKS), (1 + sure) * (1 - both.double() / either))


def test_lovasz_of_an_empty_mask_is_the_hinge_of_its_worst_pixel():
    logits = LOGITS[:2].clone().requires_grad_()
    per_example = lovasz(logits, torch.zeros_like(MASKS[:2]))
    same(per_example, 1 + logits.flatten(1).max(1).values)
    (gradient,) = torch.autograd.grad(per_example.sum(), logits)
    assert (gradient != 0).sum((1, 2)).tolist() == [1, 1]
    assert lovasz(logits - 20, torch.zeros_like(MASKS[:2])).tolist() == [0, 0]


def test_lovasz_does_not_mind_ties():
    """Which of two pixels as wrong as each other comes first moves the gradient between them, and nothing else."""
    tied, order = LOGITS.flatten(1).round(), torch.arange(81).flip(0)
    assert len(tied[0].unique()) < 30
    same(lovasz(tied[:, order], MASKS.flatten(1)[:, order]), lovasz(tied, MASKS))
    near = lovasz(tied + 1e-9 * LOGITS.flatten(1), MASKS)
    torch.testing.assert_close(lovasz(tied, MASKS), near, rtol=1e-7, atol=1e-7)
    zero = torch.zeros(2, 9, 9).requires_grad_()
    (gradient,) = torch.autograd.grad(lovasz(zero, MASKS[:2]).sum(), zero)
    assert gradient.abs().sum((1, 2)).tolist() == pytest.approx([1, 1])
    assert (gradient * (1 - 2 * MASKS[:2]) >= 0).all()


def test_lovasz_of_a_large_image_is_no_rounding():
    random = stream(0, "large")
    logits = (4096 * torch.randn(1, 700, 700, generator=random)).round() / 4096  # so that both sort alike
    masks = (torch.rand(1, 700, 700, generator=random) < 0.3).long()
    slopes = []
    for z in (logits.requires_grad_(), logits.double()):
        slopes.append(torch.autograd.grad(lovasz(z, masks).sum(), z)[0])
    torch.testing.assert_close(slopes[0].double(), slopes[1], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("weight", [0.2, 0.5])
def test_dice_bce_is_monais(weight):
    theirs = monai.DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, lambda_dice=weight, lambda_ce=1 - weight)
    same(dice_bce(LOGITS, MASKS, weight=weight).mean(), theirs(LOGITS[:, None], MASKS[:, None].double()))


@EPSILON
def test_tversky_spans_dice_and_jaccard(epsilon):
    same(tversky(LOGITS, MASKS, alpha=0.5, beta=0.5, epsilon=epsilon / 2), dice(LOGITS, MASKS, epsilon=epsilon))
    same(tversky(LOGITS, MASKS, alpha=1, beta=1, epsilon=epsilon), jaccard(LOGITS, MASKS, epsilon=epsilon))


def test_focal_tversky_is_a_power_of_tversky():
    for gamma in (0.75, 1.0, 4 / 3, 3.0):
        same(focal_tversky(LOGITS, MASKS, gamma=gamma), tversky(LOGITS, MASKS) ** (1 / gamma))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gamma", [0.75, 4 / 3, 3.0])
def test_focal_tversky_is_finite_the_nearer_it_gets(gamma, dtype, subtests):
    """At t = 0 the power's own slope is infinite where γ > 1."""
    masks = torch.stack([MASKS[0], torch.zeros_like(MASKS[0])])
    for sure in (1, 10, 40, 80, 120, 1e4):
        with subtests.test(sure=sure):
            logits = (sure * (2 * masks - 1)).to(dtype).requires_grad_()
            per_example = focal_tversky(logits, masks, gamma=gamma)
            (gradient,) = torch.autograd.grad(per_example.sum(), logits)
            assert per_example.isfinite().all()
            assert gradient.isfinite().all()
            if sure > 1000:
                assert per_example.max() < 1e-11
                assert not gradient.any()
            if sure == 10:
                assert torch.equal(gradient.sign(), (1 - 2 * masks).to(dtype))


LIMITS = [
    pytest.param(loss, name, settings, id=f"{loss.__name__}-{name}")
    for loss in (*SOFT, lovasz)
    for name, settings in card_of(loss).limits.items()
]
PIXELS = {"bce": lambda z, y: F.binary_cross_entropy_with_logits(z, y.double(), reduction="none").mean((1, 2))}


@pytest.mark.parametrize(("loss", "name", "settings"), LIMITS)
def test_limits_are_what_the_card_says(loss, name, settings):
    known = {other.__name__: other for other in SOFT} | PIXELS
    same(loss(LOGITS, MASKS, **settings), known[name](LOGITS, MASKS))


def test_dice_bce_spans_dice_and_cross_entropy():
    pixels = F.binary_cross_entropy_with_logits(LOGITS, MASKS.double(), reduction="none")
    same(dice_bce(LOGITS, MASKS, weight=1), dice(LOGITS, MASKS))
    same(dice_bce(LOGITS, MASKS, weight=0), pixels.mean((1, 2)))


@pytest.mark.parametrize(("loss", "power"), [(tversky, 1), (focal_tversky, 0.75)])
def test_tversky_prices_misses_and_false_alarms(loss, power):
    mask = torch.zeros(1, 4, 4, dtype=torch.float64)
    mask[0, 1:3, 1:3] = 1
    miss, alarm = mask.clone(), mask.clone()
    miss[0, 1, 1], alarm[0, 0, 0] = 0, 1
    said = [200 * where - 100 for where in (miss, alarm)]
    missed, alarmed = (loss(logits, mask, alpha=0.2, beta=0.8, epsilon=0.0).item() for logits in said)
    assert missed == pytest.approx((1 - 3 / 3.8) ** power)
    assert alarmed == pytest.approx((1 - 4 / 4.2) ** power)


@ALL
def test_an_empty_mask_costs_nothing_where_nothing_is_predicted(loss):
    logits = torch.full((2, 8, 8), -100.0)
    assert loss(logits, torch.zeros(2, 8, 8)).tolist() == pytest.approx([0, 0], abs=1e-7)


@ALL_SOFT
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
    per_example = loss(LOGITS, masks)
    assert per_example.shape == (5,)
    same(per_example, torch.cat([loss(z, y) for z, y in zip(LOGITS.split(1), masks.split(1), strict=True)]))
    same(per_example[[0, 1, 3, 4]], loss(LOGITS, MASKS)[[0, 1, 3, 4]])


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
def test_finite_at_extremes(loss, subtests):
    masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8), torch.eye(8), 1 - torch.eye(8)])
    for dtype, scale in itertools.product((torch.float32, torch.float64, torch.bfloat16), (0.0, 20.0, 1e4)):
        with subtests.test(dtype=dtype, scale=scale):
            logits = (scale * (2 * torch.eye(8) - 1)).expand(4, 8, 8).to(dtype).clone().requires_grad_()
            per_example = loss(logits, masks)
            (gradient,) = torch.autograd.grad(per_example.sum(), logits)
            assert per_example.dtype == dtype
            assert per_example.isfinite().all()
            assert gradient.isfinite().all()


@ALL_SOFT
def test_descent_leads_to_the_mask(loss):
    logits = torch.zeros_like(LOGITS).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, MASKS).sum(), logits)
    assert torch.equal(gradient.sign(), 1.0 - 2 * MASKS)


@pytest.mark.parametrize(
    ("loss", "settings", "told"),
    [
        (dice, {"epsilon": -1.0}, "loss.epsilon"),
        (dice_bce, {"weight": 1.1}, "loss.weight"),
        (tversky, {"alpha": -0.1}, "loss.alpha"),
        (focal_tversky, {"beta": -0.1}, "loss.beta"),
        (focal_tversky, {"gamma": 0.0}, "loss.gamma"),
        (focal_tversky, {"epsilon": float("nan")}, "loss.epsilon"),
    ],
)
def test_settings_that_cannot_be_are_refused(loss, settings, told):
    with pytest.raises(ConfigError, match=told):
        loss(LOGITS, MASKS, **settings)
