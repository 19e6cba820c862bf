"""Two players: modes by hand, clipping and critic steps, collapse and divergence as recorded, pictures, it learns."""

import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from recorded import artifacts, runs
from torch import nn

from lossbench.core import ConfigError, DatasetInfo, Split, Splits, TrainedModel, stream
from lossbench.datasets.images import gan as made_up
from lossbench.engine import Nets, Noise, Plan, Replica, fit
from lossbench.engine.predict import predict
from lossbench.losses import NonSaturating, Wasserstein, WassersteinPenalty
from lossbench.metrics import frechet_distance, kernel_distance, parzen_nll, precision_recall, spread
from lossbench.models.gan import gan
from lossbench.tasks.gan import COLLAPSED, FAIR, NEAR, Gan
from lossbench.tasks.lifting import lifted

CPU = torch.device("cpu")
RING = [(2 * math.cos(a), 2 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 8, endpoint=False)]
PLANE = DatasetInfo("toy", "gan", (2,), (2,), "", "", "", mixture_means=tuple(RING), scale=0.1)
IMAGES = DatasetInfo("toy", "gan", (1, 4, 5), (1, 4, 5), "", "", "", classes=tuple("abcd"))
CENTRES = torch.tensor(RING)


def points(counts, off=0.0, seed=0):
    """So many samples of each mode, off its centre in some direction by so many deviations."""
    centres = CENTRES.repeat_interleave(torch.tensor(counts), 0)
    angle = 2 * math.pi * torch.rand(len(centres), generator=stream(seed, "angle"))
    return centres + 0.1 * off * torch.stack([angle.cos(), angle.sin()], 1)


def real(n=400, seed=0):
    random = stream(seed, "real")
    chosen = torch.randint(8, (n,), generator=random)
    return CENTRES[chosen] + 0.1 * torch.randn(n, 2, generator=random)


def task(loss=None, info=PLANE, **settings):
    return Gan(lifted(loss or NonSaturating(), "gan"), info, **settings)


def players(seed=0, info=PLANE):
    return Nets(**gan(info.inputs, 0, stream(seed, "init"), latent=3, widths=(4, 8), hidden=(16,)))


# metrics


def test_a_mode_is_covered_from_a_tenth_of_its_fair_share():
    fair = 10  # of 800 samples, 8 modes
    assert fair == FAIR * 800 / 8
    counts = [fair, fair - 1, fair, fair + 1, 0, 1, 0, 800 - 4 * fair - 1]
    samples = points(counts)
    assert len(samples) == 800
    assert task().measure(samples, real())["modes"] == 4


def test_only_samples_near_a_mode_count_for_it():
    inside, outside = points([50] * 8, NEAR - 0.05), points([50] * 8, NEAR + 0.05)
    values = task().measure(inside, real())
    assert (values["modes"], values["near_modes"]) == (8, 1)
    values = task().measure(outside, real())
    assert (values["modes"], values["near_modes"]) == (0, 0)
    values = task().measure(torch.cat([inside[:100], outside[:300]]), real())
    assert (values["modes"], values["near_modes"]) == (2, 0.25)


def test_spread_is_relative_to_the_real_points():
    cloud = real()
    assert task().measure(cloud, cloud)["spread"] == pytest.approx(1)
    assert task().measure(0.3 * cloud + 5, cloud)["spread"] == pytest.approx(0.3, rel=1e-4)
    values = task().measure(cloud[:50], cloud)
    assert values["spread"] == pytest.approx(spread(cloud[:50]) / spread(cloud))


def test_the_likelihood_is_of_real_points_around_the_samples():
    cloud, samples = real(), real(seed=1)
    assert task().measure(samples, cloud)["parzen_nll"] == pytest.approx(parzen_nll(cloud, samples, width=0.2))
    missing = task().measure(samples[samples[:, 0] > 0], cloud)["parzen_nll"]
    more = task().measure(torch.cat([samples, samples + 10]), cloud)["parzen_nll"]
    full = task().measure(samples, cloud)["parzen_nll"]
    assert missing > 10 * abs(full)  # a mode that is missed costs much more
    assert more == pytest.approx(full + math.log(2), abs=1e-3)  # than one that is made up


def test_precision_and_recall_tell_made_up_from_missed():
    cloud = points([50] * 8, 1.0)
    half, both = points([50] * 4 + [0] * 4, 1.0), torch.cat([cloud, cloud + 10])
    reports = [task().report(samples, cloud, {}) for samples in (cloud, half, both)]
    found = [(report["precision"], report["recall"]) for report in reports]
    assert found[0] == (1, 1)
    assert found[1] == pytest.approx((1, 0.5))
    assert found[2] == pytest.approx((0.5, 1))


