"""Tables from text, in the form that the beginning of the file has."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
from pyarrow import csv as arrow

from lossbench.core import ConfigError
from lossbench.datasets.tables.form import Form, Options, understood, western

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data")
BLOCK = 1 << 23  # bytes that are parsed at once


def read(here: str, path: str, compression: str | None, options: Options) -> tuple[pa.Table, tuple[str, ...]]:
    """The table of a text file, and remarks on how it was understood; `path` is how messages call it.

    Raises: ConfigError for rows of other lengths. ValueError or OSError for anything else that cannot be read.
    """
    form, remarks = understood(here, path, compression, options)
    if form.separator == " ":
        return _of_spaces(here, form, compression), remarks
    types = dict.fromkeys(form.texts, pa.string())
    while True:
        try:
            with pa.input_stream(here, compression=compression) as stream:
                return arrow.read_csv(stream, *_settings(form, types, threads=True)), remarks
        except pa.ArrowInvalid as error:
            form, remarks = _mended(error, form, remarks, types, here, path, compression)


def batches(
    here: str, path: str, compression: str | None, options: Options
) -> tuple[pa.Schema, Iterable[pa.RecordBatch], tuple[str, ...]]:
    """As `read`, for a file that is larger than memory: its schema, its batches, and remarks."""
    form, remarks = understood(here, path, compression, options)
    if form.separator == " ":
        raise ConfigError(f"dataset.path={path}: larger than memory, and separated by spaces; save it as CSV")
    types = dict.fromkeys(form.texts, pa.string())
    while True:  # a first pass finds the types, a second returns the rows
        try:
            schema = None
            for batch in _streamed(here, form, types, compression):
                schema = batch.schema
            if schema is None:
                raise ConfigError(f"dataset.path={path}: has no rows")
            return schema, _streamed(here, form, types, compression), remarks
        except pa.ArrowInvalid as error:
            form, remarks = _mended(error, form, remarks, types, here, path, compression)


def _streamed(
    here: str, form: Form, types: dict[str, pa.DataType], compression: str | None
) -> Iterable[pa.RecordBatch]:
    with pa.input_stream(here, compression=compression) as stream:
        yield from arrow.open_csv(stream, *_settings(form, types, threads=True))


def _settings(
    form: Form, types: dict[str, pa.DataType], *, threads: bool
) -> tuple[arrow.ReadOptions, arrow.ParseOptions, arrow.ConvertOptions]:
    return (
        arrow.ReadOptions(
            column_names=list(form.names),
            skip_rows=form.before,
            skip_rows_after_names=int(form.header),
            encoding="utf8" if form.encoding in ("utf-8", "utf-8-sig") else form.encoding,
            block_size=BLOCK,
            use_threads=threads,
        ),
        arrow.ParseOptions(delimiter=form.separator, newlines_in_values=form.multiline),
        arrow.ConvertOptions(
            null_values=list(form.missing),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            column_types=types,
            decimal_point="," if form.comma else ".",
        ),
    )


def _mended(
    error: pa.ArrowInvalid,
    form: Form,
    remarks: tuple[str, ...],
    types: dict[str, pa.DataType],
    here: str,
    path: str,
    compression: str | None,
) -> tuple[Form, tuple[str, ...]]:
    """A form with which another attempt may succeed; `types` is changed. Raises: ConfigError where there is none.

    The types of columns are guessed from the first block, and a later one may hold other values.
    """
    message = str(error)
    if found := re.search(r"In CSV column #(\d+):.*conversion error to (\w+)", message, re.DOTALL):
        name = form.names[int(found[1])]
        if name not in types:
            types[name] = pa.float64() if found[2] in ("int64", "null") else pa.string()
            return form, remarks
        if types[name] == pa.float64():
            types[name] = pa.string()
            return form, remarks
    if "invalid UTF8" in message and form.encoding == "utf-8":
        return replace(form, encoding="cp1252"), (*remarks, western(b"")[1])
    if not form.multiline and "Expected" in message:
        return replace(form, multiline=True), remarks
    raise ConfigError(f"dataset.path={path}: {_at_fault(here, form, compression) or message}") from error


def _at_fault(here: str, form: Form, compression: str | None) -> str:
    """The first row with another number of fields, and both numbers; empty where there is none."""
    with pa.input_stream(here, compression=compression) as stream:
        lines = csv.reader(io.TextIOWrapper(stream, form.encoding, newline=""), delimiter=form.separator)
        for row in lines:
            if row and len(row) != len(form.names):
                return (
                    f"line {lines.line_num} has {len(row)} fields, and the table has {len(form.names)} columns; quote "
                    "fields that hold the separator, or set dataset.separator="
                )
    return ""


def _of_spaces(here: str, form: Form, compression: str | None) -> pa.Table:
    import pandas as pd

    with pa.input_stream(here, compression=compression) as stream:
        frame = pd.read_csv(
            stream,
            sep=r"\s+",
            names=list(form.names),
            skiprows=form.before + int(form.header),
            dtype=dict.fromkeys(form.texts, "str"),
            encoding=form.encoding,
            na_values=list(form.missing),
            decimal="," if form.comma else ".",
        )
    return pa.Table.from_pandas(frame, preserve_index=False)
