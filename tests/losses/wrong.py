"""Losses that are wrong on purpose, one fault each; and one of each task type without fault."""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lossbench.core import card

# Wrong


def wrong_sign(prediction, target):
    return -(prediction - target).square().mean(-1)


@card(task_types=("binary",))
def wrong_sign_for_negatives(logits, targets):
    return torch.where(targets == 1, F.softplus(-logits), -F.softplus(logits))


def mean_twice(prediction, target):
    return (prediction - target).square().mean(-1) / len(prediction)


def mean_of_all(prediction, target):
    return (prediction - target).square().mean().expand(len(prediction))


def silent_mean(prediction, target):
    return (prediction - target).square().mean()


@card(task_types=("binary",))
def pow_gradient(logits, targets, *, gamma=0.5):
    p = torch.where(targets == 1, logits, -logits).sigmoid()
    return -((1 - p) ** gamma) * F.logsigmoid(torch.where(targets == 1, logits, -logits))


@card(task_types=("binary",), search={"gamma": (0.0, 5.0)})
def pow_gradient_within_its_range(logits, targets, *, gamma=2.0):
    return pow_gradient(logits, targets, gamma=gamma)


@card(task_types=("multiclass",), needs=("class_counts",))
def counts_off_by_one(logits, targets, *, class_counts):
    weights = 1 / logits.new_tensor(class_counts).roll(1)
    return F.cross_entropy(logits, targets, weight=weights, reduction="none")


@card(task_types=("tabular",))
def of_no_kind(prediction, target):
    return (prediction - target).square().mean(-1)


@card(task_types=("binary",), needs=("class_counts",))
def counts_swapped(logits, targets, *, class_counts):
    weights = 1 / logits.new_tensor(class_counts).roll(1)
    return weights[targets] * F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")


@card(task_types=("multiclass",))
def labels_off_by_one(logits, targets):
    return F.cross_entropy(logits, (targets + 1) % logits.shape[-1], reduction="none")


def ignores_target(prediction, target):
    return prediction.square().mean(-1)


def detached(prediction, target):
    return (prediction - target).detach().square().mean(-1)


def rounded(prediction, target):
    return ((prediction - target).round() + 0 * prediction).square().mean(-1)


def torch_draws(prediction, target):
    return (prediction - target + 0.1 * torch.randn(prediction.shape)).square().mean(-1)


def python_draws(prediction, target):
    return (1 + 0 * random.random()) * (prediction - target).square().mean(-1)


def seeds_the_world(prediction, target):
    torch.manual_seed(0)
    return (prediction - target).square().mean(-1)


class KeepsCount(nn.Module):
    calls = 0

    def forward(self, prediction, target):
        self.calls += 1
        return self.calls * (prediction - target).square().mean(-1)


def mutates_prediction(prediction, target):
    return prediction.sub_(target).square().mean(-1)


def mutates_target(prediction, target):
    return target.sub_(prediction).square().mean(-1)


def batch_order(prediction, target):
    return (prediction - target).square().mean(-1) * torch.linspace(0.5, 1, len(prediction)).to(prediction)


def by_the_largest(prediction, target):
    per_example = (prediction - target).square().mean(-1)
    return per_example * per_example / per_example.max()


@card(task_types=("binary",))
def wants_probabilities(p, targets):
    return torch.where(targets == 1, -p.log(), -(1 - p).log())


@card(task_types=("multiclass",))
def wants_clamped_probabilities(p, targets):
    return -p.clamp(1e-6, 1).gather(-1, targets.unsqueeze(-1)).squeeze(-1).log()


def wants_probabilities_or_fails(p, targets):
    return F.binary_cross_entropy(p, targets.to(p.dtype), reduction="none")


def wants_floats(logits, targets):
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def wants_signs(scores, targets):
    if targets.min() >= 0:
        raise ValueError("targets have to be -1 and +1")
    return F.softplus(-targets * scores)


def nan_at_extremes(prediction, target):
    return (prediction - target).cosh().log().mean(-1)


def nan_at_zero(prediction, target):
    return ((prediction - target).square().sum(-1)).sqrt()


def fails_in_half_precision(prediction, target):
    exact = prediction.double() if prediction.dtype == torch.bfloat16 else prediction
    return (exact @ target.T).diagonal()


def target_first(target, prediction):
    return (prediction - target).square().mean(-1)


def no_target(prediction):
    return prediction.square().mean(-1)


def by_position(prediction, target, delta=1.0):
    return F.huber_loss(prediction, target, reduction="none", delta=delta).mean(-1)


def no_default(prediction, target, *, delta):
    return F.huber_loss(prediction, target, reduction="none", delta=delta).mean(-1)


def wrong_dtype(prediction, target):
    return (prediction.float() - target.float()).square().mean(-1)


def wrong_shape(prediction, target):
    return (prediction - target).square()


def no_tensor(prediction, target):
    return (prediction - target).square().mean().item()


class _Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, residual: Tensor) -> Tensor:
        ctx.save_for_backward(residual)
        return residual.square()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


def half_gradient(prediction, target):
    return _Half.apply(prediction - target).mean(-1)


class CriticTheOtherWay:
    def critic(self, critic, real, fake):
        return F.softplus(critic(real)) + F.softplus(-critic(fake))

    def generator(self, critic, real, fake):
        return F.softplus(-critic(fake))


