"""Losses of residuals against other libraries, the integrals of their influence, and their known minimisers."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from sklearn import metrics
from torch.nn import functional as F

from lossbench.core import ConfigError, stream
from lossbench.losses.regression import (
    barron,
    beta_nll,
    cauchy,
    charbonnier,
    epsilon_insensitive,
    expectile,
    gaussian_nll,
    geman_mcclure,
    huber,
    log_cosh,
    mae,
    mse,
    pinball,
    tukey,
    welsch,
)

RANDOM = np.random.default_rng(5)
PREDICTION, TARGET = torch.tensor(3 * RANDOM.standard_normal((2, 61, 3)))
RESIDUALS = torch.linspace(-30, 30, 61, dtype=torch.float64)
SAMPLE = np.random.default_rng(0).exponential(size=101)

ROBUST = {"tukey": tukey, "cauchy": cauchy, "welsch": welsch, "geman_mcclure": geman_mcclure, "barron": barron}
EACH_ROBUST = pytest.mark.parametrize("loss", ROBUST.values(), ids=ROBUST)


def same(per_example, reference, rtol=1e-10, atol=1e-12):
    torch.testing.assert_close(per_example, torch.as_tensor(reference, dtype=per_example.dtype), rtol=rtol, atol=atol)


def at(loss, residuals, **settings):
    """ρ of each residual, as terms of one output."""
    return loss(residuals[:, None], torch.zeros_like(residuals)[:, None], **settings)


def influence(loss, residuals, **settings):
    """ψ of each residual: the slope of its term."""
    leaf = residuals.clone().requires_grad_()
    (slope,) = torch.autograd.grad(at(loss, leaf, **settings).sum(), leaf)
    return slope


def ratio(x, c):
    return 1 + (x / c) ** 2


INFLUENCES = {
    "tukey": (tukey, {}, lambda x: x * (1 - (x / 4.685) ** 2) ** 2 * (abs(x) < 4.685)),
    "cauchy": (cauchy, {}, lambda x: x / ratio(x, 2.3849)),
    "welsch": (welsch, {}, lambda x: x * math.exp(-((x / 2.9846) ** 2))),
    "geman_mcclure": (geman_mcclure, {}, lambda x: x / ratio(x, 3.7874) ** 2),
    "barron, 1": (barron, {"c": 0.7}, lambda x: x / math.sqrt(ratio(x, 0.7))),
    "barron, 1.5": (barron, {"alpha": 1.5, "c": 3.0}, lambda x: x * (1 + (x / 3) ** 2 / 0.5) ** -0.25),
    "barron, -5": (barron, {"alpha": -5.0}, lambda x: x * (1 + x**2 / 7) ** -3.5),
    "barron, 2": (barron, {"alpha": 2.0, "c": 3.0}, lambda x: x),
    "barron, 0": (barron, {"alpha": 0.0, "c": 3.0}, lambda x: x / ratio(x, 3 * math.sqrt(2))),
    "barron, -inf": (barron, {"alpha": -1e9, "c": 3.0}, lambda x: x * math.exp(-((x / 3) ** 2) / 2)),
    "charbonnier": (charbonnier, {"epsilon": 2.0}, lambda x: x / math.sqrt(x**2 + 4)),
    "log_cosh": (log_cosh, {}, math.tanh),
    "huber": (huber, {"delta": 1.5}, lambda x: max(-1.5, min(1.5, x))),
}
EACH_INFLUENCE = pytest.mark.parametrize(("loss", "settings", "psi"), INFLUENCES.values(), ids=INFLUENCES)


@EACH_INFLUENCE
def test_a_loss_is_the_integral_of_its_influence(loss, settings, psi):
    integrals = [quad(psi, 0, x, points=[4.685] if x > 4.685 else None, limit=200)[0] for x in RESIDUALS.abs().tolist()]
    same(at(loss, RESIDUALS, **settings), integrals, rtol=1e-7)
    same(influence(loss, RESIDUALS, **settings), [psi(x) for x in RESIDUALS.tolist()], rtol=1e-7, atol=1e-9)


EFFICIENCIES = {
    "tukey": (tukey, {}, 0.95),
    "cauchy": (cauchy, {}, 0.95),
    "welsch": (welsch, {}, 0.95),
    "geman_mcclure": (geman_mcclure, {}, 0.95),
    "geman_mcclure, 1": (geman_mcclure, {"c": 1.0}, 0.44),
    "log_cosh": (log_cosh, {}, 0.9305),
    "charbonnier": (charbonnier, {"epsilon": 1.0}, 0.9268),
    "mae": (mae, {}, 2 / math.pi),
    "huber": (huber, {}, 0.9031),
    "mse": (mse, {}, 1.0),
}


@pytest.mark.parametrize(("loss", "settings", "efficiency"), EFFICIENCIES.values(), ids=EFFICIENCIES)
def test_location_is_as_efficient_as_tables_say(loss, settings, efficiency):
    """(E ψ')²/E ψ² of a standard Gaussian, where E ψ' = E xψ."""
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    weight = (-(x**2) / 2).exp() / math.sqrt(2 * math.pi) * (x[1] - x[0])
    psi = influence(loss, x, **settings)
    found = (weight * x * psi).sum() ** 2 / (weight * psi**2).sum()
    assert found.item() == pytest.approx(efficiency, abs=0.005 if efficiency == 0.44 else 1e-4)


@pytest.mark.parametrize(
    ("loss", "c", "slope"),
    [(tukey, 4.685, 0.0), (cauchy, 2.3849, 0.5), (welsch, 2.9846, math.exp(-1)), (geman_mcclure, 3.7874, 0.25)],
)
def test_slope_at_c(loss, c, slope):
    assert influence(loss, torch.tensor([c], dtype=torch.float64)).item() == pytest.approx(slope * c, abs=1e-12)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_beyond_c_tukey_is_flat(sigma):
    far = 4.685 * sigma * torch.tensor([-1e6, -1.001, 0.99, 1.001, 2.0, 1e6])
    slopes = influence(tukey, far, scale=sigma)
    assert (slopes != 0).tolist() == [False, False, True, False, False, False]
    same(at(tukey, far.double(), scale=sigma)[[0, 1, 3, 4, 5]], [(4.685 * sigma) ** 2 / 6] * 5)


@EACH_ROBUST
@pytest.mark.parametrize("sigma", [0.1, 1.0, 7.0])
def test_a_scale_stretches_and_leaves_the_curvature(loss, sigma):
    same(at(loss, RESIDUALS, scale=sigma), sigma**2 * at(loss, RESIDUALS / sigma))
    near = torch.tensor([-1e-6, 1e-6], dtype=torch.float64)
    same(influence(loss, near, scale=sigma), near, rtol=1e-8, atol=0)


@EACH_ROBUST
@pytest.mark.parametrize("n", [60, 61])
def test_the_mad_is_scipys_of_each_output(loss, n):
    prediction, target = PREDICTION[:n] * torch.tensor([0.1, 1.0, 20.0]), TARGET[:n]
    per_example = loss(prediction, target, scale="mad")
    sigmas = 1.4826 * stats.median_abs_deviation((prediction - target).numpy(), axis=0)
    outputs = zip(prediction.T[..., None], target.T[..., None], sigmas.tolist(), strict=True)
    same(per_example, torch.stack([loss(p, t, scale=sigma) for p, t, sigma in outputs]).mean(0))
    assert not torch.allclose(per_example, loss(prediction, target))


@EACH_ROBUST
@pytest.mark.parametrize("k", [0.05, 3.0, 1e4])
def test_scaled_residuals_scale_terms(loss, k):
    same(loss(k * PREDICTION, k * TARGET, scale="mad"), k**2 * loss(PREDICTION, TARGET, scale="mad"))


@EACH_ROBUST
def test_the_mad_is_held_fixed_in_the_gradient(loss):
    sigma = 1.4826 * stats.median_abs_deviation(RESIDUALS[::2].numpy())
    same(influence(loss, RESIDUALS[::2], scale="mad"), influence(loss, RESIDUALS[::2], scale=sigma))


@EACH_ROBUST
def test_replicas_have_scales_of_their_own(loss):
    prediction = torch.stack([PREDICTION, 50 * PREDICTION, 0.1 * PREDICTION])
    target = torch.stack([TARGET] * 3)
    alone = torch.stack([loss(p, t, scale="mad") for p, t in zip(prediction, target, strict=True)])
    same(loss(prediction, target, scale="mad"), alone)


@EACH_ROBUST
def test_residuals_without_spread_are_finite(loss):
    types = (torch.float32, torch.float64, torch.bfloat16)
    wrong = []
    for dtype, batch, residual in itertools.product(types, (1, 2, 7), (0.0, -3.0, 1e4)):
        given = torch.full((batch,), residual, dtype=dtype)
        if not all(of(loss, given, scale="mad").isfinite().all() for of in (at, influence)):
            wrong.append((dtype, batch, residual))
    assert wrong == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize("gap", [-1e-300, -1e-15, -1e-9, 1e-15, 1e-9])
def test_barron_has_no_gap_where_its_equation_has_none(alpha, gap, dtype):
    near = alpha + (-abs(gap) if alpha == 2 else gap)
    residuals = RESIDUALS.to(dtype)
    for of in (at, influence):
        same(of(barron, residuals, alpha=near), of(barron, residuals, alpha=alpha), rtol=1e-5, atol=0)


@pytest.mark.parametrize("tau", [0.05, 0.5, 0.8])
def test_pinball_is_scikit_learns(tau):
    reference = metrics.mean_pinball_loss(TARGET, PREDICTION, alpha=tau)
    assert pinball(PREDICTION, TARGET, tau=tau).mean().item() == pytest.approx(reference)


def test_half_a_pinball_and_half_an_expectile():
    same(pinball(PREDICTION, TARGET), mae(PREDICTION, TARGET) / 2)
    same(expectile(PREDICTION, TARGET), mse(PREDICTION, TARGET) / 2)


@pytest.mark.parametrize("tau", [0.1, 0.7])
def test_both_sides_of_an_expectile_add_up_to_the_square(tau):
    below = expectile(PREDICTION, TARGET, tau=tau) + expectile(TARGET, PREDICTION, tau=tau)
    same(below, mse(PREDICTION, TARGET))
    low, high = torch.zeros(1, 1), torch.ones(1, 1)
    assert expectile(low, high, tau=tau).item() == pytest.approx(tau)  # too low by one


def minimiser(loss):
    target = torch.tensor(SAMPLE)[:, None]
    mean_loss = lambda c: loss(torch.full_like(target, float(c)), target).mean().item()  # noqa: E731
    return minimize_scalar(mean_loss, bounds=(0, 6), method="bounded", options={"xatol": 1e-9}).x


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.9])
def test_minimisers_are_quantiles_and_expectiles(tau):
    quantile = minimiser(lambda p, t: pinball(p, t, tau=tau))
    assert quantile == pytest.approx(np.quantile(SAMPLE, tau, method="inverted_cdf"), abs=1e-6)
    assert minimiser(lambda p, t: expectile(p, t, tau=tau)) == pytest.approx(stats.expectile(SAMPLE, tau), abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "centre"),
    [
        (lambda p, t: charbonnier(p, t, epsilon=1e-5), np.median),
        (lambda p, t: charbonnier(p, t, epsilon=1e4), np.mean),
        (lambda p, t: log_cosh(p / 1e3, t / 1e3), np.mean),
        (lambda p, t: log_cosh(p * 1e5, t * 1e5), np.median),
        (lambda p, t: tukey(p, t, c=1e3), np.mean),
    ],
)
def test_minimisers_between_mean_and_median(loss, centre):
    assert minimiser(loss) == pytest.approx(centre(SAMPLE), abs=2e-4)


def test_outliers_leave_a_robust_centre_alone():
    clean = minimiser(tukey)
    target = torch.tensor([*SAMPLE, *[1e3] * 10])[:, None]
    moved = torch.full_like(target, clean).requires_grad_()
    (slope,) = torch.autograd.grad(tukey(moved, target).mean(), moved)
    assert abs(slope.sum().item()) < 1e-6


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 2.0])
def test_within_the_tolerance_nothing_is_asked(epsilon):
    same(at(epsilon_insensitive, RESIDUALS, epsilon=epsilon), np.maximum(np.abs(RESIDUALS.numpy()) - epsilon, 0))
    slopes = influence(epsilon_insensitive, RESIDUALS, epsilon=epsilon)
    assert torch.equal(slopes, RESIDUALS.sign() * (RESIDUALS.abs() > epsilon))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_digits_near_zero_and_no_overflow_far_away(dtype):
    residuals = torch.tensor([1e-3, 0.1, 1.0, 30.0, 1e4, -1e4], dtype=dtype)
    exact = [float(mpmath.log(mpmath.cosh(r))) for r in residuals.tolist()]
    same(at(log_cosh, residuals), exact, rtol=1e-6, atol=1e-4 * torch.finfo(dtype).eps ** 0.5)
    exact = [float(mpmath.sqrt(mpmath.mpf(r) ** 2 + 1) - 1) for r in residuals.tolist()]
    same(at(charbonnier, residuals, epsilon=1.0), exact, rtol=1e-6, atol=0)
    for loss in (cauchy, welsch, geman_mcclure, tukey, barron):
        tiny = torch.tensor([1e-5, -1e-4], dtype=dtype)
        same(at(loss, tiny), tiny**2 / 2, rtol=1e-6, atol=0)


HEADS = torch.cat([PREDICTION, 4 * TARGET.flip(0)], 1)
VARIANCE = 1e-4 + F.softplus(HEADS[:, 3:])


def test_gaussian_nll_is_torchs():
    reference = F.gaussian_nll_loss(HEADS[:, :3], TARGET, VARIANCE, eps=0, reduction="none").mean(-1)
    same(gaussian_nll(HEADS, TARGET), reference)
    exact = -torch.distributions.Normal(HEADS[:, :3], VARIANCE.sqrt()).log_prob(TARGET).mean(-1)
    same(gaussian_nll(HEADS, TARGET) + 0.5 * math.log(2 * math.pi), exact)


def pull(loss, given, **settings):
    """Of the means, and of what variances are made from."""
    leaf = given.clone().requires_grad_()
    (slope,) = torch.autograd.grad(3 * loss(leaf, TARGET, **settings).sum(), leaf)
    return slope.chunk(2, 1)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_beta_weighs_the_pull_of_the_likelihood(beta):
    same(beta_nll(HEADS, TARGET, beta=beta), (VARIANCE**beta * nll_of_outputs()).mean(-1))
    for weighed, plain in zip(pull(beta_nll, HEADS, beta=beta), pull(gaussian_nll, HEADS), strict=True):
        same(weighed, VARIANCE**beta * plain)


def nll_of_outputs():
    return (VARIANCE.log() + (PREDICTION - TARGET) ** 2 / VARIANCE) / 2


def test_at_beta_1_the_mean_learns_as_under_half_of_mse():
    same(pull(beta_nll, HEADS, beta=1.0)[0], PREDICTION - TARGET)
    same(pull(beta_nll, HEADS)[0], (PREDICTION - TARGET) / VARIANCE.sqrt())


@pytest.mark.parametrize("loss", [gaussian_nll, beta_nll])
def test_the_best_variance_is_the_mean_square(loss):
    square = (PREDICTION - TARGET).square()
    rho = torch.log(torch.expm1(square.mean(0) - 1e-4)).expand(61, 3)
    _, slope = pull(loss, torch.cat([PREDICTION, rho], 1))
    same(slope.sum(0), torch.zeros(3), atol=1e-9)


@pytest.mark.parametrize("loss", [gaussian_nll, beta_nll])
@pytest.mark.parametrize("width", [1, 3, 5, 7])
def test_a_net_of_one_number_an_output_is_refused(loss, width):
    with pytest.raises(ConfigError, match=f"6 an example, and the model gives {width}"):
        loss(torch.zeros(4, width), torch.zeros(4, 3))
    with pytest.raises(ConfigError, match="4 an example, and the model gives 2"):
        loss(torch.zeros(4, 2), torch.zeros(4, 2))  # one mean and one variance would pass by broadcasting


BAD = [
    *((loss, {"tau": tau}) for loss in (pinball, expectile) for tau in (0.0, 1.0, -0.1, 90, math.nan)),
    *((charbonnier, {"epsilon": epsilon}) for epsilon in (0.0, -1.0, math.inf)),
    (epsilon_insensitive, {"epsilon": -0.1}),
    (huber, {"delta": 0.0}),
    *((loss, {"c": c}) for loss in ROBUST.values() for c in (0.0, -1.0, "wide")),
    *((loss, {"scale": scale}) for loss in ROBUST.values() for scale in (0.0, -1.0, "std", None)),
    *((barron, {"alpha": alpha}) for alpha in (2.1, -math.inf, math.nan)),
    *((loss, {"floor": floor}) for loss in (gaussian_nll, beta_nll) for floor in (0.0, -1e-4)),
    *((beta_nll, {"beta": beta}) for beta in (-0.1, 1.1)),
]


def test_settings_that_make_no_sense_are_refused_by_name(subtests):
    for loss, settings in BAD:
        prediction = torch.randn(4, 2 * loss.card.outputs_per_target, generator=stream(0, "bad"))
        with (
            subtests.test(loss=loss.__name__, **settings),
            pytest.raises(ConfigError, match=rf"loss\.{next(iter(settings))}="),
        ):
            loss(prediction, torch.zeros(4, 2), **settings)
