"""Every loss of the catalogue through the contract: adding configs/loss/NAME.yaml adds its tests."""

import itertools
from functools import cache

import pytest
import torch

from lossbench.config.catalogue import losses, ranges
from lossbench.config.schema import CONFIGS
from lossbench.contract import CLAUSES, Verdict, ask, entries
from lossbench.contract.calling import found
from lossbench.core import TASK_TYPES

ENTRIES = losses([CONFIGS])
BY_NAME = {entry.name: entry for entry in ENTRIES}
EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
EACH_KIND = pytest.mark.parametrize(
    ("name", "task_type"),
    [pytest.param(e.name, task_type, id=f"{e.name}-{task_type}") for e in ENTRIES for task_type in e.task_types],
)
EACH_CLAUSE = pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)

HELD = {  # whose gradient is, by design, no slope: the paper holds a part of it fixed
    "beta_nll": "the weight σ^2β",
    "ciou": "the trade-off α",
    "circle": "how far each pair is from its optimum",
}
ALIASES = {  # names that would be ambiguous, and names of a family for what is a class among others
    "gan_hinge": "hinge",
    "lsgan": "leastsquares",
    "wgan": "wasserstein",
    "wgan_gp": "wassersteinpenalty",
    "ragan": "relativisticaverage",
}
SAME = {  # pairs that train alike: kind, and the size of one's gradient relative to the other's
    ("expectile", "mse"): ("regression", 0.5),
    ("pinball", "mae"): ("regression", 0.5),
    ("rce", "softmax_mae"): ("multiclass", 4.60517),
}


@cache
def trial(name, task_type):
    return entries.trial_of(BY_NAME[name], task_type)


@cache
def asked(name, task_type, clause):
    return ask(next(one for one in CLAUSES if one.name == clause), trial(name, task_type))


def test_every_file_is_found():
    files = {path.stem for path in (CONFIGS / "loss").glob("*.yaml")}
    assert files
    assert files == {entry.name for entry in ENTRIES}


@EACH_KIND
@EACH_CLAUSE
def test_keeps(name, task_type, clause):
    finding = asked(name, task_type, clause.name)
    assert finding.verdict is not Verdict.BROKEN, f"{finding.seen}; to mend: {finding.mend}"
    assert (finding.verdict is Verdict.NOT_ASKED) == spared(BY_NAME[name], task_type, clause.name), finding.seen


def spared(entry, task_type, clause):
    """Whether a clause does not concern a loss."""
    card = entry.card
    needs = set(card.needs)
    if clause in ("own", "double"):
        return card.batch
    if clause == "logits":
        return task_type not in ("binary", "multiclass", "segmentation", "sequence")
    if clause == "ends":
        return not ranges(entry.card, task_type)
    if clause == "padding":
        return task_type != "sequence"
    if clause == "replica_batched":
        return not card.wide
    if clause == "counts":
        return "class_counts" not in needs
    if clause == "classes":
        learns = bool(needs & {"classes", "generator"}) or "multiclass" in entry.task_types
        return not (
            task_type in ("multiclass", "sequence")
            or "class_counts" in needs
            or (task_type == "embedding" and not learns)
        )
    return clause == "target" and entry.name == "kl"


@pytest.mark.parametrize(
    ("entry", "check"),
    [
        pytest.param(entry, check, id=f"{entry.name}-{name}")
        for entry in ENTRIES
        for name, _, check in entries.CLAUSES
        if name in ("file", "words") or getattr(entry.card, name, None)
    ],
)
def test_its_entry_keeps(entry, check):
    assert check(entry, found(entry.target))


def test_what_is_held_fixed_is_known():
    fixed = {
        e.name for e in ENTRIES for task_type in e.task_types if "held fixed" in asked(e.name, task_type, "slope").seen
    }
    assert fixed == set(HELD)


@EACH
def test_file_trains_the_loss_of_its_name(entry):
    given = entry.target.rpartition(".")[2].replace("_", "").lower()
    assert given == ALIASES.get(entry.name, entry.name.replace("_", ""))


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_losses_that_train_alike_are_known(task_type):
    """Gradients of two losses on the same samples point the same way only where they are listed."""
    prints = {e.name: entries.fingerprint(trial(e.name, task_type)) for e in ENTRIES if task_type in e.task_types}
    assert prints
    alike = {
        frozenset((one, other))
        for one, other in itertools.combinations(prints, 2)
        if max(entries.angle(prints[one][player], prints[other][player]) for player in prints[one]) < entries.ALIKE
    }
    assert alike == {frozenset(pair) for pair, (where, _) in SAME.items() if where == task_type}


@pytest.mark.parametrize(("pair", "told"), SAME.items(), ids=lambda given: "-".join(map(str, given)))
def test_known_equivalences_have_their_factor(pair, told):
    task_type, factor = told
    one, other = (entries.fingerprint(trial(name, task_type))["model"] for name in pair)
    torch.testing.assert_close(one, factor * other, rtol=1e-5, atol=1e-12)


def test_prints_tell_losses_apart_that_differ_by_little():
    """Neither a factor nor a sign passes for the other."""
    pull = entries.fingerprint(trial("mse", "regression"))["model"]
    assert entries.angle(pull, 7.5 * pull) < entries.ALIKE
    assert entries.angle(pull, -pull) == pytest.approx(2)
    assert entries.angle(pull, pull + 1e-4 * pull.roll(1)) > entries.ALIKE
