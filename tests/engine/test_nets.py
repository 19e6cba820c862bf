"""Nets of a stack: one call for all replicas gives what each net gives alone, and each stays a view of its part."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from engine.toys import SHAPES, Toy, alone, assert_close, info, plan, stopped, train
from torch import nn

from lossbench.core import Split, stream
from lossbench.engine import Noise
from lossbench.engine import nets as engine_nets
from lossbench.engine.nets import Nets
from lossbench.engine.predict import CHUNK, predict
from lossbench.engine.stacked_loss import StackedLoss
from lossbench.losses import cross_entropy, focal, hinge, huber, mse
from lossbench.models import CNN, MLP
from lossbench.runs import builders

REPLICAS, BATCH = 3, 5


def mlp(outputs):
    return lambda seed: MLP((6,), outputs, stream(seed, "init"), hidden=(7,))


def cnn(outputs, norm="none"):
    return lambda seed: CNN((2, 9, 9), outputs, stream(seed, "init"), widths=(4, 8), norm=norm)


def signs(scores, labels):
    return hinge(scores, 2 * labels - 1)


def first(loss):
    """The loss of the one logit that a binary model gives."""
    return lambda logits, labels: loss(logits[:, 0], labels)


# the task type, its model, and the loss of one net alone
TASKS = [
    pytest.param("regression", huber, mlp(2), huber, id="regression"),
    pytest.param("binary", focal, cnn(1, "group"), first(focal), id="binary"),
    pytest.param("binary", partial(hinge), mlp(1), first(signs), id="signs"),
    pytest.param("multiclass", cross_entropy, cnn(4), cross_entropy, id="classes"),
    pytest.param("multiclass", focal, mlp(4), focal, id="softmax-focal"),
]


def stacked_batch(task, shape):
    random = stream(1, "batch")
    inputs = torch.randn(REPLICAS, BATCH, *shape, generator=random, dtype=torch.float64)
    if task.info.task_type == "regression":
        return Split(inputs, torch.randn(REPLICAS, BATCH, 2, generator=random, dtype=torch.float64))
    return Split(inputs, torch.randint(len(task.info.classes), (REPLICAS, BATCH), generator=random))


def exactly(found, reference):
    torch.testing.assert_close(found, reference, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("task_type", "given", "make", "loss"), TASKS)
def test_a_stack_gives_what_each_gives_alone(task_type, given, make, loss):
    task = builders.task(task_type, given, info(task_type))
    task = replace(task, loss=StackedLoss([task.loss] * REPLICAS))
    alone = [Nets(model=make(seed)).double() for seed in range(REPLICAS)]
    stack = Nets.stack(alone)
    batch = stacked_batch(task, SHAPES["mlp" if isinstance(alone[0].model, MLP) else "none"])
    ((player, per_example),) = task.step(stack, batch, Noise([0, 1, 2], torch.device("cpu")))
    expected = [loss(net.model(x), y) for net, x, y in zip(alone, batch.inputs, batch.targets, strict=True)]
    assert player == "model"
    assert per_example.shape == (REPLICAS, BATCH)
    exactly(per_example, torch.stack(expected))
    assert not torch.equal(per_example[0], per_example[1])

    per_example.mean(-1).sum().backward()
    for own in expected:
        own.mean().backward()
    for together, *each in zip(stack.parameters(), *(net.parameters() for net in alone), strict=True):
        exactly(together.grad, torch.stack([parameter.grad for parameter in each]))
        assert together.grad.any()


def test_a_stack_can_be_one_net():
    net = Nets(model=mlp(2)(0)).double()
    inputs = torch.randn(BATCH, 6, generator=stream(0, "x"), dtype=torch.float64)
    exactly(Nets.stack([net]).model(inputs[None])[0], net.model(inputs))


@pytest.mark.parametrize(("task_type", "model"), [("regression", "mlp"), ("multiclass", "group"), ("game", "mlp")])
def test_replicas_are_views_of_what_a_stack_has_learned(task_type, model):
    alone = [Toy(task_type=task_type, model=model, seed=seed).made().nets for seed in range(REPLICAS)]
    before = [nets.snapshot() for nets in alone]
    stack = Nets.stack(alone)
    shapes = {"model": SHAPES[model], "critic": (6,), "generator": (3,)}
    for name, player in stack.named_children():
        with torch.no_grad():
            for parameter in player.parameters():
                parameter.mul_(1.5)
        inputs = torch.randn(REPLICAS, BATCH, *shapes[name], generator=stream(0, "x"), dtype=torch.float64)
        for nets, one, outputs in zip(alone, inputs, player(inputs), strict=True):
            exactly(getattr(nets, name)(one), outputs)
    for nets, kept in zip(alone, before, strict=True):
        assert all(torch.equal(tensor, 1.5 * kept[name]) for name, tensor in nets.state_dict().items())


@pytest.mark.parametrize("several", [False, True], ids=["tensor", "by name"])
def test_prediction_in_chunks_is_prediction(several):
    class Echo:
        def predict(self, nets, batch, noise, *, closely=False):
            tripled = nets.model(batch.inputs)[:, 0]
            return {"tripled": tripled, "targets": batch.targets} if several else tripled

    split = Split(torch.randn(9000, 2, generator=stream(0, "x")), torch.arange(9000))
    nets = Nets(model=nn.Linear(2, 1, bias=False))
    nets.model.weight.data = torch.tensor([[3.0, 0.0]])
    found = predict(Echo(), nets, split, 0)
    assert torch.equal(found["tripled"] if several else found, 3 * split.inputs[:, 0])
    assert not several or torch.equal(found["targets"], split.targets)


def test_the_noise_of_an_evaluation_is_its_seeds_own():
    class Thrown:
        def predict(self, nets, batch, noise, *, closely=False):
            return noise.normal(len(batch), 2)

    split, nets = Split(torch.zeros(9000, 2), torch.zeros(9000)), Nets(model=nn.Linear(2, 1))
    first, again, other = (predict(Thrown(), nets, split, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:CHUNK], first[CHUNK : 2 * CHUNK])  # chunks do not repeat each other's


class Scaled(nn.Module):
    """A linear map under a learnt scale, which is a tensor without dimensions."""

    def __init__(self, generator):
        super().__init__()
        self.linear = MLP((6,), 2, generator, hidden=())
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs):
        return self.scale * self.linear(inputs)


def test_parameters_without_dimensions_stack_and_go_on(monkeypatch):
    monkeypatch.setattr(Toy, "nets", lambda toy: Nets(model=Scaled(stream(toy.seed, "init"))))
    toys = [Toy(seed=seed) for seed in range(3)]
    together, each = train(toys, plan()), alone(toys, plan())
    for one, other in zip(together, each, strict=True):
        assert_close(one, other)
    states, _ = stopped(toys, plan(), 9)
    for one, other in zip(train(toys, plan(), states=states), together, strict=True):
        torch.testing.assert_close(one.weights, other.weights, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chain", [True, False])
def test_products_and_vmap_agree(chain):
    models = [mlp(2)(seed) for seed in range(3)]
    nets = [Nets(model=one if chain else nn.Sequential(one, nn.Identity())).double() for one in models]
    stack = Nets.stack(nets)
    assert (engine_nets._chain(nets[0].model) is not None) == chain
    inputs = torch.randn(3, BATCH, 6, generator=stream(0, "x"), dtype=torch.float64)
    exactly(stack.model(inputs), torch.stack([net.model(x) for net, x in zip(nets, inputs, strict=True)]))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(6, 6, bias=False)),
        nn.Sequential(nn.ReLU(), nn.Linear(6, 6)),
        nn.Sequential(nn.Linear(6, 6), nn.Tanh()),
        nn.Sequential(nn.Linear(6, 6), nn.Flatten()),
    ],
    ids=str,
)
def test_what_is_no_chain_of_linear_layers_goes_through_vmap(model):
    stack = Nets.stack([Nets(model=copy.deepcopy(model)) for _ in range(2)])
    assert engine_nets._chain(model) is None
    inputs = torch.randn(2, BATCH, 6, generator=stream(0, "x"))
    torch.testing.assert_close(stack.model(inputs)[1], model(inputs[1]))


def test_bfloat16_is_near_float32_and_leaves_weights_and_losses_in_it():
    toys = [Toy(seed=seed, dtype=torch.float32) for seed in range(2)]
    dtypes = []

    def watched(prediction, target):
        dtypes.append(prediction.dtype)
        return mse(prediction, target)

    exact = train(toys, plan())
    rough = train([replace(toy, loss=watched) for toy in toys], plan(precision="bfloat16"))
    assert set(dtypes) == {torch.float32}
    for one, other in zip(rough, exact, strict=True):
        assert all(tensor.dtype == torch.float32 for tensor in one.weights.values())
        for name, tensor in one.weights.items():
            assert not torch.equal(tensor, other.weights[name])
            torch.testing.assert_close(tensor, other.weights[name], rtol=0.1, atol=0.05)
