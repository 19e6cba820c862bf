"""What players and losses with parts bring: layers of a stack, losses' methods called together, grouped batches."""

import copy
from dataclasses import dataclass
from functools import partial
from itertools import islice

import pytest
import torch
from torch import nn

from lossbench.core import LossOutput, Metric, Split, card, stream
from lossbench.engine import Interrupted, Nets, Noise, Plan, Replica, fit
from lossbench.engine.batches import Batches, grouped
from lossbench.engine.nets import PrecisionWrapper
from lossbench.engine.stacked_loss import StackedLoss
from lossbench.losses import NonSaturating, Wasserstein, WassersteinPenalty, elbo, iwae
from lossbench.models.autoencoder import ConvAutoencoder, MLPAutoencoder
from lossbench.models.gan import gan
from lossbench.tasks.autoencoder import Autoencoder
from lossbench.tasks.gan import Gan
from lossbench.tasks.lifting import lifted

CPU = torch.device("cpu")
REPLICAS, BATCH = 3, 4


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def coders(make):
    return [Nets(model=make((1, 8, 8), 0, stream(seed, "init"), latent=3)).double() for seed in range(REPLICAS)]


@pytest.mark.parametrize("make", [MLPAutoencoder, ConvAutoencoder])
@pytest.mark.parametrize("called", [False, True], ids=["plain", "called"])
def test_layers_of_a_stack_are_those_of_its_replicas(make, called):
    nets = coders(make)
    alone = copy.deepcopy(nets)
    stack = Nets.stack(nets).model
    model = PrecisionWrapper(stack, "float32", None) if called else stack
    images = torch.rand(REPLICAS, BATCH, 1, 8, 8, generator=stream(0, "x"), dtype=torch.float64)
    codes = torch.randn(REPLICAS, BATCH, 3, generator=stream(1, "x"), dtype=torch.float64)
    for layer, inputs in (("encoder", images), ("decoder", codes)):
        expected = [getattr(net.model, layer)(x) for net, x in zip(alone, inputs, strict=True)]
        close(getattr(model, layer)(inputs), torch.stack(expected))
        close(getattr(model.only(slice(1, 3)), layer)(inputs[1:]), torch.stack(expected[1:]))
        close(getattr(model, layer).only(2)(inputs[2]), expected[2])
    assert model.latent == 3


def test_a_layer_that_is_not_there():
    stack = Nets.stack(coders(MLPAutoencoder))
    with pytest.raises(AttributeError, match="decorder"):
        stack.model.decorder  # noqa: B018


@pytest.mark.parametrize("part", [slice(0, 2), slice(1, 3)], ids=str)
def test_noise_of_some_replicas_is_what_they_would_draw_among_all(part):
    seeds = [5, 7, 5]
    whole, cut = Noise(seeds, CPU).at(3), Noise(seeds, CPU).at(3)
    before = whole.uniform(2), cut.uniform(2)
    assert torch.equal(*before)
    some = cut.only(part)
    assert some.done == 3
    assert torch.equal(some.normal(4), whole.normal(4)[part])
    follow = Noise([7], CPU).at(3)
    follow.uniform(2)
    assert torch.equal(cut.only(1).normal(4), follow.normal(4))


def test_a_part_goes_on_within_a_step_and_a_loss_draws_for_itself():
    noise = Noise([5, 7], CPU).at(3)
    part = slice(0, 1)
    drawn = torch.cat([noise.only(part).normal(4)[0], noise.only(part).normal(4)[0]])
    other = Noise([5], CPU).at(3)
    assert torch.equal(drawn, torch.cat([other.normal(4), other.normal(4)]))
    own, beside = Noise([5], CPU).at(3), Noise([5], CPU).at(3)
    own.own().uniform(9)
    assert torch.equal(own.normal(4), beside.normal(4))
    assert not torch.equal(Noise([5], CPU).at(3).own().normal(4), beside.at(3).normal(4))


def test_every_step_draws_anew_and_always_the_same():
    noise = Noise([0], CPU)
    first, second = noise.at(1).normal(20), noise.at(2).normal(20)
    assert not torch.equal(first, second)
    noise.at(1).uniform(999)
    assert torch.equal(noise.at(2).normal(20), second)


PICTURES = [torch.rand(40, 1, 8, 8, generator=stream(seed, "data"), dtype=torch.float64) for seed in range(REPLICAS)]


@dataclass(frozen=True)
class Watched:
    """The facts that these tasks ask for."""

    inputs: tuple = (1, 8, 8)
    binarize: bool = False
    mixture_means: tuple = ()
    classes: tuple = ()


