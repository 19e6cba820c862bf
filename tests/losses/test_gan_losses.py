"""Losses of two players at fixed scores against their closed form; penalties on critics whose slope is known."""

import itertools
import math

import pytest
import torch
from torch import nn

from lossbench.core import ConfigError, LossOutput, stream
from lossbench.engine import Noise
from lossbench.losses.gan import (
    Dragan,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    Wasserstein,
    WassersteinPenalty,
)
from lossbench.tasks.lifting import lifted

BATCH = 5
LOSSES = (
    Minimax(),
    NonSaturating(),
    LeastSquares(),
    Hinge(),
    Wasserstein(),
    WassersteinPenalty(),
    Dragan(),
    RelativisticAverage(),
)
EACH = pytest.mark.parametrize("loss", [lifted(loss, "gan") for loss in LOSSES], ids=lambda loss: type(loss).__name__)


def pictures(seed):
    return torch.randn(BATCH, 2, 3, generator=stream(seed, "pictures"), dtype=torch.float64)


def critic(slope=0.3):
    """D(x) = w·x + ½ with ‖w‖ = slope."""
    weight = torch.randn(6, generator=stream(0, "critic"), dtype=torch.float64)
    weight = slope * weight / weight.norm()
    return lambda x: x.flatten(-2) @ weight + 0.5


def noise():
    return Noise([0], torch.device("cpu"))


def log_sigmoid(z):
    return torch.tensor([-math.log1p(math.exp(-value)) for value in z.tolist()], dtype=torch.float64)


CLOSED = {
    Minimax: (lambda r, f: -log_sigmoid(r) - log_sigmoid(-f), lambda f: log_sigmoid(-f)),
    NonSaturating: (lambda r, f: -log_sigmoid(r) - log_sigmoid(-f), lambda f: -log_sigmoid(f)),
    LeastSquares: (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda f: (f - 1) ** 2 / 2),
    Hinge: (lambda r, f: torch.relu(1 - r) + torch.relu(1 + f), lambda f: -f),
    Wasserstein: (lambda r, f: f - r, lambda f: -f),
    WassersteinPenalty: (lambda r, f: f - r + 10 * (0.3 - 1) ** 2, lambda f: -f),
    Dragan: (
        lambda r, f: -log_sigmoid(r) - log_sigmoid(-f) + 10 * (0.3 - 1) ** 2,
        lambda f: -log_sigmoid(f),
    ),
}


@pytest.mark.parametrize("loss_class", CLOSED, ids=lambda loss_class: loss_class.__name__)
def test_terms_are_the_closed_form(loss_class):
    real, fake, score = pictures(0), pictures(1), critic()
    of_critic, of_generator = CLOSED[loss_class]
    loss = lifted(loss_class(), "gan")
    per_example, parts = loss.critic(score, real, fake, noise())
    torch.testing.assert_close(per_example, of_critic(score(real), score(fake)))
    torch.testing.assert_close(loss.generator(score, real, fake), of_generator(score(fake)))
    torch.testing.assert_close(parts["real"], score(real))
    torch.testing.assert_close(parts["fake"], score(fake))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, 5.0])
def test_gradient_penalty_of_a_linear_critic(slope):
    loss = WassersteinPenalty(penalty=7.0)
    per_example, parts = loss.critic(critic(slope), pictures(0), pictures(1), noise())
    plain = Wasserstein().critic(critic(slope), pictures(0), pictures(1)).per_example
    expected = torch.full((BATCH,), 7 * (slope - 1) ** 2, dtype=torch.float64)
    torch.testing.assert_close(per_example - plain, expected, atol=2e-5, rtol=1e-5)
    assert parts["slope"].tolist() == pytest.approx([slope] * BATCH, abs=2e-6)


def test_gradient_penalty_is_taken_between_real_and_fake():
    """D(x) = ½‖x‖² has slope ‖x‖, so the slope tells where it was taken."""
    real, fake = pictures(0), pictures(1)
    _, parts = WassersteinPenalty().critic(lambda x: 0.5 * x.flatten(-2).square().sum(-1), real, fake, noise())
    share = noise().uniform(BATCH, 1, 1)
    between = (share * real + (1 - share) * fake).flatten(-2).norm(dim=-1)
    torch.testing.assert_close(parts["slope"], between)


