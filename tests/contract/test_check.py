"""`check` on losses that are wrong on purpose, each caught by the clause that names its fault, and on right ones."""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from lossbench.contract import CLAUSES, Verdict, checking, table
from lossbench.core import ConfigError

FIXTURES = Path(__file__).parent.parent / "losses" / "wrong.py"


def _module():
    spec = importlib.util.spec_from_file_location("wrong_losses", FIXTURES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRONG = _module()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "wrong_losses", WRONG)


def broken(checked):
    """What is broken, and what was said of it: clause → finding."""
    found = [finding for findings in checked.findings.values() for finding in findings]
    return {f.clause.name: f for f in reversed(found) if f.verdict is Verdict.BROKEN}


def check(name, *words):
    return checking.check([f"wrong_losses.{name}", *words])


@cache
def checked(name):
    """Checked once for all that is asked of it."""
    return check(name)


RAISE = {
    *("wants_probabilities_or_fails", "wants_floats", "wants_signs"),
    *("fails_in_half_precision", "ends_the_program", "foreign_error"),
}


@pytest.mark.parametrize(("name", "clause"), WRONG.FAULTS.items(), ids=WRONG.FAULTS)
def test_a_fault_is_named_by_its_clause(name, clause):
    assert checked(name).broken
    finding = broken(checked(name))[clause]
    assert finding.seen
    assert finding.fix
    assert "\n" not in finding.seen + finding.fix
    assert finding.seen.startswith("raised") == (name in RAISE)


ALONE = ("wrong_sign", "mean_twice", "mean_of_all", "pow_gradient", "silent_mean", "half_gradient", "batch_order")


@pytest.mark.parametrize("name", ALONE)
def test_nothing_else_is_said_to_be_broken(name):
    assert list(broken(checked(name))) == [WRONG.FAULTS[name]]


def test_each_clause_has_a_loss_that_breaks_it():
    assert {clause.name for clause in CLAUSES} - {"scale"} == set(WRONG.FAULTS.values())


@pytest.mark.parametrize(("name", "task_type"), WRONG.RIGHT.items(), ids=WRONG.RIGHT)
def test_a_right_loss_passes_and_its_kind_is_found(name, task_type):
    found = check(name)
    assert broken(found) == {}
    assert task_type in found.findings
    assert set(found.findings) <= {task_type, "boxes"} if task_type == "regression" else {task_type}
    assert not found.broken


SEEN = {
    ("silent_mean", "shape"): "one number for a batch of 8: it reduces silently",
    ("mean_twice", "double"): "a mean taken twice",
    ("detached", "gradient"): "has no gradient",
    ("pow_gradient", "finite"): "NaN gradient",
    ("wants_probabilities", "logits"): "finite at probabilities",
    ("torch_draws", "generator"): "torch's global generator",
    ("python_draws", "generator"): "Python's global generator",
    ("mutates_target", "inputs"): "the target was written to",
    ("foreign_error", "callable"): "raised KeyError: 'weights'",
    ("target_first", "signature"): "the target first",
    ("half_gradient", "slope"): "from the slope",
    ("wrong_shape", "shape"): "[8, 3] for a batch of 8",
    ("fails_in_half_precision", "dtype"): "raised RuntimeError",
    ("GeneratorTheOtherWay", "descent"): "for the generator",
}
FIXES = {
    ("wants_probabilities", "logits"): "seems to want probabilities; take logits",
    ("wants_probabilities_or_fails", "callable"): "seems to want probabilities; take logits",
    ("wants_floats", "callable"): "target.to(prediction.dtype)",
    ("wants_signs", "callable"): "card(signed_targets=True)",
    ("by_position", "signature"): "put a * before delta",
    ("silent_mean", "shape"): "card(batch=True)",
}


def test_what_was_seen_is_said():
    found = {where: broken(checked(where[0]))[where[1]].seen for where in SEEN}
    assert {where: seen for where, seen in found.items() if SEEN[where] not in seen} == {}


def test_how_to_fix_it_is_said():
    found = {where: broken(checked(where[0]))[where[1]].fix for where in FIXES}
    assert {where: fix for where, fix in found.items() if FIXES[where] not in fix} == {}


def test_what_is_held_fixed_on_purpose_is_no_fault_and_is_said():
    (finding,) = (f for f in checked("weighed_by_itself").findings["regression"] if f.clause.name == "slope")
    assert finding.verdict is Verdict.KEPT
    assert finding.seen.endswith("with what it detaches held fixed")


def test_clauses_that_hang_on_a_broken_one_are_not_asked():
    findings = {f.clause.name: f for f in checked("foreign_error").findings["regression"]}
    assert findings["slope"].verdict is Verdict.NOT_ASKED
    assert findings["slope"].seen == "fix first: callable"


