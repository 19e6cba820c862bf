"""Losses of a residual r = prediction − target. Each example's loss is a mean over its outputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from lossbench.core import ConfigError, card, require

Scale = float | Literal["mad"]

MAD_TO_SD = 1.4826  # of a Gaussian
LEAST_SCALE = 1e-3  # of a standardised target's residuals, whose MAD is 0 where half of them are equal


@card(task_types=("regression", "boxes", "sequence"))
def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error: its minimiser is the mean.

    r²,  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the squared unit of the target.
    Use it when: noise is Gaussian and there are no outliers.
    Beware: one outlier at 100 σ has the gradient of 100 residuals at 1 σ.
    Reference: Gauss, Theoria motus corporum coelestium, 1809.
    """
    return F.mse_loss(prediction, target, reduction="none").mean(-1)


@card(task_types=("regression", "boxes"))
def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Absolute error: its minimiser is the median.

    |r|,  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the unit of the target.
    Use it when: tails are heavy, or the median is what you want to predict.
    Beware: the gradient keeps its size near the optimum, so let the learning rate decay; 36 % less efficient than
        the mean when noise is Gaussian.
    Reference: Laplace, Mémoire sur la probabilité des causes par les évènemens, 1774.
    """
    return F.l1_loss(prediction, target, reduction="none").mean(-1)


@card(task_types=("regression", "boxes"), search={"delta": (0.1, 10.0)}, limits={"mse": {"delta": 1e6}})
def huber(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """Squared error near zero, absolute error beyond δ.

    ½r² where |r| ≤ δ,  δ(|r| − ½δ) beyond;  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the squared unit of the target.
    Use it when: most noise is Gaussian and some of it is not.
    Beware: δ is in units of the (standardised) target. Within δ it is half of mse, and so is its gradient.
    Reference: Huber, Robust estimation of a location parameter, 1964, https://doi.org/10.1214/aoms/1177703732
    """
    require("loss.delta", delta, lambda v: v > 0, "above 0")
    return F.huber_loss(prediction, target, reduction="none", delta=delta).mean(-1)


@card(task_types=("regression", "boxes"))
def log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error near zero, absolute error far away, and smooth between them, without a parameter.

    log cosh r = r + softplus(−2r) − log 2,  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], without unit.
    Use it when: you would take huber, but need second derivatives.
    Beware: it changes from squared to absolute at |r| ≈ 1 in units of the (standardised) target; 93 % as efficient as
        the mean when noise is Gaussian.
    Reference: Saleh & Saleh, Statistical properties of the log-cosh loss function used in machine learning, 2022,
        https://arxiv.org/abs/2208.04564
    """
    size = (prediction - target).abs()
    # written in |r|: the plain sum loses the digits of r² near zero, and cosh overflows far away
    return (size + torch.log1p(torch.expm1(-2 * size) / 2)).mean(-1)


@card(task_types=("regression",), search={"tau": (0.05, 0.95)}, limits={"mae": {"tau": 0.5}})
def pinball(prediction: Tensor, target: Tensor, *, tau: float = 0.5) -> Tensor:
    """Absolute error that weighs its two sides differently: its minimiser is the quantile τ.

    τ·max(−r, 0) + (1 − τ)·max(r, 0),  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the unit of the target.
    Use it when: too low and too high cost differently, or you want an interval: one model for each of its ends.
    Beware: τ near 0 or 1 is learned from the few examples beyond it, and quantiles of several models may cross.
        Metrics of a centre, such as the mean absolute error, do not measure a quantile.
    Raises: ConfigError for τ outside (0, 1).
    Reference: Koenker & Bassett, Regression quantiles, 1978, https://doi.org/10.2307/1913643
    """
    require("loss.tau", tau, lambda v: 0 < v < 1, "a share between 0 and 1, both excluded")
    residual = prediction - target
    return (tau * F.relu(-residual) + (1 - tau) * F.relu(residual)).mean(-1)


@card(task_types=("regression",), search={"tau": (0.05, 0.95)}, limits={"mse": {"tau": 0.5}})
def expectile(prediction: Tensor, target: Tensor, *, tau: float = 0.5) -> Tensor:
    """Squared error that weighs its two sides differently: its minimiser is the expectile τ, at ½ the mean.

    τ·r² where r < 0,  (1 − τ)·r² elsewhere;  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the squared unit of the target.
    Use it when: too low and too high cost differently, and the size of an error counts rather than its frequency.
    Beware: an expectile is no quantile (a Gaussian's τ = .9 is its quantile .81), and outliers pull as in mse.
    Raises: ConfigError for τ outside (0, 1).
    Reference: Newey & Powell, Asymmetric least squares estimation and testing, 1987, https://doi.org/10.2307/1911031
    """
    require("loss.tau", tau, lambda v: 0 < v < 1, "a share between 0 and 1, both excluded")
    residual = prediction - target
    return (tau * F.relu(-residual).square() + (1 - tau) * F.relu(residual).square()).mean(-1)