class Corners:
    """Features that are pixels' means in double, and classes that one pixel says."""

    def __init__(self):
        self.real = 0

    def of(self, images):
        return images.double().flatten(1)[:, :6]

    def of_real(self, images):
        self.real += 1
        return self.of(images)

    def classes(self, images):
        return (images.flatten(1)[:, 0] * 4).long().clamp(max=3)


def images(n=200, seed=0):
    return torch.rand(n, 1, 4, 5, generator=stream(seed, "images"))


def test_images_are_measured_through_their_features():
    truth, fake = images(), images(seed=1).sqrt()
    seeing = task(info=IMAGES, features=Corners())
    a, b = Corners().of(truth), Corners().of(fake)
    precision, recall = precision_recall(a, b)
    expected = {
        "fid_cnn": frechet_distance(a, b),
        "kid_cnn": kernel_distance(a, b),
        "spread": spread(b) / spread(a),
        "modes": 4,
        "precision": precision,
        "recall": recall,
    }
    assert seeing.report(fake, truth, {}) == pytest.approx(expected)
    assert seeing.features.real > 0


def test_modes_of_images_are_the_classes_that_they_are_taken_for():
    fake = torch.zeros(400, 1, 4, 5)
    fake[:, 0, 0, 0] = torch.tensor([0.1] * 200 + [0.3] * 181 + [0.6] * 10 + [0.9] * 9)  # fair: 10 of 400, 4 classes
    assert task(info=IMAGES, features=Corners()).measure(fake, images())["modes"] == 3


def asked(info):
    return task(info=info, features=Corners() if info is IMAGES else None), real if info is PLANE else images


EACH = pytest.mark.parametrize("info", [PLANE, IMAGES], ids=["plane", "images"])


@EACH
@pytest.mark.parametrize("said", ["alike", "one place", "zeros", "far", "right"])
def test_a_report_is_what_is_declared(info, said):
    asking, draw = asked(info)
    truth = draw()
    samples = {
        "alike": draw(seed=1),
        "one place": truth[:1].expand_as(truth),
        "zeros": 0 * truth,
        "far": 1e3 * truth,
        "right": truth,
    }[said]
    assert asking.calibrate(samples, truth) == {}
    report = asking.report(samples, truth, {})
    assert sorted(report) == sorted(metric.name for metric in asking.metrics)
    assert all(map(math.isfinite, report.values())), report
    watched = asking.measure(samples, truth)
    assert asking.metrics[0].name in watched
    assert watched == {name: report[name] for name in watched}
    (collapsing,) = [y for y in asking.metrics if y.collapse is not None]
    assert collapsing.name == "spread"
    assert (report["spread"] <= COLLAPSED == collapsing.collapse) == (said in ("one place", "zeros"))
    if said == "right":
        assert report["precision"] == report["recall"] == report["spread"] == 1


@EACH
def test_directions_of_the_metrics(info):
    asking, draw = asked(info)
    truth = draw(400)
    poor = 2 + 0.3 * draw(400, 1)
    good, bad = asking.report(draw(400, 2), truth, {}), asking.report(poor, truth, {})
    for metric in asking.metrics:
        assert metric.better(good[metric.name], bad[metric.name]), metric.name


# steps


@pytest.mark.parametrize("steps", [1, 3])
@EACH
def test_the_critic_moves_so_often_each_time_on_other_samples(info, steps):
    seen = []

    class Loss:
        def critic(self, critic, real, fake):
            seen.append(("critic", real, fake, critic))
            return critic(real) - critic(fake)

        def generator(self, critic, real, fake):
            seen.append(("generator", real, fake, critic))
            return critic(fake)

    nets, draw = players(info=info), asked(info)[1]
    batch = Split(draw(6), draw(6))
    order = [
        (player, tuple(per_example.shape))
        for player, per_example in task(Loss(), info, critic_steps=steps).step(nets, batch, Noise([0], CPU))
    ]
    assert order == [("critic", (6,))] * steps + [("generator", (6,))]
    assert [who for who, *_ in seen] == [player for player, _ in order]
    assert all(given is batch.inputs and net is nets.critic for _, given, _, net in seen)
    fakes = [fake for _, _, fake, _ in seen]
    assert all(fake.shape == batch.inputs.shape for fake in fakes)
    assert not any(torch.equal(fakes[a], fakes[b]) for a in range(len(fakes)) for b in range(a))
    assert [fake.requires_grad for fake in fakes] == [False] * steps + [True]


