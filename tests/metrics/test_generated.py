"""Distances of clouds against torchmetrics and scipy on the same features, and on clouds whose answer is known."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.stats import gaussian_kde, multivariate_normal

from lossbench.core import stream
from lossbench.metrics import frechet_distance, kernel_distance, parzen_nll, precision_recall, spread


def cloud(seed, n=300, features=4, shift=0.0, scale=1.0):
    return shift + scale * torch.randn(n, features, generator=stream(seed, "cloud"), dtype=torch.float64)


def test_frechet_distance_is_that_of_the_two_gaussians():
    a, b = cloud(0), cloud(1, shift=0.5) @ torch.randn(4, 4, generator=stream(2, "mix"), dtype=torch.float64)
    here, there = np.cov(a.T), np.cov(b.T)
    means = ((a.mean(0) - b.mean(0)) ** 2).sum().item()
    expected = means + np.trace(here + there - 2 * linalg.sqrtm(here @ there).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_is_torchmetrics():
    from lossbench.core.vision import torchvision  # noqa: F401, I001  torchmetrics imports it, which has to go through our door
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 4

        def forward(self, images):
            return images.flatten(1)

    a, b = cloud(0).float(), cloud(1, shift=0.3, scale=1.5).float()
    theirs = FrechetInceptionDistance(Flat(), normalize=True, input_img_size=(1, 2, 2))
    theirs.update(a.view(-1, 1, 2, 2), real=True)
    theirs.update(b.view(-1, 1, 2, 2), real=False)
    assert frechet_distance(a, b) == pytest.approx(theirs.compute().item(), rel=1e-4)


@pytest.mark.parametrize("features", [1, 4])
def test_frechet_distance_of_moved_and_scaled_clouds(features):
    a = cloud(0, features=features)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(4 * features)
    spread_ = a.var(0).sum().item()
    assert frechet_distance(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * spread_)


def test_frechet_distance_where_a_cloud_is_one_point():
    a = cloud(0)
    assert frechet_distance(a, a.mean(0).expand(50, -1)) == pytest.approx(a.var(0).sum().item())


@pytest.mark.parametrize(("n", "m"), [(40, 60), (1500, 1100)])
def test_kernel_distance_is_the_mean_over_distinct_pairs(n, m):
    a, b = cloud(0, n), cloud(1, m, shift=0.4)

    def kernel(x, y):
        return (x @ y.T / 4 + 1) ** 3

    within = [(kernel(x, x).sum() - kernel(x, x).diagonal().sum()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    expected = sum(within) - 2 * kernel(a, b).mean()
    assert kernel_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)


def test_kernel_distance_has_no_bias():
    values = [kernel_distance(cloud(2 * k, 30), cloud(2 * k + 1, 30)) for k in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))


def reached(point, around, k):
    distance = (around - point).norm(dim=1)
    return any(distance[i] <= (around - around[i]).norm(dim=1).sort().values[k] for i in range(len(around)))


def test_precision_and_recall_are_shares_within_reach():
    real, fake = cloud(0, 60, 2), cloud(1, 40, 2, shift=1.0)
    expected = [np.mean([reached(p, around, 3) for p in points]) for points, around in ((fake, real), (real, fake))]
    assert precision_recall(real, fake) == pytest.approx(expected)


def test_precision_and_recall_know_missing_and_made_up_modes():
    clouds = torch.cat([cloud(0, 50, 2, scale=0.01), cloud(1, 50, 2, shift=10, scale=0.01)])
    assert precision_recall(clouds, clouds[:50]) == pytest.approx((1.0, 0.5))
    assert precision_recall(clouds[:50], clouds) == pytest.approx((0.5, 1.0))


def test_parzen_nll_is_the_kernel_density():
    points, samples = cloud(0, 50, 2), cloud(1, 70, 2)
    density = np.mean([multivariate_normal.pdf(points, mean, 0.09) for mean in samples], axis=0)
    assert parzen_nll(points, samples, width=0.3) == pytest.approx(-np.log(density).mean())
    line = cloud(2, 40, 1)
    kde = gaussian_kde(line[:, 0], bw_method=0.5 / line.std().item())
    assert parzen_nll(points[:, :1], line, width=0.5) == pytest.approx(-kde.logpdf(points[:, 0]).mean())


def test_parzen_nll_stays_finite_far_away():
    assert parzen_nll(cloud(0), cloud(1, shift=1e6), width=0.01) == pytest.approx(4 * 1e12 / 2e-4, rel=1e-3)


def test_spread_is_the_mean_distance_of_two():
    a = cloud(0, 30)
    pairs = [(a[i] - a[j]).norm().item() for i in range(30) for j in range(30) if i != j]
    assert spread(a) == pytest.approx(np.mean(pairs))
    assert spread(a[:1].expand(20, -1)) == 0
