"""A loss that needs class counts gets those of its run's training split: alone, in a stack, and where it is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from recorded import numbers, runs
from small import SMALL

from lossbench.core import ConfigError, DatasetInfo, stream
from lossbench.engine import Nets, fit
from lossbench.engine.stacked_loss import StackedLoss
from lossbench.losses.imbalance import class_balanced, class_weighted, ldam, logit_adjusted
from lossbench.runs import builders
from lossbench.runs.experiment import Experiment
from lossbench.sweeps import timing
from lossbench.sweeps.planning import Schedule
from lossbench.tasks.lifting import of_tokens

CLASS_BALANCED = OmegaConf.create({"_target_": "lossbench.losses.imbalance.class_balanced", "beta": 0.99})
WORDS = {  # settings under which each seed has counts of its own
    "mnist": ["dataset.long_tail=20", "dataset.label_noise=0.3", "train.batch_size=48"],
    "imbalanced": ["train.batch_size=48"],
}
SHORT = ["train.steps=24", "train.eval_every=8"]


def info(task_type="multiclass", counts=(30, 5, 1)):
    classes = ("cat", "dog", "cow")[: len(counts) or 3]
    return DatasetInfo("zoo", task_type, (4,), (), "", "", "", classes=classes, class_counts=counts)


def experiment(configured, dataset, *words, loss="class_balanced"):
    return Experiment(configured(dataset, f"loss={loss}", *WORDS[dataset], *SHORT, *words))


@pytest.mark.parametrize("dataset", WORDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_counts_are_those_of_the_training_split(configured, dataset, seed):
    made = experiment(configured, dataset, f"seed={seed}")
    targets = made.splits.train.targets.tolist()
    counts = made.task.loss.keywords["class_counts"]
    assert counts == tuple(targets.count(label) for label in range(len(made.splits.info.classes)))
    assert len(set(counts)) > 1
    assert sum(counts) != sum(map(len, (made.splits.train, made.splits.validation)))


@pytest.mark.parametrize("dataset", WORDS)
def test_class_weighted_costs_log_k_over_the_training_split_where_nothing_is_known(configured, dataset):
    made = experiment(configured, dataset, loss="class_weighted")
    targets, classes = made.splits.train.targets, len(made.splits.info.classes)
    shape = (len(targets), classes) if classes > 2 else (len(targets),)
    per_example = made.task.loss(torch.zeros(shape, dtype=torch.float64), targets)
    assert per_example.mean().item() == pytest.approx(math.log(classes), rel=1e-12)
    assert per_example.std() > 0.1


@pytest.mark.parametrize("counts", [(30, 0, 1), (0, 5, 1), (30, 5, 0)])
def test_a_class_without_examples_is_refused_by_name(counts):
    absent = info().classes[counts.index(0)]
    with pytest.raises(ConfigError, match=f"dataset=zoo: class {absent} has no example in the training split"):
        builders.loss_of_run(CLASS_BALANCED, info(counts=counts), None, 0)
    assert builders.loss_of_run(OmegaConf.create({"_target_": "lossbench.losses.gce"}), info(counts=counts), None, 0)


@pytest.mark.parametrize("counts", [(), (5,)])
def test_a_dataset_that_does_not_tell_its_counts_is_refused(counts):
    untold = replace(info(), class_counts=counts)
    with pytest.raises(ConfigError, match=f"dataset=zoo: .*class_counts, and there are {len(counts)} for 3 classes"):
        builders.loss_of_run(CLASS_BALANCED, untold, None, 0)


def test_a_class_without_examples_ends_the_command(lossbench, store):
    said = lossbench("loss=class_balanced", "dataset=mnist", *SMALL["mnist"], "dataset.long_tail=1e9", *SHORT)
    assert said.code == 2
    assert "has no example in the training split" in said.err
    assert len(said.err.splitlines()) <= 2
    assert lossbench("loss=class_balanced", "loss.beta=1", "dataset=mnist", *SMALL["mnist"], *SHORT).code == 2
    assert runs(store) == []


OWN = """
from lossbench.core import card

seen = []

@card(task_types=("multiclass", "embedding"), needs=("class_counts",))
def weighed(logits, targets, *, class_counts):
    seen.append(class_counts)
    return logits.logsumexp(-1)
