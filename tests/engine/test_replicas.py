"""A stack of replicas gives what each gives alone; batches show every example once an epoch."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.core import Facts, Split, stream
from lossbench.engine.nets import Nets, predict
from lossbench.engine.order import batches
from lossbench.engine.terms import OverReplicas
from lossbench.losses import cross_entropy, focal, hinge, huber
from lossbench.models import CNN, MLP
from lossbench.tasks import Binary, Multiclass, Regression

REPLICAS, BATCH = 3, 5


def facts(kind, classes=0):
    return Facts("toy", kind, (), (2,) if kind == "regression" else (), "", "", "", classes=("c",) * classes)


def mlp(outputs):
    return lambda seed: MLP((6,), outputs, stream(seed, "init"), hidden=(7,))


def cnn(outputs, norm="none"):
    return lambda seed: CNN((2, 9, 9), outputs, stream(seed, "init"), widths=(4, 8), norm=norm)


def signs(scores, labels):
    return hinge(scores, 2 * labels - 1)


def first(loss):
    """The loss of the one logit that a binary model gives."""
    return lambda logits, labels: loss(logits[:, 0], labels)


# the task over a stack, its model, the rank of its inputs' examples, and the loss of one net alone
TASKS = [
    pytest.param(Regression(OverReplicas(huber, 2), facts("regression")), mlp(2), huber, id="regression"),
    pytest.param(Binary(OverReplicas(focal, 1), facts("binary", 2)), cnn(1, "group"), first(focal), id="binary"),
    pytest.param(Binary(OverReplicas(hinge, 1), facts("binary", 2), signs=True), mlp(1), first(signs), id="signs"),
    pytest.param(
        Multiclass(OverReplicas(cross_entropy, 1), facts("multiclass", 4)), cnn(4), cross_entropy, id="classes"
    ),
    pytest.param(Multiclass(OverReplicas(focal, 1), facts("multiclass", 4)), mlp(4), focal, id="softmax-focal"),
]


def stacked_batch(task, shape):
    random = stream(1, "batch")
    inputs = torch.randn(REPLICAS, BATCH, *shape, generator=random, dtype=torch.float64)
    if task.facts.kind == "regression":
        return Split(inputs, torch.randn(REPLICAS, BATCH, 2, generator=random, dtype=torch.float64))
    return Split(inputs, torch.randint(len(task.facts.classes), (REPLICAS, BATCH), generator=random))


def exactly(found, reference):
    torch.testing.assert_close(found, reference, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("task", "make", "loss"), TASKS)
def test_a_stack_gives_what_each_gives_alone(task, make, loss):
    alone = [Nets(model=make(seed)).double() for seed in range(REPLICAS)]
    stack = Nets.stack(alone)
    batch = stacked_batch(task, (6,) if isinstance(alone[0].model, MLP) else (2, 9, 9))
    ((player, terms),) = task.step(stack, batch, stream(0, "noise"))
    expected = [loss(net.model(x), y) for net, x, y in zip(alone, batch.inputs, batch.targets, strict=True)]
    assert player == "model"
    assert terms.shape == (REPLICAS, BATCH)
    exactly(terms, torch.stack(expected))
    assert not torch.equal(terms[0], terms[1])

    terms.mean(-1).sum().backward()
    for own in expected:
        own.mean().backward()
    for together, *each in zip(stack.parameters(), *(net.parameters() for net in alone), strict=True):
        exactly(together.grad, torch.stack([parameter.grad for parameter in each]))
        assert together.grad.any()


@pytest.mark.parametrize(("task", "make", "loss"), TASKS)
def test_a_stack_is_a_copy(task, make, loss):
    alone = [Nets(model=make(seed)) for seed in range(REPLICAS)]
    before = [net.snapshot() for net in alone]
    stack = Nets.stack(alone)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
    for net, kept in zip(alone, before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in net.state_dict().items())


def test_a_stack_can_be_one_net():
    net = Nets(model=mlp(2)(0)).double()
    inputs = torch.randn(BATCH, 6, generator=stream(0, "x"), dtype=torch.float64)
    exactly(Nets.stack([net]).model(inputs[None])[0], net.model(inputs))


def weighted(prediction, target):
    """A loss whose terms tell every example from every other."""
    return (prediction * torch.arange(1, 5)).sum(-1) - target


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_over_replicas_is_the_loss_on_each_slice(leading):
    random = stream(0, "slices")
    prediction = torch.randn(*leading, BATCH, 4, generator=random)
    target = torch.randn(*leading, BATCH, generator=random)
    terms = OverReplicas(weighted, 1)(prediction, target)
    assert terms.shape == (*leading, BATCH)
    for index in itertools.product(*map(range, leading)):
        assert torch.equal(terms[index], weighted(prediction[index], target[index]))


def test_over_replicas_shows_the_loss_one_flat_batch():
    seen = []

    def spy(prediction, target):
        seen.append((prediction.shape, target.shape))
        return prediction.mean(-1)

    OverReplicas(spy, 2)(torch.zeros(3, 5, 2), torch.zeros(3, 5, 2))
    OverReplicas(spy, 2)(torch.zeros(5, 2), torch.zeros(5, 2))
    assert seen == [((15, 2), (15, 2)), ((5, 2), (5, 2))]


def test_one_batch_goes_through_untouched():
    prediction, target = torch.zeros(5, 2), torch.ones(5, 2)
    assert OverReplicas(lambda p, t: p, 2)(prediction, target) is prediction
    assert OverReplicas(lambda p, t: t, 2)(prediction, target) is target


def test_prediction_in_chunks_is_prediction():
    inputs = torch.randn(9000, 2, generator=stream(0, "x"))
    assert torch.equal(predict(lambda chunk: 3 * chunk[:, 0], inputs), 3 * inputs[:, 0])


def taken(examples, size, count, seed=0):
    return list(itertools.islice(batches(examples, size, torch.Generator().manual_seed(seed)), count))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_every_example_is_seen_once_before_any_is_seen_again(examples, size, seed):
    epochs = 3
    drawn = taken(examples, size, -(-epochs * examples // size), seed)
    assert {len(batch) for batch in drawn} == {size}
    for epoch in torch.cat(drawn)[: epochs * examples].split(examples):
        assert sorted(epoch.tolist()) == list(range(examples))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32))
def test_same_seed_same_batches(examples, size, seed):
    first, second = (torch.stack(taken(examples, size, 6, seed)) for _ in range(2))
    assert torch.equal(first, second)


def test_seeds_and_epochs_differ():
    (first, later), (other, _) = (taken(50, 50, 2, seed) for seed in (0, 1))
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


def test_batches_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    taken(10, 3, 9)
    assert torch.equal(torch.random.get_rng_state(), before)
