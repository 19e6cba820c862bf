"""Encoded rows, compared with scikit-learn's transformers, and kept from one machine to another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from datasets.tables.frames import patients
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OrdinalEncoder, QuantileTransformer, StandardScaler

from lossbench.core import ConfigError
from lossbench.datasets.tables import columns, encoding
from lossbench.datasets.tables.encoding import Encoding
from lossbench.datasets.tables.memory import in_memory

FRAME = patients()


def fitted(frame, scaling="standard", undated=()):
    table = in_memory(frame)
    return Encoding.fit(table, columns.understood(table, (), (), (), "t.csv"), scaling, undated)


def column(found, encoded, name):
    return encoded[:, [one.name for one in found.columns].index(name)]


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_numbers_are_those_of_scikit_learn(scaling):
    train, other = FRAME[:200], FRAME[200:]
    found = fitted(train, scaling)
    encoded = found.encode(in_memory(other))
    imputer = SimpleImputer(strategy="median").fit(train[["age"]].to_numpy())
    known = train[["age"]].dropna().to_numpy()
    quantile = QuantileTransformer(n_quantiles=len(known), output_distribution="normal", subsample=None)
    scaler = (quantile if scaling == "quantile" else StandardScaler()).fit(known)
    expected = scaler.transform(imputer.transform(other[["age"]].to_numpy()))
    np.testing.assert_allclose(column(found, encoded, "age"), expected[:, 0], rtol=1e-5, atol=1e-5)
    missing = MissingIndicator().fit(train[["age"]]).transform(other[["age"]])[:, 0]
    np.testing.assert_array_equal(column(found, encoded, "age is missing"), missing)


def test_categories_are_those_of_scikit_learn_and_what_is_unseen_is_code_zero():
    train, other = FRAME[:200], FRAME[200:].assign(sex="x")
    found = fitted(train)
    codes = column(found, found.encode(in_memory(train)), "sex")
    reference = OrdinalEncoder(encoded_missing_value=-1).fit_transform(train[["sex"]])[:, 0]
    np.testing.assert_array_equal(codes, reference + 1)
    assert not column(found, found.encode(in_memory(other)), "sex").any()


def test_levels_beyond_the_limit_are_hashed_and_the_same_everywhere():
    frame = pd.DataFrame({"x": [f"level {i % 400}" for i in range(4000)], "y": range(4000)})
    found = fitted(frame)
    (one,) = [c for c in found.columns if c.name == "x"]
    assert one.levels == encoding.EXACT + 1
    codes = column(found, found.encode(in_memory(frame[:800])), "x")
    np.testing.assert_array_equal(codes[:400], codes[400:])
    assert codes.min() >= 1
    assert 180 < len(set(codes[:400])) < 250, "400 levels in 250 codes leave about a fifth of these empty"


def test_dates_give_their_day_their_month_and_their_weekday():
    found = fitted(FRAME)
    encoded = found.encode(in_memory(FRAME))
    days = (FRAME["seen"] - pd.Timestamp("1970-01-01")).dt.days.to_numpy().reshape(-1, 1)
    np.testing.assert_allclose(
        column(found, encoded, "seen day"), StandardScaler().fit_transform(days)[:, 0], atol=1e-5
    )
    levels = {one.source + one.part: one.levels for one in found.categories}
    month = [levels["seenmonth"].index(str(m)) + 1 for m in FRAME["seen"].dt.month]
    np.testing.assert_array_equal(column(found, encoded, "seen month"), month)
    weekday = [levels["seenweekday"].index(str(d)) + 1 for d in (day.date().weekday() for day in FRAME["seen"])]
    np.testing.assert_array_equal(column(found, encoded, "seen weekday"), weekday)
    assert "seen day" not in {one.name for one in fitted(FRAME, undated=["seen"]).columns}


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_what_is_saved_encodes_to_the_bit_the_same(scaling, tmp_path):
    found = fitted(FRAME[:200], scaling)
    found.save(tmp_path)
    assert not list(tmp_path.glob("*.pkl"))
    again = Encoding.load(tmp_path)
    np.testing.assert_array_equal(again.encode(in_memory(FRAME)), found.encode(in_memory(FRAME)))
    assert again.columns == found.columns


def test_edges_are_quantiles_that_increase():
    for one in fitted(FRAME).columns:
        if one.edges:
            assert (np.diff(one.edges) > 0).all()
    dose = next(c for c in fitted(FRAME).columns if c.name == "dose")
    scaled = StandardScaler().fit_transform(FRAME[["dose"]])[:, 0]
    np.testing.assert_allclose(dose.edges, np.quantile(scaled, np.linspace(0, 1, 17)), atol=1e-5)


def test_rows_without_a_column_or_of_another_kind_are_refused():
    found = fitted(FRAME)
    with pytest.raises(ConfigError, match="dose"):
        found.encode(in_memory(FRAME.drop(columns="dose")))
    with pytest.raises(ConfigError, match=r"dose.*'much'"):
        found.encode(in_memory(FRAME.assign(dose="much")))
    with pytest.raises(ConfigError, match="seen"):
        found.encode(in_memory(FRAME.assign(seen=True)))


def test_the_order_of_columns_and_rows_does_not_matter():
    found = fitted(FRAME)
    encoded = found.encode(in_memory(FRAME))
    np.testing.assert_array_equal(found.encode(in_memory(FRAME[FRAME.columns[::-1]])), encoded)
    np.testing.assert_array_equal(found.encode(in_memory(FRAME[::-1])), encoded[::-1])


def test_whole_numbers_as_categories_are_the_same_as_integers_or_floats():
    table = in_memory(pd.DataFrame({"zip": [1, 2, 3] * 10}))
    used = columns.understood(table, (), (), ("zip",), "t.csv")
    found = Encoding.fit(table, used, "standard")
    floats = in_memory(pd.DataFrame({"zip": [1.0, 2.0, np.nan]}))
    assert found.encode(floats)[:, 0].tolist() == [1, 2, 0]
