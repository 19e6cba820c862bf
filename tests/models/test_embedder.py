"""The embedder: as long as it is asked to be, drawn from its generator, the same for every number of identities."""

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from lossbench.core import ConfigError, stream
from lossbench.models.embedder import Embedder

SHAPE = (1, 20, 15)


def made(outputs=7, seed=0, **settings):
    return Embedder(SHAPE, outputs, stream(seed, "init"), widths=(4, 8), **settings)


@pytest.mark.parametrize("dimensions", [1, 16, 100])
@pytest.mark.parametrize("norm", ["none", "group"])
def test_an_embedding_has_the_dimensions_asked_for(dimensions, norm):
    model = made(dimensions=dimensions, norm=norm)
    assert model(torch.zeros(3, *SHAPE)).shape == (3, dimensions)
    assert model.head.out_features == dimensions


def test_the_number_of_identities_changes_nothing():
    first, second = made(outputs=2).state_dict(), made(outputs=500).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_come_from_the_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = (made(seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_length_is_left_to_the_loss():
    norms = made()(torch.randn(20, *SHAPE, generator=stream(0, "photos"))).norm(dim=1)
    assert norms.max() > 1.05 * norms.min()


def test_replicas_stack():
    models = [made(seed=seed) for seed in range(3)]
    photos = torch.randn(3, 5, *SHAPE, generator=stream(0, "photos"))
    parameters, buffers = stack_module_state(models)
    together = vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,)))(parameters, buffers, photos)
    alone = torch.stack([model(x) for model, x in zip(models, photos, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "settings", "said"),
    [
        ((28, 28), {}, r"model=embedder: wants images.*28, 28"),
        (SHAPE, {"dimensions": 0}, r"model\.dimensions=0"),
        (SHAPE, {"norm": "batch"}, r"model\.norm=batch"),
    ],
)
def test_what_it_cannot_be_is_refused(shape, settings, said):
    with pytest.raises(ConfigError, match=said):
        Embedder(shape, 2, stream(0, "init"), **settings)
