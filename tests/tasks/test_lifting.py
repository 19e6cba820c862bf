"""Lifted losses: of pixels and tokens as a loop would have it, padding that never counts, logits over identities."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lossbench.core import LossOutput, card, card_of, stream
from lossbench.engine.stacked_loss import StackedLoss
from lossbench.losses import NonSaturating, WassersteinPenalty, bce, cross_entropy, focal, hinge, mse, squared_hinge
from lossbench.losses.segmentation import dice
from lossbench.tasks.lifting import PAD, OfIdentities, Quiet, lifted


def logits(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=stream(seed, "logits"), dtype=torch.float64)


MASKS = torch.randint(2, (3, 4, 5), generator=stream(0, "masks"))
LENGTHS = (4, 2, 1, 6)
CLASSES = 5


def sentences():
    """Targets [example, token] of several lengths, padded to one."""
    targets = torch.randint(1, CLASSES, (len(LENGTHS), max(LENGTHS)), generator=stream(0, "tokens"))
    for row, length in zip(targets, LENGTHS, strict=True):
        row[length:] = PAD
    return targets


def alone(loss, outputs, target):
    """The loss of a single element, as a number."""
    return loss(outputs.unsqueeze(0), target.unsqueeze(0)).item()


@pytest.mark.parametrize(
    ("loss", "of_one"),
    [
        (bce, lambda z, y: math.log1p(math.exp(-z)) if y else math.log1p(math.exp(z))),
        (hinge, lambda z, y: max(0.0, 1 - (1 if y else -1) * z)),
        (squared_hinge, lambda z, y: max(0.0, 1 - (1 if y else -1) * z) ** 2),
    ],
    ids=["bce", "hinge", "squared_hinge"],
)
def test_a_binary_loss_is_the_mean_over_an_images_pixels(loss, of_one):
    outputs = logits(3, 4, 5)
    expected = [
        sum(of_one(z.item(), y.item()) for z, y in zip(image.flatten(), mask.flatten(), strict=True)) / 20
        for image, mask in zip(outputs, MASKS, strict=True)
    ]
    assert lifted(loss, "segmentation")(outputs, MASKS).tolist() == pytest.approx(expected)


def test_focal_of_pixels_is_focal_of_each():
    outputs = logits(3, 4, 5)
    expected = [
        sum(alone(focal, z, y) for z, y in zip(image.flatten(), mask.flatten(), strict=True)) / 20
        for image, mask in zip(outputs, MASKS, strict=True)
    ]
    assert lifted(focal, "segmentation")(outputs, MASKS).tolist() == pytest.approx(expected)


def test_a_loss_of_masks_is_called_as_it_is():
    outputs = logits(3, 4, 5)
    assert lifted(dice, "segmentation") is dice
    assert lifted(dice, "segmentation")(outputs, MASKS).shape == (3,)


@pytest.mark.parametrize("task_type", ["binary", "segmentation"])
def test_signs_reach_the_loss_that_wants_them_and_no_other(task_type):
    seen = []

    @card(task_types=("binary",), signed_targets=True)
    def wants(scores, labels):
        seen.append(labels)
        return scores * labels

    @card(task_types=("binary",))
    def does_not(scores, labels):
        seen.append(labels)
        return scores * labels

    outputs, targets = (logits(3, 4, 5), MASKS) if task_type == "segmentation" else (logits(60), MASKS.flatten())
    for loss in (wants, does_not):
        lifted(loss, task_type)(outputs, targets)
    assert seen[0].unique().tolist() == [-1, 1]
    assert torch.equal(seen[0] > 0, MASKS.flatten() == 1)
    assert torch.equal(seen[1], MASKS.flatten())


@pytest.mark.parametrize("loss", [cross_entropy, focal], ids=["cross_entropy", "focal"])
def test_a_multi_class_loss_is_the_mean_over_an_examples_own_tokens(loss):
    outputs, targets = logits(len(LENGTHS), max(LENGTHS), CLASSES), sentences()
    expected = [
        sum(alone(loss, outputs[row, k], targets[row, k]) for k in range(length)) / length
        for row, length in enumerate(LENGTHS)
    ]
    assert lifted(loss, "sequence")(outputs, targets).tolist() == pytest.approx(expected)


def test_a_loss_of_vectors_is_of_one_hot_targets():
    outputs, targets = logits(len(LENGTHS), max(LENGTHS), CLASSES), sentences()
    expected = []
    for row, length in enumerate(LENGTHS):
        per_example = []
        for k in range(length):
            right = [1.0 if c == targets[row, k] else 0.0 for c in range(CLASSES)]
            per_example.append(sum((z.item() - t) ** 2 for z, t in zip(outputs[row, k], right, strict=True)) / CLASSES)
        expected.append(sum(per_example) / length)
    scale = alone(mse, torch.ones(CLASSES), torch.zeros(CLASSES))  # mean or sum over outputs: as mse has it
    assert lifted(mse, "sequence")(outputs, targets).tolist() == pytest.approx([scale * e for e in expected])


@pytest.mark.parametrize("loss", [cross_entropy, focal, mse], ids=["cross_entropy", "focal", "mse"])
@pytest.mark.parametrize("stands_there", [0.0, 1e30, -1e30, math.inf, math.nan])
def test_padding_never_counts_whatever_stands_there(loss, stands_there):
    targets = sentences()
    plain = logits(len(LENGTHS), max(LENGTHS), CLASSES).requires_grad_()
    odd = plain.detach().clone()
    odd[targets == PAD] = stands_there
    odd.requires_grad_()
    per_example, expected = (lifted(loss, "sequence")(outputs, targets) for outputs in (odd, plain))
    torch.testing.assert_close(per_example, expected)
    expected.sum().backward()
    per_example.sum().backward()
    real = targets != PAD
    torch.testing.assert_close(odd.grad[real], plain.grad[real])
    assert (odd.grad[real].abs().sum(-1) > 0).all()
    if math.isfinite(stands_there):  # a net that says anything else is diverging, and may say so in its gradient
        assert (odd.grad[~real] == 0).all()
        assert (plain.grad[~real] == 0).all()


@pytest.mark.parametrize("loss", [cross_entropy, mse], ids=["cross_entropy", "mse"])
def test_an_example_of_padding_alone_costs_nothing(loss):
    outputs, targets = logits(2, 3, CLASSES).requires_grad_(), torch.tensor([[PAD] * 3, [1, 2, PAD]])
    per_example = lifted(loss, "sequence")(outputs, targets)
    per_example.sum().backward()
    assert per_example[0] == 0
    assert per_example[1] > 0
    assert (outputs.grad[0] == 0).all()


@pytest.mark.parametrize("task_type", ["regression", "binary", "multiclass", "autoencoder", "segmentation", "sequence"])
def test_a_loss_without_a_card_is_called_as_it_is(task_type):
    def mine(outputs, targets):
        return outputs

    assert lifted(mine, task_type) is mine


@pytest.mark.parametrize(("loss", "task_type"), [(mse, "regression"), (cross_entropy, "multiclass"), (bce, "binary")])
def test_a_loss_at_home_is_called_as_it_is(loss, task_type):
    assert lifted(loss, task_type) is loss


def test_the_card_is_found_through_what_a_loss_is_wrapped_in():
    assert card_of(lifted(hinge, "segmentation")) is hinge.card
    assert card_of(lifted(mse, "sequence")) is mse.card
    assert card_of(lifted(NonSaturating(), "gan")) is NonSaturating.card


class Watchful:
    """Noise that must not be asked."""

    def __getattr__(self, name):
        raise AssertionError(name)


def test_a_critic_without_noise_is_called_as_if_it_took_some():
    loss = lifted(NonSaturating(r1=2.0), "gan")
    assert isinstance(loss, Quiet)
    real, fake = logits(6, 2), logits(6, 2, seed=1)

    def score(points):
        return points.square().sum(-1)

    found, expected = loss.critic(score, real, fake, Watchful()), NonSaturating(r1=2.0).critic(score, real, fake)
    assert isinstance(found, LossOutput)
    assert torch.equal(found.per_example, expected.per_example)
    assert torch.equal(loss.generator(score, real, fake), F.softplus(-score(fake)))
    assert loss.r1 == 2.0
    with pytest.raises(AttributeError):
        loss.project  # noqa: B018


def test_a_critic_that_wants_noise_gets_it():
    loss = WassersteinPenalty()
    assert lifted(loss, "gan") is loss


class Weighed(nn.Module):
    """A game that keeps nothing, and whose words do not say how it is set."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def critic(self, critic, real, fake):
        return self.weight * critic(real)

    def generator(self, critic, real, fake):
        return self.weight * critic(fake)


