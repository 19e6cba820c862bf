"""A comparison from Python is that of the command line, and its result has what the store has."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

import lossbench as door
from lossbench.config.words import setting


def values(table, losses):
    """Test values by loss and seed."""
    rows = table[table["loss"].isin(losses)]
    return {(row["loss"], row["seed"]): row["test/mae"] for _, row in rows.iterrows()}


def test_every_loss_trained_on_every_seed(found):
    assert found.runs.groupby("loss")["seed"].nunique().to_dict() == {"mse": 3, "huber": 3, "halved": 3}
    assert set(found.runs["outcome"]) == {"finished"}


def test_the_numbers_are_those_of_the_command_line(found, tiny, lossbench):
    words = [setting(name, value) for name, value in tiny.items()]
    said = lossbench("compare", "dataset=regression", "losses=mse,huber", "seeds=3", "loss.delta=0.5", *words)
    assert said.code == 0, said.err
    assert values(door.report().runs, ["mse", "huber"]) == values(found.runs, ["mse", "huber"])


def test_a_loss_of_the_notebook_trains_as_what_it_is(found, tiny, here):
    """Half the squared error of Adam's steps differs from the whole by rounding alone."""
    table = found.runs.pivot(index="seed", columns="loss", values="test/mae")
    assert np.allclose(table["halved"], table["mse"], rtol=1e-3)
    assert not np.allclose(table["huber"], table["mse"], rtol=1e-3)


def test_the_leaderboard_has_the_means_of_the_runs(found):
    board = found.leaderboard.set_index("loss")
    assert board["mae"].to_dict() == pytest.approx(found.runs.groupby("loss")["test/mae"].mean().to_dict())
    assert board["mae"].is_monotonic_increasing
    assert set(board["dataset"]) == {"regression"}


def test_differences_are_paired_by_seed(found):
    table = found.runs.pivot(index="seed", columns="loss", values="test/mae")
    assert len(found.differences) == 3
    for _, row in found.differences.iterrows():
        assert row["difference"] == pytest.approx((table[row["a"]] - table[row["b"]]).mean())


def test_the_best_model_is_the_best_on_validation_of_the_best_loss(found):
    best = found.best
    mine = found.runs[found.runs["loss"] == found.leaderboard["loss"].iloc[0]].set_index("run_id")
    assert best.run_id == mine["objective"].idxmin()
    assert best.metrics["val"]["mae"] == pytest.approx(mine["objective"].min())
    assert best.metrics["test"]["mae"] == mine.loc[best.run_id, "test/mae"]


def test_a_run_is_loaded_with_its_settings(found, folder):
    run = found.runs[found.runs["loss"] == "huber"].iloc[0]
    loaded = door.load(run["run_id"], uri=found.uri)
    assert (loaded.loss, loaded.dataset, loaded.seed, loaded.outcome) == (
        "huber",
        "regression",
        run["seed"],
        "finished",
    )
    assert loaded.settings["loss.delta"] == 0.5
    assert loaded.settings["model.hidden"] == [8]
    assert list(loaded.table.columns)[:2] == ["val", "test"]


def test_the_report_is_the_same_from_the_store(found):
    again = door.report(found.name, uri=found.uri)
    assert again.sentence == found.sentence
    pd.testing.assert_frame_equal(again.leaderboard, found.leaderboard)
    against = door.report(found.name, metric="rmse", baseline="huber", margin=100.0, uri=found.uri)
    assert "rmse" in against.sentence


