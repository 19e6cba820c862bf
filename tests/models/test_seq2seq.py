"""The encoder–decoder: what looks at what, padding that nobody sees, the same in a stack as alone."""

import pytest
import torch

from lossbench.core import ConfigError, stream
from lossbench.engine import Nets
from lossbench.models.seq2seq import PAD, Seq2Seq

SOURCE, TARGET, READ, WRITTEN = 11, 6, 9, 8


def model(seed=0, **settings):
    settings = {"width": 16, "heads": 2, **settings}
    return Seq2Seq((SOURCE,), WRITTEN, stream(seed, "init"), vocabulary=READ, length=TARGET, **settings).double()


def example(n=12, seed=0):
    """Sources filled up with padding from somewhere on, one that is nothing else, and what was written before."""
    random = stream(seed, "example")
    source = torch.randint(1, READ, (n, SOURCE), generator=random)
    lengths = torch.randint(1, SOURCE + 1, (n, 1), generator=random)
    lengths[0] = 0
    return source.masked_fill(torch.arange(SOURCE) >= lengths, PAD), torch.randint(
        WRITTEN, (n, TARGET), generator=random
    )


STRIDES = pytest.mark.parametrize("stride", [1, 2, 3, 4])


@STRIDES
def test_shapes_and_parts(stride):
    net, (source, before) = model(stride=stride), example()
    memory = net.encoder(source)
    assert memory.shape == (12, -(-SOURCE // stride), 16)
    logits = net(source, before)
    assert logits.shape == (12, TARGET, WRITTEN)
    torch.testing.assert_close(net.head(net.decoder(memory, source, before)), logits)
    assert logits.isfinite().all()


def test_defaults_work():
    net = Seq2Seq((SOURCE,), WRITTEN, stream(0, "init"), vocabulary=READ, length=TARGET)
    assert net(*example()).shape == (12, TARGET, WRITTEN)


@pytest.mark.parametrize("place", range(1, TARGET))
def test_no_symbol_sees_those_behind_it(place):
    net, (source, before) = model(), example()
    other = before.clone()
    other[:, place] = (other[:, place] + 1) % WRITTEN
    first, second = net(source, before), net(source, other)
    torch.testing.assert_close(first[:, :place], second[:, :place], rtol=0, atol=0)
    assert (first[:, place:] != second[:, place:]).any(-1).all()


@STRIDES
def test_every_symbol_of_the_source_is_seen(stride):
    net, (source, before) = model(stride=stride), example()
    source = source.clamp(min=1)
    for place in range(SOURCE):
        other = source.clone()
        other[:, place] = 1 + other[:, place] % (READ - 1)
        assert (net(other, before) != net(source, before)).any(-1).all()


def test_order_matters():
    net, (source, before) = model(), example()
    assert not torch.allclose(net(source.clamp(min=1).flip(1), before), net(source.clamp(min=1), before))


@STRIDES
def test_padding_of_the_source_is_seen_by_nobody(stride):
    net, (source, before) = model(stride=stride), example()
    source, before = source[1:], before[1:]  # not the one that is nothing else
    logits = net(source, before)
    for row, found, b in zip(source, logits, before, strict=True):
        short = row[row != PAD]
        torch.testing.assert_close(net(short[None], b[None])[0], found)
    with torch.no_grad():
        net.encoder.what[PAD] += 10
    assert torch.equal(net(source, before), logits)


def test_padding_alone_has_finite_slopes():
    net = model()
    source = torch.full((3, SOURCE), PAD)
    net(source, torch.full((3, TARGET), PAD)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_every_parameter_learns():
    net, (source, before) = model(), example(40)
    net(source, before).square().sum().backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.filterwarnings("error")
def test_a_stack_is_its_replicas():
    alone = [model(seed) for seed in range(3)]
    batches = [example(seed=seed) for seed in range(3)]
    expected = [net(*batch) for net, batch in zip(alone, batches, strict=True)]
    slopes = [
        torch.autograd.grad(out.square().sum(), [*net.parameters()]) for net, out in zip(alone, expected, strict=True)
    ]
    stack = Nets.stack([Nets(model=net) for net in alone])
    found = stack.model(*(torch.stack(tensors) for tensors in zip(*batches, strict=True)))
    torch.testing.assert_close(found, torch.stack(expected))
    together = torch.autograd.grad(found.square().sum(), [*stack.model.parameters()])
    for one, each in zip(together, zip(*slopes, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(each))


def test_an_example_is_judged_without_its_batch():
    net, (source, before) = model(), example()
    torch.testing.assert_close(net(source, before)[3:4], net(source[3:4], before[3:4]))


def test_weights_come_from_the_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = (model(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if ".norm." not in name and ".feed.0." not in name]
    assert len(drawn) > 30
    assert all(not torch.equal(first[name], other[name]) for name in drawn if "norm" not in name)
    assert not list(model().buffers())


@pytest.mark.parametrize(
    ("inputs", "settings", "named"),
    [
        ((1, 28, 28), {}, r"model=seq2seq: wants sequences of symbols, the dataset gives \[1, 28, 28\]"),
        ((10,), {"vocabulary": 0}, r"wants sequences of symbols, the dataset gives \[10\]"),
        ((10,), {"heads": 3}, r"model\.heads=3: must divide model\.width=16"),
        ((10,), {"heads": 0}, r"model\.heads=0"),
        ((10,), {"stride": 0}, r"model\.stride=0"),
        ((10,), {"layers": 0}, r"model\.layers=0"),
    ],
)
def test_what_cannot_work_is_refused(inputs, settings, named):
    with pytest.raises(ConfigError, match=named):
        Seq2Seq(inputs, WRITTEN, stream(0, "init"), **{"vocabulary": READ, "length": TARGET, "width": 16, **settings})
