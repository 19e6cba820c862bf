"""Every loss of the catalogue through one mill: adding configs/loss/NAME.yaml adds its tests."""

import importlib
import inspect
import itertools

import pytest
import torch
from omegaconf import OmegaConf

from lossbench import build
from lossbench.catalogue import losses, ranges
from lossbench.settings import CONFIGS

EXTREMES = (0.0, 20.0, -20.0, 100.0, -100.0, 1e4, -1e4)
COUNTS = (700, 40, 9, 3000, 1)  # what a run brings to a loss that needs its class counts
DOCUMENTED = ("Shapes", "Use it when", "Beware", "Reference")

ENTRIES = losses([CONFIGS])
EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
MILLED = ("regression", "binary", "multiclass")  # of pixels and tokens they are the same; the others: their families
EACH_KIND = pytest.mark.parametrize(
    ("entry", "kind"),
    [pytest.param(e, kind, id=f"{e.name}-{kind}") for e in ENTRIES for kind in e.kinds if kind in MILLED],
)


def bound(entry, **changed):
    """The loss as a run gets it: its file's parameters bound, save those that are changed."""
    settings = OmegaConf.merge(OmegaConf.load(CONFIGS / "loss" / f"{entry.name}.yaml"), changed)

    def loss(prediction, target):
        classes = prediction.shape[-1] if prediction.dim() > target.dim() else 2
        return build.loss(settings, entry.kinds[0], {"class_counts": lambda: COUNTS[:classes]})(prediction, target)

    return loss


def settings_of(entry):
    """The parameters that a file may set, and their defaults."""
    module, _, name = entry.target.rpartition(".")
    target = getattr(importlib.import_module(module), name)
    if not isinstance(target, type):
        _, _, *settings = inspect.signature(target).parameters.values()
        assert all(p.kind is p.KEYWORD_ONLY for p in settings)
    else:
        settings = inspect.signature(target).parameters.values()
    needs = entry.described.card.get("needs", ())
    return {p.name: p.default for p in settings if p.name not in needs}


def labelled(entry, labels):
    return 2 * labels - 1 if entry.described.card.get("signs") else labels


def examples(entry, kind, batch=16, dtype=torch.float64):
    """Predictions and targets as the tasks give them, at random."""
    random = torch.Generator().manual_seed(7)
    shape = {"regression": (batch, 3), "binary": (batch,), "multiclass": (batch, 5)}[kind]
    prediction = 2 * torch.randn(shape, generator=random, dtype=dtype)
    if kind == "regression":
        return prediction, torch.randn(shape, generator=random, dtype=dtype)
    classes = 2 if kind == "binary" else 5
    return prediction, labelled(entry, torch.randint(classes, (batch,), generator=random))


def extremes(entry, kind, dtype):
    """Every pairing of far logits (or predictions) with far targets."""
    if kind == "regression":
        prediction, target = torch.tensor([*itertools.product(EXTREMES, EXTREMES)], dtype=dtype).unsqueeze(-1).unbind(1)
        return prediction.clone(), target.clone()
    rows = [(v,) for v in EXTREMES] if kind == "binary" else [*itertools.product(EXTREMES, repeat=3)]
    classes = 2 if kind == "binary" else 3
    logits = torch.tensor(rows, dtype=dtype).repeat_interleave(classes, 0)
    labels = torch.arange(classes).repeat(len(rows))
    return logits.squeeze(-1), labelled(entry, labels)


SEARCH_ENDS = [
    pytest.param(entry, kind, {name: end}, id=f"{entry.name}-{kind}-{name}={end}")
    for entry in ENTRIES
    for kind in entry.kinds
    if kind in MILLED
    for name, ends in ranges(entry.described, kind).items()
    for end in ends
]


def test_every_file_is_found():
    files = {path.stem for path in (CONFIGS / "loss").glob("*.yaml")}
    assert files
    assert files == {entry.name for entry in ENTRIES}


@EACH_KIND
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_one_term_an_example(entry, kind, dtype):
    assert bound(entry)(*examples(entry, kind, batch=6, dtype=dtype)).shape == (6,)