class GeneratorTheOtherWay:
    def critic(self, critic, real, fake):
        return F.softplus(-critic(real)) + F.softplus(critic(fake))

    def generator(self, critic, real, fake):
        return F.softplus(critic(fake))


@card(task_types=("embedding",), batch=True)
def pulls_apart(embeddings, labels):
    return -pulls_together(embeddings, labels)


@card(task_types=("segmentation",))
def dice_of_the_batch(logits, targets):
    p = logits.sigmoid()
    return (1 - 2 * (p * targets).sum() / (p + targets).sum()).expand(len(logits))


@card(task_types=("sequence",))
def counts_padding(logits, targets):
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


@card(task_types=("regression",), batch=True, replica_batched=True)
def not_so_wide(prediction, target):
    residual = prediction - target
    return (residual / residual.abs().mean(0).detach()).square().mean(-1)


def nan_everywhere(prediction, target):
    return (prediction - target).square().mean(-1) * (-1 - target.square().sum(-1)).log()


def ends_the_program(prediction, target):
    raise SystemExit(3)


def foreign_error(prediction, target):
    raise KeyError("weights")


FAULTS = {
    "wrong_sign": "descent",
    "wrong_sign_for_negatives": "descent",
    "mean_twice": "double",
    "mean_of_all": "own",
    "silent_mean": "shape",
    "pow_gradient": "finite",
    "pow_gradient_within_its_range": "ends",
    "counts_off_by_one": "classes",
    "counts_swapped": "counts",
    "labels_off_by_one": "classes",
    "ignores_target": "target",
    "detached": "gradient",
    "rounded": "gradient",
    "torch_draws": "generator",
    "python_draws": "generator",
    "seeds_the_world": "generator",
    "KeepsCount": "repeat",
    "mutates_prediction": "inputs",
    "mutates_target": "inputs",
    "batch_order": "order",
    "by_the_largest": "own",
    "wants_probabilities": "logits",
    "wants_clamped_probabilities": "logits",
    "wants_probabilities_or_fails": "callable",
    "wants_floats": "callable",
    "wants_signs": "callable",
    "nan_at_extremes": "finite",
    "nan_at_zero": "finite",
    "fails_in_half_precision": "dtype",
    "target_first": "signature",
    "no_target": "signature",
    "by_position": "signature",
    "no_default": "signature",
    "wrong_dtype": "dtype",
    "wrong_shape": "shape",
    "no_tensor": "callable",
    "half_gradient": "slope",
    "CriticTheOtherWay": "descent",
    "GeneratorTheOtherWay": "descent",
    "pulls_apart": "descent",
    "dice_of_the_batch": "own",
    "counts_padding": "padding",
    "not_so_wide": "replica_batched",
    "nan_everywhere": "callable",
    "ends_the_program": "callable",
    "foreign_error": "callable",
}
"""The clause that names each one's fault."""


# Right


def mse(prediction, target):
    return (prediction - target).square().mean(-1)


def logistic(logits, targets):
    return F.softplus(torch.where(targets == 1, -logits, logits))


@card(task_types=("binary",), signed_targets=True)
def margin(scores, targets):
    return F.softplus(1 - targets * scores)


def softmax(logits, targets, *, temperature=1.0):
    return F.cross_entropy(logits / temperature, targets, reduction="none")


def overlap(logits, targets):
    p, y = logits.sigmoid().flatten(1), targets.to(logits.dtype).flatten(1)
    return 1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)


@card(task_types=("regression",))
def weighed_by_itself(prediction, target):
    """Its weight is held fixed on purpose, as in beta_nll."""
    residual = prediction - target
    return (residual.square() * (1 + residual.abs()).reciprocal().detach()).mean(-1)


@card(task_types=("sequence",))
def of_tokens(logits, targets):
    per_example = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=0, reduction="none")
    return per_example.sum(1) / (targets != 0).sum(1).clamp(min=1)


@card(task_types=("embedding",), batch=True)
def pulls_together(embeddings, labels):
    near, same = F.normalize(embeddings) @ F.normalize(embeddings).T, labels[:, None] == labels
    others = (~same).to(near.dtype)
    return 1 - near[same].mean() + (near * others).sum() / others.sum().clamp(min=1)


@card(task_types=("autoencoder",))
def decoded(code, target):
    return F.binary_cross_entropy_with_logits(code.decode(code.mean), target, reduction="none").sum(-1)


class Game:
    def critic(self, critic, real, fake):
        return F.softplus(-critic(real)) + F.softplus(critic(fake))

    def generator(self, critic, real, fake):
        return F.softplus(-critic(fake))


class Scaled(nn.Module):
    def __init__(self, *, power: float = 2.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(()))
        self.power = power

    def forward(self, prediction, target):
        return ((prediction - target).abs() ** self.power).mean(-1) * (-self.scale).exp() + self.scale


RIGHT = {
    "mse": "regression",
    "logistic": "binary",
    "margin": "binary",
    "softmax": "multiclass",
    "overlap": "segmentation",
    "weighed_by_itself": "regression",
    "of_tokens": "sequence",
    "pulls_together": "embedding",
    "decoded": "autoencoder",
    "Game": "gan",
    "Scaled": "regression",
}
"""A task type that each one is found to be for."""