@pytest.mark.parametrize("steps", [0, -1, 1.5, "many"])
def test_critic_steps_are_a_whole_number(steps):
    with pytest.raises(ConfigError, match=f"task.critic_steps={steps}"):
        task(critic_steps=steps)


def test_a_run_whose_critic_never_moves_is_refused(lossbench):
    said = lossbench("dataset=gan", "dataset.source=ring", "task.critic_steps=0")
    assert said.code == 2
    assert "task.critic_steps=0" in said.err


def moving(nets):
    return {name: torch.optim.SGD(player.parameters(), lr=1.0) for name, player in nets.named_children()}


@pytest.mark.parametrize("steps", [1, 3])
def test_clipped_weights_are_within_bounds_after_each_of_the_critics_steps(steps):
    nets, beyond = players(), []
    optimizers = moving(nets)

    def reach(player):
        return max(p.abs().max().item() for p in player.parameters())

    before, generator = None, reach(nets.generator)
    for player, given in task(Wasserstein(clip=0.02), critic_steps=steps).step(
        nets, Split(real(16), real(16)), Noise([0], CPU)
    ):
        if before == "critic":
            assert reach(nets.critic) <= 0.02 + 1e-9
        nets.zero_grad()
        given = getattr(given, "per_example", given)
        (1e3 * given.mean()).backward()
        optimizers[player].step()
        beyond.append(reach(nets.critic))
        before = player
    assert all(value > 0.02 for value in beyond[:steps])  # so that there was something to clip
    assert beyond[-1] <= 0.02 + 1e-9
    assert reach(nets.generator) >= generator > 0.02


def test_only_the_loss_that_says_so_clips():
    nets = players()
    before = nets.critic.state_dict()["body.0.weight"].clone()
    list(task(NonSaturating()).step(nets, Split(real(16), real(16)), Noise([0], CPU)))
    assert torch.equal(nets.critic.body[0].weight, before)


def test_what_a_loss_draws_shifts_no_latents():
    class Counting(nn.Module):
        latent = 3

        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, z):
            self.seen.append(z)
            return z[:, :2]

    drawn = []
    for loss in (NonSaturating(), WassersteinPenalty()):
        nets = Nets(critic=players().critic, generator=Counting())
        list(task(loss, critic_steps=2).step(nets, Split(real(8), real(8)), Noise([0], CPU)))
        drawn.append(nets.generator.seen)
    assert len(drawn[0]) == 3
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


def test_the_same_latents_at_every_evaluation():
    given = Split(real(40), real(40))

    def latents(seed, scale=1.0):
        generator = nn.Linear(2, 2, bias=False)
        nn.init.eye_(generator.weight).data.mul_(scale)
        generator.latent = 2
        return predict(task(), Nets(generator=generator), given, seed)

    first = latents(0)
    assert torch.equal(latents(0), first)
    torch.testing.assert_close(latents(0, 3.0), 3 * first)
    assert not torch.equal(latents(1), first)
    assert len(first.unique(dim=0)) == 40
    training = Noise([0], CPU).at(0).normal(40, 2)
    assert not torch.equal(first, training)


def test_glimpses_over_training_are_of_the_same_latents():
    nets = players()
    split = Split(real(60), real(60))
    optimizer_steps = {name: torch.optim.SGD(player.parameters(), lr=0.0) for name, player in nets.named_children()}
    (fitted,) = fit([Replica(task(), nets, optimizer_steps, split, split, 0)], Plan(4, 8, eval_every=1, record_every=1))
    assert list(fitted.glimpses) == [1, 2, 3, 4]
    assert all(torch.equal(samples, fitted.glimpses[1]) for samples in fitted.glimpses.values())


# pictures


def seen(info, n=50):
    draw = asked(info)[1]
    truth = Split(draw(n), draw(n))
    glimpses = {step: draw(8, seed=step) for step in range(5, 55, 5)}
    return TrainedModel(None, {"test": draw(n, seed=1)}, Splits(info, truth, truth, truth), {}, glimpses)


@EACH
@pytest.mark.parametrize("n", [50, 4])
def test_pictures_can_be_drawn(info, n, tmp_path):
    figures = asked(info)[0].pictures(seen(info, n))
    assert sorted(figures) == ["samples", "samples_over_training"]
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").getextrema()[0][0] < 100