@EACH_KIND
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_terms_have_the_type_of_the_prediction(entry, kind, dtype):
    assert bound(entry)(*examples(entry, kind, dtype=dtype)).dtype == dtype


@EACH_KIND
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_finite_at_extremes(entry, kind, dtype):
    assert_finite(bound(entry), *extremes(entry, kind, dtype))


@pytest.mark.parametrize(("entry", "kind", "changed"), SEARCH_ENDS)
def test_finite_at_the_ends_of_the_search(entry, kind, changed):
    assert_finite(bound(entry, **changed), *extremes(entry, kind, torch.float32))


def assert_finite(loss, prediction, target):
    terms = loss(prediction.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(terms.sum(), prediction)
    assert terms.isfinite().all()
    assert gradient.isfinite().all()


@EACH_KIND
def test_gradient_is_the_slope(entry, kind):
    prediction, target = examples(entry, kind, batch=4)
    assert torch.autograd.gradcheck(lambda p: bound(entry)(p, target), prediction.requires_grad_())


@EACH_KIND
def test_permuted_batch_permutes_terms(entry, kind):
    prediction, target = examples(entry, kind)
    order = torch.arange(len(target)).roll(5).flip(0)
    loss = bound(entry)
    torch.testing.assert_close(loss(prediction[order], target[order]), loss(prediction, target)[order])


@EACH_KIND
def test_a_term_depends_on_its_own_example_only(entry, kind):
    prediction, target = examples(entry, kind)
    loss = bound(entry)
    alone = torch.cat([loss(p, t) for p, t in zip(prediction.split(1), target.split(1), strict=True)])
    torch.testing.assert_close(loss(prediction, target), alone)


@EACH_KIND
def test_inputs_are_left_as_they_are(entry, kind):
    prediction, target = examples(entry, kind)
    before = prediction.clone(), target.clone()
    bound(entry)(prediction, target)
    assert torch.equal(prediction, before[0])
    assert torch.equal(target, before[1])


@EACH_KIND
def test_the_global_generator_is_left_alone(entry, kind):
    before = torch.random.get_rng_state()
    bound(entry)(*examples(entry, kind))
    assert torch.equal(torch.random.get_rng_state(), before)


def undecided(entry, kind):
    """Predictions of zero, their targets, and the sign of the slope that leads from there to the target."""
    if kind == "regression":
        return torch.zeros(2, 1), torch.tensor([[2.0], [-2.0]]), torch.tensor([[-1.0], [1.0]])
    if kind == "binary":
        return torch.zeros(2), labelled(entry, torch.tensor([1, 0])), torch.tensor([-1.0, 1.0])
    return torch.zeros(5, 5), torch.arange(5), 1 - 2 * torch.eye(5)


@EACH_KIND
def test_descent_leads_to_the_target(entry, kind):
    prediction, target, signs = undecided(entry, kind)
    (gradient,) = torch.autograd.grad(bound(entry)(prediction.requires_grad_(), target).sum(), prediction)
    assert torch.equal(gradient.sign(), signs)


@EACH_KIND
def test_descent_lowers_the_mean(entry, kind):
    prediction, target = examples(entry, kind)
    loss, means = bound(entry), []
    for _ in range(11):
        terms = loss(prediction.requires_grad_(), target)
        means.append(terms.mean().item())
        (gradient,) = torch.autograd.grad(terms.sum(), prediction)
        prediction = (prediction - 0.05 * gradient).detach()
    assert all(later < earlier for earlier, later in itertools.pairwise(means))


@EACH
def test_file_holds_the_defaults_of_the_signature(entry):
    assert settings_of(entry) == entry.parameters


@EACH
def test_documented(entry):
    assert entry.described.meaning
    assert entry.described.equation
    assert [title for title in DOCUMENTED if not entry.described.sections.get(title)] == []


@EACH
def test_search_ranges_are_of_parameters_and_hold_their_defaults(entry):
    for name, (low, high, *_) in entry.described.card.get("search", {}).items():
        default = entry.parameters[name]
        assert low < high
        assert not isinstance(default, float) or low <= default <= high
