"""The whole command line, with a real store, in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request

import pytest
from recorded import artifacts, measured, numbers, outside, runs, tagged
from small import SMALL

from lossbench import tracking

SHORT = ["train.steps=40", "train.eval_every=20"]
IMBALANCE = {"class_balanced", "class_weighted", "focal", "ldam", "logit_adjusted"}
LOSSES = {
    "regression": {
        *("mse", "mae", "huber", "log_cosh", "pinball", "expectile", "epsilon_insensitive", "charbonnier"),
        *("tukey", "cauchy", "welsch", "geman_mcclure", "barron", "gaussian_nll", "beta_nll"),
    },
    "mnist": {
        *("cross_entropy", "label_smoothing", "multi_margin", "crammer_singer", "brier", "square_logits", "poly1"),
        *("softmax_mae", "gce", "sce", "nce", "rce", "nce_rce", "agce", "bi_tempered"),
        *IMBALANCE,
    },
    "imbalanced": {"bce", "hinge", "squared_hinge", "brier", "square_logits", "poly1", "asymmetric", *IMBALANCE},
    "boxes": {"smooth_l1", "giou", "diou", "ciou", "mse", "mae", "huber", "log_cosh"},
    "vae": {"reconstruction", "kl", "elbo", "gaussian_elbo", "iwae", "mmd_wae"},
    "gan": {"minimax", "non_saturating", "lsgan", "gan_hinge", "wgan_gp", "wgan", "ragan", "dragan"},
    "faces": {
        *("triplet", "soft_triplet", "contrastive", "nt_xent", "supcon", "multi_similarity", "margin", "circle"),
        *("n_pairs", "arcface", "cosface", "proxy_anchor", "cross_entropy"),
    },
    "segmentation": {"bce", "focal", "dice", "dice_bce", "tversky", "focal_tversky", "jaccard", "lovasz"},
    "translation": {"cross_entropy", "label_smoothing", "focal", "mse"},
}
PLAYERS = {"gan": ("critic/", "generator/")}


@pytest.mark.parametrize("dataset", SMALL)
def test_compare_trains_every_compatible_loss(dataset, lossbench, store):
    said = lossbench("compare", f"dataset={dataset}", "seeds=1", *SMALL[dataset], *SHORT)
    assert said.code == 0, said
    found = runs(store)
    assert {run.data.tags["loss"] for run in found} == LOSSES[dataset]
    for run in found:
        assert run.data.tags["lossbench.outcome"] in ("finished", "collapsed")
        assert run.info.status == "FINISHED"
        declared = {name for name, _, _ in json.loads(run.data.tags["lossbench.metrics"])}
        ranges = tagged(run)
        assert ranges.keys() == declared
        for split in ("val", "test", "test_last"):
            assert not outside(measured(run, split), ranges)
        for split in ("test", "test_last"):
            assert {n.partition("/")[2] for n in run.data.metrics if n.startswith(f"{split}/")} == declared
        told = {f"train/{player}{what}" for player in PLAYERS.get(dataset, ("",)) for what in ("loss", "grad_norm")}
        assert told | {"time/train_s", "time/step_ms"} <= set(run.data.metrics)
        assert artifacts(store, run) == {"config.yaml", "model.json", "model.safetensors", "pictures"}
        assert run.data.params["loss"] == run.data.tags["loss"]
        assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["lossbench.data"][:36]
    assert len({run.data.tags["mlflow.runColor"] for run in found}) == len(found)
    assert len({run.data.tags["lossbench.data"] for run in found}) == 1
    assert "One seed says nothing" in said.out


def test_one_run_says_its_table_its_id_and_how_to_see_it(lossbench, store, here):
    said = lossbench("loss=huber", "loss.delta=2", "seed=3", "optimizer.lr=3e-4", *SHORT)
    (run,) = runs(store)
    assert run.info.run_id in said.out
    assert f"python -m lossbench ui {run.info.run_id}" in said.out
    assert "mae ↓" in said.out
    assert "contaminated" in said.out
    assert f"{run.data.metrics['test/mae']:.4f}" in said.out
    assert run.data.params["loss.delta"] == "2"
    assert run.data.params["optimizer.lr"] == "0.0003"
    assert run.data.tags["seed"] == "3"
    assert run.info.artifact_uri.startswith(str(here / "mlruns"))
    assert "━" not in said.err  # no progress bar where there is no terminal
    with sqlite3.connect(here / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_store_is_where_the_environment_or_the_setting_says(lossbench, here, migrated, monkeypatch):
    for name in ("theirs.db", "mine.db"):
        shutil.copy(migrated, here / name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///theirs.db")
    assert "tracking.uri=sqlite:///" in lossbench(*SHORT).out  # the command that shows it names the store
    assert lossbench("tracking.uri=sqlite:///mine.db", "seed=1", "tracking.location=files", *SHORT).code == 0
    theirs, mine, default = (tracking.Store(f"sqlite:///{here}/{name}.db") for name in ("theirs", "mine", "mlflow"))
    assert [run.data.tags["seed"] for run in runs(theirs)] == ["0"]
    assert [run.data.tags["seed"] for run in runs(mine)] == ["1"]
    assert not runs(default)
    assert runs(mine)[0].info.artifact_uri.startswith(str(here / "files"))


def test_six_runs_make_one_comparison(lossbench, store, here):
    said = lossbench("-m", "loss=bce,focal", "dataset=imbalanced", "seed=range(3)", *SMALL["imbalanced"], *SHORT)
    assert said.code == 0, said
    found, (comparison,) = runs(store), runs(store, "comparison")
    assert len(found) == 6
    name = comparison.data.tags["lossbench.comparison"]
    assert {run.data.tags["lossbench.comparison"] for run in found} == {name}
    assert name in said.out
    table = [line for line in said.out.splitlines() if line.count("±") > 1]
    assert len(table) == 2
    for loss in ("bce", "focal"):
        values = [run.data.metrics["test/auprc"] for run in found if run.data.tags["loss"] == loss]
        mean = sum(values) / 3
        spread = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
        assert any(loss in line and f"{mean:.4f} ± {spread:.4f}" in line for line in table)
    tables = {"table.csv", "table.md", "table.tex", "differences.csv", "runs.csv"}
    assert artifacts(store, comparison) == {"report.html", "report.json", *tables}
    assert (here / "report.html").stat().st_size > 1e6  # plotly is in it
    assert comparison.info.status == "FINISHED"


@pytest.mark.parametrize("dataset", SMALL)
def test_the_same_command_twice_gives_equal_bits(dataset, lossbench, store):
    for _ in range(2):
        assert (
            lossbench(f"dataset={dataset}", *SMALL[dataset], *SHORT, "optimizer=sgd", "train.schedule=cosine").code == 0
        )
    first, second = (numbers(store, run) for run in runs(store))
    assert first == second
    assert first["train/loss" if dataset not in PLAYERS else "train/critic/loss"]


def test_a_seed_changes_the_numbers(lossbench, store):
    lossbench("seed=1", *SHORT)
    lossbench("seed=2", *SHORT)
    first, second = (numbers(store, run) for run in runs(store))
    assert first != second


def test_an_experiment_file_that_the_command_line_narrows(lossbench, store):
    assert lossbench("experiment=outliers", "loss=huber", "seed=0,1", *SHORT).code == 0
    assert [run.data.tags["loss"] for run in runs(store)] == ["huber", "huber"]
    assert store.client.get_experiment_by_name("outliers")


def test_what_is_swept_beside_the_loss_is_named_in_the_table(lossbench):
    said = lossbench("-m", "loss=huber", "loss.delta=0.5,2", "seed=0,1", *SHORT)
    assert "huber delta=0.5" in said.out
    assert "huber delta=2" in said.out


def test_a_loss_of_the_users_own(lossbench, store, here, monkeypatch):
    (here / "my_module.py").write_text("def my_loss(p, t, *, k=2.0):\n    return (p - t).abs().pow(k).mean(-1)\n")
    (here / "mine/loss").mkdir(parents=True)
    (here / "mine/loss/power.yaml").write_text("_target_: my_module.my_loss\nk: 1.5\n")
    monkeypatch.syspath_prepend(str(here))
    assert lossbench("--config-dir=mine", "loss=power", *SHORT).code == 0
    assert lossbench("loss._target_=my_module.my_loss", "+loss.k=2", *SHORT).code == 0
    assert lossbench("loss=mse", *SHORT).code == 0
    mse, own, power = runs(store)
    assert [own.data.tags["loss"], power.data.tags["loss"]] == ["my_module.my_loss", "power"]
    assert numbers(store, own) == numbers(store, mse)  # |r|² is the squared error
    assert numbers(store, own) != numbers(store, power)


def test_divergence_is_a_result(lossbench, store):
    said = lossbench("optimizer=sgd", "optimizer.lr=1e6", *SHORT)
    assert said.code == 0
    (run,) = runs(store)
    assert run.data.tags["lossbench.outcome"] == "diverged"
    step = int(run.data.tags["lossbench.diverged_step"])
    assert 1 < step < 40
    assert f"diverged at step {step}" in said.out
    assert "last finite values: train/loss" in said.out
    assert not any(name.startswith("test") for name in run.data.metrics)


def test_a_diverged_run_is_counted_in_the_table(lossbench):
    said = lossbench("-m", "optimizer=sgd", "optimizer.lr=1e-2,1e6", "seed=0,1", *SHORT)
    assert said.code == 0
    assert "not in the means: 2 diverged" in said.out
    assert any("1e6" in line.replace("1000000.0", "1e6") and "–" in line for line in said.out.splitlines())


def test_list(lossbench):
    everything, binary = lossbench("list").out, lossbench("list", "dataset=imbalanced").out
    for loss in set.union(*LOSSES.values()):
        assert loss in everything
        assert (f"│ {loss:<30} │" in binary) == (loss in LOSSES["imbalanced"])
    assert "−α_t·(1 − p_t)^γ·log p_t" in everything.replace("\n", "")


def test_hydras_own_launcher_works(lossbench, store):
    assert lossbench("-m", "hydra/launcher=basic", "loss=mse,mae", *SHORT).code == 0
    assert len(runs(store)) == 2
    assert [run.info.status for run in runs(store, "comparison")] == ["FINISHED"]


@pytest.mark.slow
def test_a_real_server(here, lossbench, cache):
    """MLflow's own server, started by `lossbench ui`, takes a comparison through its REST interface."""
    port = "5077"
    words = [sys.executable, "-m", "lossbench", "ui", f"port={port}"]
    server = subprocess.Popen(words, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        said = lossbench("-m", "loss=mse,mae", f"tracking.uri={uri}", "experiment_name=remote", *SHORT)
        assert said.code == 0, said
        store = tracking.Store(uri)
        found = runs(store)
        assert len(found) == 2
        for run in found:
            assert run.info.status == "FINISHED"
            assert artifacts(store, run, "pictures") == {"prediction_against_truth.png"}
        told = lossbench("ui", found[0].info.run_id, f"tracking.uri={uri}").out
        assert f"{uri}/#/experiments/{found[0].info.experiment_id}/runs/{found[0].info.run_id}" in told
        page = urllib.request.urlopen(f"{uri}/?workflowType=machine_learning", timeout=10).read()
        assert b"<html" in page
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        server.stdout.close()
