"""What columns are taken for, and the target, in tables that nobody here made."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.datasets as collection
from datasets.tables.frames import patients

from lossbench.core import ConfigError
from lossbench.datasets.tables import columns, targets
from lossbench.datasets.tables.memory import in_memory


def used(frame, leave=(), numbers=(), categories=()):
    return columns.understood(in_memory(frame), leave, numbers, categories, "t.csv")


def test_each_kind_is_found_and_what_is_left_out_is_named():
    found = used(patients())
    assert found.kinds == {
        **{"age": "number", "sex": "category", "seen": "date", "smoker": "category", "dose": "number"},
        **{"patient": "number", "w": "number", "outcome": "category"},
    }
    said = " ".join(found.remarks)
    assert all(name in said for name in ("id", "constant", "note"))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["2020-01-31", "2021-12-01"], "date"),
        (["2020-01-31T10:00:00Z", "2021-12-01T11:30:00Z"], "date"),
        (["31.01.2020", "01.12.2021"], "date"),
        (["01/31/2020", "12/01/2021"], "date"),
        (["31/01/2020", "01/12/2021"], "date"),
        ([" 1.5", "2"], "number"),
        (["a", "b"], "category"),
        (["2020-01-31", "soon"], "category"),
    ],
)
def test_texts_are_dates_or_numbers_where_all_of_them_are(texts, kind):
    found = used(pd.DataFrame({"x": texts * 20}))
    assert found.kinds == {"x": kind}


@pytest.mark.parametrize(("texts", "day"), [(["31.01.2020", "01.12.2021"], 31), (["01/31/2020", "12/01/2021"], 31)])
def test_days_and_months_are_not_confused(texts, day):
    table = in_memory(pd.DataFrame({"x": texts * 20}))
    form = columns.understood(table, (), (), (), "t").forms["x"]
    assert columns.moments(table.column("x"), form)[0].as_py().day == day


def test_a_mistake_among_numbers_is_named_with_its_row():
    frame = pd.DataFrame({"x": [*map(str, range(50)), "4o", "7"]})
    with pytest.raises(ConfigError, match=r"row 51 .* '4o'"):
        used(frame)
    assert used(frame, categories=["x"]).kinds == {"x": "category"}


def test_what_only_looks_like_an_identifier_stays():
    n = 50
    frame = pd.DataFrame({"income": np.arange(n) * 37 + 1000, "customer_id": np.arange(n) * 37 + 1000})
    assert set(used(frame).kinds) == {"income"}
    assert set(used(frame, numbers=["customer_id"]).kinds) == {"income", "customer_id"}


def target(frame, names, task_type=None, positive=None):
    return targets.understood(in_memory(frame), names, task_type, positive, "t.csv")


@pytest.mark.parametrize(
    ("load", "name", "task_type"),
    [
        (collection.fair, "affairs", "regression"),
        (collection.heart, "survival", "regression"),
        (collection.heart, "censors", "binary"),
        (collection.randhie, "hlthp", "binary"),
        (collection.anes96, "PID", "multiclass"),
        (collection.engel, "foodexp", "regression"),
    ],
)
def test_the_task_type_of_real_targets(load, name, task_type):
    assert target(load.load_pandas().data, [name]).task_type == task_type


def test_counts_are_called_so():
    assert "counts" in target(pd.DataFrame({"y": [0, 1, 2, 3, 40, 5, 6, 7, 8, 9, 10, 11, 12]}), ["y"]).remark


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        (["no", "yes"], "yes"),
        ([True, False], "true"),
        ([-1, 1], "1"),
        ([0.0, 1.0], "1"),
        (["negative", "positive"], "positive"),
        (["cat", "cat", "dog"], "dog"),
    ],
)
def test_the_positive_class_is_the_one_that_says_so_or_the_rarer(values, positive):
    found = target(pd.DataFrame({"y": values}), ["y"])
    assert found.classes[1] == positive
    assert positive in found.remark
    other = found.classes[0]
    assert target(pd.DataFrame({"y": values}), ["y"], positive=other).classes[1] == other


@pytest.mark.parametrize(
    ("values", "task_type", "positive", "what"),
    [
        ([1, 1, 1], None, None, "the same"),
        ([None, None, None], None, None, "no value"),
        (["a", "b", "c"], "regression", None, "row 1"),
        (["a", "b", "c"], "binary", None, "3 values"),
        (["a", "b", "b"], None, "c", "positive=c"),
        (["a", "b", "c"], None, "a", "positive=a"),
        ([1.5, 2.5, 3.5], "ordinal", None, "type=ordinal"),
    ],
)
def test_what_is_no_target_is_refused(values, task_type, positive, what):
    with pytest.raises(ConfigError, match=what):
        target(pd.DataFrame({"y": values}), ["y"], task_type, positive)


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(ConfigError, match="nearest: outcome"):
        target(patients(), ["outcom"])


def test_median_and_mad_are_the_scale_unless_half_the_values_are_equal():
    from scipy.stats import median_abs_deviation

    values = np.random.default_rng(0).standard_t(2, (1000, 1))
    center, scale = targets.scales(values)
    assert center == np.median(values)
    assert scale == pytest.approx(median_abs_deviation(values, scale="normal"), rel=1e-4)
    counts = np.array([[0.0]] * 60 + [[1.0]] * 40)
    assert targets.scales(counts)[1] == pytest.approx(counts.std())


EMPTY = [None] * 30


@pytest.mark.parametrize(
    "column",
    [
        EMPTY,
        pd.Series(EMPTY, dtype="float64"),
        pd.Series(EMPTY, dtype="object"),
        [b"x", b"y"] * 15,
        [["a"], ["b"]] * 15,
        [{"a": 1}, {"a": 2}] * 15,
    ],
    ids=["none", "nan", "objects", "bytes", "lists", "dicts"],
)
def test_columns_that_no_model_reads_are_left_out(column):
    found = used(pd.DataFrame({"x": column, "y": range(0, 60, 2)}))
    assert set(found.kinds) == {"y"}
    assert any("x" in remark for remark in found.remarks)


@pytest.mark.parametrize("text", ["12,000", "$1200", "31%", "1'200.50", "1.200,50", "€ 30", "3,5"])
def test_numbers_as_people_write_them_are_refused_by_name(text):
    frame = pd.DataFrame({"price": [text, *(text.replace("1", str(n)).replace("3", str(n)) for n in range(2, 9))] * 4})
    with pytest.raises(ConfigError, match="price"):
        used(frame)
    assert used(frame, categories=["price"]).kinds == {"price": "category"}


def test_numbers_that_no_model_computes_with_are_named():
    with pytest.raises(ConfigError, match="row 3 of column x"):
        used(pd.DataFrame({"x": [1.0, 2.0, 1e300, 4.0]}))


def test_days_that_do_not_exist_and_mixed_zones_make_no_dates():
    for texts in (["2020-01-01", "2020-02-31"], ["2020-01-01T10:00:00Z", "2020-01-02T10:00:00"]):
        assert used(pd.DataFrame({"x": texts * 20})).kinds == {"x": "category"}


def test_a_column_of_several_types_hurts_only_where_it_is_used():
    frame = pd.DataFrame({"mix": [1, "a", 2.5] * 10, "y": range(0, 60, 2)})
    with pytest.raises(ConfigError, match="mix mixes"):
        used(frame)
    assert set(used(frame, leave=["mix"]).kinds) == {"y"}


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        ([0.0, 1.0], "1", "1"),
        ([0, 1], "1.0", "1"),
        ([0, 1], "True", "1"),
        ([True, False], "0", "false"),
        (["no", "yes"], "no", "no"),
    ],
)
def test_a_positive_class_may_be_written_in_several_ways(values, positive, expected):
    assert target(pd.DataFrame({"y": values}), ["y"], positive=positive).classes[1] == expected
