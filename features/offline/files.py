"""Files of events as they come: Parquet, CSV and NDJSON, read in bounded pieces."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from features.errors import BadInput, NotFound

PIECE_ROWS = 500_000
_CSV_BLOCK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class RawPiece:
    """Some rows of a file in its own types; ``first_row`` counts from 1.

    ``is_text`` says that every column is text still to be parsed; otherwise ``columns`` are Arrow
    arrays of the file's types, or Python lists of whatever JSON held.
    """

    columns: dict[str, Any]
    rows: int
    first_row: int
    is_text: bool = False


def check_file(path: Path) -> None:
    """Refuses what cannot be read at all: a missing file, a folder, an unknown suffix."""
    if not path.exists():
        raise NotFound(f"there is no file {path}", f"Look in {_nearest_folder(path)}.")
    if path.is_dir():
        raise BadInput(f"{path} is a folder", f"Name its files: {path}/*.parquet")
    if _kind(path) not in _READERS:
        raise BadInput(
            f"{path.name}: {path.suffix or 'no suffix'} is not a kind of file that can be read",
            "Use .parquet, .csv or .ndjson (.csv.gz and .ndjson.gz too).",
        )


def file_digest(path: Path) -> str:
    """What tells the file's bytes from all others: ``sha256:`` and 64 hex digits."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_pieces(
    path: Path, columns: list[str] | None = None, row_groups: Sequence[int] | None = None
) -> Iterator[RawPiece]:
    """The file's rows, some hundred thousand at a time; only these columns, where it has them.

    ``row_groups`` chooses some of a Parquet file. Raises BadInput with the place for bytes that
    are not what the suffix says.
    """
    try:
        if row_groups is not None:
            yield from _read_parquet(path, columns, row_groups)
        else:
            yield from _READERS[_kind(path)](path, columns)
    except (pa.ArrowInvalid, gzip.BadGzipFile, EOFError) as error:
        raise BadInput(
            f"{path.name} is not a whole {_kind(path)} file: {_first_line(error)}",
            "Check that it was written to the end, and that its suffix is right.",
        ) from None


def file_columns(path: Path) -> list[str]:
    """The names of the file's columns; of NDJSON those of its first rows."""
    if _kind(path) == "parquet":
        return list(_parquet(path).schema_arrow.names)
    return list(next((piece.columns for piece in read_pieces(path)), {}))


def parquet_schema(path: Path) -> pa.Schema | None:
    """The file's own types, or None for text files, which have none."""
    return _parquet(path).schema_arrow if _kind(path) == "parquet" else None


def row_count(path: Path) -> int:
    """The file's rows if that is known without reading it, else 0."""
    return int(_parquet(path).metadata.num_rows) if _kind(path) == "parquet" else 0


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{path.name} is not a Parquet file: {_first_line(error)}", "Write it again."
        ) from None


def row_groups(path: Path) -> list[list[int]] | None:
    """A Parquet file's row groups, in runs of a bounded number of rows; None for text files."""
    if _kind(path) != "parquet":
        return None
    metadata = _parquet(path).metadata
    runs: list[list[int]] = []
    held = PIECE_ROWS
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if held + rows > PIECE_ROWS:
            runs.append([])
            held = 0
        runs[-1].append(group)
        held += rows
    return runs


def _read_parquet(
    path: Path, columns: list[str] | None, row_groups: Sequence[int] | None = None
) -> Iterator[RawPiece]:
    with _parquet(path) as file:
        wanted = [n for n in file.schema_arrow.names if columns is None or n in columns]
        first = 1
        for batch in file.iter_batches(PIECE_ROWS, row_groups=row_groups, columns=wanted):
            yield RawPiece(dict(zip(wanted, batch.columns, strict=True)), batch.num_rows, first)
            first += batch.num_rows


def _read_csv(path: Path, columns: list[str] | None) -> Iterator[RawPiece]:
    names = _csv_header(path)
    wanted = [name for name in names if columns is None or name in columns]
    reader = csv.open_csv(
        str(path),
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=wanted,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    first = 1
    for batch in reader:
        found = dict(zip(wanted, batch.columns, strict=True))
        yield RawPiece(found, batch.num_rows, first, is_text=True)
        first += batch.num_rows


def _csv_header(path: Path) -> list[str]:
    options = csv.ReadOptions(use_threads=False, block_size=1 << 20)
    names = csv.open_csv(str(path), read_options=options).schema.names
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{path.name} has two columns {name!r}", "Give each its own name.")
    return list(names)


def _read_ndjson(path: Path, columns: list[str] | None) -> Iterator[RawPiece]:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as lines:
        numbered = ((i, line) for i, line in enumerate(lines, 1) if line.strip())
        while rows := [
            _json_row(path, i, line) for i, line in itertools.islice(numbered, PIECE_ROWS // 10)
        ]:
            names = dict.fromkeys(name for _, row in rows for name in row)
            wanted = [name for name in names if columns is None or name in columns]
            found = {name: [row.get(name) for _, row in rows] for name in wanted}
            yield RawPiece(found, len(rows), rows[0][0])


def _json_row(path: Path, number: int, line: bytes) -> tuple[int, dict[str, Any]]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadInput(
            f"{path.name}, line {number}: not JSON ({error.msg})",
            "NDJSON has one JSON object on every line.",
        ) from None
    if not isinstance(row, dict):
        raise BadInput(
            f"{path.name}, line {number}: a {type(row).__name__}, not an object",
            'Write {"column": value, …} on every line.',
        )
    return number, row


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _KINDS.get(suffixes[-1] if suffixes else "", "")


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.exists())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


_KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
}
_READERS: dict[str, Callable[[Path, list[str] | None], Iterator[RawPiece]]] = {
    "parquet": _read_parquet,
    "csv": _read_csv,
    "ndjson": _read_ndjson,
}
