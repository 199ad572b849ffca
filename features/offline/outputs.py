"""Files of results: by suffix, in order, there as a whole or not at all."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from features.errors import BadInput, Unavailable

SUFFIXES = (".parquet", ".arrow", ".csv")


def check_output(path: Path) -> None:
    """Refuses, before any work is done, a file that could not be written."""
    if path.suffix not in SUFFIXES:
        raise BadInput(
            f"{path.name}: {path.suffix or 'no suffix'} is not a kind of file that can be written",
            f"Use {', '.join(SUFFIXES)}.",
        )
    if path.is_dir():
        raise BadInput(f"{path} is a folder", f"Name a file in it: {path / 'features.parquet'}")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {path.absolute().parent}", "Make it first.")


def write_tables(path: Path, tables: Iterable[pa.Table]) -> int:
    """Writes tables one after another and returns the number of rows; the file appears at the end.

    The columns are those of the first table; the same tables give the same bytes. Raises BadInput
    for no table at all and for columns that CSV cannot hold, Unavailable if the disk fails.
    """
    check_output(path)
    rest = iter(tables)
    first = next(rest, None)
    if first is None or not first.num_columns:
        raise BadInput(f"there are no columns to write to {path.name}", "Is the input empty?")
    if path.suffix == ".csv":
        _check_flat(first.schema)
    rows = 0
    with replacing(path) as temporary, _WRITERS[path.suffix](temporary, first.schema) as writer:
        for table in itertools.chain([first], rest):
            writer.write_table(table.cast(first.schema))
            rows += table.num_rows
    return rows


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when the block ends well and vanishes if not."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise Unavailable(
            f"{path} could not be written: {error.strerror or error}; nothing is there",
            "Check the disk's space and its permissions.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _check_flat(schema: pa.Schema) -> None:
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if nested:
        raise BadInput(f"CSV cannot hold the lists or maps of {nested[0]!r}", "Write .parquet.")


def _parquet_writer(path: Path, schema: pa.Schema) -> Any:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _arrow_writer(path: Path, schema: pa.Schema) -> Any:
    return pa.ipc.new_file(str(path), schema)


def _csv_writer(path: Path, schema: pa.Schema) -> Any:
    return csv.CSVWriter(str(path), schema)


_WRITERS = {".parquet": _parquet_writer, ".arrow": _arrow_writer, ".csv": _csv_writer}
