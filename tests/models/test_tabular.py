"""The net for tables: its encoding by the authors' package, categories, stacks, and one-hot for every other net."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rtdl_num_embeddings import PiecewiseLinearEncoding
from sklearn.preprocessing import OneHotEncoder
from torch import nn

from lossbench.core import Column, ConfigError, DatasetInfo, Split, Splits, stream
from lossbench.datasets.splits import check
from lossbench.engine import Nets, Plan, Replica, fit, trial
from lossbench.losses import huber, mse
from lossbench.models import MLP, Tabular
from lossbench.models.columns import OneHot
from lossbench.models.tabular import WIDEST, Pieces
from lossbench.runs import builders
from lossbench.tasks import Regression

LEVELS = (3, 5)


def quantiles(values, count):
    return [tuple(np.unique(np.quantile(column, np.linspace(0, 1, count + 1))).tolist()) for column in values.T]


def table(seed=0, n=200, bins=6):
    """Two numbers with quantiles, one of few values, a flag, two categories."""
    random = np.random.default_rng(seed)
    few = random.integers(0, 4, (n, 1))
    numbers = np.hstack([random.normal(size=(n, 2)), few]).astype(np.float32)
    flag = random.integers(0, 2, (n, 1))
    codes = np.hstack([random.permutation(np.arange(n) % k)[:, None] for k in LEVELS])
    columns = (
        *(Column(name, edges=edges) for name, edges in zip("abc", quantiles(numbers, bins), strict=True)),
        Column("d"),
        *(Column(name, levels=k) for name, k in zip("ef", LEVELS, strict=True)),
    )
    return torch.tensor(np.hstack([numbers, flag, codes])).float(), columns


def info(columns, outputs=1):
    return DatasetInfo("table", "regression", (len(columns),), (outputs,), "", "", "", columns=columns)


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_the_encoding_is_that_of_its_authors(bins):
    random = np.random.default_rng(0)
    numbers = random.normal(size=(300, 4)).astype(np.float32)
    edges = quantiles(numbers, bins)
    outside = torch.tensor(np.vstack([numbers, 2 * numbers]))
    theirs = PiecewiseLinearEncoding([torch.tensor(one, dtype=torch.float32) for one in edges])(outside)
    ours = Pieces([Column("x", edges=one) for one in edges], bins)(outside)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_numbers_of_fewer_edges_leave_places_empty_and_others_pass():
    inputs = torch.tensor([[-2.0, 1.0, 0.5, 7.0], [0.5, 0.0, 3.0, -7.0]])
    columns = [Column("a", edges=(0.0, 1.0, 3.0)), Column("b"), Column("c", edges=(2.0,)), Column("d", edges=(2, 2))]
    found = Pieces(columns, 3)(inputs)
    torch.testing.assert_close(
        found,
        torch.tensor([[-2.0, 0, 0, 1, 0.5, 0, 0, 7, 0, 0], [0.5, 0, 0, 0, 3, 0, 0, -7, 0, 0]]),
    )


def test_edges_are_thinned_to_the_bins_asked_for():
    edges = tuple(float(edge) for edge in range(33))
    inputs = torch.linspace(-1, 34, 50)[:, None]
    coarse = Pieces([Column("a", edges=edges[::8])], 4)(inputs)
    torch.testing.assert_close(Pieces([Column("a", edges=edges)], 4)(inputs), coarse)


def test_a_wide_table_has_fewer_bins():
    edges = tuple(float(edge) for edge in range(9))
    columns = [Column(str(n), edges=edges) for n in range(600)] + [Column(f"c{n}", levels=2) for n in range(100)]
    assert Tabular(columns, 1, stream(0, "init")).encoder.width == 600 * 2 + 100 * 8 <= WIDEST
    assert Tabular(columns, 1, stream(0, "init"), bins=1).encoder.width == 600 + 100 * 8
    wide = [Column(str(n), edges=edges) for n in range(3000)]
    assert Tabular(wide, 1, stream(0, "init")).encoder.width == 3000, "a bin each is the least"


def test_a_category_moves_the_vector_of_its_level_alone():
    inputs, columns = table()
    net = Tabular(columns, 2, stream(0, "init"), embedding=4, dropout=0)
    vectors = net.encoder.categories.vectors
    first = inputs[:1]
    net(first).sum().backward()
    touched = (vectors.grad != 0).any(1).nonzero().flatten().tolist()
    assert touched == [int(first[0, 4]), LEVELS[0] + int(first[0, 5])]
    encoded = net.encoder(first)[0, -8:].unflatten(0, (2, 4))
    torch.testing.assert_close(encoded, vectors[touched])


def test_weights_come_from_the_generator_alone():
    _, columns = table()
    before = torch.random.get_rng_state()
    first, again, other = (Tabular(columns, 1, stream(seed, "init")).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = {name for name in first if not torch.equal(first[name], other[name])}
    assert drawn == {name for name, _ in Tabular(columns, 1, stream(0, "init")).named_parameters()}


def test_dropout_only_while_it_trains():
    inputs, columns = table()
    net = Tabular(columns, 1, stream(0, "init"), dropout=0.5)
    assert not torch.equal(net(inputs), net(inputs))
    torch.testing.assert_close(net.eval()(inputs), net(inputs), rtol=0, atol=0)
    assert net(inputs[:0]).shape == (0, 1)


NETS = {
    "tabular": lambda columns, seed: Tabular(columns, 1, stream(seed, "init"), hidden=(16, 8), dropout=0.3),
    "numbers": lambda columns, seed: Tabular(columns[:4], 1, stream(seed, "init"), hidden=(16,), bins=3),
    "categories": lambda columns, seed: Tabular(columns[4:], 1, stream(seed, "init"), hidden=(16,)),
    "one-hot": lambda columns, seed: OneHot(MLP((12,), 1, stream(seed, "init"), hidden=(8,)), columns),
}


def replica(name, seed):
    inputs, columns = table(seed)
    inputs = {"numbers": inputs[:, :4], "categories": inputs[:, 4:]}.get(name, inputs)
    split = Split(inputs, inputs[:, :1] - inputs[:, -1:])
    nets = Nets(model=NETS[name](columns, seed))
    adam = torch.optim.AdamW(nets.model.parameters(), lr=0.01)
    task = Regression((mse, huber)[seed % 2], info(columns))
    return Replica(task, nets, {"model": adam}, split, split, seed)


@pytest.mark.parametrize("name", NETS)
def test_a_stack_trains_each_as_it_trains_alone(name):
    """Other data, other quantiles, other weights in each."""
    plan = Plan(steps=10, batch_size=32, eval_every=5, record_every=5)
    assert trial.difference([replica(name, seed) for seed in range(3)], plan) == ""
    stack, turns = ([replica(name, seed) for seed in range(3)] for _ in range(2))
    fit(stack, plan)
    for one, other in zip(stack, turns, strict=True):
        fit([other], plan)
        for place, tensor in one.nets.state().items():
            torch.testing.assert_close(tensor, other.nets.state()[place], rtol=1e-3, atol=1e-5)


def test_any_other_net_gets_categories_one_hot():
    inputs, columns = table()
    model = builders.nets(OmegaConf.create({"_target_": "lossbench.models.mlp.MLP"}), info(columns), 0).model
    assert isinstance(model, OneHot)
    encoder = OneHotEncoder(categories=[range(k) for k in LEVELS], sparse_output=False).fit(inputs[:, 4:])
    hot = encoder.transform(inputs[:, 4:])
    hot[:, [0, LEVELS[0]]] = 0  # what is missing or unseen is no level
    expected = np.hstack([inputs[:, :4], hot])
    torch.testing.assert_close(model(inputs), model.net(torch.tensor(expected).float()))


def test_what_is_missing_or_unseen_begins_at_nothing():
    inputs, columns = table()
    model = builders.nets(OmegaConf.create({"_target_": "lossbench.models.tabular.Tabular"}), info(columns), 0).model
    inputs[:, 4:] = 0
    encoded = model.encoder(inputs)
    assert not encoded[:, -model.encoder.categories.vectors.shape[1] * len(LEVELS) :].any()
    assert model.encoder.categories.vectors.any(1).sum() == sum(LEVELS) - len(LEVELS)


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("torch.nn.Linear", {}),
        ("torch.nn.LazyLinear", {}),
        ("monai.networks.nets.FullyConnectedNet", {"hidden_channels": [8]}),
    ],
)
def test_a_foreign_net_is_as_wide_as_its_one_hot_inputs(target, settings):
    _, columns = table()
    model = builders.nets(OmegaConf.create({"_target_": target, **settings}), info(columns, 2), 0).model
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    assert layer.in_features == 4 + sum(LEVELS)
    assert model.eval()(torch.zeros(2, 6)).shape == (2, 2)


@pytest.mark.parametrize("target", ["lossbench.models.mlp.MLP", "lossbench.models.tabular.Tabular"])
def test_a_loss_of_several_numbers_and_a_prior_find_the_head(target):
    _, columns = table()
    two = builders.nets(OmegaConf.create({"_target_": target}), info(columns), 0, outputs_per_target=2)
    assert two.model.eval()(torch.zeros(3, 6)).shape == (3, 2)
    assert builders.losses.dimensions(two, info(columns)) == 2
    binary = replace(info(columns), task_type="binary", targets=(), classes=("no", "yes"), class_counts=(90, 10))
    model = builders.nets(OmegaConf.create({"_target_": target, "prior": "auto"}), binary, 0).model
    head = model.head if isinstance(model, Tabular) else model.net.head
    assert head.bias.sigmoid().item() == pytest.approx(0.1)


def test_a_table_without_categories_changes_nothing():
    _, columns = table()
    model = builders.nets(OmegaConf.create({"_target_": "lossbench.models.mlp.MLP"}), info(columns[:4]), 0).model
    assert isinstance(model, MLP)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": ()}, "model=mlp works"),
        ({"columns": (Column("a", 3), Column("b"))}, "numbers first"),
        ({"outputs": 0}, "no outputs"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"bins": 0}, "model.bins=0"),
        ({"embedding": 0}, "model.embedding=0"),
    ],
)
def test_what_makes_no_net_is_refused(changed, message):
    _, columns = table()
    with pytest.raises(ConfigError, match=message):
        Tabular(**({"columns": columns, "outputs": 1, "generator": stream(0, "init")} | changed))


@pytest.mark.parametrize(("place", "code"), [(4, 3.0), (5, -1.0), (4, 0.5)])
def test_codes_without_a_level_are_refused(place, code):
    """In a stack they would be read as a level of another category, or of another replica."""
    inputs, columns = table()
    split = Split(inputs, inputs[:, :1])
    check(Splits(info(columns), split, split, split))
    wrong = inputs.clone()
    wrong[7, place] = code
    with pytest.raises(ConfigError, match="in rows 7"):
        check(Splits(info(columns), split, split, Split(wrong, inputs[:, :1])))
    with pytest.raises(ConfigError, match="6 columns"):
        check(Splits(info(columns), split, split, Split(inputs[:, :5], inputs[:, :1])))
