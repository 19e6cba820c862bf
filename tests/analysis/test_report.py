"""A report as a whole: what it is made of, what it leaves behind, and stores that it cannot read."""

from __future__ import annotations

import sqlite3

import pandas as pd
import pytest
from analysis.made import Made, arms, record, searched, tell, trial

from lossbench.analysis import files, report
from lossbench.core import ConfigError


def test_every_dataset_has_a_verdict_and_its_sentence(store):
    runs = [
        Made(loss, s, s + more, dataset=d) for d in "yx" for loss, more in (("a", 0.0), ("b", 0.5)) for s in range(6)
    ]
    record(store.client, *runs)
    made = report.make(store.client, "test")
    assert [verdict.dataset for verdict in made.verdicts] == ["x", "y"]
    assert len(made.sentences) == 2
    assert all(
        sentence.startswith("a is best by test error on new data like these; b is significantly worse by")
        for sentence in made.sentences
    )
    assert all((verdict.runs["dataset"] == verdict.dataset).all() for verdict in made.verdicts)


def test_a_run_that_was_never_built_hides_no_other(store):
    """Its record names no metrics, and the oldest of a comparison may be such a one."""
    none = {"lossbench.metrics": None, "lossbench.data": None}
    runs = [Made("c", 0, None, "failed", dataset=d, start=0, tags=none) for d in "xz"]
    runs += [Made(loss, s, s + n / 3, dataset="x") for n, loss in enumerate("ab") for s in range(5)]
    record(store.client, *runs)
    made = report.make(store.client, "test")
    (found,) = made.verdicts
    assert (found.dataset, found.metric[0]) == ("x", "error")
    assert found.leaderboard.set_index("loss").loc["c", "outcomes"] == "1 failed"
    assert "no run on z got as far as its data and its model" in [remark.text for remark in made.remarks]


def test_files_of_a_report_leave_no_run_and_no_pair_out(store, tmp_path):
    runs = [Made(loss, s, s + n / 3, dataset=d) for d in "xy" for n, loss in enumerate("abc") for s in range(3)]
    runs += [Made("a", 3, None, outcome, dataset="x") for outcome in ("killed", "diverged", "running")]
    runs[0].params["loss.delta"] = "2"  # a setting that was not chosen is a run all the same
    record(store.client, *runs)
    folder = tmp_path / "files"
    folder.mkdir()
    files.write(report.make(store.client, "test"), store.client, folder)
    names = {"report.html", "report.json", "table.md", "table.csv", "table.tex", "differences.csv", "runs.csv"}
    assert {path.name for path in folder.iterdir()} == names
    found = pd.read_csv(folder / "runs.csv")
    assert len(found) == len(runs)
    assert found["outcome"].value_counts().to_dict() == {"finished": 18, "killed": 1, "diverged": 1, "running": 1}
    pairs = pd.read_csv(folder / "differences.csv")
    assert pairs.groupby("dataset").size().to_dict() == {"x": 3, "y": 3}
    assert set(pairs["metric"]) == {"error"}
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_files_of_a_tuned_comparison_have_every_trial_and_each_chosen_setting(store, tmp_path):
    numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    tell(store.client, "c", *(searched(loss) for loss in ("a", "b/../ c")))
    runs = [arms(loss, tuned=numbers, default=numbers[::-1]) for loss in ("a", "b/../ c")]
    trials = [trial(loss, k, 1.0 + k, optimizer__lr=0.01) for loss in ("a", "b/../ c") for k in range(3)]
    record(store.client, *runs[0], *runs[1], *trials, comparison="c")
    folder = tmp_path / "files"
    folder.mkdir()
    files.write(report.make(store.client, "c"), store.client, folder)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"trials.csv", "tuning.csv", "tuned/experiment/a_on_toy.yaml", "tuned/experiment/b_.._c_on_toy.yaml"} < there
    assert len(there) == 11
    found = pd.read_csv(folder / "trials.csv")
    assert found.groupby("loss")["score"].apply(list).to_dict() == {"a": [1, 2, 3], "b/../ c": [1, 2, 3]}
    gains = pd.read_csv(folder / "tuning.csv").set_index("loss")
    assert gains["difference"].tolist() == pytest.approx([0, 0])
    assert (gains["dataset"] == "toy").all()
    assert pd.read_csv(folder / "runs.csv")["arm"].value_counts().to_dict() == {"tuned": 12, "default": 12}
    assert "Equal tuning (3 trials a loss, random)" in (folder / "table.md").read_text(encoding="utf-8")


def test_a_comparison_without_runs_is_refused(store):
    tags = {"lossbench.kind": "comparison", "lossbench.comparison": "empty"}
    record(store.client, Made("", "", tags=tags))
    with pytest.raises(ConfigError, match="report empty: holds no runs"):
        report.make(store.client)


def test_a_metric_or_baseline_that_is_not_there_is_refused(lossbench, store):
    record(store.client, *(Made(loss, s, 1.0) for loss in "ab" for s in range(2)))
    for words, told in (
        (["--metric", "auprc"], "--metric auprc: no metric of toy; there are error, score"),
        (["--baseline", "z"], "--baseline z: was not compared on toy; there are a, b"),
    ):
        said = lossbench("report", "test", *words)
        assert (said.code, said.out) == (2, "")
        assert told in said.err


@pytest.mark.parametrize("version", ["ffffffffffff", "4465047574b1"])
def test_a_store_of_another_mlflow_is_refused_in_two_lines(lossbench, here, version):
    """The one is of a version to come, the other of one that has passed, and has an experiment."""
    path = here / "mlflow.db"
    with sqlite3.connect(path) as connection:
        assert connection.execute("UPDATE alembic_version SET version_num = ?", (version,)).rowcount == 1
        if version == "4465047574b1":
            connection.execute("INSERT INTO experiments (experiment_id, name, workspace) VALUES (7, 'mine', 'default')")
    connection.close()
    said = lossbench("report")
    assert (said.code, said.out) == (2, "")
    assert len(said.err.strip().splitlines()) <= 2
    assert said.err.startswith(f"lossbench: tracking.uri=sqlite:///{path}: MLflow cannot use it: ")
    assert version in said.err
    assert "mlflow db upgrade" in said.err
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(version,)]
    connection.close()


def test_a_page_that_cannot_be_written_whole_leaves_the_older_one(tmp_path):
    path = tmp_path / "report.html"
    files.save("older", path)
    with pytest.raises(UnicodeEncodeError):
        files.save("newer \ud800", path)
    assert path.read_text(encoding="utf-8") == "older"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    (link := tmp_path / "link.html").symlink_to(path)
    files.save("newer", link)
    assert path.read_text(encoding="utf-8") == "newer"
