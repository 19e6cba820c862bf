"""Tables as programs leave them: separators, encodings, headers, compressions, and what is wrong with a file."""

from __future__ import annotations

import gzip
import zipfile

import pandas as pd
import pyarrow as pa
import pytest
from datasets.tables.frames import patients

from lossbench.core import ConfigError
from lossbench.datasets.tables import reading, text
from lossbench.datasets.tables.reading import read
from lossbench.datasets.tables.text import Options

FRAME = patients(60)


def rewritten(read_table):
    """What was read, as text, whatever types a file keeps."""
    frame = read_table.to_pandas()
    return frame.assign(seen=pd.to_datetime(frame["seen"])).astype({"sex": object}).where(frame.notna(), None)


WRITERS = {
    "t.csv": lambda path: FRAME.to_csv(path, index=False),
    "t.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "semicolons.csv": lambda path: FRAME.to_csv(path, index=False, sep=";", decimal=","),
    "bars.txt": lambda path: FRAME.to_csv(path, index=False, sep="|", encoding="utf-16"),
    "t.csv.gz": lambda path: FRAME.to_csv(path, index=False),
    "t.csv.zip": lambda path: FRAME.to_csv(path, index=False),
    "bom.csv": lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig"),
    "windows.csv": lambda path: FRAME.to_csv(path, index=False, lineterminator="\r\n"),
    "t.parquet": lambda path: FRAME.to_parquet(path),
    "t.feather": lambda path: FRAME.to_feather(path),
    "t.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True, date_format="iso"),
    "t.json": lambda path: FRAME.to_json(path, orient="records", date_format="iso"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_holds_the_same(name, tmp_path, cache):
    WRITERS[name](tmp_path / name)
    found, _ = read(str(tmp_path / name))
    expected = FRAME.astype({"sex": object}).where(FRAME.notna(), None)
    pd.testing.assert_frame_equal(
        rewritten(found), expected, check_dtype=False, check_index_type=False, check_column_type=False
    )


def test_zstandard_is_read(tmp_path):
    with pa.output_stream(str(tmp_path / "t.csv.zst"), compression="zstd") as file:
        file.write(FRAME.to_csv(index=False).encode())
    assert read(str(tmp_path / "t.csv.zst"))[0].num_rows == len(FRAME)


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("5.1,3.5,a\n4.9,3.0,b\n", ["1", "2", "3"], 2),
        ("x,y\n1,2\n", ["x", "y"], 1),
        ("a,a,\n1,2,3\n4,5,6\n", ["a", "a 2", "column 3"], 2),
        ("name,what\n'x','y'\nb,c\n", ["name", "what"], 2),
        ('"a ""b""","c,d"\n"line\nbreak",2\n', ['a "b"', "c,d"], 1),
        ("1 2 3\n4 5 6\n", ["1", "2", "3"], 2),
        ("a  b   c\n1  2 3\n", ["a", "b", "c"], 1),
    ],
)
def test_names_are_found_or_made(content, names, rows, tmp_path):
    (tmp_path / "t.csv").write_text(content)
    found, _ = read(str(tmp_path / "t.csv"))
    assert (found.column_names, found.num_rows) == (names, rows)


def test_other_encodings_are_read_and_said(tmp_path):
    (tmp_path / "t.csv").write_bytes("größe,straße\n1,Weiß\n2,Öl\n".encode("cp1252"))
    found, remarks = read(str(tmp_path / "t.csv"))
    assert found.column("straße").to_pylist() == ["Weiß", "Öl"]
    assert any("cp1252" in remark for remark in remarks)
    asked, remarks = read(str(tmp_path / "t.csv"), Options(encoding="latin-1"))
    assert asked.column("straße").to_pylist() == ["Weiß", "Öl"]
    assert not remarks


def test_a_type_that_changes_after_the_first_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 64)
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 60 + "1.5,x\n")
    found, _ = read(str(tmp_path / "t.csv"))
    assert found.column("a").to_pylist()[-2:] == [1.0, 1.5]
    assert found.column("b").to_pylist()[-2:] == ["2", "x"]


