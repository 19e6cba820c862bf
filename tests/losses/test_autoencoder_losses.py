"""Losses of autoencoders against torch's own distributions, and against each other where they have to agree."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Laplace, Normal, kl_divergence

from lossbench.core import ConfigError, LossOutput, stream
from lossbench.core.latent_code import LatentCode
from lossbench.engine import Noise
from lossbench.losses.autoencoder import GaussianElbo, discrepancy, elbo, iwae, kl, mmd_wae, reconstruction

BATCH, LATENT, PIXELS = 6, 3, 11
DECODER = nn.Sequential(nn.Linear(LATENT, 7), nn.Tanh(), nn.Linear(7, PIXELS)).double()
for _parameter in DECODER.parameters():
    nn.init.normal_(_parameter, generator=stream(0, "decoder"))


def code(seed=0, done=0, spread=1.0):
    random = stream(seed, "code")
    mean, log_variance = (spread * torch.randn(BATCH, LATENT, generator=random, dtype=torch.float64) for _ in range(2))
    return LatentCode(mean, log_variance, DECODER, Doubled(seed, done))


class Doubled(Noise):
    """Noise in double precision."""

    def __init__(self, seed, done):
        super().__init__([seed], torch.device("cpu"))
        self.at(done)

    def normal(self, *shape):
        return super().normal(*shape).double()


def target(seed=0):
    return torch.randint(2, (BATCH, PIXELS), generator=stream(seed, "x")).double()


def posterior(given):
    return Independent(Normal(given.mean, (0.5 * given.log_variance).exp()), 1)


def prior():
    return Independent(Normal(torch.zeros(LATENT).double(), torch.ones(LATENT).double()), 1)


def drawn(given):
    """The latent of one sample, with the noise that a loss will be given."""
    return posterior(given).base_dist.mean + posterior(given).base_dist.stddev * Doubled(0, 0).normal(BATCH, LATENT)


LIKELIHOODS = {
    "bce": lambda logits: Bernoulli(logits=logits),
    "mse": lambda logits: Normal(logits.sigmoid(), math.sqrt(0.5)),
    "l1": lambda logits: Laplace(logits.sigmoid(), 1.0),
}
CONSTANTS = {"bce": 0.0, "mse": 0.5 * math.log(math.pi), "l1": math.log(2)}  # that the terms leave out, a pixel


def test_kl_is_that_of_the_distributions():
    given = code()
    per_example, parts = kl(given, target())
    torch.testing.assert_close(per_example, kl_divergence(posterior(given), prior()))
    assert torch.equal(parts["kl"], per_example)


@pytest.mark.parametrize("pixel", LIKELIHOODS)
def test_reconstruction_is_the_likelihood_at_the_mean(pixel):
    given, x = code(), target()
    expected = -LIKELIHOODS[pixel](DECODER(given.mean)).log_prob(x).sum(-1) - PIXELS * CONSTANTS[pixel]
    torch.testing.assert_close(reconstruction(given, x, pixel=pixel).per_example, expected)


@pytest.mark.parametrize("pixel", LIKELIHOODS)
@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_elbo_is_likelihood_and_divergence(pixel, beta):
    given, x = code(), target()
    log_p = LIKELIHOODS[pixel](DECODER(drawn(given))).log_prob(x).sum(-1) + PIXELS * CONSTANTS[pixel]
    divergence = kl_divergence(posterior(given), prior())
    per_example, parts = elbo(code(), x, reconstruction=pixel, beta=beta)
    torch.testing.assert_close(per_example, beta * divergence - log_p)
    torch.testing.assert_close(parts["kl"], divergence)
    torch.testing.assert_close(parts["reconstruction"], -log_p)


def test_iwae_of_one_sample_is_the_elbo_with_its_divergence_sampled():
    given, x = code(), target()
    latent = drawn(given)
    sampled = posterior(given).log_prob(latent) - prior().log_prob(latent)
    expected = elbo(code(), x, beta=0).per_example + sampled
    torch.testing.assert_close(iwae(given, x, samples=1).per_example, expected)


def test_iwae_of_one_sample_is_the_elbo_on_average():
    x = target()
    both = [(iwae(code(done=k), x, samples=1).per_example, elbo(code(done=k), x).per_example) for k in range(4000)]
    one, other = (torch.stack(per_example) for per_example in zip(*both, strict=True))
    error = (one - other).std(0) / math.sqrt(len(one))
    assert ((one - other).mean(0).abs() < 4 * error).all()


def test_iwae_averages_weights_inside_the_logarithm():
    given, x = code(), target()
    noise = Doubled(0, 0)
    latents = [
        posterior(given).base_dist.mean + posterior(given).stddev * noise.normal(BATCH, LATENT) for _ in range(7)
    ]
    logs = [
        Bernoulli(logits=DECODER(z)).log_prob(x).sum(-1) + prior().log_prob(z) - posterior(given).log_prob(z)
        for z in latents
    ]
    expected = -torch.stack(logs).exp().mean(0).log()
    torch.testing.assert_close(iwae(given, x, samples=7).per_example, expected)


@pytest.mark.parametrize("log_variance", [-30.0, -60.0, -200.0])
def test_a_narrow_posterior_is_no_rounding(log_variance):
    """In single precision its latents are its mean, but their densities are not those of the mean."""
    given = code()
    narrow = LatentCode(given.mean, torch.full_like(given.mean, log_variance), DECODER, Doubled(0, 0))
    single = LatentCode(narrow.mean.float(), narrow.log_variance.float(), DECODER.float(), Doubled(0, 0))
    per_example = iwae(single, target().float(), samples=9).per_example
    DECODER.double()
    torch.testing.assert_close(
        per_example.double(), iwae(narrow, target(), samples=9).per_example, rtol=1e-5, atol=1e-4
    )


def test_more_samples_tighten_the_bound():
    x = target()
    means = [
        torch.stack([iwae(code(done=k), x, samples=samples).per_example for k in range(200)]).mean()
        for samples in (1, 5, 50)
    ]
    assert means[0] > means[1] > means[2]


def test_exact_posterior_makes_the_bound_tight():
    """A decoder that ignores its latent: the prior is the posterior, and every bound is −log p(x)."""
    blind = LatentCode(
        torch.zeros(BATCH, LATENT), torch.zeros(BATCH, LATENT), lambda z: z.sum(-1, keepdim=True) * 0, Doubled(0, 0)
    )
    x = target()[:, :1]
    expected = torch.full((BATCH,), math.log(2)).double()
    for per_example in (elbo(blind, x).per_example, iwae(blind, x, samples=9).per_example):
        torch.testing.assert_close(per_example.double(), expected)


def test_free_bits_are_a_floor_under_each_unit():
    given, x = code(), target()
    per_unit = kl_divergence(posterior(given).base_dist, prior().base_dist)
    free = elbo(code(), x, free_bits=0.7).per_example - elbo(code(), x, beta=0).per_example
    torch.testing.assert_close(free, per_unit.clamp(min=0.7).sum(-1))


@pytest.mark.parametrize(("done", "share"), [(0, 0.1), (4, 0.5), (9, 1.0), (500, 1.0)])
def test_the_divergence_warms_up(done, share):
    x = target()
    with_, without = (elbo(code(done=done), x, beta=beta, warm_up=10).per_example for beta in (3.0, 0.0))
    torch.testing.assert_close(with_ - without, 3 * share * kl(code(), x).per_example)


def test_gaussian_elbo_is_the_normal_likelihood_and_learns_its_deviation():
    loss, x = GaussianElbo().double(), torch.rand(BATCH, PIXELS, generator=stream(0, "grey"), dtype=torch.float64)
    given = code()
    sigma = 0.01 + math.log(2)
    log_p = Normal(DECODER(drawn(given)).sigmoid(), sigma).log_prob(x).sum(-1)
    per_example, parts = loss(code(), x)
    torch.testing.assert_close(per_example, kl_divergence(posterior(given), prior()) - log_p)
    assert parts["sigma"][0].item() == pytest.approx(sigma)
    per_example.sum().backward()
    assert loss.rho.grad is not None
    assert loss.rho.grad != 0


def test_learned_deviation_settles_at_the_root_of_the_mean_square():
    loss, x = GaussianElbo().double(), torch.rand(BATCH, PIXELS, generator=stream(0, "grey"), dtype=torch.float64)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        per_example, parts = loss(code(), x)
        per_example.sum().backward()
        optimizer.step()
    errors = (x - DECODER(drawn(code())).sigmoid()).square().mean().sqrt()
    assert parts["sigma"][0].item() == pytest.approx(errors.item(), rel=1e-3)


@pytest.mark.parametrize("sigma", [0.05, math.sqrt(0.5), 2.0])
def test_gaussian_elbo_with_its_deviation_given_learns_nothing(sigma):
    loss, x = GaussianElbo(sigma=sigma), torch.rand(BATCH, PIXELS, generator=stream(0, "grey"), dtype=torch.float64)
    given = code()
    log_p = Normal(DECODER(drawn(given)).sigmoid(), sigma).log_prob(x).sum(-1)
    per_example, parts = loss(code(), x)
    torch.testing.assert_close(per_example, kl_divergence(posterior(given), prior()) - log_p)
    assert parts["sigma"].tolist() == pytest.approx([sigma] * BATCH)
    assert not [*loss.parameters()]
    assert not loss.state_dict()


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_gaussian_elbo_of_variance_a_half_is_the_elbo_with_mse_but_for_a_constant(beta):
    x = torch.rand(BATCH, PIXELS, generator=stream(0, "grey"), dtype=torch.float64)
    ours = GaussianElbo(sigma=math.sqrt(0.5), beta=beta)(code(), x).per_example
    constant = PIXELS * 0.5 * math.log(math.pi)
    torch.testing.assert_close(ours - constant, elbo(code(), x, reconstruction="mse", beta=beta).per_example)


def kernel(a, b, units, scale):
    squares = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    return sum(c / (c + squares) for c in (2 * units * scale * s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)))


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_mmd_is_a_loop_over_all_pairs(scale):
    one = torch.randn(5, LATENT, generator=stream(1, "one"), dtype=torch.float64)
    other = 2 + torch.randn(5, LATENT, generator=stream(1, "other"), dtype=torch.float64)
    n, a, b = 5, one.tolist(), other.tolist()
    within = sum(kernel(z[i], z[j], LATENT, scale) for z in (a, b) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(p, q, LATENT, scale) for p in a for q in b)
    assert discrepancy(one, other, scale).item() == pytest.approx(within / (n * (n - 1)) - 2 * across / n**2)
    stacked = discrepancy(torch.stack([one, other]), torch.stack([other, one]), scale)
    torch.testing.assert_close(stacked, discrepancy(one, other, scale).expand(2))


def test_mmd_of_one_distribution_is_zero_on_average():
    random = stream(0, "mmd")
    pairs = torch.randn(2, 2000, 20, LATENT, generator=random, dtype=torch.float64)
    found = discrepancy(pairs[0], pairs[1], 1.0)
    assert found.mean().abs() < 4 * found.std() / math.sqrt(2000)
    assert discrepancy(pairs[0] + 1, pairs[1], 1.0).mean() > 20 * found.std() / math.sqrt(2000)


@pytest.mark.parametrize("pixel", LIKELIHOODS)
def test_mmd_wae_is_its_pixels_and_the_discrepancy_of_all_codes(pixel):
    given, x = code(), target()
    noise = Doubled(0, 0)
    latent = posterior(given).base_dist.mean + posterior(given).stddev * noise.normal(BATCH, LATENT)
    apart = discrepancy(latent, noise.normal(BATCH, LATENT), 0.5)
    picture = elbo(code(), x, reconstruction=pixel, beta=0).per_example
    per_example, parts = mmd_wae(code(), x, reconstruction=pixel, penalty=7.0, scale=0.5)
    torch.testing.assert_close(per_example, picture + 7 * apart)
    torch.testing.assert_close(parts["mmd"], apart.expand(BATCH))
    torch.testing.assert_close(parts["reconstruction"], picture)


def test_mmd_wae_pulls_codes_to_the_prior_and_leaves_its_own_alone():
    def pull(mean):
        mean = mean.requires_grad_()
        given = LatentCode(mean, torch.full_like(mean, -40.0), DECODER, Doubled(0, 0))
        per_example = (
            mmd_wae(given, target(), penalty=1.0).per_example - mmd_wae(given, target(), penalty=0.0).per_example
        )
        return torch.autograd.grad(per_example.mean(), mean)[0]

    far = pull(torch.full((BATCH, LATENT), 3.0, dtype=torch.float64) + 0.1 * code().mean.detach())
    assert (far.sum(0) > 0).all()
    heap = 0.1 * code(1).mean.detach()
    assert (pull(heap.clone()) * (heap - heap.mean(0))).sum() < 0  # codes in a heap are pushed apart


ALL = {
    "reconstruction": reconstruction,
    "kl": kl,
    "elbo": elbo,
    "iwae": iwae,
    "gaussian_elbo": GaussianElbo().double(),
    "gaussian_elbo_given": GaussianElbo(sigma=0.3),
    "mmd_wae": mmd_wae,
}
EACH = pytest.mark.parametrize("loss", ALL.values(), ids=ALL)


@EACH
def test_one_term_a_picture_and_its_parts(loss):
    given = loss(code(), target())
    assert isinstance(given, LossOutput)
    assert given.per_example.shape == (BATCH,)
    assert all(part.shape == (BATCH,) for part in given.parts.values())


@EACH
@pytest.mark.parametrize("spread", [0.0, 5.0, 20.0])
def test_finite_at_extremes(loss, spread):
    given = code(spread=spread)
    mean, log_variance = given.mean.requires_grad_(), given.log_variance.requires_grad_()
    per_example, _ = loss(given, target())
    gradients = torch.autograd.grad(per_example.sum(), (mean, log_variance), allow_unused=True)
    assert per_example.isfinite().all()
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@EACH
def test_gradient_is_the_slope(loss):
    x = target()
    start = code()

    def per_example(mean, log_variance):
        return loss(LatentCode(mean, log_variance, DECODER, Doubled(0, 0)), x).per_example

    assert torch.autograd.gradcheck(per_example, (start.mean.requires_grad_(), start.log_variance.requires_grad_()))


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="bce, mse or l1"):
        elbo(code(), target(), reconstruction="huber")
    with pytest.raises(ConfigError, match="at least 1"):
        iwae(code(), target(), samples=0)
    with pytest.raises(ConfigError, match="above 0"):
        GaussianElbo(floor=0.0)
    with pytest.raises(ConfigError, match="or null"):
        GaussianElbo(sigma=0.0)
    for name in ("penalty", "scale"):
        with pytest.raises(ConfigError, match=f"loss.{name}"):
            mmd_wae(code(), target(), **{name: -1.0})
    alone = code()
    one = LatentCode(alone.mean[:1], alone.log_variance[:1], DECODER, Doubled(0, 0))
    with pytest.raises(ConfigError, match="batch_size"):
        mmd_wae(one, target()[:1])
