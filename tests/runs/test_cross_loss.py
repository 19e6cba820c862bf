"""What models cost under every loss, and how a loss pulls on a probe: by hand, and by identities of losses."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import recorded
import torch
from small import SMALL
from torch.nn import functional as F

from lossbench.config import schema
from lossbench.core import DatasetInfo, LossOutput, Split
from lossbench.runs import builders, cross_loss

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS = {"regression": (2,), "binary": (), "multiclass": (3,)}


def info(task_type):
    classes = {"regression": (), "binary": ("no", "yes"), "multiclass": ("x", "y", "z")}[task_type]
    shape = (2,) if task_type == "regression" else ()
    return DatasetInfo(
        "toy", task_type, (4,), shape, "nowhere", "none", "ab", classes, (5,) * len(classes), "mm", 3.0, 7.0
    )


def draw(task_type, n=40):
    """Outputs of a model, and targets."""
    outputs = 2 * torch.randn(n, *OUTPUTS[task_type], generator=GENERATOR)
    if task_type == "regression":
        return outputs, torch.randn(n, 2, generator=GENERATOR)
    return outputs, torch.randint(0, 3 if task_type == "multiclass" else 2, (n,), generator=GENERATOR)


def focal_by_hand(z, y):
    p = torch.sigmoid(z)
    p_t, alpha = torch.where(y == 1, p, 1 - p), torch.where(y == 1, 0.25, 0.75)
    return -alpha * (1 - p_t) ** 2 * p_t.log()


BY_HAND = {
    "regression": {
        "mse": lambda z, y: (z - y) ** 2,
        "mae": lambda z, y: (z - y).abs(),
        "huber": lambda z, y: torch.where((z - y).abs() <= 1, (z - y) ** 2 / 2, (z - y).abs() - 0.5),
    },
    "binary": {
        "bce": lambda z, y: F.softplus(z) - y * z,
        "hinge": lambda z, y: F.relu(1 - (2 * y - 1) * z),
        "squared_hinge": lambda z, y: F.relu(1 - (2 * y - 1) * z) ** 2,
        "focal": focal_by_hand,
        "class_balanced": lambda z, y: F.softplus(z) - y * z,  # of equal counts
    },
    "multiclass": {
        "cross_entropy": lambda z, y: z.logsumexp(1) - z[torch.arange(len(y)), y],
        "label_smoothing": lambda z, y: (
            z.logsumexp(1) - 0.9 * z[torch.arange(len(y)), y] - 0.1 * z.mean(1)  # 1 − ε for the class, ε for all alike
        ),
        "class_balanced": lambda z, y: F.cross_entropy(z, y, reduction="none"),  # of equal counts
        "softmax_mae": lambda z, y: (F.one_hot(y, 3) - z.softmax(1)).abs().sum(1),
        "gce": lambda z, y: (1 - z.softmax(1)[torch.arange(len(y)), y] ** 0.7) / 0.7,
        "sce": lambda z, y: (
            0.01 * F.cross_entropy(z, y, reduction="none") + 4 * (1 - z.softmax(1)[torch.arange(len(y)), y])
        ),
        "focal": lambda z, y: (
            -((1 - z.softmax(1)[torch.arange(len(y)), y]) ** 2) * z.log_softmax(1)[torch.arange(len(y)), y]
        ),
    },
}


# costs


@pytest.mark.parametrize("task_type", OUTPUTS)
def test_costs_are_those_of_each_loss_by_hand(task_type):
    outputs, targets = draw(task_type)
    found = cross_loss.mean_losses((schema.CONFIGS,), info(task_type), outputs, targets)
    expected = {name: loss(outputs, targets).mean().item() for name, loss in BY_HAND[task_type].items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("task_type", ["binary", "multiclass"])
def test_a_loss_of_class_counts_costs_by_those_of_the_run(task_type):
    outputs, targets = draw(task_type)
    counts = (5, 80, 3000)[: 3 if task_type == "multiclass" else 2]
    weights = torch.tensor([1 / sum(0.9999**i for i in range(n)) for n in counts])
    weights = weights / weights.mean()
    for given, weighed in [(counts, weights), ((7,) * len(counts), torch.ones(len(counts)))]:
        of = replace(info(task_type), class_counts=given)
        plain = "bce" if task_type == "binary" else "cross_entropy"
        expected = (weighed[targets] * BY_HAND[task_type][plain](outputs, targets)).mean().item()
        assert cross_loss.mean_losses((schema.CONFIGS,), of, outputs, targets)["class_balanced"] == pytest.approx(
            expected
        )
    for given in ((), (0, *counts[1:])):
        of = replace(info(task_type), class_counts=given)
        assert "class_balanced" not in cross_loss.mean_losses((schema.CONFIGS,), of, outputs, targets)


def folder(path, **files):
    """A user's folder of configurations; names are new in each test, since what was read is kept."""
    (path / "loss").mkdir(exist_ok=True)
    for name, text in files.items():
        (path / "loss" / f"{name}.yaml").write_text(text)
    return path


