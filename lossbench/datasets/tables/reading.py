"""Tables from files: Parquet, Feather, JSON lines and text of any separator, compressed or not, here or elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from lossbench.core import ConfigError, atomic_path, cache_folder, given, is_given, is_table, machine
from lossbench.core.failures import one_line
from lossbench.datasets.tables import text
from lossbench.datasets.tables.form import FOUND, Options
from lossbench.datasets.tables.memory import in_memory, without

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4", ".br": "brotli"}
PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow", ".ipc")
LINES, WHOLE = (".jsonl", ".ndjson"), (".json",)
EXCEL = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
GROWTH = 3  # bytes of memory, at most, that a byte of an uncompressed file takes
ROWS = 1 << 18  # in a batch of a table that is written to the cache


def read(path: str, options: Options = FOUND) -> tuple[pa.Table, tuple[str, ...]]:
    """The table at a path, URL, or path of `core.give`, and remarks on how it was understood.

    A file that would not fit into memory is written to the cache once, in Arrow's format, and mapped from there.

    Raises: ConfigError for what cannot be read, with the place in the file.
    """
    if is_given(path):
        try:
            return without(in_memory(given(path)), options.missing), ()
        except ImportError as error:
            raise ConfigError(f"dataset.path: {error}") from error
    here = _unzipped(_local(path), path)
    status = here.stat()
    table, remarks = _read(str(here), path, options, status.st_mtime_ns, status.st_size)
    return without(table, options.missing), remarks


@lru_cache(maxsize=2)  # every run of a comparison reads the same; a test file may be the second
def _read(here: str, path: str, options: Options, modified: int, size: int) -> tuple[pa.Table, tuple[str, ...]]:
    compression = COMPRESSIONS.get(Path(here).suffix.lower())
    form = Path(Path(here).stem if compression else here).suffix.lower()
    if form in EXCEL:
        raise ConfigError(f"dataset.path={path}: Excel is not read; save it there as CSV")
    large = size * (GROWTH if compression is None and form not in PARQUET else 4 * GROWTH) > machine.memory()
    try:
        if form in PARQUET:
            table = _mapped(here, modified, *_parquet_batches(here)) if large else _parquet(here)
            return _without_index(table), ()
        if form in FEATHER:
            return _without_index(_feather(here)), ()
        if form in LINES or form in WHOLE:
            return _json(here, compression, whole=form in WHOLE), ()
        if large:
            names, batches, remarks = text.batches(here, path, compression, options)
            return _mapped(here, modified, names, batches), remarks
        return text.read(here, path, compression, options)
    except (pa.ArrowException, OSError, TypeError, AttributeError, UnicodeError, ValueError) as error:
        raise ConfigError(f"dataset.path={path}: cannot be read as a table: {one_line(error)}") from error


def _local(path: str) -> Path:
    """The file itself; what lies elsewhere is copied to the cache. Raises: ConfigError where there is none."""
    if "://" in path:
        return _copied(path)
    here = Path(path).expanduser()
    if here.is_dir():
        tables = sorted(one.name for one in here.iterdir() if one.suffix.lower() in (*text.SUFFIXES, *PARQUET))
        example = f"; for example dataset.path={here / tables[0]}" if tables else ""
        raise ConfigError(f"dataset.path={path}: a folder, and a table is one file{example}")
    if not here.is_file():
        raise ConfigError(f"dataset.path={path}: no such file{_near(here)}")
    if not here.stat().st_size:
        raise ConfigError(f"dataset.path={path}: is empty")
    return here


def _unzipped(here: Path, path: str) -> Path:
    """The one file in a zip archive, copied to the cache; any other file itself."""
    if here.suffix.lower() != ".zip":
        return here
    import shutil
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(here) as archive:
            tables = [name for name in archive.namelist() if is_table(name) and not name.startswith("__MACOSX")]
            if len(tables) != 1:
                raise ConfigError(f"dataset.path={path}: holds {len(tables)} tables; unpack it and choose one")
            key = f"{here.resolve()} {here.stat().st_mtime_ns} {tables[0]}"
            copy = _folder("unpacked") / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}-{Path(tables[0]).name}"
            if not copy.exists():
                with archive.open(tables[0]) as source, atomic_path(copy) as part, part.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except BadZipFile as error:
        raise ConfigError(f"dataset.path={path}: no zip archive: {error}") from error
    return copy


def _folder(name: str) -> Path:
    folder = cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _near(here: Path) -> str:
    from difflib import get_close_matches

    if not here.parent.is_dir():
        return f"; nor is there a folder {here.parent}"
    near = get_close_matches(here.name, [one.name for one in here.parent.iterdir() if one.is_file()], n=1)
    return f"; nearest: {near[0]}" if near else ""


def _copied(address: str) -> Path:
    """A copy in the cache of a file elsewhere, fetched anew by each process that reads it."""
    folder = _folder("remote")
    name = Path(address.partition("?")[0]).name or "table"
    copy = folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{name}"
    return _fetched(address, copy)


@lru_cache(maxsize=8)
def _fetched(address: str, copy: Path) -> Path:
    import shutil
    from urllib.request import urlopen

    try:
        if address.startswith(("http://", "https://", "file://")):
            with urlopen(address, timeout=60) as source, atomic_path(copy) as part, part.open("wb") as target:
                shutil.copyfileobj(source, target)
        else:
            import fsspec

            with fsspec.open(address, "rb") as source, atomic_path(copy) as part, part.open("wb") as target:
                shutil.copyfileobj(source, target)
    except Exception as error:  # each file system raises its own
        raise ConfigError(f"dataset.path={address}: cannot be fetched: {one_line(error)}") from error
    return copy


def _parquet(here: str) -> pa.Table:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(here).read()


def _parquet_batches(here: str) -> tuple[pa.Schema, Iterable[pa.RecordBatch]]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(here)
    return file.schema_arrow, file.iter_batches(ROWS)


def _feather(here: str) -> pa.Table:
    """An Arrow file, mapped rather than read where it is not compressed."""
    import pyarrow.feather

    return pyarrow.feather.read_table(here, memory_map=True)


def _json(here: str, compression: str | None, *, whole: bool) -> pa.Table:
    import pyarrow.json

    with pa.input_stream(here, compression=compression) as stream:
        if not whole:
            return pyarrow.json.read_json(stream)
        rows = json.loads(stream.read())
    if not isinstance(rows, Mapping) and not (isinstance(rows, list) and all(isinstance(r, Mapping) for r in rows)):
        raise ValueError("neither rows with names nor columns with names")
    if isinstance(rows, Mapping):  # a list a column
        return in_memory(rows)
    return in_memory({name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)})


def _mapped(here: str, modified: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """The table written to the cache batch by batch, and mapped from there; an earlier copy is used again."""
    path = (
        _folder("tables")
        / f"{hashlib.sha256(f'{Path(here).resolve()} {modified} {schema}'.encode()).hexdigest()[:20]}.arrow"
    )
    if not path.exists():
        with atomic_path(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _without_index(table: pa.Table) -> pa.Table:
    """Without the row numbers that pandas writes beside the columns."""
    return table.drop_columns([name for name in table.column_names if name.startswith("__index_level_")])


def digest(table: pa.Table) -> str:
    """SHA-256 over the names, types and values of all columns, whatever the chunks in which they lie."""
    total = hashlib.sha256(str(table.schema.remove_metadata()).encode())
    for start in range(0, len(table), ROWS):
        for batch in table.slice(start, ROWS).combine_chunks().to_batches():
            total.update(memoryview(batch.serialize()))
    return total.hexdigest()


def as_table(rows: Any, settings: Mapping[str, Any], texts: tuple[str, ...] = ()) -> pa.Table:
    """New rows as a table: a file, a data frame, or columns by name.

    `settings` are those of `dataset=table` that say how values are read; `texts` are columns that hold texts.
    """
    missing = settings.get("missing") or ()
    missing = (missing,) if isinstance(missing, str) else tuple(map(str, missing))
    if not isinstance(rows, str | Path):
        return without(in_memory(rows), missing)
    how = {name: settings.get(name) for name in ("separator", "encoding", "header")}
    return read(str(rows), Options(**how, missing=missing, texts=texts))[0]
