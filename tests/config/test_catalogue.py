"""The catalogue reads, without torch, what the losses say of themselves when they run."""

import importlib
import inspect
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from recorded import runs
from small import SMALL

import lossbench.losses
from lossbench.config import catalogue
from lossbench.config.schema import CONFIGS
from lossbench.config.task_types import TASK_TYPES
from lossbench.core import Card

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = catalogue.losses([CONFIGS])

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


def of_each(what):
    """What is said of each loss, by name."""
    return {entry.name: what(entry) for entry in ENTRIES}


def test_cards_are_those_at_run_time():
    cards = of_each(lambda entry: runtime(entry).card)
    assert of_each(lambda entry: entry.described.card) == cards
    assert of_each(lambda entry: entry.task_types) == {name: card.task_types for name, card in cards.items()}


def test_descriptions_are_the_docstrings():
    paragraphs = of_each(lambda entry: inspect.getdoc(runtime(entry)).split("\n\n"))
    assert of_each(lambda entry: entry.described.meaning) == {n: " ".join(p[0].split()) for n, p in paragraphs.items()}
    assert of_each(lambda entry: entry.described.equation) == {n: p[1] for n, p in paragraphs.items()}
    parameters = of_each(lambda entry: set(inspect.signature(runtime(entry)).parameters))
    assert of_each(lambda entry: set(entry.described.parameters)) == parameters


def test_sections_hold_all_the_words_of_the_docstrings():
    def sections(entry):
        return " ".join(f"{title}: {text}" for title, text in entry.described.sections.items()).split()

    def last(entry):
        return " ".join(p for p in inspect.getdoc(runtime(entry)).split("\n\n") if p.startswith("Shapes")).split()

    assert of_each(sections) == of_each(last)


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
    yield tmp_path
    sys.modules.pop("their_losses", None)


def test_a_foreign_function_is_asked(theirs):
    write(theirs, 'def odd(p, t, *, power=3):\n    """Odd.\n\n    r³\n    """\n')
    described = catalogue.describe("their_losses.odd")
    assert described.parameters == {"p", "t", "power"}
    assert (described.meaning, described.equation, described.card) == ("Odd.", "r³", None)
    assert catalogue.card_at("their_losses.odd") == Card(TASK_TYPES)


def test_a_foreign_class_is_described_by_its_constructor(theirs):
    write(
        theirs,
        "from dataclasses import dataclass\n\nclass Odd:\n    def __init__(self, margin, **rest): ...\n\n"
        "class Heir(Odd): ...\n\n@dataclass\nclass Plain:\n    scale: float = 1.0\n",
    )
    odd, heir, plain = (catalogue.describe(f"their_losses.{name}") for name in ("Odd", "Heir", "Plain"))
    assert (odd.parameters, odd.takes_any) == ({"margin"}, True)
    assert (heir.parameters, heir.takes_any) == ({"margin"}, True)
    assert (plain.parameters, plain.takes_any) == ({"scale"}, False)


@pytest.mark.parametrize("target", ["no_such_module.loss", "their_losses.absent", "json.decoder.absent", "math.pi"])
def test_what_cannot_be_called_is_not_described(theirs, target):
    write(theirs, "present = 1\n")
    assert catalogue.describe(target) is None


def test_a_method_of_a_foreign_class_is_described(theirs):
    write(theirs, "class Maker:\n    @staticmethod\n    def made(*, examples=3): ...\n")
    assert catalogue.describe("their_losses.Maker.made").parameters == {"examples"}
    assert catalogue.describe("their_losses.Absent.made") is None


@pytest.mark.parametrize("fault", ["raise SystemExit(3)", "1 / 0", "import no_such_module", "def ("])
def test_what_cannot_be_imported_is_not_described(theirs, fault):
    write(theirs, f"{fault}\n")
    assert catalogue.describe("their_losses.odd") is None
    assert catalogue.about("their_losses") == ""
    assert catalogue.public("their_losses") == []


