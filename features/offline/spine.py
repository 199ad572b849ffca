"""The left side of a join: rows to be answered, from a file or a table, in parts of equal size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from features.dtypes import DType
from features.errors import BadInput
from features.naming import did_you_mean
from features.offline.files import RawPiece, check_file, parquet_schema, read_pieces
from features.offline.typed import typed
from features.plan import ServicePlan

PART_ROWS = 262_144
"""Rows of a part: what one task finishes, and one row group of a Parquet output."""
EVENT_TIME = "event_time"
"""The time column of a spine, unless another is named."""


def spine_types(plan: ServicePlan, time_column: str) -> dict[str, DType]:
    """The columns that a spine must have for a plan, with their types."""
    return {**plan.key_columns, **plan.request_columns, time_column: "time"}


def spine_parts(
    spine: pa.Table | str | Path, plan: ServicePlan, time_column: str
) -> Iterator[pa.Table]:
    """The spine's rows in order, in parts of ``PART_ROWS``, its columns as they are.

    Of text files the columns that the plan reads get its types, the others are inferred. Raises
    NotFound for a missing file, BadInput for missing columns or values of another type.
    """
    types = spine_types(plan, time_column)
    pieces = iter([spine]) if isinstance(spine, pa.Table) else _file_tables(Path(spine), types)
    for piece in pieces:
        _check_columns(piece.column_names, types, time_column)
        break
    else:
        return
    yield from _repartitioned(_chain(piece, pieces))


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest


def _repartitioned(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in parts of equal size; one empty part if there are none."""
    held: pa.Table | None = None
    emitted = False
    for table in tables:
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows >= PART_ROWS:
            yield held.slice(0, PART_ROWS).combine_chunks()
            held, emitted = held.slice(PART_ROWS), True
    if held is not None and (held.num_rows or not emitted):
        yield held.combine_chunks()


def _file_tables(path: Path, types: dict[str, DType]) -> Iterator[pa.Table]:
    check_file(path)
    schema = parquet_schema(path)
    if schema is None:
        yield _text_table(path, types)
        return
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows == 0:
            yield schema.empty_table()
        for batch in file.iter_batches(PART_ROWS):
            yield pa.Table.from_batches([batch])


def _text_table(path: Path, types: dict[str, DType]) -> pa.Table:
    pieces = list(read_pieces(path))
    if not pieces:
        return pa.table({})
    wanted = {name: dtype for name, dtype in types.items() if name in pieces[0].columns}
    known = pa.concat_tables([typed(path.name, piece, wanted) for piece in pieces])
    others = _inferred_csv(path) if pieces[0].is_text else _inferred_json(pieces)
    names = list(others.column_names)
    return pa.table({n: known.column(n) if n in wanted else others.column(n) for n in names})


def _inferred_csv(path: Path) -> pa.Table:
    options = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    return csv.read_csv(str(path), convert_options=options)


def _inferred_json(pieces: list[RawPiece]) -> pa.Table:
    tables = [pa.table({n: _loosely(n, v) for n, v in p.columns.items()}) for p in pieces]
    return pa.concat_tables(tables, promote_options="permissive")


def _loosely(name: str, values: list[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadInput(
            f"column {name!r} mixes types: {error}", "Give it one type, or leave it out."
        ) from None


def _check_columns(found: list[str], types: dict[str, DType], time_column: str) -> None:
    for name in types:
        if name not in found:
            what = "time column" if name == time_column else "column"
            hint = did_you_mean(name, found, "columns of the spine")
            if name == time_column == EVENT_TIME:
                hint += " Name the time column with --time."
            raise BadInput(f"the spine has no {what} {name!r}", hint)
