"""Which rows are trained on and tested on: shares, classes, groups, times, columns and files that say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets.tables.frames import patients

from lossbench.core import ConfigError, give
from lossbench.datasets.table import table

FRAME = patients(400)
PATH = give(FRAME, "patients", "splits0")


def made(seed=0, path=PATH, target="outcome", **settings):
    return table(seed=seed, path=path, target=target, **settings)


def rows(splits):
    return {name: set(split.metadata["row"].tolist()) for name, split in splits}


def same(one, other):
    return one.info.fingerprint == other.info.fingerprint


def test_splits_are_a_partition_with_equal_shares_of_what_is_stratified_on(capsys):
    splits = made(stratify_on="outcome", name="stratified")
    assert "vary less than new rows would" in capsys.readouterr().err
    parts = rows(splits)
    assert sorted(row for part in parts.values() for row in part) == list(range(400))
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [256, 64, 80]
    share = (FRAME["outcome"] == "yes").mean()
    for _, split in splits:
        assert abs(split.targets.float().mean().item() - share) < 1.5 / len(split)
    assert splits.info.sampling.variation == "resplit"


def test_every_class_is_trained_on_and_measured():
    rare = FRAME.assign(outcome=["a"] * 4 + ["b"] * 40 + ["c"] * 356)
    for seed in range(10):
        splits = made(seed, path=give(rare, "rare", "splits14"))
        assert set(splits.train.targets.tolist()) == {0, 1, 2}
        assert all(len(set(split.targets.tolist())) > 1 for _, split in splits)


def test_seeds_split_anew_and_one_seed_alike():
    assert same(made(0), made(0))
    assert rows(made(0)) != rows(made(1))


def test_targets_and_inputs_stay_together():
    splits = made()
    for _, split in splits:
        expected = (FRAME["outcome"].iloc[split.metadata["row"].numpy()] == "yes").to_numpy()
        np.testing.assert_array_equal(split.targets.bool().numpy(), expected)
        age = FRAME["dose"].iloc[split.metadata["row"].numpy()].to_numpy()
        names = [column.name for column in splits.info.columns]
        assert np.corrcoef(split.inputs[:, names.index("dose")].numpy(), age)[0, 1] > 0.9999


def test_groups_never_cross_splits():
    for seed in range(5):
        splits = made(seed, group_on="patient")
        groups = [set(split.metadata["group"].tolist()) for _, split in splits]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert "patient" not in {column.name for column in splits.info.columns}
    sampling = splits.info.sampling
    assert sampling.train + sampling.validation + sampling.test == FRAME["patient"].nunique()


def test_folds_test_on_every_row_once():
    tests = [rows(made(seed, folds=5))["test"] for seed in range(5)]
    assert sorted(row for part in tests for row in part) == list(range(400))
    groups = [made(seed, folds=5, group_on="patient").test.metadata["group"].tolist() for seed in range(5)]
    assert sum(len(set(part)) for part in groups) == FRAME["patient"].nunique()


def test_a_search_never_sees_a_row_that_a_final_run_tests_on():
    searched = set.union(*(set.union(*rows(made(seed, stage="search")).values()) for seed in range(3)))
    tested = set.union(*(rows(made(seed, stage="final"))["test"] for seed in range(3)))
    seen = set.union(*(rows(made(seed, stage="search"))["train"] for seed in range(3)))
    assert not seen & tested
    assert searched


def test_the_latest_rows_are_tested_on():
    splits = made(time_on="seen")
    times = {name: FRAME["seen"].iloc[sorted(part)] for name, part in rows(splits).items()}
    assert times["train"].max() < times["validation"].min()
    assert times["validation"].max() < times["test"].min()
    assert same(splits, made(1, time_on="seen"))
    assert splits.info.sampling.variation == "fixed"
    names = [column.name for column in splits.info.columns]
    assert "seen day" not in names
    assert "seen month" in names


def test_a_column_may_name_the_splits():
    named = FRAME.assign(part=["Train", "valid", "test", "train"] * 100)
    splits = made(path=give(named, "named", "splits1"), split="part")
    assert {name: len(part) for name, part in rows(splits).items()} == {"train": 200, "validation": 100, "test": 100}
    assert all(row % 4 == 2 for row in rows(splits)["test"])
    without = FRAME.assign(part=["train", "train", "test", "train"] * 100)
    path = give(without, "without", "splits2")
    one, other = made(path=path, split="part"), made(1, path=path, split="part")
    assert rows(one)["test"] == rows(other)["test"]
    assert rows(one)["validation"] != rows(other)["validation"]
    assert {one.info.sampling.variation, other.info.sampling.variation} == {"fixed"}
    wrong = give(FRAME.assign(part=["train", "later"] * 200), "wrong", "splits3")
    with pytest.raises(ConfigError, match=r"row 2 has 'later'"):
        made(path=wrong, split="part")
    crossing = FRAME.assign(part=["train", "test"] * 200, patient=0)
    with pytest.raises(ConfigError, match="group"):
        made(path=give(crossing, "crossing", "splits4"), split="part", group_on="patient")


def test_another_file_may_be_tested_on(tmp_path):
    FRAME[:300].to_csv(tmp_path / "train.csv", index=False)
    FRAME[300:].to_csv(tmp_path / "test.csv", index=False)
    splits = made(path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"))
    assert rows(splits)["test"] == set(range(300, 400))
    FRAME[300:].drop(columns="dose").to_csv(tmp_path / "less.csv", index=False)
    with pytest.raises(ConfigError, match="dose"):
        made(path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "less.csv"))


def test_an_encoding_knows_the_training_rows_alone():
    """Rows beyond the training split may change, and nothing of the encoding does."""
    splits = made()
    changed = FRAME.copy()
    outside = sorted(rows(splits)["test"] | rows(splits)["validation"])
    changed.loc[outside, "dose"] *= 1000
    changed.loc[outside, "sex"] = "m"
    other = made(path=give(changed, "changed", "splits5"))
    assert rows(other) == rows(splits)
    assert torch.equal(other.train.inputs, splits.train.inputs)
    assert other.info.columns == splits.info.columns


def test_all_seeds_have_one_shape_so_that_they_share_a_stack():
    rare = FRAME.assign(rare=["once"] + ["often", "more"] * 199 + ["often"], hole=[np.nan] + [1.5, 2.5] * 199 + [2.5])
    path = give(rare, "rare", "splits11")
    found = [made(seed, path=path) for seed in range(12)]
    shapes = [[(column.name, column.levels) for column in splits.info.columns] for splits in found]
    assert all(shape == shapes[0] for shape in shapes)
    without = next(splits for splits in found if 0 not in rows(splits)["train"])
    row = next((s, s.metadata["row"].tolist().index(0)) for _, s in without if 0 in s.metadata["row"].tolist())
    place = [column.name for column in without.info.columns].index("rare")
    assert row[0].inputs[row[1], place] == 0, "a level that was not trained on is code 0"


def test_weights_have_mean_one_over_the_training_split():
    splits = made(weight="w")
    assert splits.train.weights.mean().item() == pytest.approx(1)
    expected = FRAME["w"].iloc[splits.test.metadata["row"].numpy()].to_numpy()
    ratio = splits.test.weights.numpy() / expected
    assert ratio == pytest.approx(ratio[0])
    assert "w" not in {column.name for column in splits.info.columns}
    with pytest.raises(ConfigError, match="row 1 has -1"):
        made(path=give(FRAME.assign(w=-1), "negative", "splits6"), weight="w")


def test_a_column_that_tells_the_target_alone_is_named(capsys):
    leaking = FRAME.assign(result=(FRAME["outcome"] == "yes") * 2.0 + 0.5, day=1)
    made(path=give(leaking, "leaking", "splits7"))
    assert "result tells outcome alone" in capsys.readouterr().err
    made(path=PATH, name="innocent")
    assert "tells" not in capsys.readouterr().err


def test_rows_without_a_target_and_classes_of_a_row_or_two_are_left_out_and_said(capsys):
    frame = FRAME.assign(outcome=FRAME["outcome"].where(FRAME.index > 9))
    frame.loc[20, "outcome"] = "perhaps"
    splits = made(path=give(frame, "holes", "splits8"), name="holes")
    assert sorted(row for part in rows(splits).values() for row in part) == [*range(10, 20), *range(21, 400)]
    said = capsys.readouterr().err
    assert "without a target are left out: 10" in said
    assert "perhaps" in said
    assert splits.info.classes == ("no", "yes")


def test_several_targets_have_a_centre_and_a_scale_each():
    splits = made(target=["age", "dose"], path=give(FRAME.fillna({"age": 40}), "several", "splits9"))
    assert [name for name, _, _ in splits.info.target_scales] == ["age", "dose"]
    assert splits.train.targets.median(0).values.abs().max() < 0.05
    for place, (name, center, scale) in enumerate(splits.info.target_scales):
        given = FRAME.fillna({"age": 40})[name].iloc[splits.test.metadata["row"].numpy()]
        np.testing.assert_allclose(splits.test.targets[:, place] * scale + center, given, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"group_on": "patien"}, "nearest: patient"),
        ({"group_on": "patient", "time_on": "seen"}, "set one of them"),
        ({"time_on": "sex"}, "time_on=sex"),
        ({"weight": "sex"}, "weight=sex"),
        ({"validation": 0.5, "test": 0.5}, "to train on"),
        ({"test": 1.5}, "share"),
        ({"folds": 3, "time_on": "seen"}, "folds=3"),
        ({"drop": list(FRAME.columns.drop("outcome"))}, "no column is left"),
        ({"scaling": "none"}, "standard or quantile"),
        ({"drop": ["dos"]}, "nearest: dose"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_line(settings, what):
    with pytest.raises(ConfigError, match=what) as refused:
        made(**settings)
    assert "\n" not in str(refused.value)


def test_inputs_larger_than_memory_lie_in_a_file_and_are_the_same(cache, monkeypatch):
    expected = made()
    monkeypatch.setattr("lossbench.core.machine.memory", lambda: 100)
    mapped = made()
    assert same(mapped, expected)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert ".inputs" in maps.read_text(encoding="utf-8")
    assert not list(cache.glob("*.inputs")), "it vanishes with the process"


def test_rows_without_a_group_stay_together_and_are_counted(capsys):
    alone = FRAME.copy()
    alone.loc[::7, "patient"] = None
    splits = made(path=give(alone, "alone", "splits9"), group_on="patient", name="alone")
    assert f"as one group: {alone['patient'].isna().sum():,}" in capsys.readouterr().err
    rows = set(alone.index[alone["patient"].isna()])
    parts = [rows & set(one.metadata["row"].tolist()) for one in (splits.train, splits.validation, splits.test)]
    assert sorted(map(bool, parts)) == [False, False, True]


def test_data_frames_of_polars_and_of_several_types_are_read_or_refused():
    mixed = pd.DataFrame({"x": [1, "a", 2.5] * 10, "y": range(30)})
    with pytest.raises(ConfigError, match="column x mixes"):
        made(path=give(mixed, "mixed", "splits10"), target="y")


def test_a_file_that_was_changed_is_read_again(tmp_path):
    path = tmp_path / "t.csv"
    FRAME.to_csv(path, index=False)
    before = made(path=str(path))
    FRAME.assign(dose=FRAME["dose"][::-1].to_numpy()).to_csv(path, index=False)
    assert not same(made(path=str(path)), before)


def test_a_split_of_one_class_is_refused(tmp_path):
    ordered = FRAME.sort_values("outcome").assign(day=range(400))
    with pytest.raises(ConfigError, match="split are of class yes"):
        made(path=give(ordered, "ordered", "splits12"), time_on="day")


def test_test_rows_that_are_training_rows_are_said(tmp_path, capsys):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    path = str(tmp_path / "t.csv")
    made(path=path, test_path=path, name="twice")
    assert "twice: 336 of 400 test rows equal a training row" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "what"),
    [(lambda frame: frame.assign(dose="much"), "dose"), (lambda frame: frame.drop(columns="age"), "age")],
)
def test_a_test_file_of_other_columns_is_refused(change, what, tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    change(FRAME).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ConfigError, match=what):
        made(path=str(tmp_path / "t.csv"), test_path=str(tmp_path / "other.csv"))


def test_the_columns_of_a_leak_can_be_dropped(capsys):
    when = pd.Timestamp("2020-01-01") + pd.to_timedelta((FRAME["outcome"] == "yes") * 400 + FRAME.index % 20, unit="D")
    path = give(FRAME.assign(when=when), "when", "splits13")
    made(path=path, name="leaky")
    assert "dataset.drop=['when']" in capsys.readouterr().err
    made(path=path, name="mended", drop=["when"])
    assert "mended: when" not in capsys.readouterr().err
