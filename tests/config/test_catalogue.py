"""The catalogue reads from source, without torch, what the losses say of themselves when they run."""

import dataclasses
import importlib
import inspect
import subprocess
import sys

import pytest

import lossbench.losses
from lossbench.config import catalogue
from lossbench.config.schema import CONFIGS

ENTRIES = catalogue.losses([CONFIGS])
EACH = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)

LIGHT = """
import sys
import lossbench.config.catalogue, lossbench.config.checks
entries = lossbench.config.catalogue.losses([lossbench.config.schema.CONFIGS])
assert all(entry.described.meaning and entry.described.card for entry in entries), entries
heavy = {"torch", "mlflow", "sklearn", "matplotlib", "pandas", "torchvision"} & set(sys.modules)
print(len(entries), *sorted(heavy))
"""


def test_the_catalogue_is_read_without_heavy_imports():
    run = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(len(ENTRIES))]


def runtime(entry):
    module, _, name = entry.target.rpartition(".")
    return getattr(importlib.import_module(module), name)


@EACH
def test_card_is_the_one_at_run_time(entry):
    card = dataclasses.asdict(runtime(entry).card)
    defaults = {
        "signed_targets": False,
        "batch": False,
        "replica_batched": False,
        "needs": (),
        "search": {},
        "outputs_per_target": 1,
        "limits": {},
    }
    assert defaults | dict(entry.described.card) == card
    assert entry.task_types == card["task_types"]


@EACH
def test_description_is_the_docstring(entry):
    paragraphs = inspect.getdoc(runtime(entry)).split("\n\n")
    assert entry.described.meaning == " ".join(paragraphs[0].split())
    assert entry.described.equation == paragraphs[1]
    assert list(inspect.signature(runtime(entry)).parameters.keys() ^ entry.described.parameters) == []


@EACH
def test_sections_hold_all_the_words_of_the_docstring(entry):
    told = " ".join(f"{title}: {text}" for title, text in entry.described.sections.items())
    last = [p for p in inspect.getdoc(runtime(entry)).split("\n\n") if p.startswith("Shapes")]
    assert told.split() == " ".join(last).split()


def test_every_public_loss_is_in_the_catalogue():
    assert {entry.target.rpartition(".")[2] for entry in ENTRIES} == set(lossbench.losses.__all__)


def test_family_is_the_module():
    assert {(e.name, e.family) for e in ENTRIES} == {
        (e.name, runtime(e).__module__.rpartition(".")[2]) for e in ENTRIES
    }


def write(folder, text):
    (folder / "their_losses.py").write_text(text)


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder on the path, where a user keeps a module of losses."""
    monkeypatch.syspath_prepend(str(tmp_path))
    catalogue.describe.cache_clear()
    yield tmp_path
    catalogue.describe.cache_clear()


def test_a_foreign_function_is_described_without_being_run(theirs):
    write(theirs, 'raise SystemExit\n\ndef odd(p, t, *, power=3):\n    """Odd.\n\n    r³\n    """\n')
    described = catalogue.describe("their_losses.odd")
    assert described.parameters == {"p", "t", "power"}
    assert (described.meaning, described.equation, described.card) == ("Odd.", "r³", {})


def test_a_foreign_class_is_described_by_its_constructor(theirs):
    write(theirs, "class Odd:\n    def __init__(self, margin, **rest): ...\n\nclass Plain:\n    scale: float = 1.0\n")
    odd, plain = catalogue.describe("their_losses.Odd"), catalogue.describe("their_losses.Plain")
    assert (odd.parameters, odd.takes_any) == ({"margin"}, True)
    assert (plain.parameters, plain.takes_any) == ({"scale"}, False)


@pytest.mark.parametrize("target", ["math.sqrt", "no_such_module.loss", "their_losses.absent", "json.decoder.absent"])
def test_what_has_no_source_is_not_described(theirs, target):
    write(theirs, "present = 1\n")
    assert catalogue.describe(target) is None


def test_a_docstring_that_begins_like_a_section(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text('def f(p, t):\n    """Reference implementation of a loss."""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    described = catalogue.describe("mine.f")
    assert described is not None
    assert described.parameters == {"p", "t"}
