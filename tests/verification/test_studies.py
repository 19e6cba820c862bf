"""Studies: each has its experiment; gates say what records say; what this code has recorded is not trained again."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.made import Made, records
from hydra import compose, initialize_config_dir

from lossbench.config import schema
from lossbench.verification import empirical
from lossbench.verification.studies import Evidence, Judged, table

FILES = schema.CONFIGS / "experiment" / "verification"
NOISE = np.random.default_rng(0).normal(0, 0.01, (2, 200))


def runs(loss, mean, metric="test_last/accuracy", count=10, spread=1.0, row=0, **changed):
    """Finished runs around a mean; those of one row share their noise."""
    values = mean + spread * NOISE[row, :count]
    told = [("accuracy", "↑", ""), ("mae", "↓", "")]
    return told, [Made(loss, s, None, metrics={metric: float(v)}, **changed) for s, v in enumerate(values)]


def judged(study, *groups):
    made = [one for _, group in groups for one in group]
    return list(study.judge(Evidence(records(*made, metrics=groups[0][0]))))


def test_every_study_has_its_experiment():
    assert {path.stem for path in FILES.glob("*.yaml")} == set(empirical.STUDIES)


@pytest.mark.parametrize("name", empirical.STUDIES)
def test_an_experiment_is_a_comparison_on_ten_seeds_at_least(name):
    schema.register()
    with initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        cfg = compose("config", [f"experiment=verification/{name}"], return_hydra_config=True)
    sweeper = cfg.hydra.sweeper
    assert cfg.experiment_name == f"verification/{name}"
    assert cfg.question.endswith("?")
    assert str(sweeper.params.get("seed", f"range({sweeper.get('seeds')})")) in ("range(10)", "range(200)")
    assert empirical.STUDIES[name].claim.endswith(".")
    assert empirical.STUDIES[name].source


def test_an_order_holds_only_where_intervals_say_so():
    study = empirical.label_noise
    rising = runs("cross_entropy", 0.4), runs("gce", 0.8, spread=1.1), runs("nce_rce", 0.9, spread=0.9)
    assert [gate.holds for gate in judged(study, *rising)] == [True, True, True]
    equal = runs("cross_entropy", 0.4), runs("gce", 0.9), runs("nce_rce", 0.9, row=1)
    assert [gate.holds for gate in judged(study, *equal)] == [True, False, True]
    near = runs("cross_entropy", 0.8), runs("gce", 0.85, spread=1.1), runs("nce_rce", 0.9, spread=0.9)
    *order, spread = judged(study, *near)
    assert [gate.holds for gate in order] == [True, True]
    assert not spread.holds
    assert spread.measured == pytest.approx(0.1, abs=0.01)
    assert spread.interval[0] < spread.measured < spread.interval[1]


@pytest.mark.parametrize(("robust", "holds"), [(1.0, True), (1.99, False)])
def test_intervals_that_overlap_fail(robust, holds):
    groups = [runs("mse", 2.0, "test/mae"), *(runs(loss, robust, "test/mae") for loss in ("mae", "huber", "tukey"))]
    assert [gate.holds for gate in judged(empirical.outliers, *groups)] == [True, holds, holds, holds]


def test_the_worst_has_to_be_the_worst():
    groups = [runs("mse", 2.0, "test/mae"), *(runs(loss, 3.0, "test/mae") for loss in ("mae", "huber", "tukey"))]
    assert not any(gate.holds for gate in judged(empirical.outliers, *groups))


def test_a_loss_hardly_differs_from_itself_and_noise_that_leans_does():
    alike = runs("huber", 1.0, "test/mae", count=200)
    (gate,) = judged(empirical.same, alike)
    assert gate.holds
    assert 0.02 < gate.measured < 0.06
    assert gate.interval[0] < gate.measured < gate.interval[1]


def test_collapse_counts_runs_that_have_collapsed():
    told, good = runs("triplet", 0.0, "train/loss", params={"loss.miner": "none"}, spread=0.01)
    _, bad = runs("triplet", 0.05, "train/loss", params={"loss.miner": "hard"}, spread=0.01, outcome="collapsed", row=1)
    gates = judged(empirical.collapse, (told, good), (told, bad))
    assert [(gate.what.endswith("miner=none"), gate.holds) for gate in gates] == [(True, False), (False, True)]


def test_the_table_says_what_was_published(capsys):
    from rich.console import Console

    study = empirical.label_noise
    gates = judged(study, runs("cross_entropy", 0.4), runs("gce", 0.9), runs("nce_rce", 0.9, row=1))
    Console(width=160).print(table(Judged(study, gates, 200.0)))
    said = capsys.readouterr().out
    assert "20 points or more" in said
    assert "took 3 min" in said
    assert "fails" in said
    assert not Judged(study, gates, 1.0).holds
    assert not Judged(study, [], 1.0).holds


def test_a_name_that_no_study_has(lossbench):
    said = lossbench("verify", "--empirical", "outlier")
    assert said.code == 2
    assert "outlier: no such study" in said.err
    assert "label_noise" in said.err


def test_a_study_has_no_page_of_its_own(lossbench):
    said = lossbench("verify", "--empirical", "--html", "x.html")
    assert said.code == 2
    assert "--html" in said.err


@pytest.mark.slow
def test_a_study_is_trained_once_and_judged_again(lossbench, store):
    said = lossbench("verify", "--empirical", "outliers")
    assert said.code == 0, said
    assert said.out.count("holds") == 4
    assert "mae of mse" in said.out
    first = {run.info.run_id for run in store.find({"lossbench.kind": "run"})}
    assert len(first) == 40
    again = lossbench("verify", "--empirical", "outliers", f"tracking.uri={store.uri}")
    assert again.code == 0
    assert {run.info.run_id for run in store.find({"lossbench.kind": "run"})} == first
