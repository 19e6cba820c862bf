"""A comparison of many seeds: figures draw the first of them and say so, numbers count all."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.made import EPOCH, Made, record, table
from mlflow.entities import Metric

from lossbench.analysis import confidence, curves, figures, page, report, stats

DRAWN, SEEDS = 6, 8


@pytest.fixture
def large(store, monkeypatch):
    """A report, and its page, on more seeds than figures draw and more failures than tables list."""
    monkeypatch.setattr(figures, "SEEDS", DRAWN)
    monkeypatch.setattr(curves, "SEEDS", DRAWN)
    monkeypatch.setattr(page, "FAILURES", 2)
    runs = [Made(loss, seed, seed + more) for seed in range(SEEDS) for loss, more in (("mse", 1.0), ("mae", 2.5))]
    runs += [Made("huber", seed, None, "diverged") for seed in range(3)]
    for made, run_id in zip(runs, record(store.client, *runs, experiment="large"), strict=True):
        if made.error:
            points = [Metric("val/error", made.error, EPOCH, step) for step in (1, 2)]
            store.client.log_batch(run_id, points)
    made = report.make(store.client, "large")
    return made, page.page(made, store.client)


def test_the_first_seeds_are_drawn_and_all_count(store, large):
    (verdict,) = large[0].verdicts
    dots = [said for trace in figures.seeds(verdict).data for said in np.ravel(trace.hovertext or ()) if "seed" in said]
    assert sorted(dots) == sorted(
        f"{loss}, seed {seed}: {seed + more:.5g}" for seed in range(DRAWN) for loss, more in (("mse", 1), ("mae", 2.5))
    )
    middle = {loss: band["median"].tolist() for loss, band in curves.bands(verdict, store.client)["val/error"].items()}
    assert middle == {"mse": [(DRAWN - 1) / 2 + 1] * 2, "mae": [(DRAWN - 1) / 2 + 2.5] * 2}
    assert verdict.leaderboard.set_index("loss").loc["mse", "error"] == (SEEDS - 1) / 2 + 1


def test_the_page_says_what_it_leaves_out(large):
    text = large[1]
    assert f"The first {DRAWN} of {SEEDS} seeds of each loss are drawn; means, intervals and tests count all." in text
    assert f"steps of each curve, from the first {DRAWN} seeds of each loss, are drawn" in text
    assert "3 runs without a result" in text
    assert "The first 2 of 3 runs; runs.csv has all." in text


def test_a_page_that_leaves_nothing_out_says_nothing(store, large, monkeypatch):
    monkeypatch.setattr(figures, "SEEDS", SEEDS)
    monkeypatch.setattr(page, "FAILURES", 3)
    text = page.page(large[0], store.client)
    assert not any(words in text for words in ("seeds of each loss", "of 3 runs"))


def test_what_is_drawn_in_parts_is_what_is_drawn_at_once(monkeypatch):
    values = table(np.random.default_rng(3).standard_normal((20, 3)) + np.array([0, 0.5, 1]))

    def found(seeds, parts):
        monkeypatch.setattr(confidence, "PART", seeds)
        monkeypatch.setattr(stats, "PARTS", parts)
        intervals = confidence.intervals(values, np.random.default_rng(0))
        pairs = stats.differences(values, np.random.default_rng(0), higher_is_better=True, margin=0.3)
        return [*intervals.to_numpy().ravel(), *pairs.drop(columns=["a", "b"]).to_numpy(float).ravel()]

    assert found(7, 16) == pytest.approx(found(20, 1), rel=1e-12)
