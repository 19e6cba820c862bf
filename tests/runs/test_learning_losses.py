"""Losses that learn: their own parameter group, counted, moved, saved and resumed to the bit, and never in a stack."""

from __future__ import annotations

import signal
from functools import partial

import pytest
import torch
from recorded import numbers, runs
from safetensors.torch import load_file
from small import SMALL

from lossbench.core import stream
from lossbench.engine import Interrupted, Stack, fit
from lossbench.losses import GaussianElbo, mse
from lossbench.runs import builders
from lossbench.runs.experiment import Experiment
from lossbench.runs.saved_model import WEIGHTS as MODEL_FILE
from lossbench.tasks.lifting import OfIdentities, of_pixels, of_signs

ORL = 24  # identities of the training split: 60 % of 40 people
LEARNING = {
    ("faces", "arcface"): {"loss.of.W": (64, ORL)},
    ("faces", "cosface"): {"loss.of.W": (64, ORL)},
    ("faces", "proxy_anchor"): {"loss.of.proxies": (ORL, 64)},
    ("faces", "cross_entropy"): {"loss.head.weight": (ORL, 64), "loss.head.bias": (ORL,)},
    ("vae", "gaussian_elbo"): {"loss.rho": ()},
}
EACH = pytest.mark.parametrize(("dataset", "loss"), LEARNING, ids=[loss for _, loss in LEARNING])
SHORT = ["train.steps=8", "train.eval_every=4", "train.record_every=3"]
GROUPS = {"faces": ["train.batch_size=16"], "vae": ["train.batch_size=16"]}


@pytest.fixture
def experiment(configured):
    """What one run of a loss trains, small."""

    def make(dataset, loss, *words):
        return Experiment(configured(dataset, f"loss={loss}", *GROUPS[dataset], *SHORT, *words))

    return make


def learned(experiment):
    return {name: tensor for name, tensor in experiment.nets.state_dict().items() if name.startswith("loss.")}


@EACH
def test_what_a_loss_learns_is_a_group_of_its_own(dataset, loss, experiment):
    made = experiment(dataset, loss)
    assert {name: tuple(tensor.shape) for name, tensor in learned(made).items()} == LEARNING[dataset, loss]
    assert made.loss_parameters == sum(tensor.numel() for tensor in learned(made).values()) > 0
    assert not made.stackable
    (optimizer,) = made.optimizers.values()
    net, own = optimizer.param_groups
    assert [id(p) for p in net["params"]] == [id(p) for p in made.nets.model.parameters()]
    assert [id(p) for p in own["params"]] == [id(p) for p in made.learning.parameters()]
    assert own["lr"] == net["lr"] > 0


@pytest.mark.parametrize(
    ("dataset", "loss", "words"),
    [
        ("faces", "triplet", []),
        ("faces", "multi_similarity", []),
        ("vae", "elbo", []),
        ("vae", "gaussian_elbo", ["loss.sigma=0.3"]),
    ],
)
def test_a_loss_that_learns_nothing_has_none(dataset, loss, words, experiment):
    made = experiment(dataset, loss, *words)
    assert made.stackable
    assert made.learning is None
    assert made.loss_parameters == 0
    assert not learned(made)
    (optimizer,) = made.optimizers.values()
    assert len(optimizer.param_groups) == 1


def train(made, *, states=None, stop=lambda: False):
    points = []
    replica = made.replica(lambda step, values: points.append((step, dict(values))))
    return fit([replica], made.plan, states=states, stop=stop), points


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@EACH
def test_it_moves_and_is_selected_with_the_net(dataset, loss, experiment):
    made = experiment(dataset, loss)
    before = made.nets.snapshot()
    net = [name for name in before if name.startswith("model.")]
    (fitted,), _ = train(made)
    after = made.nets.snapshot()
    for name in LEARNING[dataset, loss]:
        moved = (after[name] - before[name]).abs()
        assert moved.max() > 1e-4, name
        assert moved.isfinite().all()
    assert all(not torch.equal(after[name], before[name]) for name in net if name.endswith("weight"))
    assert set(fitted.best) == set(before)
    assert not same(fitted.best, before)


@EACH
def test_it_starts_from_the_seeds_own_stream(dataset, loss, experiment):
    before = torch.random.get_rng_state()
    one, again, other = (experiment(dataset, loss, f"seed={seed}") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(learned(one), learned(again))
    if dataset == "faces":
        assert not any(torch.equal(tensor, learned(other)[name]) for name, tensor in learned(one).items())
    quiet = experiment(dataset, {"faces": "triplet", "vae": "elbo"}[dataset])
    assert same(dict(quiet.nets.model.state_dict()), dict(one.nets.model.state_dict()))  # whatever the loss drew


@EACH
@pytest.mark.parametrize("after", [1, 4, 5])
def test_stopped_it_goes_on_to_the_bit(dataset, loss, after, experiment):
    whole = experiment(dataset, loss, "train.schedule=cosine")
    (expected,), points = train(whole)
    first = experiment(dataset, loss, "train.schedule=cosine")
    asked = iter(range(100))
    with pytest.raises(Interrupted) as stopped:
        train(first, stop=lambda: next(asked) >= after)
    (state,) = stopped.value.states
    assert state["steps"] == after
    second = experiment(dataset, loss, "train.schedule=cosine")
    (found,), more = train(second, states=[state])
    assert same(second.nets.snapshot(), whole.nets.snapshot())
    assert same(found.best, expected.best)
    assert found.best_step == expected.best_step
    assert more == [point for point in points if point[0] > after]


def model(store, run, folder):
    path = store.client.download_artifacts(run.info.run_id, MODEL_FILE, str(folder))
    return load_file(path)


def assert_recorded(run, dataset, loss, saved):
    """What was learned is counted, and saved with the weights of the net."""
    assert run.data.tags["lossbench.outcome"] == "finished"
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items() if name.startswith("loss.")}
    assert shapes == LEARNING[dataset, loss]
    assert run.data.tags["lossbench.loss_parameters"] == str(sum(saved[name].numel() for name in shapes))


