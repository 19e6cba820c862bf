"""Autoencoders, generators, critics: sizes, weights from a generator alone, gradients everywhere, what is refused."""

import pytest
import torch
from torch import nn

from lossbench.core import ConfigError, stream
from lossbench.models.autoencoder import ConvAutoencoder, MLPAutoencoder, Up, down
from lossbench.models.gan import gan

SIZES = [(9, 11), (28, 28), (7, 16), (5, 3), (1, 2)]
MADE = {
    "vae": lambda random, inputs=(1, 9, 11), **more: MLPAutoencoder(inputs, 0, random, latent=3, hidden=(7, 6), **more),
    "vae_conv": lambda random, inputs=(1, 9, 11), **more: ConvAutoencoder(
        inputs, 0, random, **{"latent": 3, "widths": (4, 6), **more}
    ),
    "gan": lambda random, inputs=(1, 9, 11), **more: nn.ModuleDict(
        gan(inputs, 0, random, **{"latent": 3, "widths": (4, 6), "hidden": (7, 6), **more})
    ),
    "gan-points": lambda random, inputs=(2,), **more: nn.ModuleDict(
        gan(inputs, 0, random, **{"latent": 3, "hidden": (7, 6), **more})
    ),
}
EACH = pytest.mark.parametrize("name", MADE)
CODERS = pytest.mark.parametrize("name", ["vae", "vae_conv"])


def made(name, seed=0, **settings):
    return MADE[name](stream(seed, "init"), **settings)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=stream(seed, "inputs"))


def outputs(name, model, n=5):
    """Everything that a model of these says, of the first n of many examples."""
    inputs = normal(64, 2)[:n] if name == "gan-points" else normal(64, 1, 9, 11)[:n]
    if name.startswith("vae"):
        codes = model.encoder(inputs)
        return [codes, model.decoder(codes[:, :3])]
    return [model["critic"](inputs), model["generator"](normal(64, 3, seed=1)[:n])]


@CODERS
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_codes_and_pictures_of_any_size(name, size, channels):
    model = made(name, inputs=(channels, *size))
    codes = model.encoder(normal(4, channels, *size))
    pixels = model.decoder(codes[:, :3])
    assert codes.shape == (4, 6)
    assert pixels.flatten(1).shape == (4, channels * size[0] * size[1])
    assert model.latent == 3
    if name == "vae_conv":
        assert pixels.shape == (4, channels, *size)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_samples_and_scores_of_images_of_any_size(size, channels):
    players = gan((channels, *size), 0, stream(0, "init"), latent=3, widths=(4, 6))
    assert set(players) == {"critic", "generator"}
    images = players["generator"](normal(4, 3))
    assert images.shape == (4, channels, *size)
    assert players["critic"](images).shape == (4,)
    assert players["generator"].latent == 3
    assert 0 <= images.min() < images.max() <= 1
    far = players["generator"](1e4 * normal(4, 3))
    assert 0 <= far.min() <= far.max() <= 1


@pytest.mark.parametrize("size", [1, 2, 5])
def test_samples_and_scores_of_vectors(size):
    players = gan((size,), 0, stream(0, "init"), latent=4, hidden=(8,))
    samples = players["generator"](normal(6, 4))
    assert samples.shape == (6, size)
    assert players["critic"](samples).shape == (6,)
    assert players["generator"](1e3 * normal(6, 4)).abs().max() > 1  # points lie anywhere


@pytest.mark.parametrize("widths", [(), (4,), (4, 6, 8), (2, 2, 2, 2)])
@pytest.mark.parametrize("name", ["vae_conv", "gan"])
def test_as_many_convolutions_as_widths(name, widths):
    model = made(name, widths=widths)
    shapes = [tuple(found.shape[1:]) for found in outputs(name, model)]
    assert shapes == ([(6,), (1, 9, 11)] if name == "vae_conv" else [(), (1, 9, 11)])
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 2 * len(widths)