@card(task_types=("regression",), search={"epsilon": (0.0, 1.0)}, limits={"mae": {"epsilon": 0.0}})
def epsilon_insensitive(prediction: Tensor, target: Tensor, *, epsilon: float = 0.1) -> Tensor:
    """Absolute error beyond a tolerance ε, and 0 within it.

    max(|r| − ε, 0),  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the unit of the target.
    Use it when: errors below ε do not matter: the loss of support vector regression.
    Beware: ε is in units of the (standardised) target. Nothing is learned within it, so predictions may be off by ε
        everywhere.
    Reference: Vapnik, The nature of statistical learning theory, 1995, https://doi.org/10.1007/978-1-4757-2440-0
    """
    require("loss.epsilon", epsilon, lambda v: v >= 0, "0 or above")
    return F.relu((prediction - target).abs() - epsilon).mean(-1)


@card(task_types=("regression",), search={"epsilon": (1e-3, 10.0)}, limits={"mse": {"epsilon": 1e6}})
def charbonnier(prediction: Tensor, target: Tensor, *, epsilon: float = 1e-3) -> Tensor:
    """Smooth absolute error: quadratic near zero, linear far away; at ε = 1 it is the pseudo-Huber loss.

    √(r² + ε²) − ε,  r = prediction − target

    Shapes: prediction and target [batch, outputs]; result [batch], in the unit of the target.
    Use it when: you would take mae, but want it smooth at zero, as in image restoration.
    Beware: near zero it is r²/2ε, so a small ε makes it steep there. When noise is Gaussian it is 93 % as efficient as
        the mean at ε = 1 σ, and 64 % as ε → 0.
    Reference: Charbonnier et al., Two deterministic half-quadratic regularization algorithms for computed imaging,
        1994, https://doi.org/10.1109/ICIP.1994.413553
    """
    require("loss.epsilon", epsilon, lambda v: v > 0, "above 0; at 0 it would be mae")
    residual = prediction - target
    root = torch.hypot(residual, torch.full_like(residual, epsilon))
    return (residual * (residual / (root + epsilon))).mean(-1)  # the difference has no digits where |r| is far below ε


@card(
    task_types=("regression",), batch=True, replica_batched=True, search={"c": (0.5, 20.0)}, limits={"mse": {"c": 1e6}}
)
def tukey(prediction: Tensor, target: Tensor, *, c: float = 4.685, scale: Scale = 1.0) -> Tensor:
    """Biweight: beyond c scales the loss is constant, so outliers have no gradient.

    σ²c²/6·(1 − (1 − min(r/cσ, 1)²)³),  r = |prediction − target|, σ = scale

    scale = mad: σ = 1.4826·median|r − median r| over the batch, for each output, without a gradient.

    Shapes: prediction and target [..., batch, outputs]; result [..., batch], in the squared unit of the target.
    Use it when: gross outliers should not count; c = 4.685 is 95 % as efficient as the mean on Gaussian noise.
    Beware: c is meant in scales of the residuals, which have to be estimated. At scale = 1 it is in units of the
        target: `dataset=regression` standardises by median and MAD, so σ is the target's spread, not the residuals'.
        An example that starts beyond cσ never learns. The MAD of a batch needs some dozens of examples.
    Reference: Beaton & Tukey, The fitting of power series, 1974, https://doi.org/10.1080/00401706.1974.10489171;
        σ: Belagiannis et al., Robust optimization for deep regression, 2015, https://arxiv.org/abs/1505.06606
    """
    residual = prediction - target
    width = _width(residual, c, scale)
    u = (residual / width).square().clamp(max=1)
    return (width**2 / 6 * u * (3 + u * (u - 3))).mean(-1)


@card(
    task_types=("regression",), batch=True, replica_batched=True, search={"c": (0.1, 20.0)}, limits={"mse": {"c": 1e6}}
)
def cauchy(prediction: Tensor, target: Tensor, *, c: float = 2.3849, scale: Scale = 1.0) -> Tensor:
    """Negative log-likelihood of a Cauchy distribution, whose heavy tails expect outliers: the gradient falls as 1/r.

    σ²c²/2·log(1 + (r/cσ)²),  r = prediction − target, σ = scale (a number, or mad: see tukey)

    Shapes: prediction and target [..., batch, outputs]; result [..., batch], in the squared unit of the target.
    Use it when: tails are heavy, and every residual should keep a gradient; c = 2.3849 is 95 % as efficient as the
        mean on Gaussian noise.
    Beware: c is in scales of the residuals; scale = 1 is the target's spread where the dataset standardises, as
        `dataset=regression` does by median and MAD. Not convex: examples that start far off learn slowly.
    Reference: Holland & Welsch, Robust regression using iteratively reweighted least-squares, 1977,
        https://doi.org/10.1080/03610927708827533
    """
    residual = prediction - target
    width = _width(residual, c, scale)
    return (width**2 / 2 * (residual / width).square().log1p()).mean(-1)


