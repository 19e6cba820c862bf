"""Estimates of location: how much of the information in a sample each loss uses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from lossbench.core import Split, stream
from lossbench.engine import Nets
from lossbench.verification.claims import Finding, Losses, near, truth
from lossbench.verification.fitting import Free, info, trained

REPLICAS, OUTPUTS = 40, 500  # 20,000 samples, each with its own estimate
OBSERVATIONS = 101  # odd: the median is one of them
STEPS = 60
RATE = 1.0  # for a loss with curvature 1 at 0; a per-example loss is the mean over outputs, hence times OUTPUTS
FAR = 1.0  # the start of estimates, unless the loss has several minima
DESCENDING = ("tukey", "cauchy", "welsch")  # start at the median, as is usual for them

GAUSSIAN = {
    "mae": {"": 0.6366},
    "huber": {"delta=1": 0.9031, "delta=1.345": 0.9500},
    "tukey": {"c=4.685": 0.9500},
    "log_cosh": {"": 0.9305},
    "charbonnier": {"epsilon=1": 0.9268},
    "cauchy": {"c=2.3849": 0.9500},
    "welsch": {"c=2.9846": 0.9500},
}
"""Efficiency relative to the mean, by numerical integration."""

CONTAMINATED = {
    10.0: {("mse", ""): 10.90, ("mae", ""): 1.90, ("huber", "delta=1.345"): 1.435, ("tukey", "c=4.685"): 1.231},
    3.0: {("mse", ""): 1.800, ("mae", ""): 1.803, ("huber", "delta=1.345"): 1.299, ("tukey", "c=4.685"): 1.276},
}
"""n times the variance of the estimate, by the standard deviation of a tenth of the sample."""


@truth(number=1, title="Efficiency at the Gaussian", source="Huber 1964; numerical integration of E[ψ′]² / E[ψ²]")
def efficiency(losses: Losses) -> Iterator[Finding]:
    """On Gaussian samples the estimates of robust losses vary a little more than the mean; the median's variance is
    π/2 times as large."""
    sample = samples(0.0, 1.0)
    mean = estimates(losses, "mse", "", sample)
    for loss, cases in GAUSSIAN.items():
        for setting, expected in cases.items():
            measured, interval = ratio(mean, estimates(losses, loss, setting, sample))
            yield near(f"{loss} {setting}".strip(), expected, measured, 0.02, interval)


@truth(number=2, title="Contaminated samples", source="Tukey 1960; numerical integration of E[ψ²] / E[ψ′]²")
def contamination(losses: Losses) -> Iterator[Finding]:
    """A tenth of wild observations makes the mean many times as uncertain, and hardly affects robust losses; the
    median overtakes the mean at 10.06 % of three times the deviation."""
    for scale, cases in CONTAMINATED.items():
        sample = samples(0.1, scale)
        for (loss, setting), expected in cases.items():
            squares = OBSERVATIONS * estimates(losses, loss, setting, sample).square()
            error = 1.96 * (squares.std() / len(squares) ** 0.5).item()
            measured = squares.mean().item()
            what = f"n·variance, 10 % of deviation {scale:g}: {loss} {setting}".strip()
            yield near(what, expected, measured, 0.04 * expected, (measured - error, measured + error))
    measured, interval = _crossing(losses)
    yield near("share of deviation 3 from which the median is better", 0.1006, measured, 0.02, interval)


def _crossing(losses: Losses) -> tuple[float, tuple[float, float]]:
    """The share at which the variances of median and mean are equal, interpolated between one below and one above."""
    shares, logs = (0.07, 0.13), []
    for share in shares:
        sample = samples(share, 3.0)
        found, ends = ratio(estimates(losses, "mse", "", sample), estimates(losses, "mae", "", sample))
        logs.append(torch.tensor([found, *ends]).log())
    slope = (logs[1][0] - logs[0][0]) / (shares[1] - shares[0])
    at = shares[0] - logs[0] / slope
    return at[0].item(), (at[2].item(), at[1].item())


def samples(share: float, scale: float) -> list[Tensor]:
    """For each replica, OBSERVATIONS of each output from N(0, 1), a share of them multiplied by `scale`."""
    random = stream(0, "truths/location")
    shape = (OBSERVATIONS, OUTPUTS)
    found = []
    for _ in range(REPLICAS):
        values, wild = torch.randn(shape, generator=random), torch.rand(shape, generator=random) < share
        found.append(torch.where(wild, scale * values, values))
    return found


def estimates(losses: Losses, name: str, setting: str, sample: list[Tensor], rate: float = RATE) -> Tensor:
    """The minimum of the loss on every sample, [REPLICAS·OUTPUTS]; the true location is 0."""
    parameter, _, value = setting.partition("=")
    loss = losses(name, "regression", **({parameter: float(value)} if parameter else {}))
    descending = name in DESCENDING
    starts = [
        values.median(0, keepdim=True).values if descending else torch.full((1, OUTPUTS), FAR) for values in sample
    ]
    nets = [Nets(model=Free(start)) for start in starts]
    splits = [Split(torch.ones(OBSERVATIONS, 1), values) for values in sample]
    step = rate * OUTPUTS / (2 if name == "mse" else 1)  # mse has curvature 2
    optimizer = partial(torch.optim.SGD, lr=step)
    trained(
        "regression", [loss] * REPLICAS, nets, splits, info("regression", splits[0]), steps=STEPS, optimizer=optimizer
    )
    return torch.cat([net.model.values.detach().flatten() for net in nets]).double()  # type: ignore[union-attr, operator]


def ratio(above: Tensor, below: Tensor) -> tuple[float, tuple[float, float]]:
    """The ratio of the mean squares of paired estimates, with its 95 % interval by the delta method."""
    a, b = above.square(), below.square()
    found = (a.mean() / b.mean()).item()
    error = 1.96 * ((a - found * b).std() / len(a) ** 0.5 / b.mean()).item()
    return found, (found - error, found + error)