@CODERS
def test_a_call_decodes_the_mean(name):
    model = made(name)
    images = normal(4, 1, 9, 11)
    mean, _ = model.encoder(images).chunk(2, -1)
    torch.testing.assert_close(model(images), model.decoder(mean))


@EACH
def test_same_seed_same_bits_and_the_global_generator_left_alone(name):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second, other = (made(name, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    drawn = [key for key in first if not first[key].eq(first[key].flatten()[0]).all()]  # a norm starts at 1 and 0
    assert {key.rpartition(".")[0] for key in drawn} >= {
        key
        for key, layer in made(name).named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.numel() > 1
    }
    assert not any(torch.equal(first[key], other[key]) for key in drawn)
    assert all(tensor.isfinite().all() for tensor in first.values())


@EACH
def test_every_layer_is_within_its_bound(name):
    for layer in made(name).modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert 0.5 * bound < layer.weight.abs().max() <= bound
            assert layer.bias.abs().max() <= bound


@EACH
def test_gradients_reach_every_parameter(name):
    model = made(name)
    sum(found.square().sum() for found in outputs(name, model, 64)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert (parameter.grad != 0).any(), key


@EACH
def test_nothing_is_kept_between_batches_and_no_batch_is_normalised(name):
    model = made(name)
    assert not list(model.buffers())
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in model.modules())
    if name.startswith("gan"):
        assert not any(isinstance(module, nn.GroupNorm) for module in model["critic"].modules())


@EACH
def test_an_example_is_judged_without_its_batch(name):
    model = made(name)
    for found, alone in zip(outputs(name, model, 5), outputs(name, model, 1), strict=True):
        torch.testing.assert_close(found[:1], alone, rtol=1e-4, atol=1e-6)


def test_a_generator_of_images_is_normalised_by_group():
    norms = [module for module in made("gan")["generator"].modules() if isinstance(module, nn.GroupNorm)]
    assert [(norm.num_groups, norm.num_channels) for norm in norms] == [(2, 6), (4, 4)]
    assert not any(isinstance(module, nn.GroupNorm) for module in made("vae_conv").modules())


def test_an_image_grows_twofold_from_where_the_encoder_left_it():
    encoder, start = down([1, 4, 6, 8], (9, 11), 5)
    assert start == (2, 2)
    assert encoder(normal(2, 1, 9, 11)).shape == (2, 5)
    sizes = []
    up = Up(5, [8, 6, 4, 1], (9, 11), start)
    for convolution in up.convolutions:
        convolution.register_forward_hook(lambda module, given, found: sizes.append(tuple(found.shape[2:])))
    with torch.no_grad():
        for parameter in up.parameters():
            parameter.fill_(0.1)
    assert up(normal(2, 5)).shape == (2, 1, 9, 11)
    assert sizes == [(4, 4), (8, 8), (9, 11)]


def test_neighbouring_pixels_start_alike():
    """Doubled pixels and one convolution: a constant image stays constant inside, whatever the weights."""
    up = Up(2, [3, 1], (8, 8), (4, 4))
    with torch.no_grad():
        up.linear.weight.zero_()
        up.linear.bias.copy_(torch.tensor([1.0, 2.0, 3.0]).repeat_interleave(16))
        for parameter in up.convolutions.parameters():
            nn.init.normal_(parameter, generator=stream(0, "init"))
    inside = up(normal(1, 2))[0, 0, 1:-1, 1:-1]
    torch.testing.assert_close(inside, inside[:1, :1].expand_as(inside))


@pytest.mark.parametrize("shape", [(10,), (28, 28), (1, 1, 28, 28)], ids=str)
def test_a_convolutional_coder_refuses_what_is_no_image(shape):
    with pytest.raises(ConfigError, match="wants images"):
        ConvAutoencoder(shape, 0, stream(0, "init"))


@pytest.mark.parametrize("shape", [(28, 28), (1, 1, 28, 28), ()], ids=str)
def test_players_refuse_what_is_neither_image_nor_vector(shape):
    with pytest.raises(ConfigError, match="model=gan"):
        gan(shape, 0, stream(0, "init"))
