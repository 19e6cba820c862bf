"""The embedding task: what it declares it reports, degenerate embeddings, views, pictures, and it learns faces."""

import math

import pytest
import torch
from PIL import Image

from lossbench.core import ConfigError, DatasetInfo, LossOutput, Split, Splits, TrainedModel, stream
from lossbench.datasets.faces import faces
from lossbench.engine import Nets, Noise
from lossbench.engine.batches import grouped
from lossbench.losses.embedding import triplet
from lossbench.metrics import retrieval
from lossbench.models.embedder import Embedder
from lossbench.tasks.embedding import COLLAPSED, Embedding
from lossbench.tasks.embedding_views import DRAWS, augmented

FACTS = DatasetInfo("toy", "embedding", (1, 12, 10), (), "", "", "", classes=("a", "b", "c"), class_counts=(4, 4, 4))
TASK = Embedding(triplet, FACTS)
LABELS = torch.arange(5).repeat_interleave(4)


def embeddings(seed=0, noise=0.7):
    random = stream(seed, "embeddings")
    return torch.randn(5, 6, generator=random)[LABELS] + noise * torch.randn(20, 6, generator=random)


def split(n=12, seed=0):
    photos = torch.randn(n, 1, 12, 10, generator=stream(seed, "photos"))
    return Split(photos, torch.arange(3).repeat_interleave(n // 3))


def nets(seed=0):
    return Nets(model=Embedder((1, 12, 10), 3, stream(seed, "init"), widths=(4, 4), dimensions=6))


def noise(*seeds):
    return Noise(seeds or [0], torch.device("cpu"))


def assert_complete(outputs, labels):
    report = TASK.report(outputs, labels, TASK.calibrate(outputs, labels))
    assert list(report) == [metric.name for metric in TASK.metrics]
    assert all(map(math.isfinite, report.values()))
    assert report == TASK.measure(outputs, labels)
    return report


def test_a_report_is_what_is_declared():
    report, u, y = assert_complete(embeddings(), LABELS), embeddings().numpy(), LABELS.numpy()
    assert report["map_at_r"] == retrieval.retrieval(u, y).map_at_r
    assert report["eer"] == retrieval.verification(*retrieval.pairs(u, y)).eer
    assert report["active_triplets"] == retrieval.active_triplets(u, y, margin=0.05)
    assert 0 < report["map_at_r"] < 1


def test_map_at_r_is_primary_and_only_spread_tells_of_a_collapse():
    assert TASK.metrics[0].name == "map_at_r"
    assert {y.name: y.collapse for y in TASK.metrics if y.collapse is not None} == {"spread": COLLAPSED}


def test_directions_of_the_metrics():
    near, far = (TASK.measure(embeddings(noise=scale), LABELS) for scale in (0.1, 3.0))
    for metric in TASK.metrics[:-1]:
        assert metric.better(near[metric.name], far[metric.name]), metric.name


@pytest.mark.parametrize("place", [0.0, 1.0, 1e4])
def test_one_place_for_all_is_reported_and_is_a_collapse(place):
    report = assert_complete(torch.full((20, 6), place), LABELS)
    assert report["spread"] <= COLLAPSED
    assert report["auc"] == pytest.approx(0.5)


@pytest.mark.parametrize("labels", [torch.zeros(20, dtype=torch.long), torch.arange(20)], ids=["one", "strangers"])
def test_nothing_to_compare_is_reported(labels):
    assert_complete(embeddings(), labels)


def test_a_step_asks_the_model_once_about_views_of_the_batch():
    players, batch, seen = nets(), split(), []
    task = Embedding(lambda e, y: LossOutput(seen.append((e, y)) or e.sum(), {}), FACTS)
    ((player, given),) = task.step(players, batch, noise())
    assert player == "model"
    assert isinstance(given, LossOutput)
    ((e, y),) = seen
    views = augmented(batch.inputs, noise().uniform(12, DRAWS), 1.0)
    torch.testing.assert_close(e, players.model(views))
    assert y is batch.targets
    assert not torch.allclose(e, players.model(batch.inputs))


def test_without_augmentation_photos_are_shown_as_they_are():
    players, batch = nets(), split()
    task = Embedding(lambda e, y: e, FACTS, augment=0.0)
    ((_, e),) = task.step(players, batch, noise())
    assert torch.equal(e, players.model(batch.inputs))


def test_predictions_are_of_the_photos_themselves():
    players, batch = nets(), split()
    assert torch.equal(TASK.predict(players, batch, noise()), players.model(batch.inputs))


def test_a_stack_sees_the_views_that_its_replicas_see_alone():
    alone = [augmented(split(seed=s).inputs, noise(s).uniform(12, DRAWS), 1.0) for s in (0, 1)]
    stacked = torch.stack([split(seed=s).inputs for s in (0, 1)])
    together = augmented(stacked, noise(0, 1).uniform(12, DRAWS), 1.0)
    torch.testing.assert_close(together, torch.stack(alone))


def still(mirror=0.9):
    """Draws that change nothing, or mirror alone."""
    return torch.tensor([[mirror, *[0.5] * (DRAWS - 1)]])


def test_views_that_are_drawn_still_are_the_photo_or_its_mirror():
    photo = split().inputs[:1]
    torch.testing.assert_close(augmented(photo, still(), 1.0), photo)
    torch.testing.assert_close(augmented(photo, still(mirror=0.1), 1.0), photo.flip(-1))


def test_a_turn_keeps_the_middle_and_the_shape():
    """A disc is a disc whatever the turn, in a photo that is no square."""
    y, x = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(31.0) - 15, indexing="ij")
    disc = torch.exp(-(x.square() + y.square()) / 40)[None, None]
    draws = still()
    draws[0, 1] = 1.0
    torch.testing.assert_close(augmented(disc, draws, 4.0), disc, rtol=0, atol=0.03)
    bar = torch.exp(-x.square() / 8)[None, None]
    assert (augmented(bar, draws, 4.0) - bar).abs().max() > 0.3


def test_strength_of_views_grows():
    photos, draws = split().inputs, noise().uniform(12, DRAWS)
    draws[:, 0] = 0.9  # no mirror
    away = [(augmented(photos, draws, strength) - photos).abs().mean() for strength in (0.0, 0.2, 1.0)]
    assert away[0] < 1e-5 < away[1] < away[2]


def test_negative_augmentation_is_refused():
    with pytest.raises(ConfigError, match=r"task\.augment=-1"):
        Embedding(triplet, FACTS, augment=-1.0)


@pytest.mark.parametrize("people", [1, 2, 12])
def test_pictures_are_drawn(people, tmp_path):
    labels = torch.arange(people).repeat_interleave(2)
    photos = torch.randn(2 * people, 1, 12, 10, generator=stream(0, "photos"))
    test = Split(photos, labels)
    outputs = torch.randn(2 * people, 6, generator=stream(0, "embeddings"))
    figures = TASK.pictures(TrainedModel(None, {"test": outputs}, Splits(FACTS, test, test, test)))
    assert {"nearest_neighbours", "map", "roc"} <= set(figures)
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10


def test_frames_say_who_is_right():
    labels = torch.tensor([0, 0, 1, 1])
    outputs = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.0, 1.0], [0.8, 0.4]])  # the last is among the others
    photos = torch.zeros(4, 1, 12, 10)
    test = Split(photos, labels)
    figure = TASK.pictures(TrainedModel(None, {"test": outputs}, Splits(FACTS, test, test, test)))["nearest_neighbours"]
    frames = [axes.spines["left"] for axes in figure.axes if axes.axison]
    assert len(frames) == 2 * 4  # each query and its three others
    assert sum(frame.get_linestyle() == "--" for frame in frames) == 4
    assert all(frame.get_visible() for frame in frames)


def test_it_learns_faces(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path))
    splits = faces(seed=0, height=28, width=23)
    task = Embedding(triplet, splits.info)
    players = Nets(model=Embedder(splits.info.inputs, 0, stream(0, "init"), widths=(8, 16)))
    before = task.measure(task.predict(players, splits.test, noise()), splits.test.targets)
    optimizer = torch.optim.Adam(players.parameters(), lr=3e-3)
    draws = noise()
    for step, positions in zip(range(120), grouped(splits.train.targets, 48, 4, stream(0, "order")), strict=False):
        draws.at(step)
        for _, given in task.step(players, splits.train[positions], draws):
            optimizer.zero_grad()
            given.per_example.backward()
            optimizer.step()
    with torch.no_grad():
        after = task.measure(task.predict(players, splits.test, noise()), splits.test.targets)
    assert before["map_at_r"] < 0.6 < 0.68 < after["map_at_r"]
    assert after["active_triplets"] < 0.6 * before["active_triplets"]
    assert before["spread"] > 10 * COLLAPSED