@card(
    task_types=("regression",), batch=True, replica_batched=True, search={"c": (0.5, 20.0)}, limits={"mse": {"c": 1e6}}
)
def welsch(prediction: Tensor, target: Tensor, *, c: float = 2.9846, scale: Scale = 1.0) -> Tensor:
    """Squared error near zero that a Gaussian bounds: like tukey, but smooth everywhere.

    σ²c²/2·(1 − exp(−(r/cσ)²)),  r = prediction − target, σ = scale (a number, or mad: see tukey)

    Shapes: prediction and target [..., batch, outputs]; result [..., batch], in the squared unit of the target.
    Use it when: gross outliers should not count and derivatives have to be smooth; c = 2.9846 is 95 % as efficient as
        the mean on Gaussian noise. Also known as the correntropy or Leclerc loss.
    Beware: c is in scales of the residuals; scale = 1 is the target's spread where the dataset standardises, as
        `dataset=regression` does by median and MAD. Beyond about 4cσ the gradient is zero in practice.
    Reference: Dennis & Welsch, Techniques for nonlinear least squares and robust regression, 1978,
        https://doi.org/10.1080/03610917808812083
    """
    residual = prediction - target
    width = _width(residual, c, scale)
    return (-(width**2) / 2 * (-(residual / width).square()).expm1()).mean(-1)


@card(
    task_types=("regression",), batch=True, replica_batched=True, search={"c": (0.5, 20.0)}, limits={"mse": {"c": 1e6}}
)
def geman_mcclure(prediction: Tensor, target: Tensor, *, c: float = 3.7874, scale: Scale = 1.0) -> Tensor:
    """Squared error that saturates: between cauchy, which never stops growing, and welsch, which stops early.

    r²/2 / (1 + (r/cσ)²),  r = prediction − target, σ = scale (a number, or mad: see tukey)

    Shapes: prediction and target [..., batch, outputs]; result [..., batch], in the squared unit of the target.
    Use it when: gross outliers should count little, but not for nothing; common in robust registration.
    Beware: the authors set c = 1, 44 % as efficient as the mean on Gaussian noise; our default is 95 %, as for tukey. c
        is in scales of the residuals; scale = 1 is the target's spread where the dataset standardises, as
        `dataset=regression` does by median and MAD.
    Reference: Geman & McClure, Bayesian image analysis, 1985; Zhang, Parameter estimation techniques, 1997,
        https://doi.org/10.1016/S0262-8856(96)01112-2
    """
    residual = prediction - target
    width = _width(residual, c, scale)
    grown = (
        (residual / width).square().log1p()
    )  # the slope of the plain quotient is a difference, whose sign rounding may change
    return (-(width**2) / 2 * (-grown).expm1()).mean(-1)


@card(
    task_types=("regression",),
    batch=True,
    replica_batched=True,
    search={"alpha": (-4.0, 2.0), "c": (0.05, 20.0)},
    limits={
        "mse": {"alpha": 2.0},
        "charbonnier": {"alpha": 1.0, "c": 1e-3},
        "cauchy": {"alpha": 0.0, "c": 1.686378962},
        "geman_mcclure": {"alpha": -2.0, "c": 1.8937},
        "welsch": {"alpha": -1e9, "c": 2.110430899},
    },
)
def barron(prediction: Tensor, target: Tensor, *, alpha: float = 1.0, c: float = 1.0, scale: Scale = 1.0) -> Tensor:
    """One equation for five losses: α sets how much outliers count, c from where on they count less than in mse.

    σ²c²·(b/α)·((z/b + 1)^(α/2) − 1),  z = (r/cσ)², b = 2 − α;  r = prediction − target, σ = scale (or mad: see tukey)

    α = 2: ½r², mse; 1: charbonnier; 0: cauchy; −2: geman_mcclure; −∞: welsch, to which α = −10⁹ is equal in practice.

    Shapes: prediction and target [..., batch, outputs]; result [..., batch], in the squared unit of the target.
    Use it when: you want to tune how robust the loss is.
    Beware: α is a constant here; the paper also learns it. We add the factor σ²c², which makes it ½r² near zero at any
        setting, so that a learning rate keeps its meaning.
    Raises: ConfigError for α above 2, where outliers would count more than in mse.
    Reference: Barron, A general and adaptive robust loss function, 2019, https://arxiv.org/abs/1701.03077
    """
    require("loss.alpha", alpha, lambda v: v <= 2, "at most 2; for −∞ take -1e9")
    residual = prediction - target
    width, b = _width(residual, c, scale), 2 - alpha
    z = (residual / width).square()
    if b == 0:
        return (width**2 * z / 2).mean(-1)
    log = (z / b).log1p()  # (z/b + 1)^(α/2) − 1 by its logarithm, so that no digits are lost as α → 0 or b → 0
    return (width**2 * b * ((alpha / 2 * log).expm1() / alpha if abs(alpha) > 1e-12 else log / 2)).mean(-1)