OWN = """
import torch
def scaled(prediction, target, *, factor=1.0):
    return factor * (prediction - target).abs().mean(-1)
def picky(prediction, target):
    raise ValueError("not these")
class Learns(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
    def forward(self, prediction, target):
        return self.weight * (prediction - target).abs().mean(-1)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder beside which modules with losses lie."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"own_{tmp_path.name}.py").write_text(OWN)
    return lambda **files: (schema.CONFIGS, folder(tmp_path, **files)), f"own_{tmp_path.name}"


def names(folders):
    return set(cross_loss.mean_losses(folders, info("regression"), *draw("regression")))


def test_a_loss_of_ones_own_costs_at_the_settings_of_its_file(own):
    made, module = own
    outputs, targets = draw("regression")
    folders = made(three=f"_target_: {module}.scaled\nfactor: 3", one=f"_target_: {module}.scaled")
    found = cross_loss.mean_losses(folders, info("regression"), outputs, targets)
    assert found["three"] == pytest.approx(3 * found["one"])
    assert found["one"] == pytest.approx((outputs - targets).abs().mean().item())


def test_a_loss_that_learns_or_fails_here_is_left_out(own):
    made, module = own
    folders = made(
        learns=f"_target_: {module}.Learns", picky=f"_target_: {module}.picky", one=f"_target_: {module}.scaled"
    )
    assert names(folders) == names((schema.CONFIGS,)) | {"one"}


def test_a_loss_of_another_kind_has_no_cost():
    assert "cross_entropy" not in names((schema.CONFIGS,))
    assert "mse" in names((schema.CONFIGS,))


BROKEN = {
    "no such module": "_target_: nowhere.at_all",
    "no target": "factor: 3",
    "empty": "",
    "unknown parameter": "_target_: lossbench.losses.regression.mse\nnonsense: 3",
    "no yaml": "_target_: [unclosed",
    "a list": "- a\n- b",
    "from elsewhere": "_target_: lossbench.losses.regression.huber\ndelta: ${dataset.delta}",
    "left open": "_target_: lossbench.losses.regression.huber\ndelta: ???",
    "no python": "_target_: broken_python.loss",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_of_a_user_takes_no_other_loss_with_it(own, tmp_path, what):
    made, module = own
    (tmp_path / "broken_python.py").write_text("def loss(:")
    folders = made(broken=BROKEN[what], one=f"_target_: {module}.scaled")
    assert names(folders) >= names((schema.CONFIGS,)) | {"one"}


def test_a_file_may_be_called_what_mlflow_would_not_call_a_metric(lossbench, store, here):
    folder(here, **{"l1+l2": "_target_: lossbench.losses.regression.huber"})
    said = lossbench("--config-dir", str(here), "dataset=regression", "train.steps=5", *SMALL["regression"])
    assert (said.code, said.err) == (0, "")
    (run,) = recorded.runs(store)
    assert run.info.status == "FINISHED"
    assert {"test_loss/mse", "test_loss/l1_l2"} <= set(run.data.metrics)


def test_costs_keep_no_graph_and_change_nothing():
    outputs, targets = draw("regression")
    outputs.requires_grad_(True)
    before = outputs.detach().clone(), targets.clone()
    cross_loss.mean_losses((schema.CONFIGS,), info("regression"), outputs, targets)
    assert torch.equal(outputs.detach(), before[0])
    assert torch.equal(targets, before[1])
    assert outputs.grad is None


# probes


def probe(task_type, loss, n=100, targets=None):
    task = builders.task(task_type, loss, info(task_type))
    split = Split(torch.zeros(n, 4), draw(task_type, n)[1] if targets is None else targets)
    return cross_loss.probe(task, OUTPUTS[task_type], split, CPU)


def read(text):
    return {name: torch.tensor(values) for name, values in json.loads(text).items()}


def test_a_probe_has_terms_and_their_gradient():
    loss = read(probe("regression", lambda z, y: ((z - y) ** 2).mean(-1)))
    assert (len(loss["per_example"]), len(loss["gradient"])) == (32, 64)
    by_example = (loss["gradient"].reshape(32, 2) ** 2).mean(-1)  # r, since the mean of r² over two outputs has slope r
    assert torch.allclose(by_example, loss["per_example"], rtol=1e-3)
    bce = read(probe("binary", lambda z, y: F.binary_cross_entropy_with_logits(z, y.float(), reduction="none")))
    assert torch.allclose(bce["gradient"].abs(), 1 - torch.exp(-bce["per_example"]), atol=1e-4)
    absolute = read(probe("regression", lambda z, y: (z - y).abs().sum(-1)))
    assert set(absolute["gradient"].tolist()) == {-1.0, 1.0}


def test_a_probe_sees_targets_of_every_size_and_class():
    labels = torch.tensor([1] + [0] * 999)
    bce = read(probe("binary", lambda z, y: F.softplus(z) - y * z, 1000, labels))
    assert (bce["gradient"] < 0).sum() == 1
    seen = read(probe("regression", lambda z, y: y.sum(-1) + 0 * z.sum(-1), 101, torch.arange(202.0).reshape(101, 2)))
    assert (seen["per_example"].min(), seen["per_example"].max()) == (1, 401)
    assert (seen["per_example"].diff() > 0).all()


@pytest.mark.parametrize(("n", "examples"), [(1, 1), (7, 7), (32, 32), (33, 32)])
def test_a_probe_is_no_larger_than_the_data(n, examples):
    assert len(read(probe("regression", lambda z, y: ((z - y) ** 2).mean(-1), n))["per_example"]) == examples


def test_a_probe_of_many_outputs_keeps_numbers_of_every_example():
    task = builders.task("regression", lambda z, y: z.sum(-1) * torch.arange(len(z)), info("regression"))
    split = Split(torch.zeros(50, 4), torch.randn(50, 40, generator=GENERATOR))
    found = read(cross_loss.probe(task, (40,), split, CPU))
    assert len(found["gradient"]) == 256
    assert set(found["gradient"].tolist()) == set(range(32))


@pytest.mark.parametrize("task_type", OUTPUTS)
def test_a_probe_is_the_same_whatever_was_drawn_before(task_type):
    loss = next(iter(BY_HAND[task_type].values()))
    targets = draw(task_type, 60)[1]
    torch.manual_seed(1)
    first = probe(task_type, loss, 60, targets)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert probe(task_type, loss, 60, targets) == first
    assert torch.equal(torch.get_rng_state(), state), "the global generator moved on"


def test_a_probe_in_another_order_of_examples_is_the_same():
    targets = draw("regression", 60)[1]
    order = torch.randperm(60, generator=GENERATOR)
    loss = BY_HAND["regression"]["huber"]
    one, other = (probe("regression", lambda z, y: loss(z, y).mean(-1), 60, t) for t in (targets, targets[order]))
    assert one == other


def test_a_probe_takes_one_number_for_all_terms():
    found = read(probe("regression", lambda z, y: ((z - y) ** 2).mean()))
    assert len(found["per_example"]) == 1
    assert found["gradient"].abs().sum() > 0


@pytest.mark.parametrize("why", ["raises", "has no gradient", "is of something else"])
def test_a_loss_that_refuses_made_up_predictions_has_no_probe(why):
    def loss(prediction, target):
        if why == "raises":
            raise RuntimeError("predictions must be positive")
        return prediction.detach().sum(-1) if why == "has no gradient" else torch.ones(len(target), requires_grad=True)

    assert probe("regression", loss) == ""


def test_a_loss_of_several_parts_pulls_by_its_terms():
    def plain(prediction, target):
        return (prediction - target).square().mean(-1)

    def told(prediction, target):
        return LossOutput(plain(prediction, target), {"bias": (prediction - target).mean(-1)})

    split = Split(torch.zeros(40, 4), draw("regression")[1])
    probes = [
        cross_loss.probe(builders.task("regression", loss, info("regression")), (2,), split, CPU)
        for loss in (plain, told)
    ]
    assert probes[0]
    assert probes[0] == probes[1]