def test_the_page_is_written_where_it_is_asked_for_and_only_then(found, folder, tmp_path):
    assert not (folder / "report.html").exists()
    path = found.report(tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert found.name in path.read_text(encoding="utf-8")
    with pytest.raises(door.ConfigError, match="cannot be written"):
        found.report(tmp_path / "no" / "such" / "page.html")


def test_it_shows_itself_as_text(found):
    text = repr(found)
    assert " ".join(found.sentence.split()) in " ".join(text.split())
    assert all(loss in text for loss in ("mse", "huber", "halved"))
    assert "given." not in text + found._repr_html_()


def test_it_shows_itself_in_a_notebook_without_script_or_colours_of_its_own(found):
    page = found._repr_html_()
    tree = ElementTree.fromstring(f"<div>{page}</div>")  # well-formed
    dots = tree.findall(".//{*}circle")
    assert len(dots) == len(found.runs)
    assert len(tree.findall(".//{*}polyline")) == 3
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(background|[^-]color):\s*(white|black|#000|#fff)", page)
    rows = [["".join(cell.itertext()) for cell in row] for row in tree.findall(".//tbody/tr")]
    assert [row[0].strip("■ ★") for row in rows] == list(found.leaderboard["loss"])


def test_names_in_the_drawing_are_escaped(found):
    import dataclasses

    from lossbench.api import drawing

    sentences = ["<script>alert(1)</script>"]
    made = dataclasses.replace(found.made, sentences=sentences)
    assert "<script" not in drawing.html(made, ["<b>"])
    assert "<b>" not in drawing.html(made, ["<b>"])


def test_one_run(tiny, here, own_loss):
    trained = door.train(dataset="regression", loss=own_loss, seed=3, settings=tiny, quiet=True)
    again = door.train(dataset="regression", loss=(own_loss, {"k": 1.0}), seed=3, settings=tiny, quiet=True)
    assert trained.outcome == "finished"
    assert trained.metrics["test"] == again.metrics["test"]
    assert door.load(trained.run_id).metrics["test"] == pytest.approx(trained.metrics["test"])
    assert trained.settings["seed"] == 3
    assert "halved on regression, seed 3: finished" in repr(trained)
    assert trained._repr_html_().count("<th>") >= 4


def test_a_module_that_learns_starts_anew_in_every_run(tiny, here):
    import torch

    class Scaled(torch.nn.Module):
        """The squared error, scaled by a learned variance."""

        def __init__(self):
            super().__init__()
            self.log_variance = torch.nn.Parameter(torch.zeros(()))

        def forward(self, prediction, target):
            return ((prediction - target).square() * (-self.log_variance).exp() + self.log_variance).mean(-1)

    shared, settings = Scaled(), {**tiny, "optimizer.lr": 0.1}
    alone = {
        seed: door.train(dataset="regression", loss=Scaled(), seed=seed, settings=settings, quiet=True).metrics["test"]
        for seed in (0, 1)
    }
    both = door.compare(dataset="regression", losses=shared, seeds=2, settings=settings, quiet=True)
    assert shared.log_variance.item() == 0
    assert {int(row["seed"]): row["test/mae"] for _, row in both.runs.iterrows()} == {
        seed: pytest.approx(metrics["mae"]) for seed, metrics in alone.items()
    }


def test_a_class_is_built_with_its_settings(tiny, here):
    class Powered:
        def __init__(self, power=1.0):
            self.power = power

        def __call__(self, prediction, target):
            return (prediction - target).abs().pow(self.power).mean(-1)

    one, other = (
        door.train(dataset="regression", loss=loss, settings=tiny, quiet=True).metrics["test"]["mae"]
        for loss in ("mse", {"_target_": Powered, "power": 2.0})
    )
    assert one == pytest.approx(other, rel=1e-4)
    with pytest.raises(door.ConfigError, match="unknown; Powered takes power"):
        door.train(dataset="regression", loss=(Powered, {"pover": 2.0}), settings=tiny, quiet=True)


def test_a_loss_that_fails_leaves_the_others_and_a_warning(tiny, here):
    calls = []

    def breaks(prediction, target):
        calls.append(1)
        if len(calls) > 50:
            raise ZeroDivisionError("broken at last")
        return (prediction - target).square().mean(-1)

    with pytest.warns(RuntimeWarning, match="some runs have no result; the first error: .*broken at last"):
        found = door.compare(dataset="regression", losses=["mse", breaks], seeds=2, settings=tiny, quiet=True)
    assert found.leaderboard.set_index("loss")["n"].to_dict()["mse"] == 2
    assert found.remarks[0].startswith("not in the means: ")
    assert "not in the means" in found._repr_html_()


def test_equal_tuning(tiny, here):
    losses = ["mae", ("huber", {"delta": 0.5}), "huber"]
    tuned = door.tune(dataset="regression", losses=losses, trials=2, seeds=2, settings=tiny, quiet=True)
    assert set(tuned.tuning) == {"mae", "huber", "huber loss.delta=0.5"}
    assert "loss.delta" in tuned.tuning["huber"]
    assert "loss.delta" not in tuned.tuning["huber loss.delta=0.5"]
    assert all(math.isfinite(chosen["optimizer.lr"]) for chosen in tuned.tuning.values())


def test_the_catalogue_is_a_table():
    every, fitting = door.losses(), door.losses("regression")
    assert list(every.columns) == ["name", "family", "fits", "meaning", "parameters", "reference"]
    assert every["name"].is_unique
    assert set(fitting["name"]) < set(every["name"])
    assert all("regression" in fits for fits in fitting["fits"])
    assert set(door.losses("imbalanced")["name"]) == set(door.losses("binary")["name"])
    assert every.set_index("name").loc["huber", "parameters"] == {"delta": 1.0}
    with pytest.raises(door.ConfigError, match="nearest: regression"):
        door.losses("regresion")


def test_the_contract_of_a_loss_of_the_notebook(own_loss):
    assert not door.check(own_loss).unfit
    assert not door.check("huber", delta=2.0).broken
    assert door.check(lambda prediction, target: prediction.detach().abs().mean(-1)).unfit
    with pytest.raises(door.ConfigError, match="no such task type"):
        door.check(own_loss, task_type="regresion")


def test_progress_is_printed_unless_quiet(tiny, here, capsys):
    for quiet, lines in ((False, 3), (True, 0)):
        door.compare(dataset="regression", losses="mse", seeds=2, settings=tiny, quiet=quiet)
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == lines, said.out  # two runs, and where the comparison is
        assert not said.err
    assert not (here / "report.html").exists()
