"""Names that others give: of parts, metrics, experiments, folders and classes; cleaned, or refused in a line."""

from __future__ import annotations

import io
import shutil
import sys

import numpy as np
import pytest
import torch
from recorded import artifacts, runs
from rich.console import Console
from small import SMALL

from lossbench import terminal, tracking
from lossbench.config import checks, schema
from lossbench.core import ConfigError, LossOutput, record_name
from lossbench.tasks.pictures import confusion_matrix

SHORT = [*SMALL["regression"], "train.steps=20", "train.eval_every=10"]
MARKUP = "[/x] [red] :boom: [bold"


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("val/error@p90", "val/error_p90"),
        ("loss (%)", "loss ___"),
        ("test_loss/ré: x.y-z", "test_loss/ré: x.y-z"),
        ("../up", "__/up"),
        ("/a//b/", "_/a/_/b/_"),
        ("", "_"),
        (".", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_a_store_takes_every_name_that_is_recorded(name, clean, store):
    assert record_name(name) == clean
    assert record_name(clean) == clean
    recorder = store.start("test", "run", {})
    recorder.metrics(1, {name: 1.0})
    recorder.params({name: "value"})
    recorder.end("FINISHED")
    run = store.client.get_run(recorder.run_id)
    assert run.data.metrics == {clean: 1.0}
    assert run.data.params == {clean: "value"}


def told(*names):
    return LossOutput(torch.zeros(3), {name: torch.full((3,), float(k)) for k, name in enumerate(names)})


def test_parts_get_names_that_can_be_recorded():
    assert list(LossOutput.of(told("kl", "error@p90", "a/b")).parts) == ["kl", "error_p90", "a_b"]
    assert LossOutput.of(LossOutput.of(told("a@"))).parts.keys() == {"a_"}
    assert list(LossOutput.of(torch.zeros(3)).parts) == []


@pytest.mark.parametrize("names", [("loss",), ("grad_norm", "kl"), ("kl", "a@", "a#")])
def test_a_part_does_not_take_another_s_place(names):
    with pytest.raises(ConfigError, match="part"):
        LossOutput.of(told(*names))


PARTS = """
from lossbench.core import LossOutput
def of(prediction, target, *, name):
    terms = (prediction - target).abs().mean(-1)
    return LossOutput(terms, {name: (terms * 0 + 123).detach()})
"""


def test_parts_of_any_name_are_recorded_and_those_of_the_loop_are_refused(lossbench, store, here, monkeypatch):
    (here / "named.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "named", raising=False)
    words = ["loss._target_=named.of", *SHORT]
    assert lossbench(*words, "+loss.name='error@p90'").code == 0
    (run,) = runs(store)
    assert run.data.metrics["train/error_p90"] == 123
    said = lossbench("-m", *words, "+loss.name=fine,grad_norm")
    assert said.code == 2
    assert "a part is called 'grad_norm'" in said.err
    assert "loss.name=grad_norm" in said.err
    assert len(runs(store)) == 1


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "ä" * 101, "..", ".", "a/../b", "a\tb"])
def test_an_experiment_is_refused_before_anything_is_imported(name, configured):
    cfg = configured("regression")
    cfg.experiment_name = name
    with pytest.raises(ConfigError, match="experiment_name="):
        checks.check(cfg, schema.Names("regression", "mlp", "mse", "adam"))


@pytest.mark.parametrize("name", ["x" * 200, "ä" * 100, "a/b: c", "C# 50% [/x]", "a?b", "x.y"])
def test_every_other_experiment_takes_runs_files_and_views(name, configured, store, here):
    cfg = configured("regression")
    cfg.experiment_name = name
    checks.check(cfg, schema.Names("regression", "mlp", "mse", "adam"))
    recorder = store.start(name, "run", {})
    with recorder.files() as folder:
        (folder / "note.txt").write_text("hello", encoding="utf-8")
    recorder.end("FINISHED")
    run = store.client.get_run(recorder.run_id)
    assert artifacts(store, run) == {"note.txt"}
    assert str(here / "mlruns") in run.info.artifact_uri
    key = f"{name}-20261128-000000-abcd".replace("/", "_").replace(" ", "_").replace(":", "_")
    store.view(recorder.run_id, "".join(c if c.isalnum() or c in "_-." else "_" for c in key), [("mae", "↓", "")])