def test_a_docstring_that_begins_like_a_section(theirs):
    write(theirs, 'def f(p, t):\n    """Reference implementation of a loss."""\n')
    assert catalogue.describe("their_losses.f").parameters == {"p", "t"}


def test_the_introduction_of_a_module_and_what_it_defines(theirs):
    write(
        theirs,
        '"""Odd\nones.\n\nMore."""\nfrom math import sqrt\nfrom json import loads\ndef f(p, t): ...\ndef _g(): ...\n',
    )
    assert catalogue.about("their_losses") == "Odd ones."
    assert catalogue.public("their_losses") == ["f"]


CARDED = """
import math
from lossbench import core
from lossbench.config.task_types import TASK_TYPES

MINE = tuple(name for name in TASK_TYPES if name.startswith("reg"))

@core.card(task_types=MINE, search={"scale": (math.exp(-1), math.exp(1))}, needs=tuple(["generator"]))
def curved(prediction, target, *, generator, scale=1.0):
    \"\"\"Curved.\"\"\"
    return scale * (prediction - target).square().mean(-1)
"""


def test_what_a_module_says_now_counts_not_what_an_older_index_says(tmp_path, monkeypatch):
    older = json.loads(catalogue.INDEX.read_text(encoding="utf-8"))
    huber = older["targets"]["lossbench.losses.regression.huber"]
    huber |= {"meaning": "Old.", "parameters": ["old"], "card": huber["card"] | {"search": {"old": [1, 2]}}}
    older["sources"]["lossbench.losses.regression"] = "of an older file"
    (tmp_path / "catalogue.json").write_text(json.dumps(older), encoding="utf-8")
    now = catalogue.describe("lossbench.losses.huber")
    for clear in (catalogue._index, catalogue._ours, catalogue._current):
        clear.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "INDEX", tmp_path / "catalogue.json")
        found, other = (catalogue.describe(f"lossbench.losses.{name}") for name in ("huber", "focal"))
    for clear in (catalogue._index, catalogue._ours, catalogue._current):
        clear.cache_clear()
    assert found == now
    assert found.card == lossbench.losses.huber.card
    assert other.card == lossbench.losses.focal.card


def test_a_card_may_be_computed(theirs, lossbench, store):
    write(theirs, CARDED)
    (theirs / "mine" / "loss").mkdir(parents=True)
    (theirs / "mine" / "loss" / "curved.yaml").write_text("_target_: their_losses.curved\nscale: 1.0\n")
    folder = ["--config-dir", str(theirs / "mine")]
    assert "curved" in lossbench("list", "dataset=regression", *folder).out
    assert "curved" not in lossbench("list", "dataset=mnist", *folder).out
    said = lossbench("loss._target_=their_losses.curved", "dataset=mnist")
    assert said.code == 2
    assert "fits regression problems, and dataset=mnist is multiclass" in said.err
    said = lossbench("loss=curved", "+loss.generator=1", *folder)
    assert said.code == 2
    assert "loss.generator: unknown; curved takes scale" in said.err
    said = lossbench("loss=curved", *folder, *SMALL["regression"], "train.steps=4")
    assert said.code == 0, said.err
    tune = ["-m", "hydra/sweeper=fair", "hydra.sweeper.trials=1", "hydra.sweeper.at_defaults=false", "seed=0"]
    said = lossbench(*tune, "loss=curved,mse", *folder, *SMALL["regression"], "train.steps=4")
    assert said.code == 0, said.err
    searched = [run.data.params["loss.scale"] for run in runs(store, "trial") if run.data.tags["loss"] == "curved"]
    assert all(math.exp(-1) <= float(scale) <= math.exp(1) for scale in searched)
    assert [scale for scale in searched if float(scale) != 1]


def test_the_index_is_what_the_losses_say():
    current = runpy.run_path(str(ROOT / "scripts" / "index.py"))["text"]()
    assert catalogue.INDEX.read_text(encoding="utf-8") == current, "python scripts/index.py writes it anew"
