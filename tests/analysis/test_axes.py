"""Axes: what is shown, what stands at the edge, and that nothing is hidden."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from analysis.made import Made, records

from lossbench.analysis import curves, figures
from lossbench.analysis.axes import axis
from lossbench.analysis.verdict import judge

IOU = {"a": [0.97, 0.975, 0.96, 0.972, 0.968, 0.6], "b": [0.955, 0.96, 0.95, 0.958, 0.952, 0.957]}
RANGES = {"lossbench.ranges": json.dumps({"iou": [0, 1], "error": [0, None]})}


def judged(values=None, tags=RANGES):
    values = values or IOU
    runs = [
        Made(loss, seed, metrics={"test/iou": value}, objective=value, tags=tags)
        for loss, own in values.items()
        for seed, value in enumerate(own)
    ]
    return judge(records(*runs, metrics=[("iou", "↑", "")]))


def metadata(figure):
    """Of every mark: where it is drawn, its symbol, and what it says."""
    for trace in figure.data:
        if trace.mode != "lines":
            said = [trace.hovertext] * len(trace.x) if isinstance(trace.hovertext, str) else trace.hovertext
            symbols = trace.marker.symbol
            yield from zip(
                trace.x, [symbols] * len(trace.x) if isinstance(symbols, str) else symbols, said, strict=True
            )


def test_values_side_by_side_are_all_shown():
    values = np.random.default_rng(0).normal(5, 2, (10, 4))
    shown = axis(*((np.median(one), one) for one in values.T))
    assert (shown.low, shown.high) == (values.min(), values.max())
    assert not shown.outside(values).any()
    np.testing.assert_array_equal(shown.place(values), values)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("far", [100, 1e9])
def test_one_value_far_away_stretches_nothing_and_stands_at_the_edge(far, sign):
    values = sign * np.array([1.0, 1.1, 0.9, 1.2, 1.05, far])
    shown, without = axis((sign, values)), axis((sign, values[:-1]))
    assert (shown.low, shown.high) == (without.low, without.high)
    assert shown.outside(values).tolist() == [0, 0, 0, 0, 0, sign]
    inside = shown.range[0] < shown.place(values)
    assert (inside & (shown.place(values) < shown.range[1])).all()


@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [0.0, 0.0], [1.0], [1, 1, 1, 1, 1, 0.98], [2.0, np.nan, 2.1]])
def test_few_values_or_equal_ones_have_an_axis(values):
    shown = axis((np.nanmedian(values), values), (np.nan, [np.nan]))
    assert shown.range[0] < np.nanmin(values) <= np.nanmax(values) < shown.range[1]


def test_an_outlier_is_a_triangle_that_says_its_value():
    figure = figures.seeds(judged())
    low, high = figure.layout.xaxis.range
    assert 0.85 < low < high < 1
    found = list(metadata(figure))
    assert all(low <= x <= high for x, _, _ in found)
    assert {said for _, symbol, said in found if "triangle" in symbol} == {
        "a, seed 5: 0.6",
        next(said for _, _, said in found if said.startswith("a: mean")),
    }
    drawn = [said for _, _, said in found if "seed" in said]
    assert len(drawn) == 12, "a run is not shown"


def test_error_bars_end_at_the_edge_or_where_they_should():
    found = judged()
    figure, board = figures.seeds(found), found.leaderboard.set_index("loss")
    low, high = figure.layout.xaxis.range
    for trace in figure.data:
        if trace.error_x.array is not None:
            loss = trace.hovertext[0]
            ends = [trace.x[0] - trace.error_x.arrayminus[0], trace.x[0] + trace.error_x.array[0]]
            assert low <= ends[0] < ends[1] <= high
            assert ends[1] == pytest.approx(board.loc[loss, "iou high"])
            assert (ends[0] == pytest.approx(board.loc[loss, "iou low"])) == (loss == "b")


def test_an_interval_that_all_share_is_no_outlier():
    figure = figures.baseline(judged())
    assert not any("triangle" in symbol for _, symbol, _ in metadata(figure))


def test_of_differences_one_long_interval_is_cut_and_says_its_end():
    random = np.random.default_rng(0)
    near = {loss: list(0.9 + 0.01 * random.standard_normal(6)) for loss in ("base", "b", "c")}
    figure = figures.baseline(judged(near | {"far": [0.91, 0.9, 0.89, 0.9, 0.92, 0.1]}))
    cut = [said for _, symbol, said in metadata(figure) if "triangle" in symbol]
    assert len(cut) == 1
    assert cut[0].startswith("far − base")


def test_a_range_has_room_but_no_more_on_its_axis():
    figure = figures.seeds(judged({"a": [1, 1, 0.99, 0.98, 1, 0.97], "b": [0.9, 0.91, 0.93, 0.88, 0.9, 0.92]}))
    low, high = figure.layout.xaxis.range
    assert high <= 1 + 0.08 * (high - low)


def test_a_band_that_one_run_carries_off_is_cut_with_a_triangle_at_its_end():
    points = np.linspace(1, 2, 5)
    far = np.array([0.1, 0.1, 900, 500, 0.1])
    steps = pd.Index([10, 20, 30, 40, 50], name="step")
    bands = {
        "a": pd.DataFrame({"low": points - 0.1, "median": points, "high": points + 0.1}, index=steps),
        "b": pd.DataFrame({"low": points - 0.1, "median": points, "high": points + far}, index=steps),
    }
    figure = curves.curves(judged(), {"val/iou": bands}, "validation")
    drawn = np.concatenate([trace.y for trace in figure.data])
    assert drawn.max() < 5
    (triangle,) = [trace for trace in figure.data if trace.mode == "markers"]
    assert (triangle.x[0], triangle.hovertext, triangle.legendgroup) == (30, "the band reaches 901.5", "b")