def test_a_table_larger_than_memory_is_mapped_and_holds_the_same(tmp_path, cache, monkeypatch):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    FRAME.to_parquet(tmp_path / "t.parquet")
    expected = {name: read(str(tmp_path / name))[0] for name in ("t.csv", "t.parquet")}
    monkeypatch.setattr("lossbench.core.machine.memory", lambda: 1000)
    reading._read.cache_clear()
    for name, table in expected.items():
        before = pa.total_allocated_bytes()
        mapped, _ = read(str(tmp_path / name))
        assert mapped.to_pandas().equals(table.to_pandas())
        assert reading.digest(mapped) == reading.digest(table)
        assert pa.total_allocated_bytes() - before < 10_000
    assert len(list((cache / "tables").glob("*.arrow"))) == len(expected)
    reading._read.cache_clear()


BAD = {
    "t.xlsx": (b"PK", "Excel"),
    "empty.csv": (b"", "empty"),
    "ragged.csv": (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 fields"),
    "binary.csv": (bytes(range(256)) * 8, "not a text"),
    "broken.parquet": (b"nothing of that kind", "cannot be read"),
    "broken.csv.gz": (gzip.compress(b"a,b\n1,2\n" * 100)[:30], "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_a_line_that_names_it(name, tmp_path, cache):
    content, what = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=what) as refused:
        read(str(tmp_path / name))
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_names_the_nearest(tmp_path):
    (tmp_path / "patients.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match=r"nearest: patients\.csv"):
        read(str(tmp_path / "patient.csv"))
    with pytest.raises(ConfigError, match="folder"):
        read(str(tmp_path))


def test_an_archive_of_two_tables_is_refused(tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
        archive.writestr("b.csv", "a\n1\n")
    with pytest.raises(ConfigError, match="holds 2 tables"):
        read(str(tmp_path / "t.zip"))


def test_an_address_is_fetched(tmp_path, cache):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    found, _ = read((tmp_path / "t.csv").as_uri())
    assert found.num_rows == len(FRAME)
    with pytest.raises(ConfigError, match="cannot be fetched"):
        read((tmp_path / "no.csv").as_uri())
    import fsspec

    with fsspec.open("memory://bucket/t.csv", "w") as file:
        FRAME.to_csv(file, index=False)
    assert read("memory://bucket/t.csv")[0].num_rows == len(FRAME)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("\n\na,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("# a comment\n# another\na,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("0,1,2\n5,6,7\n8,9,1\n", {"0": [5, 8], "1": [6, 9], "2": [7, 1]}),
        ("zip,b\n00501,2\n10001,4\n", {"zip": ["00501", "10001"], "b": [2, 4]}),
        ("a;b\n1,5;x\n2,25;y\n", {"a": [1.5, 2.25], "b": ["x", "y"]}),
        ("a;b\n12,000;x\n58,000;y\n", {"a": ["12,000", "58,000"], "b": ["x", "y"]}),
    ],
)
def test_the_beginning_of_a_file_and_its_codes_are_understood(content, columns, tmp_path):
    (tmp_path / "t.csv").write_text(content)
    assert read(str(tmp_path / "t.csv"))[0].to_pydict() == columns


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_further_values_may_mean_missing_in_any_form(name, tmp_path, cache):
    frame = pd.DataFrame({"x": [1.5, -999.0, 3.0], "y": ["a", "unknown", "b"], "n": [1, -999, 3]})
    getattr(frame, "to_csv" if name.endswith("csv") else "to_parquet")(tmp_path / name, index=False)
    found, _ = read(str(tmp_path / name), Options(missing=("-999", "unknown")))
    assert found.to_pydict() == {"x": [1.5, None, 3.0], "y": ["a", None, "b"], "n": [1, None, 3]}


@pytest.mark.parametrize("content", ["[[1,2],[3,4]]", "5", "{", '[1, {"a": 2}]'])
def test_json_that_is_no_table_is_refused(content, tmp_path):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(ConfigError, match=r"t\.json"):
        read(str(tmp_path / "t.json"))