@pytest.mark.parametrize(
    ("dataset", "loss"), [("faces", "cosface"), ("faces", "proxy_anchor"), ("vae", "gaussian_elbo")]
)
def test_a_command_learns_the_same_bits_and_saves_what_was_learned(
    dataset, loss, lossbench, store, tmp_path, experiment
):
    """The same as are learned without it; of the other losses, see the run that is stopped."""
    said = lossbench(f"dataset={dataset}", f"loss={loss}", *SMALL[dataset], *GROUPS[dataset], *SHORT)
    assert said.code == 0, said
    (run,) = runs(store)
    saved = model(store, run, tmp_path)
    assert_recorded(run, dataset, loss, saved)
    (expected,), points = train(experiment(dataset, loss))
    assert same(saved, expected.best)
    assert numbers(store, run)["train/loss"] == [(step, v["train/loss"]) for step, v in points if "train/loss" in v]


@pytest.mark.parametrize("loss", ["arcface", "cross_entropy"])
def test_a_stopped_run_goes_on_to_the_bit(loss, lossbench, store, tmp_path, monkeypatch):
    words = ["dataset=faces", f"loss={loss}", *SMALL["faces"], *GROUPS["faces"], "train.schedule=cosine"]
    words += ["train.steps=40", "train.eval_every=10", "train.record_every=7"]
    step = Stack.step

    def interrupted(stack):
        step(stack)
        if stack.done == 17:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "step", interrupted)
        assert lossbench(*words).code == 130
    (run,) = runs(store)
    assert run.info.status == "KILLED"
    for _ in range(2):
        assert lossbench(*words).code == 0
    whole, resumed = runs(store)
    assert resumed.info.run_id == run.info.run_id
    assert resumed.data.tags["lossbench.outcome"] == "finished"
    assert numbers(store, whole) == numbers(store, resumed)
    assert len(numbers(store, whole)["val/map_at_r"]) == 4
    for one in ("whole", "resumed"):
        (tmp_path / one).mkdir()
    saved = model(store, whole, tmp_path / "whole")
    assert_recorded(whole, "faces", loss, saved)
    assert same(saved, model(store, resumed, tmp_path / "resumed"))


def test_it_is_never_put_into_a_stack(lossbench, store, tmp_path):
    words = [
        "loss=gaussian_elbo,elbo",
        "seed=range(2)",
        "dataset=vae",
        "dataset.seed=0",
        *SMALL["vae"],
        *GROUPS["vae"],
        *SHORT,
    ]
    said = lossbench("-m", *words)
    assert said.code == 0, said
    found = {(run.data.tags["loss"], run.data.tags["seed"]): run for run in runs(store)}
    assert set(found) == {(loss, seed) for loss in ("gaussian_elbo", "elbo") for seed in "01"}
    assert {run.data.tags["lossbench.outcome"] for run in found.values()} == {"finished"}
    rho = []
    for (loss, seed), run in found.items():
        assert run.data.tags["lossbench.loss_parameters"] == ("1" if loss == "gaussian_elbo" else "0")
        if loss == "gaussian_elbo":
            assert run.data.tags["lossbench.stack"] == "1"
            (tmp_path / seed).mkdir()
            rho.append(model(store, run, tmp_path / seed)["loss.rho"])
    assert rho[0] != rho[1]


def test_with_its_deviation_given_it_trains_in_a_stack(experiment):
    def made():
        words = ["dataset.seed=0", "loss.sigma=0.3"]
        return [experiment("vae", "gaussian_elbo", *words, f"seed={seed}") for seed in (0, 1)]

    together, alone = made(), [made()[1]]
    assert all(one.stackable for one in together)
    points = {"together": [], "alone": []}
    for many, where in ((together, "together"), (alone, "alone")):
        record = lambda step, values, where=where: points[where].append((step, dict(values)))  # noqa: E731
        fit([*(one.replica(lambda step, values: None) for one in many[:-1]), many[-1].replica(record)], many[0].plan)
    stacked, single = together[1].nets.snapshot(), alone[0].nets.snapshot()
    torch.testing.assert_close(stacked, single, rtol=1e-3, atol=1e-5)
    assert not same(stacked, together[0].nets.snapshot())
    for (step, values), (also, others) in zip(points["together"], points["alone"], strict=True):
        assert step == also
        assert values == pytest.approx(others, rel=1e-4)


def test_what_is_bound_around_a_module_is_found():
    loss = GaussianElbo()
    assert builders.module_of(loss) is loss
    assert builders.module_of(partial(of_pixels, partial(of_signs, loss))) is loss
    assert builders.module_of(partial(mse)) is None
    assert builders.module_of(GaussianElbo(sigma=0.5)) is None
    assert builders.module_of(torch.nn.Identity()) is None  # keeps nothing
    made = OfIdentities(mse, 3, 2, stream(0, "loss"))
    assert builders.module_of(made) is made