def replica(seed, task, nets, points):
    class Measured(type(task)):
        def measure(self, outputs, targets):
            return {self.metrics[0].name: float(targets.mean())}

    split = Split(PICTURES[seed], PICTURES[seed])
    optimizer_steps = {name: torch.optim.Adam(player.parameters(), lr=1e-2) for name, player in nets.named_children()}
    made = Measured(**{f: getattr(task, f) for f in task.__dataclass_fields__})
    return Replica(made, nets, optimizer_steps, split, split, seed, lambda step, values: points.append((step, values)))


def gans(seed):
    return Nets(**gan((1, 8, 8), 0, stream(seed, "init"), latent=4, widths=(4, 8))).double()


def codings(seed):
    return Nets(model=MLPAutoencoder((1, 8, 8), 0, stream(seed, "init"), latent=3, hidden=(9,))).double()


def trained(make, nets, losses, together):
    points = [[] for _ in losses]
    replicas = [replica(seed, make(loss), nets(seed), points[seed]) for seed, loss in enumerate(losses)]
    plan = Plan(steps=6, batch_size=8, eval_every=3, record_every=1)
    for group in [replicas] if together else [[one] for one in replicas]:
        fit(group, plan)
    return [one.nets.snapshot() for one in replicas], points


def assert_stack_equals_alone(make, nets, losses):
    weights, points = trained(make, nets, losses, together=True)
    weights_alone, points_alone = trained(make, nets, losses, together=False)
    for found, expected in zip(weights, weights_alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    for found, expected in zip(points, points_alone, strict=True):
        assert [step for step, _ in found] == [step for step, _ in expected]
        for (_, values), (_, others) in zip(found, expected, strict=True):
            assert values == pytest.approx(others, rel=1e-6, abs=1e-9)
    return points


@pytest.mark.parametrize("critic_steps", [1, 3])
@pytest.mark.parametrize(
    "losses",
    [
        [WassersteinPenalty()] * 3,
        [NonSaturating(r1=1.0), Wasserstein(clip=0.05), WassersteinPenalty()],
        [Wasserstein(clip=0.05), Wasserstein(clip=0.05), NonSaturating()],
    ],
    ids=["same", "different", "clipped"],
)
def test_gans_in_a_stack_are_what_they_are_alone(losses, critic_steps):
    points = assert_stack_equals_alone(
        lambda loss: Gan(lifted(loss, "gan"), Watched(), critic_steps=critic_steps), gans, losses
    )
    names = set(points[2][0][1])
    assert {"train/critic/loss", "train/critic/grad_norm", "train/critic/real", "train/critic/fake"} <= names
    assert {"train/generator/loss", "train/generator/grad_norm"} <= names


def test_a_part_that_only_some_losses_have_is_theirs_alone():
    losses = [NonSaturating(), NonSaturating(r1=1.0), WassersteinPenalty()]
    points = assert_stack_equals_alone(lambda loss: Gan(lifted(loss, "gan"), Watched()), gans, losses)
    told = [{name.rpartition("/")[2] for name in one[0][1]} - {"loss", "grad_norm"} for one in points]
    assert told == [{"real", "fake"}, {"real", "fake", "r1"}, {"real", "fake", "slope"}]


def test_runs_stopped_apart_go_on_together_whatever_parts_their_losses_have():
    losses = [NonSaturating(), NonSaturating(r1=1.0), WassersteinPenalty()]
    plan = Plan(steps=6, batch_size=8, eval_every=6, record_every=6)

    def replicas(points):
        return [replica(s, Gan(lifted(loss, "gan"), Watched()), gans(s), points[s]) for s, loss in enumerate(losses)]

    whole, later = [[] for _ in losses], [[] for _ in losses]
    for one in replicas(whole):
        fit([one], plan)
    states = []
    for one in replicas([[] for _ in losses]):
        steps = iter(range(100))
        with pytest.raises(Interrupted) as caught:
            fit([one], plan, stop=lambda steps=steps: next(steps) >= 3)
        states.extend(caught.value.states)
    fit(replicas(later), plan, states=states)
    for found, expected in zip(later, whole, strict=True):
        assert [set(values) for _, values in found] == [set(values) for _, values in expected]
        assert found[0][1] == pytest.approx(expected[0][1], rel=1e-6, abs=1e-9)


def test_clipped_weights_stay_within_their_bounds():
    weights, _ = trained(
        lambda loss: Gan(lifted(loss, "gan"), Watched()), gans, [Wasserstein(clip=0.01), NonSaturating()], together=True
    )
    reach = [max(t.abs().max().item() for n, t in one.items() if n.startswith("critic")) for one in weights]
    assert reach[0] <= 0.01
    assert reach[1] > 0.05


@pytest.mark.parametrize("binarize", [False, True])
def test_autoencoders_in_a_stack_are_what_they_are_alone(binarize):
    losses = [elbo, partial(iwae, samples=4), partial(elbo, beta=3.0, warm_up=4)]
    points = assert_stack_equals_alone(lambda loss: Autoencoder(loss, Watched(binarize=binarize)), codings, losses)
    assert {"train/loss", "train/kl", "train/reconstruction"} <= set(points[0][0][1])


def test_parts_are_recorded_as_means_and_never_end_a_training():
    class Line:
        def step(self, nets, batch, noise):
            per_example = (nets.model(batch.inputs) - batch.targets).square().mean(-1)
            odd = torch.nan if noise.done == 1 else noise.done
            yield (
                "model",
                LossOutput(
                    per_example,
                    {"done": torch.full_like(per_example, noise.done), "odd": torch.full_like(per_example, odd)},
                ),
            )

        def predict(self, nets, batch, noise, *, closely=False):
            return nets.model(batch.inputs)

        def measure(self, outputs, targets):
            return {"error": float((outputs - targets).abs().mean())}

        metrics = (Metric("error", "", False),)

    split = Split(torch.ones(8, 1), torch.ones(8, 1))
    points, net = [], nn.Linear(1, 1)
    mover = {"model": torch.optim.SGD(net.parameters(), lr=0.1)}
    one = Replica(Line(), Nets(model=net), mover, split, split, 0, lambda step, values: points.append((step, values)))
    (fitted,) = fit([one], Plan(steps=6, batch_size=4, eval_every=6, record_every=3))
    assert fitted.diverged is None
    assert [values["train/done"] for step, values in points if "train/done" in values] == [1.0, 4.0]
    assert [values.get("train/odd") for step, values in points if "train/loss" in values] == [None, 4.0]


@card(task_types=("regression",))
def told(prediction, target):
    per_example = (prediction - target).square().mean(-1)
    return LossOutput(per_example, {"bias": (prediction - target).mean(-1)})


@pytest.mark.parametrize("losses", [[told] * 3, [told, torch.nn.functional.mse_loss, told]], ids=["flat", "sequential"])
def test_parts_of_flat_losses_are_one_a_replica(losses):
    prediction, target = (torch.randn(3, 5, 2, generator=stream(seed, "p")) for seed in range(2))
    per_example, parts = StackedLoss(losses)(prediction, target)
    torch.testing.assert_close(per_example[0], (prediction - target)[0].square().mean(-1))
    expected = (prediction - target).flatten(1).mean(1)
    known = [i for i, loss in enumerate(losses) if loss is told]
    torch.testing.assert_close(parts["bias"][known], expected[known])
    assert parts["bias"].isnan().sum() == 3 - len(known)


@pytest.mark.parametrize("each", [2, 4])
def test_grouped_batches_hold_so_many_of_each_of_some_groups(each):
    groups = torch.arange(7).repeat_interleave(torch.tensor([10, 10, 4, 5, 6, 10, 3]))
    seen = torch.zeros(len(groups))
    for batch in islice(grouped(groups, 12, each, stream(0, "order")), 200):
        count = torch.bincount(groups[batch], minlength=7)
        assert set(count.tolist()) <= {0, each}
        assert int((count > 0).sum()) == 12 // each
        full = [g for g in range(7) if (groups == g).sum() >= each]
        for g in full:  # nobody twice where there are enough
            mine = batch[groups[batch] == g]
            assert len(mine) == len(mine.unique())
        seen[batch] += 1
    assert (seen > 0).all()
    shares = torch.stack([seen[groups == g].sum() for g in range(7)]) / seen.sum()
    assert shares.sub(1 / 7).abs().max() < 0.05


def test_grouped_batches_go_on_where_they_were():
    split = Split(torch.arange(40.0)[:, None], torch.arange(8).repeat_interleave(5))
    from_start = [next(batches).inputs for batches in [Batches([split], [3], 8, 0, 2)] for _ in range(9)]
    later = Batches([split], [3], 8, 6, 2)
    assert [torch.equal(next(later).inputs, batch) for batch in from_start[6:]] == [True] * 3