def test_dragans_penalty_is_taken_around_real_pictures_alone():
    """D(x) = ½‖x‖² has slope ‖x‖, so the slope tells where it was taken."""

    def square(x):
        return 0.5 * x.flatten(-2).square().sum(-1)

    real = 3 * pictures(0) + 7
    loss = Dragan(penalty=4.0, reach=0.8)
    per_example, parts = loss.critic(square, real, pictures(1), noise())
    around = real + 0.8 * real.std(correction=0) * (2 * noise().uniform(BATCH, 2, 3) - 1)
    slope = around.flatten(-2).norm(dim=-1)
    torch.testing.assert_close(parts["slope"], slope)
    plain = NonSaturating().critic(square, real, pictures(1)).per_example
    torch.testing.assert_close(per_example - plain, 4 * (slope - 1) ** 2)
    at_real = Dragan(reach=0.0).critic(square, real, pictures(1), noise()).parts["slope"]
    torch.testing.assert_close(at_real, real.flatten(-2).norm(dim=-1))


def test_dragan_without_penalty_is_non_saturating():
    real, fake, score = pictures(0), pictures(1), critic()
    per_example = Dragan(penalty=0.0).critic(score, real, fake, noise()).per_example
    torch.testing.assert_close(per_example, NonSaturating().critic(score, real, fake).per_example)


@pytest.mark.parametrize("shape", [(3, BATCH, 2, 3), (3, BATCH, 2), (BATCH, 6)])
def test_dragans_noise_is_as_wide_as_each_replicas_pictures(shape):
    real = torch.randn(shape, generator=stream(0, "pictures"), dtype=torch.float64)
    real = real * torch.tensor([1.0, 5.0, 0.2]).view(3, *(1,) * (len(shape) - 1)) if shape[0] == 3 else real
    lead = len(shape) - 2 if shape[-1] != 3 else len(shape) - 3
    draws = noise() if shape[0] != 3 else Noise([0, 1, 2], torch.device("cpu"))
    seen = []

    def score(x):
        seen.append(x.detach())
        return x.flatten(lead + 1).sum(-1)

    Dragan(reach=1.0).critic(score, real, real, draws)
    shift = (seen[-1] - real).flatten(lead) / real.flatten(lead).std(-1, correction=0, keepdim=True)
    assert (shift.abs() <= 1).all()
    assert shift.abs().amax(-1).min() > 0.7
    assert shift.min() < -0.5


def test_relativistic_average_is_its_equation():
    real, fake, score = pictures(0), pictures(1), critic(slope=2.0)
    r, f = score(real).tolist(), score(fake).tolist()
    mean_r, mean_f = sum(r) / BATCH, sum(f) / BATCH

    def log_p(z):
        return -math.log1p(math.exp(-z))

    of_critic = [-log_p(a - mean_f) - log_p(mean_r - b) for a, b in zip(r, f, strict=True)]
    of_generator = [-log_p(b - mean_r) - log_p(mean_f - a) for a, b in zip(r, f, strict=True)]
    per_example, parts = RelativisticAverage().critic(score, real, fake)
    assert per_example.tolist() == pytest.approx(of_critic)
    assert parts["real"].tolist() == pytest.approx(r)
    assert parts["fake"].tolist() == pytest.approx(f)
    assert RelativisticAverage().generator(score, real, fake).tolist() == pytest.approx(of_generator)


def test_relativistic_average_sees_differences_of_scores_alone():
    real, fake, score = pictures(0), pictures(1), critic()
    loss = RelativisticAverage()
    for one, other in (
        (loss.critic(score, real, fake).per_example, loss.critic(lambda x: score(x) + 5, real, fake).per_example),
        (loss.critic(score, real, fake).per_example, loss.generator(lambda x: -score(x), real, fake)),
    ):
        torch.testing.assert_close(one, other)


def test_relativistic_average_is_of_one_replicas_batch():
    real, fake = (torch.stack([pictures(seed), 9 + pictures(seed + 1)]) for seed in (0, 2))
    both = RelativisticAverage().critic(critic(), real, fake).per_example
    alone = [RelativisticAverage().critic(critic(), r, f).per_example for r, f in zip(real, fake, strict=True)]
    torch.testing.assert_close(both, torch.stack(alone))