def _width(residual: Tensor, c: float, scale: Scale) -> Tensor | float:
    """c·σ: a number, or one for each output [..., 1, outputs] where σ is the batch's MAD."""
    require("loss.c", c, lambda v: v > 0, "above 0")
    if scale == "mad":
        detached = residual.detach()
        return c * (MAD_TO_SD * _median((detached - _median(detached)).abs())).clamp(min=LEAST_SCALE)
    require("loss.scale", scale, lambda v: v > 0, "above 0, or mad")
    return c * scale


def _median(values: Tensor) -> Tensor:
    """Over the batch [..., batch, outputs]: the mean of the middle two, of which torch's own takes the lower."""
    ordered, n = values.sort(-2).values, values.shape[-2]
    return ordered[..., (n - 1) // 2 : n // 2 + 1, :].mean(-2, keepdim=True)


@card(task_types=("regression",), outputs_per_target=2)
def gaussian_nll(prediction: Tensor, target: Tensor, *, floor: float = 1e-4) -> Tensor:
    """Negative log-likelihood of a Gaussian of which the net predicts mean and variance.

    ½(log σ² + r²/σ²),  r = μ − target, σ² = floor + softplus(ρ)

    Shapes: prediction [batch, 2·outputs], first the means μ, then ρ; target [batch, outputs]; result [batch], in nats,
        without the constant ½ log 2π.
    Use it when: noise depends on the input, and you want to know how sure the net is.
    Beware: residuals weigh 1/σ², so regions that fit badly are taken for noise and not learned (beta_nll fixes that).
        Where σ² is small the gradient grows as r/floor. Outliers count as in mse until σ² grows.
    Raises: ConfigError for predictions that are not two numbers per output, or a floor of 0.
    Reference: Nix & Weigend, Estimating the mean and variance of the target probability distribution, 1994,
        https://doi.org/10.1109/ICNN.1994.374138
    """
    per_example, _ = _likelihood(prediction, target, floor)
    return per_example.mean(-1)


@card(
    task_types=("regression",),
    outputs_per_target=2,
    search={"beta": (0.0, 1.0)},
    limits={"gaussian_nll": {"beta": 0.0}},
)
def beta_nll(prediction: Tensor, target: Tensor, *, beta: float = 0.5, floor: float = 1e-4) -> Tensor:
    """Gaussian likelihood in which noisy regions count more: at β = 1 the mean learns as with mse.

    σ^(2β)·½(log σ² + r²/σ²),  the factor without a gradient;  r = μ − target, σ² = floor + softplus(ρ)

    Shapes: prediction [batch, 2·outputs], first the means μ, then ρ; target [batch, outputs]; result [batch].
    Use it when: you would take gaussian_nll, but its mean fits worse than that of mse.
    Beware: for β > 0 it is not a likelihood: do not compare its values; only its gradient has a meaning.
    Raises: ConfigError for predictions that are not two numbers per output, a floor of 0, or β outside [0, 1].
    Reference: Seitzer et al., On the pitfalls of heteroscedastic uncertainty estimation with probabilistic neural
        networks, 2022, https://arxiv.org/abs/2203.09168
    """
    require("loss.beta", beta, lambda v: 0 <= v <= 1, "0 … 1")
    per_example, variance = _likelihood(prediction, target, floor)
    return (variance.detach() ** beta * per_example).mean(-1)


def _likelihood(prediction: Tensor, target: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """−log N(target; μ, σ²) without its constant, and σ²: [..., outputs] each."""
    require("loss.floor", floor, lambda v: v > 0, "the least variance, above 0")
    if prediction.shape[-1] != 2 * target.shape[-1]:
        raise ConfigError(
            f"loss: wants two numbers an output, the mean and its variance: {2 * target.shape[-1]} an example, "
            f"and the model gives {prediction.shape[-1]}"
        )
    mean, rho = prediction.chunk(2, -1)
    variance = floor + F.softplus(rho)
    return (variance.log() + (mean - target).square() / variance) / 2, variance
