"""Losses of two players at fixed scores against their closed form; penalties on critics whose slope is known."""

import math

import pytest
import torch
from torch import nn

from lossbench.core import Parts, stream
from lossbench.engine import Noise
from lossbench.losses import Hinge, LeastSquares, Minimax, NonSaturating, Wasserstein, WassersteinPenalty
from lossbench.tasks.lifting import lifted

BATCH = 5
LOSSES = (Minimax(), NonSaturating(), LeastSquares(), Hinge(), Wasserstein(), WassersteinPenalty())
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
}


@pytest.mark.parametrize("kind", CLOSED, ids=lambda kind: kind.__name__)
def test_terms_are_the_closed_form(kind):
    real, fake, score = pictures(0), pictures(1), critic()
    of_critic, of_generator = CLOSED[kind]
    loss = lifted(kind(), "gan")
    terms, parts = loss.critic(score, real, fake, noise())
    torch.testing.assert_close(terms, of_critic(score(real), score(fake)))
    torch.testing.assert_close(loss.generator(score, real, fake), of_generator(score(fake)))
    torch.testing.assert_close(parts["real"], score(real))
    torch.testing.assert_close(parts["fake"], score(fake))


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0, 5.0])
def test_gradient_penalty_of_a_linear_critic(slope):
    loss = WassersteinPenalty(penalty=7.0)
    terms, parts = loss.critic(critic(slope), pictures(0), pictures(1), noise())
    plain = Wasserstein().critic(critic(slope), pictures(0), pictures(1)).terms
    expected = torch.full((BATCH,), 7 * (slope - 1) ** 2, dtype=torch.float64)
    torch.testing.assert_close(terms - plain, expected, atol=2e-5, rtol=1e-5)
    assert parts["slope"].tolist() == pytest.approx([slope] * BATCH, abs=2e-6)


def test_gradient_penalty_is_taken_between_real_and_fake():
    """D(x) = ½‖x‖² has slope ‖x‖, so the slope tells where it was taken."""
    real, fake = pictures(0), pictures(1)
    _, parts = WassersteinPenalty().critic(lambda x: 0.5 * x.flatten(-2).square().sum(-1), real, fake, noise())
    share = noise().uniform(BATCH, 1, 1)
    between = (share * real + (1 - share) * fake).flatten(-2).norm(dim=-1)
    torch.testing.assert_close(parts["slope"], between)


def test_gradient_of_the_penalty_of_a_flat_critic_is_finite():
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    terms, _ = WassersteinPenalty().critic(lambda x: x.flatten(-2) @ weight, pictures(0), pictures(1), noise())
    terms.sum().backward()
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("kind", CLOSED, ids=lambda kind: kind.__name__)
def test_r1_is_half_gamma_times_the_squared_slope_at_real_pictures(kind):
    def square(x):
        return 0.5 * x.flatten(-2).square().sum(-1)

    with_, without = (lifted(kind(r1=gamma), "gan") for gamma in (3.0, 0.0))
    both = [loss.critic(square, pictures(0), pictures(1), noise()).terms for loss in (with_, without)]
    torch.testing.assert_close(both[0] - both[1], 1.5 * pictures(0).flatten(-2).square().sum(-1))


@EACH
def test_a_step_of_the_critic_tells_real_from_fake_better(loss):
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    real, fake = pictures(0) + 1, pictures(1) - 1

    def score(x):
        return x.flatten(-2) @ weight

    (slope,) = torch.autograd.grad(loss.critic(score, real, fake, noise()).terms.sum(), weight)
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
@pytest.mark.parametrize("scale", [1e2, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_finite_at_extreme_scores(loss, scale, dtype):
    weight = (scale * torch.ones(6, dtype=dtype)).requires_grad_()

    def score(x):
        return x.flatten(-2) @ weight

    real, fake = pictures(0).to(dtype), pictures(1).to(dtype)
    for given in (loss.critic(score, real, fake, noise()), loss.generator(score, real, fake)):
        terms = given.terms if isinstance(given, Parts) else given
        (slope,) = torch.autograd.grad(terms.sum(), weight)
        assert terms.isfinite().all()
        assert slope.isfinite().all()


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
        Wasserstein().critic(critic(), pictures(0), pictures(1)).terms,
    )
    assert getattr(loss, "project", None) is None
