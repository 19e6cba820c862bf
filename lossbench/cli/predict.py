"""`predict`: a trained model applied to new rows."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.cli.options import Parser
from lossbench.core import ConfigError

if TYPE_CHECKING:
    from lossbench.runs.saved_model import SavedModel


def predict(arguments: list[str]) -> None:
    """`predict RUN ROWS [--output FILE] [tracking.uri=…]`: write the rows with the model's answers beside them."""
    settings = [a for a in arguments if a.startswith("tracking.uri=")]
    parser = Parser(
        "python -m lossbench predict",
        usage="%(prog)s RUN ROWS [--output FILE] [tracking.uri=…]",
        description="The answers of a run's model for the rows of a table, beside the rows, as CSV or Parquet.",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="the id of a run, of which a comparison shows the best; or a folder")
    parser.add_argument("rows", metavar="ROWS", help="a table with the columns that the model was trained with")
    parser.add_argument("--output", metavar="FILE", help=".csv or .parquet; default: CSV on standard output")
    options = parser.parse_args([a for a in arguments if a not in settings])
    output = Path(options.output) if options.output else None
    if output is not None and output.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"predict: --output {output}: .csv or .parquet works")
    from lossbench.runs import saved_model

    with tempfile.TemporaryDirectory() as folder:
        if Path(options.run).is_dir():
            model = saved_model.SavedModel(Path(options.run))
        else:
            from lossbench import tracking

            store = tracking.Store(tracking.existing_store(settings[-1].partition("=")[2] if settings else None))
            model = saved_model.fetched(store.client, options.run, Path(folder))
    _write(model, options.rows, output)


def _write(model: SavedModel, rows: str, output: Path | None) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    table = model.table(rows)
    for name, values in model.predict(table).items():
        beside = f"{name} of the model" if name in table.column_names else str(name)
        table = table.append_column(beside, pa.array(values))
    try:
        if output is None:
            csv.write_csv(table, sys.stdout.buffer)
            return
        write = csv.write_csv if output.suffix.lower() == ".csv" else parquet.write_table
        write(table, str(output))
    except BrokenPipeError:  # the reader has seen enough
        return
    except OSError as error:
        raise ConfigError(f"predict: --output {output}: cannot be written: {error.strerror or error}") from error
    print(f"{len(table):,} rows: {output.absolute()}")
