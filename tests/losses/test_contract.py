"""Every loss of the catalogue through the contract: adding configs/loss/NAME.yaml adds its tests."""

import itertools
from functools import cache

import pytest
import torch

from lossbench.config.catalogue import losses, ranges
from lossbench.config.schema import CONFIGS
from lossbench.config.task_types import TASK_TYPES
from lossbench.contract import CLAUSES, Verdict, entries, examine
from lossbench.contract.calling import loss_at

ENTRIES = losses([CONFIGS])
BY_NAME = {entry.name: entry for entry in ENTRIES}
EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
EACH_KIND = pytest.mark.parametrize(
    ("name", "task_type"),
    [pytest.param(e.name, task_type, id=f"{e.name}-{task_type}") for e in ENTRIES for task_type in e.task_types],
)

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


def test_every_file_is_found():
    files = {path.stem for path in (CONFIGS / "loss").glob("*.yaml")}
    assert files
    assert files == {entry.name for entry in ENTRIES}


def assert_kept(findings, spared):
    """Says all that is broken; what is not asked is what does not concern the loss, and nothing else."""
    broken = [f"{f.clause.name}: {f.seen}; to fix: {f.fix}" for f in findings if f.verdict is Verdict.BROKEN]
    assert not broken, "\n".join(broken)
    unasked = {f.clause.name: f.seen for f in findings if f.verdict is Verdict.NOT_ASKED}
    assert unasked.keys() == spared, unasked


@EACH_KIND
def test_keeps(name, task_type):
    findings = examine(trial(name, task_type))
    assert_kept(findings, {clause.name for clause in CLAUSES if spared(BY_NAME[name], task_type, clause.name)})
    (slope,) = (finding.seen for finding in findings if finding.clause.name == "slope")
    assert ("held fixed" in slope) == (name in HELD)


@EACH
def test_its_entry_keeps(entry):
    findings = entries.examine(entry, loss_at(entry.target))
    assert_kept(findings, {name for name in ("search", "limits") if not getattr(entry.card, name)})


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
        return not card.replica_batched
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


def test_files_train_the_losses_of_their_names():
    given = {entry.name: entry.target.rpartition(".")[2].replace("_", "").lower() for entry in ENTRIES}
    assert given == {name: ALIASES.get(name, name.replace("_", "")) for name in given}


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