@dataclass(frozen=True)
class Plain:
    weight: float

    critic, generator = Weighed.critic, Weighed.generator


@pytest.mark.parametrize("make", [Weighed, Plain])
def test_losses_of_a_stack_that_differ_are_each_called(make):
    together = StackedLoss([lifted(make(weight), "gan") for weight in (1.0, 5.0)])
    real = logits(2, 3, 2)
    expected = real.sum(-1) * torch.tensor([1.0, 5.0])[:, None]
    torch.testing.assert_close(together.critic(lambda points: points.sum(-1), real, real, None), expected)


def test_losses_of_a_stack_that_are_alike_share_a_call():
    calls = []

    @card(task_types=("gan",), replica_batched=True)
    @dataclass(frozen=True)
    class Counted(Plain):
        def critic(self, critic, real, fake):
            calls.append(real.shape)
            return real.sum(-1)

    StackedLoss([lifted(Counted(2.0), "gan") for _ in range(3)]).critic(None, logits(3, 4, 2), logits(3, 4, 2), None)
    assert calls == [(3, 4, 2)]


def identities(seed=0, loss=cross_entropy):
    return OfIdentities(loss, 7, 4, stream(seed, "loss"))


def test_identities_are_a_linear_layer_and_the_loss():
    made = identities().double()
    embeddings, labels = logits(6, 4).requires_grad_(), torch.tensor([0, 6, 1, 1, 2, 5])
    per_example = made(embeddings, labels)
    weight, bias = made.head.weight.detach(), made.head.bias.detach()
    expected = F.cross_entropy(embeddings @ weight.T + bias, labels, reduction="none")
    torch.testing.assert_close(per_example, expected)
    per_example.sum().backward()
    assert all((p.grad != 0).any() for p in (embeddings, *made.parameters()))


def test_identities_start_from_the_generator_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second, other = (identities(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    numbers = torch.cat([tensor.flatten() for tensor in OfIdentities(mse, 400, 4, stream(0, "loss")).parameters()])
    assert numbers.abs().max() <= 0.5  # 1 / √dimensions
    assert numbers.abs().max() > 0.49
    assert numbers.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.05)