def test_settings_reach_the_loss():
    assert list(check("softmax", "temperature=2").findings) == ["multiclass"]
    (one,) = (f for f in check("softmax").findings["multiclass"] if f.clause.name == "scale")
    (two,) = (f for f in check("softmax", "temperature=2").findings["multiclass"] if f.clause.name == "scale")
    assert one.seen.startswith("undecided: 1.609, slope 0.894")
    assert two.seen.startswith("undecided: 1.609, slope 0.447")
    assert broken(check("no_default", "delta=2.0")).keys() == {"signature"}


def test_a_kind_may_be_asked_for():
    assert list(check("mse", "task_type=boxes").findings) == ["boxes"]
    assert broken(check("mse", "task_type=multiclass")).keys() == {"callable"}


def test_the_global_generator_is_as_before():
    before = torch.random.get_rng_state()
    check("mse")
    assert torch.equal(torch.random.get_rng_state(), before)


BAD = {
    "no_such_module.loss": "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
    "wrong_losses.absent": "cannot be imported: AttributeError",
    "wrong_losses.FAULTS": "a dict, which cannot be called",
    "focl": "nearest: focal",
    "wrong_losses.mse task_type=tabular": "no such task type; choose regression",
    "wrong_losses.of_no_kind": "choose of regression, binary",
    "focal task_type=regression": "its card says binary, multiclass",
    "wrong_losses.softmax heat=2": "has no such setting; it has temperature",
    "huber delta=0": "has to be above 0",
    "task_type=regression": "wants one loss, and got 0",
    "huber mae": "wants one loss, and got 2",
}


@pytest.mark.parametrize(("words", "said"), BAD.items(), ids=BAD)
def test_bad_input_says_what_would_work(words, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        checking.check(words.split())


def test_a_row_tells_the_worst_of_all_kinds():
    rows = {clause[0]: (verdict, seen) for clause, verdict, seen, _ in table.rows(checking.check(["focal"]))}
    assert rows["classes"] == (Verdict.KEPT, "multiclass: whatever their numbers")
    assert rows["counts"] == (Verdict.NOT_ASKED, "it does not take class counts")
    assert rows["limits"][0] is Verdict.KEPT


FEW = ["huber", "gaussian_nll", "focal", "class_balanced", "smooth_l1", "elbo", "wgan_gp", "triplet", "dice", "mse"]


@pytest.mark.parametrize("name", FEW)
def test_a_loss_of_the_catalogue_passes(name):
    found = checking.check([name])
    assert broken(found) == {}
    assert [finding.clause.name for finding in found.of_file] == ["file", "words", "search", "limits"]
    assert not found.broken


@pytest.fixture
def theirs(here, monkeypatch):
    """A working folder where somebody keeps losses of their own."""
    (here / "my_losses.py").write_text(FIXTURES.read_text(encoding="utf-8"), encoding="utf-8")
    (here / "unfinished.py").write_text("raise RuntimeError('today\\nnot yet')\n")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "my_losses", raising=False)
    yield
    sys.modules.pop("my_losses", None)


def row(said, clause):
    return next(line for line in said.splitlines() if line.startswith(f"│ {clause} "))


@pytest.mark.usefixtures("theirs")
def test_a_wrong_loss_by_a_process_of_its_own(process):
    """Which finds what lies in its working folder."""
    ran = process("check", "my_losses.mean_twice", "task_type=regression")
    out, err = ran.communicate(timeout=120)
    assert ran.returncode == 0, err
    assert "broken" in row(out, "double")
    assert "kept" in row(out, "own") or "not asked" in row(out, "own")
    assert "how to fix it\ndouble: do not divide by the size of the batch" in out
    assert "tried on regression, as asked" in out
    assert out.splitlines()[-1] == "trains, but per-example losses change with the size of the batch"
    assert err == ""


@pytest.mark.usefixtures("theirs")
def test_a_loss_that_fails_by_the_command_line(lossbench):
    said = lossbench("check", "my_losses.foreign_error")
    assert said.code == 1
    assert "raised KeyError: 'weights'" in row(said.out, "callable")
    assert said.out.splitlines()[-1].startswith("does not fit: raised KeyError: 'weights'")
    assert "Traceback" not in said.out + said.err


@pytest.mark.usefixtures("theirs")
def test_a_right_loss_by_the_command_line(lossbench):
    said = lossbench("check", "my_losses.softmax", "temperature=2.0")
    assert said.code == 0, said.out + said.err
    assert "tried on multiclass: it has no card" in said.out
    assert said.out.splitlines()[-1] == "passes the contract"
    assert "broken" not in said.out


@pytest.mark.usefixtures("theirs")
def test_a_module_that_cannot_be_imported_by_the_command_line(lossbench):
    said = lossbench("check", "unfinished.loss")
    assert said.code == 2
    assert said.err == "lossbench: check: unfinished.loss: cannot be imported: RuntimeError: not yet\n"
    assert said.out == ""