@pytest.mark.parametrize("folder", ["C#", "50% off", "50%25", "a%20b", "a#b?c", "ä b", "[x]"])
def test_every_folder_holds_a_store_and_its_files(folder, tmp_path, cache, migrated):
    """MLflow takes a part of some for one of an address."""
    (tmp_path / folder).mkdir()
    shutil.copy(migrated, tmp_path / folder / "mlflow.db")
    tracking.check_connection(uri := f"sqlite:///{tmp_path / folder}/mlflow.db")
    store = tracking.Store(uri)
    recorder = store.start("test", "run", {})
    with recorder.files() as made:
        (made / "note.txt").write_text("hello", encoding="utf-8")
    recorder.end("FINISHED")
    assert artifacts(store, store.client.get_run(recorder.run_id)) == {"note.txt"}
    assert len(list((tmp_path / folder / "mlruns").rglob("note.txt"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == [folder]


def test_an_error_with_markup_in_it_ends_its_run_and_no_other(lossbench, store, here, monkeypatch):
    (here / "marked.py").write_text(
        "from lossbench.core import card, stream\n"
        '@card(task_types=("regression",), needs=("generator",))\n'
        "def marked(prediction, target, *, generator):\n"
        '    if generator.initial_seed() == stream(1, "loss").initial_seed():\n'
        f"        raise RuntimeError({MARKUP!r})\n"
        "    return (prediction - target).abs().mean(-1)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "marked", raising=False)
    said = lossbench("-m", "loss._target_=marked.marked", "seed=0,1,2", *SHORT, "experiment_name='[/x]'")
    assert said.code == 2
    assert MARKUP in said.out
    ended = {run.data.tags["seed"]: run.data.tags["lossbench.outcome"] for run in runs(store)}
    assert ended == {"0": "finished", "1": "failed", "2": "finished"}


def test_a_terminal_shows_text_as_it_is():
    written = io.StringIO()
    plain = terminal.console(width=80)
    plain.file = written
    plain.print(f"{MARKUP}: x")
    assert written.getvalue().strip() == f"{MARKUP}: x"


def test_bars_show_text_as_it_is(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(
        terminal.progress, "console", lambda **how: Console(file=written, force_terminal=True, width=200, markup=True)
    )
    with terminal.bar(MARKUP, 3) as bar:
        bar.news(None, {f"val/{MARKUP}": 1.0})
        bar.advance(1, 0)
    with terminal.board() as board:
        board.expect(1, 1)
        board.news(MARKUP)
    assert "[/x]" in written.getvalue()


def test_classes_are_called_what_they_are_called(tmp_path):
    """`$` starts a formula in matplotlib."""
    import matplotlib

    y = np.arange(4) % 2
    with matplotlib.rc_context({"text.parse_math": False}):
        confusion_matrix(y, y, ["$a$_{", "$"]).savefig(tmp_path / "matrix.png")


def test_a_dataset_s_classes_of_any_name_are_drawn(lossbench, store, here, monkeypatch):
    (here / "classed.py").write_text(
        "from dataclasses import replace\n"
        "from lossbench.datasets.mnist import mnist\n"
        "def classed(**given):\n"
        "    made = mnist(**given)\n"
        "    return replace(made, info=replace(made.info, classes=tuple('$x_{%d' % k for k in range(10))))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "classed", raising=False)
    words = ["dataset=mnist", "dataset._target_=classed.classed", *SMALL["mnist"], "train.steps=4"]
    said = lossbench(*words)
    assert said.code == 0, said.err
    (run,) = runs(store)
    assert "confusion_matrix.png" in artifacts(store, run, "pictures")
    assert "lossbench.remarks" not in run.data.tags