"""


def test_a_loss_of_ones_own_may_need_them_also_over_identities(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "needing.py").write_text(OWN)
    nets = Nets(model=torch.nn.Linear(4, 4))
    made = builders.loss_of_run(OmegaConf.create({"_target_": "needing.weighed"}), info("embedding"), nets, 0)
    assert made(torch.zeros(5, 4), torch.zeros(5).long()).shape == (5,)
    import needing

    assert needing.seen == [(30, 5, 1)]


@pytest.mark.parametrize(
    ("wrap", "shape"),
    [(lambda loss: loss, (5, 6)), (lambda loss: partial(of_tokens, loss), (5, 6, 4))],
    ids=["plain", "of tokens"],
)
@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (class_balanced, ({"beta": 0.9}, {"beta": 0.9999})),
        (class_weighted, ({}, {})),
        (ldam, ({"scale": 1.0}, {"scale": 3.0})),
        (logit_adjusted, ({}, {"tau": 2.0})),
    ],
)
def test_replicas_of_other_counts_keep_their_own_weights(loss, settings, wrap, shape):
    counts = [(1000, 3, 9), (1000, 3, 9), (1001, 3, 9), (9, 3, 1000), (1000, 3, 9)]
    losses = [wrap(partial(loss, class_counts=one, **settings[0])) for one in counts[:-1]]
    losses.append(wrap(partial(loss, class_counts=counts[-1], **settings[1])))
    random = stream(0, "slices")
    logits = torch.randn(*shape, 3, generator=random, dtype=torch.float64)
    targets = torch.randint(3, shape, generator=random)
    expected = torch.stack([loss(z, y) for loss, z, y in zip(losses, logits, targets, strict=True)])
    torch.testing.assert_close(StackedLoss(losses)(logits, targets), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(StackedLoss([losses[0]] * 5)(logits, targets), expected)


def test_counts_that_hardly_differ_are_not_taken_for_one():
    """The weights of these two are the same in the few digits that a tensor shows of itself."""
    random = stream(0, "slices")
    logits, targets = torch.randn(6, 3, generator=random, dtype=torch.float64), torch.randint(3, (6,), generator=random)
    close = [partial(class_balanced, class_counts=(n, n, 1), beta=1 - 1e-9) for n in (10**7, 10**7 + 1)]
    apart = [loss(logits, targets) for loss in close]
    assert not torch.equal(*apart)
    assert not torch.equal(*StackedLoss(close)(logits.expand(2, 6, 3), targets.expand(2, 6)))


@pytest.mark.parametrize("dataset", WORDS)
def test_a_stack_of_several_counts_learns_what_each_learns_alone(configured, dataset):
    def made():
        losses = ["loss=class_balanced"] * 3 + ["loss=focal"]
        seeds = [0, 1, 2, 0]
        return [
            experiment(configured, dataset, *words) for words in zip(losses, (f"seed={s}" for s in seeds), strict=True)
        ]

    together, alone = made(), made()
    if dataset == "mnist":
        assert len({one.task.loss.keywords.get("class_counts") for one in together}) == 4
    fit([one.replica(lambda step, values: None) for one in together], together[0].plan)
    for stacked, single in zip(together, alone, strict=True):
        fit([single.replica(lambda step, values: None)], single.plan)
        for (name, one), other in zip(stacked.nets.snapshot().items(), single.nets.snapshot().values(), strict=True):
            torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4, msg=name)


def test_a_sweep_records_what_each_costs_by_its_own_counts(lossbench, store, monkeypatch):
    monkeypatch.setattr(timing, "fastest", lambda runs, datasets: Schedule(4))
    words = ["dataset=mnist", *SMALL["mnist"], *WORDS["mnist"], *SHORT]
    said = lossbench("-m", "loss=class_balanced,cross_entropy", "seed=0,1", *words)
    assert said.code == 0, said
    found = {(run.data.tags["loss"], run.data.tags["seed"]): run for run in runs(store)}
    assert {run.data.tags["lossbench.outcome"] for run in found.values()} == {"finished"}
    assert {run.data.tags["lossbench.stack"] for run in found.values()} == {"4"}
    for run in found.values():
        assert {f"test_loss/{name}" for name in ("class_balanced", "gce", "sce", "softmax_mae")} <= set(
            run.data.metrics
        )
        assert "loss.class_counts" not in run.data.params
    for seed in "01":
        trained, other = (numbers(store, found[loss, seed]) for loss in ("class_balanced", "cross_entropy"))
        assert trained["test_loss/class_balanced"] != other["test_loss/class_balanced"]
        assert all(math.isfinite(value) for _, value in trained["train/loss"])