@pytest.mark.parametrize("loss", [WassersteinPenalty(), Dragan()], ids=lambda loss: type(loss).__name__)
def test_gradient_of_the_penalty_of_a_flat_critic_is_finite(loss):
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    per_example, _ = loss.critic(lambda x: x.flatten(-2) @ weight, pictures(0), pictures(1), noise())
    per_example.sum().backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("loss_class", [*CLOSED, RelativisticAverage], ids=lambda loss_class: loss_class.__name__)
def test_r1_is_half_gamma_times_the_squared_slope_at_real_pictures(loss_class):
    def square(x):
        return 0.5 * x.flatten(-2).square().sum(-1)

    with_, without = (lifted(loss_class(r1=gamma), "gan") for gamma in (3.0, 0.0))
    both = [loss.critic(square, pictures(0), pictures(1), noise()).per_example for loss in (with_, without)]
    torch.testing.assert_close(both[0] - both[1], 1.5 * pictures(0).flatten(-2).square().sum(-1))


@EACH
def test_a_step_of_the_critic_tells_real_from_fake_better(loss):
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    real, fake = pictures(0) + 1, pictures(1) - 1

    def score(x):
        return x.flatten(-2) @ weight

    (slope,) = torch.autograd.grad(loss.critic(score, real, fake, noise()).per_example.sum(), weight)
    with torch.no_grad():
        weight -= 0.01 * slope
        assert score(real).mean() > score(fake).mean()


@EACH
def test_a_step_of_the_generator_raises_its_score(loss):
    fake = pictures(1).requires_grad_()
    score = critic()
    (slope,) = torch.autograd.grad(loss.generator(score, pictures(0), fake).sum(), fake)
    assert score(fake - 0.1 * slope).mean() > score(fake).mean()


def test_saturated_generator():
    """Where the critic is sure of a fake, minimax leaves next to no slope and non-saturating all of it."""
    fake = torch.tensor([-20.0], requires_grad=True)
    slopes = [torch.autograd.grad(loss.generator(lambda x: x, fake, fake).sum(), fake)[0].item() for loss in LOSSES[:2]]
    assert abs(slopes[0]) < 1e-8
    assert slopes[1] == pytest.approx(-1)


@EACH
def test_finite_at_extreme_scores(loss, subtests):
    def at(scale, dtype):
        weight = (scale * torch.ones(6, dtype=dtype)).requires_grad_()

        def score(x):
            return x.flatten(-2) @ weight

        real, fake = pictures(0).to(dtype), pictures(1).to(dtype)
        for given in (loss.critic(score, real, fake, noise()), loss.generator(score, real, fake)):
            per_example = given.per_example if isinstance(given, LossOutput) else given
            (slope,) = torch.autograd.grad(per_example.sum(), weight)
            assert per_example.isfinite().all()
            assert slope.isfinite().all()

    for scale, dtype in itertools.product((1e2, 1e4), (torch.float32, torch.float64, torch.bfloat16)):
        with subtests.test(scale=scale, dtype=dtype):
            at(scale, dtype)


def test_clipping_brings_weights_back_and_leaves_small_ones():
    net = nn.Linear(3, 1)
    net.weight.data = torch.tensor([[0.5, -0.5, 0.004]])
    Wasserstein(clip=0.01).project(net)
    assert net.weight.tolist() == [pytest.approx([0.01, -0.01, 0.004])]
    assert net.bias.abs().max() <= 0.01


def test_a_foreign_loss_of_three_arguments_is_called_with_three():
    class Foreign:
        def critic(self, critic, real, fake):
            return critic(fake) - critic(real)

        def generator(self, critic, real, fake):
            return -critic(fake)

    loss = lifted(Foreign(), "gan")
    torch.testing.assert_close(
        loss.critic(critic(), pictures(0), pictures(1), noise()),
        Wasserstein().critic(critic(), pictures(0), pictures(1)).per_example,
    )
    assert getattr(loss, "project", None) is None


@pytest.mark.parametrize(
    ("loss_class", "settings"),
    [
        (Dragan, {"penalty": -1.0}),
        (Dragan, {"reach": -0.1}),
        (WassersteinPenalty, {"penalty": -1.0}),
        (Wasserstein, {"clip": 0.0}),
        *((loss_class, {"r1": -1.0}) for loss_class in (*CLOSED, RelativisticAverage)),
    ],
)
def test_settings_that_cannot_be_are_refused(loss_class, settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"loss.{name}"):
        lifted(loss_class(**settings), "gan").critic(critic(), pictures(0), pictures(1), noise())
