"""U-Net: a value a pixel at any size, skips that matter, weights from a generator alone, replicas as one."""

import math

import pytest
import torch
from omegaconf import OmegaConf
from torch.func import functional_call, stack_module_state, vmap

from lossbench.core import ConfigError, DatasetInfo, stream
from lossbench.models.unet import UNet
from lossbench.runs import builders


def made(seed=0, inputs=(1, 16, 16), outputs=1, **settings):
    return UNet(inputs, outputs, stream(seed, "init"), **{"widths": (4, 8, 8), **settings})


def images(*shape):
    return torch.randn(*shape, generator=stream(0, "images"))


@pytest.mark.parametrize("size", [(16, 16), (17, 17), (18, 31), (5, 7), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_logit_a_pixel_at_any_size(size, channels, norm):
    assert made(inputs=(channels, *size), norm=norm)(images(2, channels, *size)).shape == (2, *size)


def test_classes_stay_where_there_are_several():
    assert made(outputs=3)(images(2, 1, 16, 16)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("widths", [(4,), (4, 8), (4, 8, 8, 16, 16)])
def test_levels_are_as_many_as_widths(widths):
    assert made(widths=widths)(images(2, 1, 16, 16)).shape == (2, 16, 16)


def test_a_change_far_away_reaches_a_pixel_and_a_shift_of_two_levels_is_a_shift():
    """What lies beside is seen through the lower levels; what a pixel sees moves along with it by multiples of 4."""
    model = made().double()
    batch = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    batch[..., 28:36, 28:36] = images(8, 8).double()
    near, moved = model(batch), model(batch.roll((4, 8), (2, 3)))
    inside = slice(20, 44)
    torch.testing.assert_close(moved.roll((-4, -8), (1, 2))[:, inside, inside], near[:, inside, inside])
    other = batch.clone()
    other[..., 24, 32] += 1
    assert (model(other) - near)[0, 32, 32].abs() > 1e-9  # eight pixels away: beyond two 3×3 convolutions


@pytest.mark.parametrize("level", [0, 1])
def test_every_skip_counts(level):
    model = made().double()
    batch = images(1, 1, 16, 16).double()
    before = model(batch)
    with torch.no_grad():
        layer = model.up[len(model.up) - 1 - level][0]
        layer.weight[:, -(4, 8)[level] :] = 0  # what comes from beside is last
    assert (model(batch) - before).abs().max() > 1e-3


def test_an_image_is_judged_without_its_batch():
    model = made(norm="group").double()
    batch = images(4, 1, 16, 16).double()
    torch.testing.assert_close(model(batch)[2:3], model(batch[2:3]))


def test_same_seed_same_weights_and_the_global_generator_left_alone():
    before = torch.random.get_rng_state()
    first, second, other = (made(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if first[name].dim() == 4)
    assert all(tensor.isfinite().all() for tensor in first.values())


def test_nothing_is_kept_between_batches():
    assert not list(made(norm="group").buffers())


@pytest.mark.parametrize("norm", ["none", "group"])
def test_replicas_stack(norm):
    models = [made(seed, norm=norm) for seed in range(3)]
    batch = images(3, 2, 1, 16, 16)
    state, _ = stack_module_state(models)
    together = vmap(lambda parameters, one: functional_call(models[0], parameters, (one,)))(state, batch)
    alone = torch.stack([model(one) for model, one in zip(models, batch, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"inputs": (10,)}, "wants images"),
        ({"norm": "batch"}, r"model\.norm=batch"),
        ({"widths": ()}, r"model\.widths"),
    ],
)
def test_what_cannot_work_is_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        made(**settings)


@pytest.mark.parametrize(("prior", "bias"), [(0.01, -math.log(99)), ("auto", -math.log(3))])
def test_its_last_bias_starts_at_a_prior(prior, bias):
    info = DatasetInfo(
        "toy", "segmentation", (1, 8, 8), (8, 8), "", "", "", classes=("no", "yes"), class_counts=(75, 25)
    )
    cfg = OmegaConf.create({"_target_": "lossbench.models.unet.UNet", "widths": [4, 8], "norm": "none", "prior": prior})
    assert builders.nets(cfg, info, 0).model.head.bias.item() == pytest.approx(bias)