def test_points_are_drawn_over_the_real_ones():
    given = seen(PLANE)
    figures = task().pictures(given)
    truth, samples = figures["samples"].axes[0].collections
    assert np.allclose(truth.get_offsets(), given.splits.test.targets)
    assert np.allclose(samples.get_offsets(), given.outputs["test"])
    titles = [axes.get_title() for axes in figures["samples_over_training"].axes]
    assert len(titles) == 8
    assert (titles[0], titles[-1]) == ("step 5", "step 50")
    last = figures["samples_over_training"].axes[-1].collections[1]
    assert np.allclose(last.get_offsets(), given.glimpses[50])


def test_images_over_training_are_rows_from_the_first_to_the_last():
    given = seen(IMAGES)
    figure = asked(IMAGES)[0].pictures(given)["samples_over_training"]
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert (labels[0], labels[-1], len(labels)) == ("step 5", "step 50", 8)
    assert sheet.shape == (8 * 5, 8 * 6)
    assert np.allclose(sheet[:4, 6:11], given.glimpses[5][1, 0])
    assert np.allclose(sheet[35:39, :5], given.glimpses[50][0, 0])


# how a run ends


SMALL = ["dataset=gan", "dataset.source=ring", "dataset.examples=300", "model.hidden=[16]", "train.batch_size=32"]

COLLAPSING = """
class Collapse:
    def __init__(self, r1=0.0):
        pass
    def critic(self, critic, real, fake):
        return critic(real).square()
    def generator(self, critic, real, fake):
        return (fake - 1).square().sum(-1)
"""


def test_samples_all_alike_are_recorded_as_collapsed(lossbench, store, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "collapsing", raising=False)  # another test's
    (tmp_path / "collapsing.py").write_text(COLLAPSING)
    words = ["loss._target_=collapsing.Collapse", "optimizer.lr=0.02", "train.steps=150", "train.eval_every=150"]
    said = lossbench(*SMALL, *words)
    assert said.code == 0, said
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert run.data.tags["lossbench.outcome"] == "collapsed"
    assert run.data.metrics["test/spread"] <= COLLAPSED
    assert run.data.metrics["test/modes"] == 0
    assert artifacts(store, run, "pictures") == {"samples.png", "samples_over_training.png"}
    assert "collapsed" in said.out


def test_samples_that_differ_are_not(lossbench, store):
    assert lossbench(*SMALL, "train.steps=60", "train.eval_every=60").code == 0
    (run,) = runs(store)
    assert run.data.tags["lossbench.outcome"] == "finished"
    assert run.data.metrics["test/spread"] > COLLAPSED
    assert {"train/critic/real", "train/critic/fake", "train/generator/grad_norm"} <= set(run.data.metrics)


def test_a_critic_that_explodes_is_recorded_as_diverged(lossbench, store):
    words = ["loss=lsgan", "optimizer.lr=1e12", "train.steps=40", "train.eval_every=20", "train.record_every=1"]
    said = lossbench(*SMALL, *words)
    (run,) = runs(store)
    assert run.data.tags["lossbench.outcome"] == "diverged", said
    assert 1 <= int(run.data.tags["lossbench.diverged_step"]) <= 20
    assert all(math.isfinite(value) for value in run.data.metrics.values())
    assert not any(name.startswith("test/") for name in run.data.metrics)


# learning


@pytest.fixture(scope="module")
def ring():
    return made_up(seed=0, source="ring", examples=2000)


def test_it_learns_the_ring(ring):
    asking = task(NonSaturating(r1=0.1), ring.info)
    nets = Nets(**gan((2,), 0, stream(0, "init"), latent=8, hidden=(64, 64)))

    def report():
        return asking.report(predict(asking, nets, ring.test, 0), ring.test.targets, {})

    before = report()
    optimizer_steps = {
        n: torch.optim.Adam(p.parameters(), lr=2e-3, betas=(0.5, 0.999)) for n, p in nets.named_children()
    }
    plan = Plan(800, 128, eval_every=400, record_every=400)
    (fitted,) = fit([Replica(asking, nets, optimizer_steps, ring.train, ring.validation, 0)], plan)
    assert fitted.diverged is None
    after = report()
    assert before["modes"] == before["near_modes"] == 0
    assert after["modes"] >= 6
    assert after["near_modes"] > 0.4
    assert after["parzen_nll"] < 3 < before["parzen_nll"]
    assert before["spread"] < 0.3
    assert after["spread"] > 0.8
