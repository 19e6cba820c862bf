"""Models: weights from a generator alone, torch's own distribution, sizes, and what is refused."""

import pytest
import torch
from scipy import stats
from torch import nn

from lossbench.core import ConfigError, stream
from lossbench.models import CNN, MLP
from lossbench.models.initial import initialise, start_at

MADE = [
    pytest.param(lambda random: MLP((10,), 3, random), id="mlp"),
    pytest.param(lambda random: MLP((1, 8, 8), 3, random, hidden=()), id="linear"),
    pytest.param(lambda random: CNN((1, 28, 28), 10, random), id="cnn"),
    pytest.param(lambda random: CNN((3, 24, 24), 1, random, widths=(8, 16), norm="group"), id="cnn-group"),
]


@pytest.mark.parametrize("make", MADE)
def test_same_seed_same_weights(make):
    first, second, other = (make(stream(seed, "init")).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("make", MADE)
def test_the_global_generator_is_left_alone(make):
    before = torch.random.get_rng_state()
    make(stream(0, "init"))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("make", MADE)
def test_every_layer_is_within_its_bound_and_fills_it(make):
    for layer in make(stream(0, "init")).modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.abs().max() > 0.9 * bound
            assert layer.bias.abs().max() <= bound


@pytest.mark.parametrize(
    ("make", "tensor"),
    [
        (lambda: nn.Linear(50, 400), "weight"),
        (lambda: nn.Linear(50, 4000), "bias"),
        (lambda: nn.Conv2d(8, 64, 3), "weight"),
        (lambda: nn.Conv2d(8, 4000, 3), "bias"),
    ],
)
def test_initial_weights_are_distributed_as_torchs(make, tensor):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs, layer = make(), make()
    initialise(layer, stream(0, "init"))
    ours, reference = (getattr(module, tensor).detach().flatten().numpy() for module in (layer, theirs))
    assert stats.ks_2samp(ours, reference).pvalue > 1e-3
    assert abs(ours).max() == pytest.approx(abs(reference).max(), rel=5e-3)


@pytest.mark.parametrize("size", [24, 25, 27, 28])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", ["none", "group"])
def test_cnn_takes_images_of_any_size(size, channels, norm):
    model = CNN((channels, size, size), 10, stream(0, "init"), norm=norm)
    assert model(torch.zeros(5, channels, size, size)).shape == (5, 10)


@pytest.mark.parametrize("shape", [(28, 28), (24, 17)])
def test_every_convolution_halves_the_image(shape):
    model = CNN((1, *shape), 2, stream(0, "init"), widths=(4, 8, 16, 16))
    values = torch.zeros(1, 1, *shape)
    for layer in model.body[:-1]:
        before = values.shape[2:]
        values = layer(values)
        if isinstance(layer, nn.Conv2d):
            assert values.shape[2:] == tuple((side + 1) // 2 for side in before)
    assert model.head.in_features == values.numel()


@pytest.mark.parametrize("make", MADE)
def test_nothing_is_kept_between_batches(make):
    model = make(stream(0, "init"))
    assert not list(model.buffers())
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def test_an_example_is_judged_without_its_batch():
    model = CNN((1, 12, 12), 4, stream(0, "init"), norm="group").double()
    images = torch.randn(6, 1, 12, 12, generator=stream(0, "images"), dtype=torch.float64)
    torch.testing.assert_close(model(images)[2:3], model(images[2:3]))


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.9])
def test_head_starts_at_a_prior(prior):
    model = MLP((4,), 1, stream(0, "init"))
    start_at(model.head, prior)
    assert model.head.bias.detach().sigmoid().item() == pytest.approx(prior, rel=1e-5)


def test_head_starts_at_the_priors_of_classes():
    priors = [0.7, 0.2, 0.1]
    model = MLP((4,), 3, stream(0, "init"))
    weight = model.head.weight.detach().clone()
    start_at(model.head, priors)
    torch.testing.assert_close(model.head.bias.detach().softmax(0), torch.tensor(priors))
    assert torch.equal(model.head.weight, weight)
    assert model.head.bias.requires_grad


@pytest.mark.parametrize("shape", [(7,), (1, 8, 8), (3, 5, 6)])
def test_mlp_takes_vectors_and_images_laid_flat(shape):
    model = MLP(shape, 2, stream(0, "init"))
    inputs = torch.randn(4, *shape, generator=stream(0, "inputs"))
    flat = MLP((inputs[0].numel(),), 2, stream(0, "init"))
    assert model(inputs).shape == (4, 2)
    torch.testing.assert_close(model(inputs), flat(inputs.flatten(1)))


@pytest.mark.parametrize("shape", [(10,), (28, 28)])
def test_cnn_refuses_what_is_no_image(shape):
    with pytest.raises(ConfigError, match="wants images"):
        CNN(shape, 2, stream(0, "init"))


@pytest.mark.parametrize("norm", ["batch", "instance", ""])
def test_cnn_refuses_a_norm_that_it_does_not_have(norm):
    with pytest.raises(ConfigError, match=r"model\.norm"):
        CNN((1, 8, 8), 2, stream(0, "init"), norm=norm)


def test_group_norm_of_any_width():
    assert CNN((1, 8, 8), 2, stream(0, "init"), widths=(12, 5), norm="group")(torch.zeros(3, 1, 8, 8)).shape == (3, 2)
